"""The interface of layouts, and what they share: names of splits, order of classes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa

from tasks.data.config import IngestConfig
from tasks.data.listed import listed
from tasks.data.manifest import Feature, Manifest
from tasks.data.sources.source import Source
from tasks.errors import InvalidData
from tasks.refs import Problem

if TYPE_CHECKING:
    from distributed import Client

INTEGER = re.compile(r"^[+-]?\d+$")
"""What a whole number looks like as a label."""


@dataclass(frozen=True)
class Rows:
    """Rows that were read: those of one shard.

    Attributes:
        table: In the schema of `tasks.data.shards`.
        faults: A line for each row or file that cannot be read, its name first.
    """

    table: pa.Table
    faults: Sequence[str] = ()


class SourcePartition(Protocol):
    """Rows of one split that a worker reads by itself; small, so that it travels.

    Attributes:
        split: The split that the rows are in.
        shards: How many shards the rows become.
    """

    @property
    def split(self) -> str: ...

    @property
    def shards(self) -> int: ...

    def read(self) -> Iterator[Rows]:
        """The rows of each of the shards, one after the other, so that one lies in memory at a time."""
        ...

    def halved(self) -> Sequence[SourcePartition]:
        """Two halves, to find the file at which a worker died; none if there is one file only."""
        ...

    def names(self) -> Sequence[str]:
        """The files that the rows come from."""
        ...


@dataclass(frozen=True)
class Contents:
    """What a source holds.

    Attributes:
        features: The input columns.
        label: Name of the label column; empty where rows have none.
        classes: Class names in the order of the integer labels; none for regression.
        partitions: The rows, in order.
        unlabelled: Rows without a label.
        parameters: What else the manifest keeps, to write the data out again as it came; plain JSON.
    """

    features: tuple[Feature, ...]
    label: str
    classes: tuple[str, ...]
    partitions: Sequence[SourcePartition]
    unlabelled: int
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class StoredVersion:
    """A version to be written out as files; all of its rows, or those that an export chose.

    Attributes:
        manifest: The version.
        origin: The ingested version that it was made from, or itself: its parameters say how the files
            were laid out.
        splits: The splits that are written.
        tables: The rows of a split, table after table.
    """

    manifest: Manifest
    origin: Manifest
    splits: Sequence[str]
    tables: Callable[[str], Iterator[pa.Table]]


File = tuple[str, Iterable[bytes]]
"""A file: path with `/` inside the folder or archive, and its content in blocks."""


class Layout(Protocol):
    """One way in which data is laid out in files."""

    name: str
    describes: str

    def reads(self, problem: Problem) -> bool:
        """Whether data for this problem can be in this layout."""
        ...

    def matches(self, source: Source, config: IngestConfig) -> bool:
        """Whether the source looks like this layout; by names alone, nothing is read."""
        ...

    def read(self, source: Source, config: IngestConfig, client: Client | None = None) -> Contents:
        """Find out what is in the source.

        Args:
            source: The listing.
            config: The settings.
            client: Dask client for what has to be read to find out; this process does it without one.

        Raises:
            InvalidData: It is in this layout, but with faults.
        """
        ...

    def export(self, version: StoredVersion) -> Iterator[File]:
        """The files of a version, laid out so that `read` gives the same rows, labels and splits."""
        ...

    def template(self, problem: Problem) -> dict[str, bytes]:
        """The smallest set of files in this layout that ingests, as an example: path → content."""
        ...


def ordered_classes(labels: Iterable[str]) -> tuple[str, ...]:
    """Class names sorted; by number when all are whole numbers."""
    distinct = set(labels)
    if all(INTEGER.match(label) for label in distinct):
        return tuple(sorted(distinct, key=lambda label: (int(label), label)))
    return tuple(sorted(distinct))


def named_classes(
    labels: Iterable[str], names: Sequence[str], where: str, least: int = 2
) -> tuple[tuple[str, ...], dict[str, int]]:
    """Class names and the integer label of every label found in the data.

    Args:
        labels: Labels as the data writes them: class names, or whole numbers.
        names: Names of the integer labels 0, 1, 2…; empty where none are given.
        where: What to point at in an error.
        least: How many classes there must be.

    Raises:
        InvalidData: There are fewer classes; or names are given, and they repeat, or a label is
            neither one of them nor the number of one.
    """
    distinct = ordered_classes(labels)
    if not distinct or len(names or distinct) < least:
        raise InvalidData(
            f"There is one label only, {distinct[0]}" if distinct else "No row has a label",
            where=where,
            allowed="at least two classes, for a model to tell apart",
            mend="add rows of another class, or choose another label",
        )
    if not names:
        return distinct, {label: index for index, label in enumerate(distinct)}
    index_of = {name: index for index, name in enumerate(names)}
    if len(index_of) < len(names):
        raise InvalidData(
            "Two integer labels have the same name", where=where, mend="correct the label names"
        )
    numbers = {label: int(label) for label in distinct if INTEGER.match(label)}
    found = {label: index_of.get(label, numbers.get(label, -1)) for label in distinct}
    unknown = [label for label, index in found.items() if not 0 <= index < len(names)]
    if unknown:
        raise InvalidData(
            f"{len(unknown)} labels have no name: {listed(unknown)}",
            where=where,
            allowed=f"{listed(names)}, or their numbers 0 to {len(names) - 1}",
            mend="complete the label names, or correct the labels",
        )
    return tuple(names), found
