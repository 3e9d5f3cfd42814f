"""What a training starts from: of an earlier run, of a registered model, or from a local path.

A network starts from weights; own code is given a folder or file as it is, and knows itself what it is.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.data.sources.addresses import local_path, not_found, require_allowed
from tasks.errors import InvalidSettings, NotFound
from tasks.refs import DATASET_TAG
from tasks.train import kept_models
from tasks.train.bundle import Bundle
from tasks.train.mlflow_model import download_bundle
from tasks.train.tags import BUNDLE_DIGEST_TAG, MODEL_URI_TAG
from tasks.train.work_folder import CHECKPOINTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlflow import MlflowClient

RUN_ID = re.compile(r"^[0-9a-f]{32}$")
CONFIG_FILE = "config.json"


@dataclass(frozen=True)
class Start:
    """Where it is, and what it is.

    Attributes:
        path: For a network a safetensors file, a folder of our checkpoints, or one as transformers'
            `save_pretrained` writes it; for own code any file or folder.
        digest: SHA-256 over the names and contents of all files that are used, hex.
    """

    path: Path
    digest: str


def find_start(
    given: str,
    client: MlflowClient,
    models_folder: Path,
    roots: Sequence[str] | None,
    closed: Sequence[str] = (),
    *,
    for_own_code: bool = False,
    hides: Callable[[str], bool] = lambda dataset: False,
) -> Start:
    """Look up what to start from.

    Args:
        given: An MLflow run id, a model URI, or an absolute path.
        client: MLflow.
        models_folder: Downloaded models are kept here.
        roots: Local folders that may be read; None for any.
        closed: Folders that may never be read.
        for_own_code: Whether own code starts from it, which is given whatever is there.
        hides: Says whether a dataset is somebody else's private one, of which no model is given.

    Raises:
        InvalidSettings: It is none of the three, or nothing that a network can start from.
        NotAllowed: The path, or a link in the folder, is outside the roots.
        NotFound: There is no such run, model or path, or it learned from somebody else's private dataset.
    """
    if given.startswith("models:/") or RUN_ID.match(given):
        return _of_mlflow(given, client, models_folder, for_own_code, hides)
    if not given.startswith(("/", "file:///")):
        raise InvalidSettings(
            f"'{given}' names no weights",
            where="start_from",
            allowed="an MLflow run id, models:/name/version, models:/name@alias, or an absolute path",
        )
    path = Path(os.path.realpath(local_path(given)))

    def check(reached: Path) -> None:
        require_allowed(os.path.realpath(reached), given, roots, closed)

    check(path)
    if not path.exists():
        raise not_found(given)
    if not path.is_dir():
        return Start(path, _digest([path], path.parent, given))
    if for_own_code:
        return Start(path, _digest(_all_files(path, given, check), path, given))
    return _weights_in(path, given, check)


def _weights_in(folder: Path, given: str, check: Callable[[Path], None]) -> Start:
    """The checkpoints or pretrained weights in a folder, or the checkpoints of a training's work folder."""
    from tasks.train.loop.checkpoint import is_checkpoint

    for place in (folder, folder / CHECKPOINTS):
        if is_checkpoint(place):
            folder = place
            files = [path for path in place.iterdir() if is_checkpoint(path)]
            break
    else:
        files = [*folder.glob("*.json"), *folder.glob("*.safetensors")]  # shards have an index beside them
        if not (folder / CONFIG_FILE).is_file() or not any(p.suffix == ".safetensors" for p in files):
            raise InvalidSettings(
                f"no weights are in the folder {given}",
                where="start_from",
                allowed=f"our checkpoints, or {CONFIG_FILE} with .safetensors files, as transformers' "
                "save_pretrained writes them",
                mend="give the folder that directly holds these, or one .safetensors file",
            )
    for path in (folder, *files):
        check(path)
    return Start(folder, _digest(files, folder, given))


