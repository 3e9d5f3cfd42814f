"""Model versions on an endpoint's disk: fetched once, checked by digest, opened without MLflow."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock
from PIL import Image

from tasks.errors import Damaged, NotFound
from tasks.refs import Problem
from tasks.serve import wire, wire_images
from tasks.serve.record import now, write_atomically, write_json
from tasks.serve.registry import RegisteredVersion, Registry

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tasks.train.bundle import Bundle

#: Largest difference of a score from the one stored at registration. Networks differ in the last
#: digits between batch sizes and processors.
EXAMPLE_TOLERANCE = 1e-4
KEPT_VERSIONS = 3


@dataclass(frozen=True)
class LoadedVersion:
    """A version in memory, ready to answer."""

    model: str
    version: int
    bundle: Bundle
    signature: wire.Signature

    def predict(self, inputs: list[Any]) -> NDArray[Any]:
        """Score inputs as `wire` reads them: images, or rows in column order."""
        if self.signature.problem.is_table:
            return self.bundle.predict_table(inputs)
        return self.bundle.predict_images(inputs)


class VersionStore:
    """The `versions/` folder of an endpoint.

        <n>/bundle/          the model
        <n>/examples.json    inputs and the answers that they had at registration, where known
        <n>/version.json     which version it is, and its digest; written last
        serving.json         the version that answered last: the one to start with without MLflow

    Args:
        folder: The `versions/` folder; made when missing.
        model: The registered model's name.
    """

    def __init__(self, folder: Path, model: str) -> None:
        self.folder = folder
        self.model = model
        folder.mkdir(parents=True, exist_ok=True)

    def has(self, version: RegisteredVersion) -> bool:
        """Whether the version is here, whole, and of the digest that the registry names."""
        try:
            stored = self._describe(version.version)
        except (NotFound, Damaged):
            return False
        return (stored["source"], stored["digest"]) == (version.source, version.digest)

    def place(self, version: RegisteredVersion, registry: Registry) -> None:
        """Fetch a version from MLflow unless it is here; safe with several callers at once.

        Raises:
            Damaged: What MLflow holds is not what was registered.
            NotFound: The version's files are gone.
            Unavailable: MLflow does not answer.
        """
        if self.has(version):
            return
        with FileLock(self.folder / ".lock"):
            if self.has(version):
                return
            aside = self.folder / f".{version.version}-{uuid.uuid4().hex[:8]}"
            try:
                (aside / "bundle").mkdir(parents=True)
                registry.download_bundle(version, aside / "bundle")
                examples = registry.download_examples(version)
                if examples is not None:
                    (aside / "examples.json").write_bytes(examples)
                write_json(
                    aside / "version.json",
                    {
                        "model": version.name,
                        "version": version.version,
                        "source": version.source,
                        "digest": version.digest,
                        "placed_at": now(),
                    },
                )
                target = self.folder / str(version.version)
                shutil.rmtree(target, ignore_errors=True)
                os.rename(aside, target)
            finally:
                shutil.rmtree(aside, ignore_errors=True)

    def load(self, version: int) -> LoadedVersion:
        """Open a version and try it on its stored examples.

        Raises:
            Damaged: The files changed, or the model does not answer its examples as at registration.
            NotFound: The version is not here.
        """
        from tasks.train.bundle import Bundle

        stored = self._describe(version)
        folder = self.folder / str(version)
        bundle = Bundle.load(folder / "bundle")
        if stored["digest"] and bundle.digest != stored["digest"]:
            raise Damaged(
                f"{self.model} v{version} is not the model that was registered",
                where=str(folder),
                allowed=f"the digest {stored['digest']}, found {bundle.digest}",
                mend="remove the folder; it is fetched again",
            )
        loaded = LoadedVersion(self.model, version, bundle, signature_of(bundle))
        examples = folder / "examples.json"
        if examples.exists():
            _try_examples(loaded, json.loads(examples.read_bytes()))
        else:
            _try_made_up_input(loaded)
        return loaded

    def source(self, version: int) -> str:
        """Where the registry said that the version's files are."""
        return str(self._describe(version)["source"])

    def mark_serving(self, version: int) -> None:
        """Write down the version that answers, and drop old ones beyond the last few."""
        write_atomically(self.folder / "serving.json", json.dumps({"version": version}).encode())
        with FileLock(self.folder / ".lock"):
            here = sorted((int(p.name) for p in self.folder.iterdir() if p.name.isdigit()), reverse=True)
            spare = [number for number in here if number != version]
            for number in spare[KEPT_VERSIONS - 1 :]:
                shutil.rmtree(self.folder / str(number), ignore_errors=True)

    def last_serving(self) -> int | None:
        """The version that answered last, or None."""
        try:
            return int(json.loads((self.folder / "serving.json").read_bytes())["version"])
        except (FileNotFoundError, ValueError, KeyError):
            return None

    def _describe(self, version: int) -> dict[str, Any]:
        path = self.folder / str(version) / "version.json"
        try:
            stored: dict[str, Any] = json.loads(path.read_bytes())
        except FileNotFoundError:
            raise NotFound(
                f"{self.model} v{version} is not on this endpoint's disk", where=str(path)
            ) from None
        except ValueError as error:
            raise Damaged(
                "the version's description cannot be read", where=str(path), mend="remove the folder"
            ) from error
        return stored


