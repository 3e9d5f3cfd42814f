"""A trained model as a folder of data: what is registered, served, evaluated and moved between machines.

    bundle.json               what it is: problem, preprocessing, classes, dataset, settings
    weights.safetensors       or model.skops, model.lightgbm.txt, ensemble.zip of those: the learned numbers

A bundle answers raw inputs (pictures, table rows as in the source file), since the preprocessing
travels with it. Opening one runs no code out of the folder: no pickle, no import by name.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tasks.data.preparation.preprocessing import Preprocessing
from tasks.errors import Damaged, InvalidData, InvalidRequest, NotFound
from tasks.refs import Problem
from tasks.train import models
from tasks.train.model_inputs import ShapesImages, ShapesTables, stack_images, stack_table

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray
    from PIL import Image

    from tasks.data.manifest import Feature
    from tasks.train.algorithms.fit import FittedModel

DESCRIPTION_FILE = "bundle.json"
ROWS_AT_ONCE = 1024
"""Raw rows preprocessed and scored together, so that a large request needs no more memory than this."""


class ModelFile(BaseModel):
    """The file with the learned numbers, and what is needed to read it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[
        "safetensors", "skops", "lightgbm", "onnx", "transformers", "own-skops", "own-lightgbm", "ensemble"
    ]
    name: str
    sha256: str
    size_bytes: int
    parameters: int
    description: dict[str, Any]


class TrainedOn(BaseModel):
    """The dataset version that the model learned from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    version: str
    digest: str


class BundleDescription(BaseModel):
    """The content of bundle.json."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["trainyard-bundle/1"] = "trainyard-bundle/1"
    problem: Problem
    algorithm: str
    hyperparameters: dict[str, Any]
    seed: int
    classes: tuple[str, ...] = Field(
        description="Names of the numbers that a row is answered with, in their order: classes, clusters or "
        "components; none for regression."
    )
    label: str | None = Field(description="Name of what is predicted.")
    preprocessing: Preprocessing = Field(description="Fitted steps from raw inputs to model inputs.")
    inputs: tuple[str, ...] = Field(description="Columns that the model itself takes; none for images.")
    dataset: TrainedOn
    model: ModelFile


