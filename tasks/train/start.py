"""Weights that a training starts from: of an earlier run, of a registered model, or from a local path."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.data.sources.addresses import local_path, not_found, require_allowed
from tasks.errors import InvalidSettings
from tasks.train.bundle import Bundle
from tasks.train.mlflow_model import download_bundle

if TYPE_CHECKING:
    from mlflow import MlflowClient

RUN_ID = re.compile(r"^[0-9a-f]{32}$")
CONFIG_FILE = "config.json"


@dataclass(frozen=True)
class Start:
    """Where the weights are, and what they are.

    Attributes:
        path: A safetensors file, or a folder as transformers' `save_pretrained` writes it.
        digest: SHA-256 over the content, hex.
    """

    path: Path
    digest: str


def find_start(
    given: str,
    client: MlflowClient,
    models_folder: Path,
    roots: Sequence[str] | None,
    closed: Sequence[str] = (),
) -> Start:
    """Look the weights up.

    Args:
        given: An MLflow run id, a model URI, or an absolute path.
        client: MLflow.
        models_folder: Downloaded bundles are kept here.
        roots: Local folders that may be read; None for any.
        closed: Folders that may never be read.

    Raises:
        InvalidSettings: It is none of the three, or the model is not a network.
        NotAllowed: The path is outside the roots.
        NotFound: There is no such run, model or path.
    """
    if given.startswith("models:/") or RUN_ID.match(given):
        return _of_model(given, client, models_folder)
    if not given.startswith(("/", "file:///")):
        raise InvalidSettings(
            f"'{given}' names no weights",
            where="start_from",
            allowed="an MLflow run id, models:/name/version, models:/name@alias, or an absolute path",
        )
    path = Path(os.path.realpath(local_path(given)))
    require_allowed(str(path), given, roots, closed)
    if path.is_dir():
        return Start(path, _digest([path / CONFIG_FILE, *sorted(path.glob("*.safetensors"))], given))
    return Start(path, _digest([path], given))


def _of_model(given: str, client: MlflowClient, models_folder: Path) -> Start:
    from tasks.train.train import find_run

    uri = find_run(client, given).model_uri if RUN_ID.match(given) else given
    folder = download_bundle(client, uri, models_folder)
    bundle = Bundle.load(folder)
    if bundle.description.model.format != "safetensors":
        raise InvalidSettings(
            f"the model is a {bundle.description.algorithm}, which no network can start from",
            where=f"start_from, {given}",
            allowed="models whose weights are safetensors",
            mend="choose the run of a network, or leave start_from empty",
        )
    return Start(folder / bundle.description.model.name, bundle.digest)


def _digest(files: Sequence[Path], given: str) -> str:
    digest = hashlib.sha256()
    for path in files:
        try:
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise not_found(given) from error
    return digest.hexdigest()