def signature_of(bundle: Bundle) -> wire.Signature:
    """What the wire must know of a bundle."""
    if bundle.problem is Problem.IMAGE_CLASSIFICATION:
        return wire.Signature(bundle.problem, classes=tuple(bundle.classes))
    columns = tuple(
        wire.Column(
            feature.name,
            numeric=feature.type == "numeric",
            categories=tuple(str(category) for category in feature.categories or ()),
        )
        for feature in bundle.features
    )
    return wire.Signature(bundle.problem, columns, tuple(bundle.classes))


def _try_made_up_input(loaded: LoadedVersion) -> None:
    """Score one input of zeros: the first call is the slow one, and its answer must be well formed.

    Raises:
        Damaged: The answer has another shape or is not finite.
    """
    signature = loaded.signature
    made_up: Any = (
        [0.0 if column.numeric else next(iter(column.categories), "") for column in signature.columns]
        if signature.problem.is_table
        else Image.new("L", (28, 28))
    )
    wrong = wire.check_scores(loaded.predict([made_up]), 1, signature)
    if wrong:
        raise Damaged(
            f"{loaded.model} v{loaded.version} cannot answer: {wrong}",
            where="an input of zeros",
            mend="register the model again, or move the alias to another version",
        )


def _try_examples(loaded: LoadedVersion, examples: dict[str, Any]) -> None:
    """Hold a loaded version against the answers that were stored when it was registered.

    Raises:
        Damaged: An answer has another shape, is not finite, or differs.
    """
    instances = examples["instances"]
    signature = loaded.signature
    inputs: list[Any] = (
        wire.read_rows(instances, signature)
        if signature.problem.is_table
        else wire_images.read_images(instances, wire.Limits())
    )
    scores = loaded.predict(inputs)
    wrong = wire.check_scores(scores, len(instances), signature)
    if wrong is None:
        expected = np.asarray(examples["scores"], dtype=float)
        scale = 1.0 if signature.problem.is_classification else np.maximum(np.abs(expected), 1.0)
        difference = float(np.max(np.abs(scores - expected) / scale))
        if difference > EXAMPLE_TOLERANCE:
            wrong = f"its answers differ from those at registration by {difference:.2g}"
    if wrong:
        raise Damaged(
            f"{loaded.model} v{loaded.version} fails its stored examples: {wrong}",
            where=f"{len(instances)} examples",
            allowed=f"a difference of at most {EXAMPLE_TOLERANCE:g}",
            mend="register the model again, or move the alias to another version",
        )