class Bundle:
    """A model that answers raw inputs.

    Args:
        description: What the model is.
        opened: Gives the learned part.
        digest: SHA-256 over the bundle's files, hex.
    """

    def __init__(
        self, description: BundleDescription, opened: Callable[[], FittedModel], digest: str
    ) -> None:
        self.description = description
        self.preprocessing = description.preprocessing
        self.digest = digest
        self._opened = opened

    @cached_property
    def model(self) -> FittedModel:
        """The learned part."""
        return self._opened()

    @property
    def problem(self) -> Problem:
        return self.description.problem

    @property
    def classes(self) -> tuple[str, ...]:
        return self.description.classes

    @property
    def features(self) -> list[Feature]:
        """Raw features, in the order that rows without column names must have."""
        return list(self.preprocessing.features)

    @classmethod
    def write(
        cls,
        folder: Path,
        *,
        model: FittedModel,
        preprocessing: Preprocessing,
        problem: Problem,
        algorithm: str,
        hyperparameters: dict[str, Any],
        seed: int,
        classes: Sequence[str],
        label: str | None,
        inputs: Sequence[str],
        dataset: TrainedOn,
    ) -> Bundle:
        """Write a bundle to a folder that does not exist yet, whole or not at all."""
        folder.parent.mkdir(parents=True, exist_ok=True)
        aside = folder.with_name(f".{folder.name}-{uuid.uuid4().hex[:8]}")
        aside.mkdir()
        try:
            path = aside / models.FORMATS[model.format]
            model.save(path)
            description = BundleDescription(
                problem=problem,
                algorithm=algorithm,
                hyperparameters=hyperparameters,
                seed=seed,
                classes=tuple(classes),
                label=label,
                preprocessing=preprocessing,
                inputs=tuple(inputs),
                dataset=dataset,
                model=ModelFile(
                    format=model.format,
                    name=path.name,
                    sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
                    size_bytes=path.stat().st_size,
                    parameters=model.parameters,
                    description=model.description(),
                ),
            )
            (aside / DESCRIPTION_FILE).write_text(description.model_dump_json(indent=2) + "\n")
            os.rename(aside, folder)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        return cls(description, lambda: model, _digest(folder))

    @classmethod
    def load(cls, folder: Path | str) -> Bundle:
        """Open a bundle.

        Raises:
            As `checked`.
        """
        bundle = cls.checked(folder)
        _ = bundle.model
        return bundle

    @classmethod
    def checked(cls, folder: Path | str) -> Bundle:
        """A bundle whose model is opened when it is first asked for: some libraries take seconds to import.

        Raises:
            NotFound: There is no bundle in the folder.
            Damaged: It is of another format, has files that do not belong to it, or was changed.
        """
        folder = Path(folder)
        description = _read_description(folder)
        expected = {DESCRIPTION_FILE, description.model.name}
        found = {str(p.relative_to(folder)) for p in folder.rglob("*") if not p.is_dir()}
        if found != expected or description.model.name != models.FORMATS[description.model.format]:
            raise Damaged(
                f"the bundle holds {', '.join(sorted(found))}",
                where=str(folder),
                allowed=f"{DESCRIPTION_FILE} and {models.FORMATS[description.model.format]}",
                mend="download the model again",
            )
        path = folder / description.model.name
        if hashlib.sha256(path.read_bytes()).hexdigest() != description.model.sha256:
            raise Damaged(
                "the model file is not the one that was written",
                where=str(path),
                mend="download the model again, or train it again",
            )
        about = description.model
        return cls(description, lambda: models.load(about.format, path, about.description), _digest(folder))

    def predict_images(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """Score pictures.

        Args:
            images: Pictures of any size and mode, as a user has them.

        Returns:
            Probabilities `[n, classes]`, in the order of `classes`.

        Raises:
            InvalidRequest: The model is for tables.
        """
        if self.problem.is_table:
            raise InvalidRequest(
                "this model takes table rows, not images", where=self.description.label or ""
            )
        parts = []
        stack = self.model.stack_images if isinstance(self.model, ShapesImages) else stack_images
        for start in range(0, len(images), ROWS_AT_ONCE):
            try:
                ready = self.preprocessing.images(images[start : start + ROWS_AT_ONCE])
            except (OSError, ValueError, SyntaxError) as error:  # what Pillow raises for damaged files
                raise InvalidRequest(
                    f"an image is damaged: {error}", where=f"images {start} and following"
                ) from error
            parts.append(self.model.predict(stack(ready)))
        return np.concatenate(parts) if parts else np.empty((0, len(self.classes)), dtype=np.float32)

    def predict_table(self, rows: pd.DataFrame | Sequence[Sequence[Any]]) -> NDArray[np.float32]:
        """Score table rows.

        Args:
            rows: A frame with at least the raw feature columns, or rows of values in `features` order.

        Returns:
            Probabilities `[n, classes]`, or values `[n]` for regression; distances to the clusters' centres
            `[n, clusters]`, or `[n, components]`.

        Raises:
            InvalidRequest: A column is missing, a row has the wrong length or a value cannot be used.
        """
        if not self.problem.is_table:
            raise InvalidRequest(
                "this model takes images, not table rows", where=self.description.label or ""
            )
        raw = self._frame(rows)
        parts = []
        stack = self.model.stack_table if isinstance(self.model, ShapesTables) else stack_table
        for start in range(0, len(raw), ROWS_AT_ONCE):
            try:
                table = self.preprocessing.table(raw.iloc[start : start + ROWS_AT_ONCE])
            except InvalidData as error:
                raise InvalidRequest(
                    error.what, where=error.where, allowed=error.allowed, mend=error.mend
                ) from error
            parts.append(self.model.predict(stack(table, self.description.inputs)))
        if not parts:
            width = (len(self.classes),) if self.problem.has_scores else ()
            return np.empty((0, *width), dtype=np.float32)
        return np.concatenate(parts)

    def _frame(self, rows: pd.DataFrame | Sequence[Sequence[Any]]) -> pd.DataFrame:
        import pandas as pd

        names = [feature.name for feature in self.features]
        allowed = f"{len(names)} values in this order: {', '.join(names)}"
        if isinstance(rows, pd.DataFrame):
            missing = [name for name in names if name not in rows.columns]
            if missing:
                raise InvalidRequest(
                    f"the rows lack {', '.join(missing)}",
                    where="columns",
                    allowed=f"the columns {', '.join(names)}",
                )
            return rows[names]
        for number, row in enumerate(rows):
            if len(row) != len(names):
                raise InvalidRequest(f"the row has {len(row)} values", where=f"row {number}", allowed=allowed)
        return pd.DataFrame([list(row) for row in rows], columns=names)


def _read_description(folder: Path) -> BundleDescription:
    path = folder / DESCRIPTION_FILE
    if not path.is_file():
        raise NotFound(
            "there is no model bundle", where=str(folder), allowed=f"a folder with {DESCRIPTION_FILE}"
        )
    try:
        return BundleDescription.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        raise Damaged(
            f"{DESCRIPTION_FILE} cannot be read: {'.'.join(map(str, first['loc']))}: {first['msg']}",
            where=str(path),
            allowed="the format trainyard-bundle/1",
            mend="download the model again",
        ) from error


def _digest(folder: Path) -> str:
    """SHA-256 over the names and contents of the folder's files, in the order of their names."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.iterdir() if p.is_file()):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(json.dumps([path.name, content]).encode())
    return digest.hexdigest()
