"""Settings of what is done with stored datasets: list, browse, sample, export, delete, share; templates."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator

from tasks.data.config import NAME_PATTERN
from tasks.refs import Problem
from tasks.settings import Settings

LayoutName = Literal["label-folders", "labels-csv", "coco", "seg-maps", "table", "text-table"]
"""The layouts of `tasks.data.layouts`, whose modules a form must not load."""

USER_PATTERN = r"^[^\s,:]{1,80}$"


class ListConfig(Settings):
    """Which datasets to list."""

    text: str = Field(
        default="", max_length=200, description="Only datasets with this text in name, description or source."
    )
    problem: Problem | None = Field(default=None, description="Only data for this problem; empty for all.")
    owner: str | None = Field(
        default=None, max_length=80, description="Only this user's datasets; empty for everyone's."
    )
    kind: Literal["all", "raw", "prepared"] = Field(
        default="all", description="Versions as they came in, or those made ready for training, or all."
    )
    every_version: bool = Field(
        default=False, description="A line for every version, instead of one for the newest of each dataset."
    )
    sort: Literal["newest", "oldest", "name", "rows", "size"] = Field(
        default="newest", description="Order of the list; rows and size: largest first."
    )
    limit: int = Field(default=100, ge=1, le=1_000, description="Longest list to show.")


class BrowseConfig(Settings):
    """Which part of a version to look into."""

    path: str = Field(
        default="",
        max_length=2_048,
        description="A folder such as train/cat, or a glob such as **/1*.png; empty begins at the top.",
    )
    split: Literal["any", "train", "validation", "test"] = Field(
        default="any", description="Only rows of this split."
    )
    label: str | None = Field(
        default=None,
        max_length=256,
        description="Only rows of this class, or with an object of it; unlabelled for rows without a label.",
    )
    limit: int = Field(default=100, ge=1, le=1_000, description="Longest table to show.")


class SampleConfig(Settings):
    """Which rows to look at."""

    split: Literal["any", "train", "validation", "test"] = Field(
        default="any", description="The split to draw from; any takes train, or else the first there is."
    )
    label: str | None = Field(
        default=None, max_length=256, description="Only rows of this class; empty takes the classes in turn."
    )
    count: int = Field(default=16, ge=1, le=64, description="How many rows to draw.")
    seed: int = Field(default=0, ge=0, le=2**32 - 1, description="Another seed draws other rows.")
    before: bool = Field(
        default=True, description="Of a prepared version, show the same rows before preprocessing as well."
    )


class ExportConfig(Settings):
    """What of a version goes into a zip file, and where that goes."""

    splits: tuple[str, ...] = Field(
        default=(), max_length=10, description="Only these splits, such as train; empty takes all."
    )
    include: tuple[str, ...] = Field(
        default=(),
        max_length=10_000,
        description="Only these items: their ids, or globs such as train/cat/*; empty takes all.",
    )
    destination: str | None = Field(
        default=None,
        min_length=1,
        max_length=2_048,
        description="A new .zip file, as an absolute path on the worker or an s3:// URL; empty makes a link "
        "to download from.",
    )
    max_gib: float = Field(
        default=20, gt=0, le=10_000, description="Largest size of the rows to be exported, in GiB."
    )


class TemplateConfig(Settings):
    """Which layout of files to make an example of."""

    layout: LayoutName = Field(
        default="label-folders",
        description="How the files are laid out; one that does not fit the problem is answered with those "
        "that do.",
    )
    problem: Problem = Field(
        default=Problem.IMAGE_CLASSIFICATION, description="What a model is to learn from the data."
    )


class DeleteConfig(Settings):
    """What to delete."""

    name: str = Field(pattern=NAME_PATTERN, description="Name of the dataset.")
    version: str = Field(
        pattern=r"^(all|\d{8}-\d{6}-[0-9a-f]{6})$",
        description="A version such as 20261120-181212-fb90eb; all deletes the whole dataset.",
    )


class ShareConfig(Settings):
    """Who may see a dataset and add versions to it."""

    name: str = Field(pattern=NAME_PATTERN, description="Name of the dataset.")
    visibility: Literal["shared", "private"] = Field(
        default="shared", description="Shared with everybody, or private: for the owner and the members."
    )
    members: tuple[str, ...] = Field(
        default=(), max_length=500, description="Users who see it if it is private, besides the owner."
    )
    writable: bool = Field(
        default=False, description="Those who see it may add versions; otherwise only the owner may."
    )
    description: str | None = Field(
        default=None, max_length=2_000, description="What the data is; empty leaves what is written."
    )
    owner: str | None = Field(
        default=None, pattern=USER_PATTERN, description="Hand it over to this user; empty keeps the owner."
    )

    @field_validator("members")
    @classmethod
    def _are_users(cls, members: tuple[str, ...]) -> tuple[str, ...]:
        for member in members:
            if not re.match(USER_PATTERN, member):
                raise ValueError(f"{member!r} is not a user name: no spaces, commas or colons, 80 characters")
        return tuple(dict.fromkeys(members))