def _all_files(folder: Path, given: str, check: Callable[[Path], None]) -> list[Path]:
    """All files below a folder; those that links lead to are copied, so they must be allowed as well."""
    paths = list(folder.rglob("*"))
    for path in paths:
        if path.is_symlink() and path.is_dir():
            raise InvalidSettings(
                f"the folder {given} holds a link to a folder, {path.relative_to(folder)}",
                where="start_from",
                allowed="files, folders, and links to files",
                mend="copy that folder in the place of the link",
            )
        check(path)
    files = [path for path in paths if path.is_file()]
    if not files:
        raise InvalidSettings(
            f"the folder {given} has no files", where="start_from", mend="give the folder of the checkpoint"
        )
    return files


def _of_mlflow(
    given: str,
    client: MlflowClient,
    models_folder: Path,
    for_own_code: bool,
    hides: Callable[[str], bool],
) -> Start:
    """The weights of a network in MLflow; for own code the folder of any model, served or not."""
    from tasks.train.train import find_run

    uri = given
    if RUN_ID.match(given):
        tags = _tags(client, given)
        _require_shown(given, tags.get(DATASET_TAG, "").partition("@")[0], hides)
        if for_own_code and tags.get(MODEL_URI_TAG) == "" and tags.get(BUNDLE_DIGEST_TAG):
            return Start(_saved_files(given, client, models_folder), tags[BUNDLE_DIGEST_TAG])
        uri = find_run(client, given).model_uri
    folder = download_bundle(client, uri, models_folder)
    bundle = Bundle.load(folder)
    _require_shown(given, bundle.description.dataset.name, hides)
    if for_own_code:
        return Start(folder, bundle.digest)
    if bundle.description.model.format != "safetensors":
        raise InvalidSettings(
            f"the model is a {bundle.description.algorithm}, which no network can start from",
            where=f"start_from, {given}",
            allowed="models whose weights are safetensors",
            mend="choose the run of a network, or leave start_from empty",
        )
    return Start(folder / bundle.description.model.name, bundle.digest)


def _tags(client: MlflowClient, run_id: str) -> Mapping[str, str]:
    from mlflow.exceptions import MlflowException

    try:
        tags: Mapping[str, str] = client.get_run(run_id).data.tags
    except MlflowException:
        return {}  # whoever looks for its model says what is wrong
    return tags


def _require_shown(given: str, dataset: str, hides: Callable[[str], bool]) -> None:
    """Say of what learned from a hidden dataset no more than of what is not there."""
    if hides(dataset):
        kind = "run" if RUN_ID.match(given) else "model"
        raise NotFound(
            f"MLflow has no {kind} {given}", where="start_from", mend="take one from the list of trainings"
        )


def _saved_files(run_id: str, client: MlflowClient, models_folder: Path) -> Path:
    """The artifacts model/ of a run, fetched unless they were fetched before."""
    from mlflow.exceptions import MlflowException

    kept = models_folder / f"run-{run_id}"
    if kept_models.take(kept):
        return kept
    if client.get_run(run_id).info.lifecycle_stage != "active":
        raise NotFound(f"the run {run_id} was deleted", mend="restore it, or choose another")
    models_folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=models_folder, prefix=".partial-") as scratch:
        try:
            found = Path(client.download_artifacts(run_id, "model", scratch))
        except (MlflowException, OSError) as error:
            raise NotFound(f"the files of the model of run {run_id} are gone", where="model/") from error
        try:
            found.rename(kept)
        except OSError:
            if not kept.is_dir():  # else another process fetched them in the meantime
                raise
    kept_models.take(kept)
    return kept


def _digest(files: Iterable[Path], root: Path, given: str) -> str:
    digest = hashlib.sha256()
    for path in sorted(files):
        if path.exists() and not path.is_file():  # who opens a pipe may wait for ever
            raise InvalidSettings(
                f"{path} is no file, but a pipe, a socket or a device",
                where="start_from",
                allowed="files and folders of files",
            )
        try:
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise not_found(given) from error
        digest.update(f"{path.relative_to(root)}\0{content}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()
