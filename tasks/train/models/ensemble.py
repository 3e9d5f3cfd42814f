"""Several models that answer together, each with its weight: their files in one archive, uncompressed."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np

from tasks.errors import Damaged
from tasks.train import models

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tasks.train.algorithms.fit import FittedModel, Json

MOST_MEMBERS = 100
_NO_TIME = (1980, 1, 1, 0, 0, 0)
"""The archive says nothing of when it was written."""


class EnsembleModel:
    """The weighted mean of what its members answer.

    Args:
        members: Models of the same inputs and outputs.
        weights: One a member, above 0, adding up to 1.
    """

    format: ClassVar[str] = "ensemble"

    def __init__(self, members: Sequence[FittedModel], weights: Sequence[float]) -> None:
        self.members = list(members)
        self.weights = list(weights)

    @property
    def parameters(self) -> int:
        """Those of its members, and a weight each."""
        return sum(member.parameters for member in self.members) + len(self.weights)

    def predict(self, inputs: NDArray[np.uint8] | NDArray[np.float64]) -> NDArray[np.float32]:
        """Score rows: see `FittedModel.predict`."""
        return weighted_mean([member.predict(inputs) for member in self.members], self.weights)

    def save(self, path: Path) -> None:
        """Write the members' files into one archive."""
        with tempfile.TemporaryDirectory() as scratch, zipfile.ZipFile(path, "w") as archive:
            for place, member in enumerate(self.members):
                file = Path(scratch, _name(place, member.format))
                member.save(file)
                with file.open("rb") as source, archive.open(zipfile.ZipInfo(file.name, _NO_TIME), "w") as to:
                    shutil.copyfileobj(source, to)

    def description(self) -> dict[str, Json]:
        """What opens the members again, and their weights."""
        return {
            "members": [
                {"format": member.format, "description": member.description(), "weight": weight}
                for member, weight in zip(self.members, self.weights, strict=True)
            ]
        }

    @classmethod
    def load(cls, path: Path, description: dict[str, Json]) -> EnsembleModel:
        """Open the members.

        Raises:
            Damaged: The archive does not hold what the description says, or a member's file does not.
        """
        try:
            told = [
                (str(one["format"]), cast("dict[str, Json]", one["description"]), float(one["weight"]))
                for one in cast(list[dict[str, Any]], description["members"])
            ]
        except (KeyError, TypeError, ValueError) as error:
            raise _damaged(path, "the members are not described") from error
        weights = [weight for _, _, weight in told]
        if not 0 < len(told) <= MOST_MEMBERS or min(weights) <= 0 or abs(sum(weights) - 1) > 1e-6:
            raise _damaged(path, "the weights of the members do not add up to 1")
        if any(kind == cls.format or kind not in models.FORMATS for kind, _, _ in told):
            raise _damaged(path, "a member is of a format that an ensemble cannot have")
        names = [_name(place, kind) for place, (kind, _, _) in enumerate(told)]
        members = []
        try:
            with tempfile.TemporaryDirectory() as scratch, zipfile.ZipFile(path) as archive:
                inside = archive.infolist()
                if [entry.filename for entry in inside] != names:
                    raise _damaged(path, f"it holds {', '.join(entry.filename for entry in inside)[:200]}")
                if any(entry.compress_type != zipfile.ZIP_STORED for entry in inside):
                    raise _damaged(path, "its files are compressed")
                for entry, (kind, about, _) in zip(inside, told, strict=True):
                    file = Path(scratch, entry.filename)
                    with archive.open(entry) as source, file.open("wb") as to:
                        shutil.copyfileobj(source, to)
                    members.append(models.load(kind, file, about))
        except zipfile.BadZipFile as error:
            raise _damaged(path, f"it is no archive: {error}") from error
        return cls(members, weights)


def weighted_mean(answers: Sequence[NDArray[np.float32]], weights: Sequence[float]) -> NDArray[np.float32]:
    """The mean of several models' answers to the same rows, float32 like theirs."""
    total = np.zeros(answers[0].shape, dtype=np.float64)
    for answer, weight in zip(answers, weights, strict=True):
        total += weight * answer
    return total.astype(np.float32)


def _name(place: int, kind: str) -> str:
    return f"{place}-{models.FORMATS[kind]}"


def _damaged(path: Path, what: str) -> Damaged:
    return Damaged(f"the ensemble cannot be opened: {what}", where=str(path), mend="download the model again")
