"""Settings of the data stage. The descriptions are the help texts of the forms in the Prefect UI."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import (
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from tasks.data.methods import METHODS, PreprocessingMethod
from tasks.refs import Problem
from tasks.settings import Settings

NAME_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,62}$"
"""Dataset names: safe as one folder name on any file system and as one key segment on S3."""


class DatasetChoice(Settings):
    """A dataset version, chosen by name."""

    name: str = Field(default="digits", pattern=NAME_PATTERN, description="Name of the dataset.")
    version: str = Field(
        default="latest",
        pattern=r"^(latest|latest-raw|\d{8}-\d{6}-[0-9a-f]{6})$",
        description="A version such as 20261120-181212-fb90eb; latest for the newest; latest-raw for the "
        "newest that no preprocessing was applied to.",
    )


class IngestConfig(Settings):
    """Which files become a dataset version, and how to read them."""

    source: str = Field(
        default="sample:digits",
        min_length=1,
        max_length=2048,
        description="A folder, glob, zip or tar archive, CSV or Parquet file (path or s3:// URL), or "
        "sample:digits, sample:iris or sample:fashion-mnist.",
    )
    include: tuple[str, ...] = Field(
        default=(),
        max_length=10_000,
        description="Only these files of the source: relative paths or globs such as **/*.png; empty "
        "takes all.",
    )
    exclude: tuple[str, ...] = Field(
        default=(), max_length=10_000, description="Not these files of the source; stronger than include."
    )
    name: str = Field(
        default="digits",
        pattern=NAME_PATTERN,
        description="Name of the dataset: lower-case letters, digits, dots, dashes, underscores.",
    )
    problem: Problem = Field(
        default=Problem.IMAGE_CLASSIFICATION, description="What a model is to learn from the data."
    )
    add: bool = Field(
        default=False,
        description="Add the rows to those of the newest raw version of this name; both together become a "
        "new version. Problem and columns must be the same; classes may be new.",
    )
    add_folder: str = Field(
        default="",
        max_length=256,
        description="Rows that are added go below this folder, such as batch-2: their ids begin with it.",
    )
    description: str = Field(
        default="", max_length=2_000, description="What the data is; shown in the list of datasets."
    )
    private: bool = Field(
        default=False,
        description="A new dataset is for its owner alone, until it is shared; an old one stays as it is.",
    )
    label: str | None = Field(
        default=None,
        min_length=1,
        max_length=256,
        description="Tables: the column to predict; empty takes the last column. For clustering and "
        "dimension reduction a column to leave out, or empty.",
    )
    labels_file: str | None = Field(
        default=None,
        min_length=1,
        max_length=1024,
        description="Images, texts, sounds: CSV of file name and label, relative to the folder; empty "
        "takes the only CSV in a folder that has no label folders.",
    )
    label_names: tuple[str, ...] = Field(
        default=(),
        max_length=10_000,
        description="Names of the integer labels 0, 1, 2…, in that order; empty reads label_names.json "
        "beside the files, or else takes the labels as names.",
    )
    unlabelled: Literal["refuse", "keep"] = Field(
        default="refuse",
        description="Files that no label belongs to: refuse the source and name them, or keep them "
        "unlabelled, for annotation.",
    )
    unreadable: Literal["refuse", "leave-out"] = Field(
        default="refuse",
        description="Files that cannot be read: refuse the source and name them, or leave them out and "
        "name them.",
    )
    text_column: str | None = Field(
        default=None,
        min_length=1,
        max_length=256,
        description="Texts in a table: the column that holds them; empty takes the one named text.",
    )
    column_types: dict[str, Literal["numeric", "categorical"]] = Field(
        default_factory=dict,
        description="Tables: columns whose type is not to be inferred from their values.",
    )
    max_image_side_px: int = Field(
        default=800,
        ge=8,
        le=16_384,
        description="Images with a longer side are shrunk to this many pixels.",
    )
    max_unpacked_gib: float = Field(
        default=50, gt=0, le=10_000, description="Largest size of an archive when unpacked, in GiB."
    )

    @field_validator("add_folder")
    @classmethod
    def _is_plain(cls, folder: str) -> str:
        parts = folder.rstrip("/").split("/") if folder else []
        if any(part in ("", ".", "..") or not part.isprintable() or "\\" in part for part in parts):
            raise ValueError(f"{folder!r} is not a folder such as batch-2 or april/week-1")
        return "/".join(parts)


class ValidateConfig(Settings):
    """What data must satisfy before a model is trained on it."""

    min_rows_per_class: int = Field(
        default=2, ge=1, le=1_000_000, description="Smallest number of labelled rows of every class."
    )
    max_class_imbalance: float = Field(
        default=10.0,
        ge=1,
        le=1_000_000,
        allow_inf_nan=False,
        description="Warn where the largest class is more than so many times as large as the smallest.",
    )
    max_duplicates_across_splits_percent: float = Field(
        default=1.0,
        ge=0,
        le=100,
        description="Largest share of rows, in percent, that may stand in more than one split.",
    )
    min_image_side_px: int = Field(
        default=4, ge=1, le=16_384, description="Shortest side that an image may have, in pixels."
    )
    max_image_side_px: int = Field(
        default=2_000, ge=8, le=16_384, description="Longest side that an image may have, in pixels."
    )
    suite: str | None = Field(
        default=None,
        min_length=1,
        max_length=2_048,
        description="Expectations of your own besides the built-in ones: a Great Expectations suite as a "
        "JSON file (path or s3:// URL).",
    )


class SplitConfig(Settings):
    """How rows are divided where the source does not say it."""

    train_percent: int = Field(default=70, ge=1, le=98, description="Share of rows to train on.")
    validation_percent: int = Field(
        default=15, ge=1, le=98, description="Share of rows to choose between epochs and trials by."
    )
    test_percent: int = Field(default=15, ge=1, le=98, description="Share of rows held out for evaluation.")
    seed: int = Field(default=0, ge=0, le=2**32 - 1, description="Another seed gives another division.")
    stratified: bool = Field(default=True, description="Keep the share of every class in every split.")
    group_by: str | None = Field(
        default=None,
        min_length=1,
        max_length=256,
        description="Rows of one group stay in one split. Tables: a column's name. Files: a regular "
        "expression on the path whose first group is the row's group, such as (patient\\d+)_.",
    )
    folds: int = Field(
        default=0,
        ge=0,
        le=20,
        description="Divide the training rows into so many folds for cross-validation, instead of a "
        "validation split (whose rows, if the source has one, are trained on); 0 makes none.",
    )

    @model_validator(mode="after")
    def _whole(self) -> Self:
        total = self.train_percent + self.validation_percent + self.test_percent
        if total != 100:
            raise ValueError(f"train, validation and test percent must add up to 100, not {total}")
        return self


class StepConfig(Settings):
    """One preprocessing method with its parameters."""

    method: PreprocessingMethod = Field(description="The method to apply.")
    parameters: dict[str, Any] = Field(
        default_factory=dict,
        validate_default=True,
        description="Parameters of the method; what is left out takes the method's default. "
        + "; ".join(
            f"{name}: {', '.join(method.Parameters.model_fields) or 'none'}"
            for name, method in METHODS.items()
        )
        + ".",
    )

    @field_validator("parameters")
    @classmethod
    def _complete(cls, given: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        """Check against the method's own model and write out its defaults, so that a manifest says all."""
        if "method" not in info.data:
            return given
        method = METHODS[info.data["method"]]
        try:
            return method.Parameters.model_validate(given).model_dump(mode="json")
        except ValidationError as error:
            known = ", ".join(method.Parameters.model_fields) or "none"
            faults = "; ".join(
                f"{'.'.join(str(part) for part in fault['loc']) or 'parameters'}: {fault['msg']}"
                for fault in error.errors()
            )
            raise ValueError(f"{method.name}: {faults} (its parameters: {known})") from None


class PreprocessConfig(Settings):
    """How a dataset is divided and made ready for training."""

    steps: tuple[StepConfig, ...] = Field(
        default=(),
        max_length=50,
        description="Methods in order; empty takes those usual for the problem. Images get one colour mode "
        "and one size even if no step says so.",
    )
    input_size_px: int = Field(
        default=28,
        ge=4,
        le=1024,
        description="Images: width and height where no step sets the size, in pixels.",
    )
    split: SplitConfig = Field(
        default_factory=SplitConfig,
        description="How rows are divided where the source does not say it.",
    )
