"""What a dataset version is: its manifest, the file that makes a version visible."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from tasks.refs import Problem

SPLITS = ("train", "validation", "test")
"""Names of the splits, in the order in which they are written and shown."""

ID_COLUMN = "id"
IMAGE_COLUMN = "image"
IMAGE_LABEL_COLUMN = "label"


class Entry(BaseModel):
    """Base of everything in a manifest."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Feature(Entry):
    """One input column of a dataset version."""

    name: str
    type: Literal["image", "numeric", "categorical"]
    categories: tuple[str, ...] = Field(
        default=(), description="Values seen when the data came in; none for numbers and images."
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
    what only says when and from where it came, so that the same content has the same digest.
    """

    name: str
    version: str
    digest: str
    problem: Problem
    features: tuple[Feature, ...]
    label: str = Field(description="Name of the label column.")
    classes: tuple[str, ...] = Field(description="Class names; a label is an index into them.")
    splits: dict[str, int] = Field(description="Rows of each split.")
    files: tuple[FileEntry, ...]
    parent: str | None = Field(description="Version that this one was made from; none if ingested.")
    method: str = Field(description="What made this version, such as ingest:image-folder.")
    parameters: dict[str, Any]
    preprocessing: tuple[FittedStep, ...] = Field(
        description="All steps from the ingested version to this one, in order."
    )
    source: str
    created_at: str = Field(description="ISO 8601, UTC, with microseconds.")

    @property
    def rows(self) -> int:
        return sum(self.splits.values())

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)

    def files_of(self, split: str) -> list[FileEntry]:
        """The shards of a split, in order."""
        return [file for file in self.files if file.split == split]

    def content_digest(self) -> str:
        """SHA-256, hex, over the content that `digest` stands for."""
        content = self.model_dump(mode="json", exclude={"version", "digest", "source", "created_at"})
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()
