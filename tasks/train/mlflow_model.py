"""Bundles as MLflow logged models, and back again."""

from __future__ import annotations

import importlib.metadata
import re
import shutil
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import mlflow
import pandas as pd
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, DataType, Schema, TensorSpec

from tasks.errors import NotFound, Unavailable
from tasks.train import kept_models
from tasks.train.bundle import Bundle
from tasks.train.tags import BUNDLE_DIGEST_TAG

if TYPE_CHECKING:
    from mlflow import MlflowClient

MODEL_NAME = "model"
IMAGE_COLUMN = "data"
PYFUNC_FILE = Path(__file__).with_name("pyfunc_model.py")
_LOGGED = "models:/m-"
_REGISTERED = re.compile(r"models:/(?P<name>[^/@]+)(/(?P<version>\d+)|@(?P<alias>[^/@]+))")
_PACKAGE = Path(__file__).resolve().parents[1]
_NEEDED = ("__init__.py", "refs.py", "errors.py", "data", "train")
_ALWAYS = ("mlflow", "numpy", "pandas", "pillow", "pydantic")
_BY_FORMAT = {
    "safetensors": ("torch", "safetensors"),
    "skops": ("scikit-learn", "skops"),
    "lightgbm": ("lightgbm",),
    "onnx": ("onnxruntime",),
    "transformers": ("torch", "safetensors", "transformers"),
    "own-skops": ("scikit-learn", "skops"),
    "own-lightgbm": ("lightgbm",),
    "ensemble": ("torch", "safetensors", "scikit-learn", "skops", "lightgbm"),
}


def log_bundle(
    client: MlflowClient, bundle: Bundle, folder: Path, run_id: str, example: pd.DataFrame | None = None
) -> str:
    """Log a bundle as the model of a run.

    Args:
        client: MLflow.
        bundle: The bundle in `folder`.
        folder: Its files; they are copied as they are.
        run_id: The run that trained it.
        example: Some rows as the model takes them: raw columns, or base64 images in `data`.

    Returns:
        The logged model's URI, `models:/m-…`.
    """
    mlflow.set_tracking_uri(client.tracking_uri)
    with tempfile.TemporaryDirectory() as scratch:
        # MLflow names an artifact after its folder.
        copy = Path(scratch, "bundle")
        shutil.copytree(folder, copy)
        code = Path(scratch, "trainyard.zip")
        _pack_code(code)
        run = client.get_run(run_id)
        # Made here, since `Model.log` by itself files a model under the default experiment.
        model = client.create_logged_model(
            run.info.experiment_id,
            name=MODEL_NAME,
            source_run_id=run_id,
            params=run.data.params,
            tags={BUNDLE_DIGEST_TAG: bundle.digest},
        )
        info = Model.log(
            artifact_path=None,
            model_id=model.model_id,
            flavor=mlflow.pyfunc,
            run_id=run_id,
            python_model=str(PYFUNC_FILE),
            artifacts={"bundle": str(copy)},
            code_paths=[str(code)],
            signature=signature(bundle),
            input_example=example,
            pip_requirements=requirements(bundle.description.model.format),
            metadata={"bundle_digest": bundle.digest, "problem": str(bundle.problem)},
        )
    return str(info.model_uri)


def download_bundle(client: MlflowClient, model_uri: str, cache_folder: Path) -> Path:
    """Fetch a model's bundle, unless it was fetched before.

    Args:
        client: MLflow.
        model_uri: `models:/m-…`, or any other URI of a model: `models:/name/3`, `runs:/…/model`.
        cache_folder: Bundles are kept here by their model; delete it at will.

    Returns:
        The bundle's folder.

    Raises:
        NotFound: MLflow has no such model, or it is not one of ours.
        Unavailable: MLflow does not answer.
    """
    mlflow.set_tracking_uri(client.tracking_uri)
    model_uri = logged_model_uri(client, model_uri)
    kept = cache_folder / model_uri.removeprefix("models:/").replace(":", "-").replace("/", "-")
    lasting = model_uri.startswith(_LOGGED)  # only logged models never change
    if lasting and kept_models.take(kept):
        return kept
    cache_folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache_folder, prefix=".partial-") as scratch:
        try:
            root = model_uri
            if lasting:
                # MLflow reads a path after a logged model's id as the version of a registered model.
                root = client.get_logged_model(model_uri.removeprefix("models:/")).artifact_location
            found = mlflow.artifacts.download_artifacts(
                artifact_uri=f"{root}/artifacts/bundle", dst_path=scratch
            )
        except mlflow.exceptions.MlflowException as error:
            raise _missing(client, model_uri, error) from error
        if not lasting:
            kept_models.remove(kept)
        try:
            Path(found).rename(kept)
        except OSError:
            if not kept.is_dir():  # else another process fetched the same one in the meantime
                raise
    kept_models.take(kept)
    return kept


