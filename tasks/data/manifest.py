"""What a dataset version is: its manifest, the file that makes a version visible."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from tasks.refs import LOCAL_USER, Problem

SPLITS = ("train", "validation", "test")
"""Names of the splits, in the order in which they are written and shown."""

SPLIT_OF = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "test": "test",
}
"""Names of folders and files that stand for splits."""

ID_COLUMN = "id"
FOLD_COLUMN = "fold"
"""Which of the folds of cross-validation a training row is in, from 0."""

IMAGE_COLUMN = "image"
TEXT_COLUMN = "text"
AUDIO_COLUMN = "audio"

LABEL_COLUMN = "label"
"""The class of a row that is a file; a table's label has the name that it came with."""
OBJECTS_COLUMN = "objects"
"""The labels of object detection and instance segmentation: a list of boxes."""
SEG_MAP_COLUMN = "seg_map"
"""The label of semantic segmentation: an image whose pixels are class numbers."""


def split_rank(split: str) -> int:
    """Where a split stands among others: in the order of `SPLITS`, unknown ones last."""
    return SPLITS.index(split) if split in SPLITS else len(SPLITS)


class Entry(BaseModel):
    """Base of everything in a manifest."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Feature(Entry):
    """One input column of a dataset version."""

    name: str
    type: Literal["image", "text", "audio", "numeric", "categorical"]
    categories: tuple[str, ...] = Field(
        default=(), description="Values seen when the data came in; for categorical columns."
    )


class FileEntry(Entry):
    """One Parquet shard."""

    path: str = Field(description="Relative to the version's folder.")
    split: str
    rows: int
    bytes: int
    sha256: str


class FittedStep(Entry):
    """One preprocessing method as it was applied: with what it learned from the training rows."""

    method: str
    parameters: dict[str, Any] = Field(default_factory=dict)
    state: dict[str, Any] = Field(default_factory=dict, description="What was fitted; plain JSON.")


class Manifest(Entry):
    """One immutable dataset version.

    The digest covers the content (schema, classes, shards, parent, method, parameters) and leaves out
    what only says when, from where and by whom it came, so that the same content has the same digest.
    """

    name: str
    version: str
    digest: str
    problem: Problem
    features: tuple[Feature, ...]
    label: str = Field(description="Name of the label column; empty where rows have no label.")
    classes: tuple[str, ...] = Field(description="Class names; a label is an index into them.")
    splits: dict[str, int] = Field(description="Rows of each split.")
    folds: int = Field(default=0, description="Folds that the training rows are divided into; 0: none.")
    unlabelled: int = Field(default=0, description="Rows without a label; none after preprocessing.")
    left_out: dict[str, int] = Field(
        default_factory=dict, description="Rows and files that did not come into this version, by reason."
    )
    files: tuple[FileEntry, ...]
    parent: str | None = Field(description="Version that this one was made from; none if ingested.")
    method: str = Field(description="What made this version, such as ingest:label-folders.")
    parameters: dict[str, Any]
    preprocessing: tuple[FittedStep, ...] = Field(
        description="All steps from the ingested version to this one, in order."
    )
    source: str
    owner: str = Field(default=LOCAL_USER, description="Who made this version.")
    created_at: str = Field(description="ISO 8601, UTC, with microseconds.")

    @property
    def rows(self) -> int:
        return sum(self.splits.values())

    @property
    def label_columns(self) -> list[str]:
        """The label column, if there is one."""
        return [self.label] if self.label else []

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)

    def files_of(self, split: str) -> list[FileEntry]:
        """The shards of a split, in order."""
        return [file for file in self.files if file.split == split]

    def content_digest(self) -> str:
        """SHA-256, hex, over the content that `digest` stands for."""
        content = self.model_dump(mode="json", exclude={"version", "digest", "source", "owner", "created_at"})
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()


def pages_folder(name: str, version: str) -> str:
    """Where a version's pages and pictures are, below the folder of the docs site."""
    return f"datasets/{name}/{version}"