def logged_model_uri(client: MlflowClient, model_uri: str) -> str:
    """The logged model that a registered version or an alias stands for now; other URIs as they are.

    Args:
        client: MLflow.
        model_uri: `models:/name/3`, `models:/name@alias`, or any other.

    Returns:
        `models:/m-…`, which never changes, where the version was made from one.

    Raises:
        NotFound: There is no such version or alias.
        Unavailable: MLflow does not answer.
    """
    registered = _REGISTERED.fullmatch(model_uri)
    if registered is None:
        return model_uri
    name, version, alias = registered["name"], registered["version"], registered["alias"]
    try:
        found = (
            client.get_model_version(name, version)
            if version
            else client.get_model_version_by_alias(name, alias)
        )
    except mlflow.exceptions.MlflowException as error:
        raise _missing(client, model_uri, error) from error
    source = str(found.source)
    return source if source.startswith(_LOGGED) else model_uri


def _missing(
    client: MlflowClient, model_uri: str, error: mlflow.exceptions.MlflowException
) -> NotFound | Unavailable:
    """What an error of MLflow means for one who looks for a model."""
    if "API request to" in str(error) and "failed with exception" in str(error):
        return Unavailable("MLflow does not answer", where=str(client.tracking_uri), mend="start the stack")
    return NotFound(f"MLflow has no bundle of the model {model_uri}", where=str(error).splitlines()[0])


def signature(bundle: Bundle) -> ModelSignature:
    """What the model takes and gives, in MLflow's words."""
    if bundle.problem.is_table:
        kinds = {"numeric": DataType.double, "categorical": DataType.string}
        inputs = Schema(
            [ColSpec(kinds[feature.type], feature.name, required=False) for feature in bundle.features]
        )
    else:
        inputs = Schema([ColSpec(DataType.string, IMAGE_COLUMN)])
    import numpy as np

    shape = (-1, len(bundle.classes)) if bundle.problem.has_scores else (-1,)
    return ModelSignature(inputs=inputs, outputs=Schema([TensorSpec(np.dtype("float32"), shape)]))


def requirements(model_format: str) -> list[str]:
    """What must be installed to open a bundle, at the versions that wrote it."""
    needed: Sequence[str] = (*_ALWAYS, *_BY_FORMAT[model_format])
    # A local build such as 2.13.0+cpu is not on every index; its public version is.
    return [f"{name}=={importlib.metadata.version(name).split('+')[0]}" for name in needed]


def write_zip(folder: Path, file: IO[bytes]) -> None:
    """Write a bundle's files as one zip archive."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            archive.write(path, str(path.relative_to(folder)))


def _pack_code(path: Path) -> None:
    """Put the code that opens bundles into one importable file."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in _NEEDED:
            root = _PACKAGE / name
            for file in sorted(root.rglob("*.py") if root.is_dir() else [root]):
                archive.write(file, f"{_PACKAGE.name}/{file.relative_to(_PACKAGE)}")


def example_rows(bundle: Bundle, raw: Any, count: int = 3) -> pd.DataFrame:
    """The first rows of a raw split in the form that the logged model takes.

    Args:
        bundle: The model.
        raw: A `tasks.data.read.RawSplit`.
        count: Rows to take.
    """
    if bundle.problem.is_table:
        frame: pd.DataFrame = raw.table[[feature.name for feature in bundle.features]].head(count)
        return frame.reset_index(drop=True)
    import base64

    return pd.DataFrame({IMAGE_COLUMN: [base64.b64encode(c).decode() for c in raw.contents[:count]]})
