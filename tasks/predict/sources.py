"""Inputs of batch inference: files found, looked at early, and read in batches."""

from __future__ import annotations

import fnmatch
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, TYPE_CHECKING, Any

import orjson
import pandas as pd
import pyarrow.parquet as pq

from tasks.data.formats.images import IMAGE_SUFFIXES
from tasks.data.formats.table_files import TABLE_SUFFIXES, column_names, read_chunks
from tasks.data.sources import source as sources
from tasks.errors import InvalidData, InvalidSettings, NotFound
from tasks.predict.config import PredictConfig
from tasks.refs import Problem

if TYPE_CHECKING:
    from tasks.train.bundle import Bundle

TABLE_KINDS = tuple(suffix.removeprefix(".") for suffix in TABLE_SUFFIXES)
INSTANCE_KINDS = ("json", "jsonl")
ID_COLUMN = "id"


@dataclass(frozen=True)
class Batch:
    """Inputs that go to a worker together.

    Attributes:
        number: Place among the batches, from 0; results keep this order.
        ids: One a row: the file's path, or `<file>#<row from 1>`.
        frame: Rows of the raw feature columns; None where there is none.
        instances: Rows as in a request's `instances`; None where there are none.
        files: Image files, relative to the source's root, which the worker reads; None where there are none.
    """

    number: int
    ids: list[str]
    frame: pd.DataFrame | None = None
    instances: list[Any] | None = None
    files: list[str] | None = None

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Source:
    """The files of one source, all of one kind.

    Attributes:
        listing: What was found at the address.
        files: The paths of it that are taken, relative to its root, sorted: their names in results.
        kind: `image`, `csv`, `tsv`, `parquet`, `json` or `jsonl`.
    """

    listing: sources.Source
    files: list[str]
    kind: str

    def open(self, path: str) -> IO[bytes]:
        """A file, to be read in parts."""
        return self.listing.reader.open(path)


def find(
    config: PredictConfig,
    options: dict[str, Any] | None = None,
    roots: Sequence[str] | None = None,
    closed: Sequence[str] = (),
) -> Source:
    """The files that a configuration names.

    Args:
        config: Source, include and exclude.
        options: fsspec options of the source's file system.
        roots: Local folders that a source may be in; None for any.
        closed: Folders and URLs that no source may be in, such as the dataset store's.

    Raises:
        InvalidSettings: A kind of address that is not read.
        NotAllowed: A local folder outside the roots.
        NotFound: There is no such file, or the globs leave none.
        InvalidData: The files are of several kinds, or of a kind that is not read; or a link leads out
            of the folder.
    """
    listing = sources.scan(config.source, options, roots, closed)
    taken = [path for path in listing.paths if _is_taken(path, config)]
    if not taken:
        raise NotFound(
            f"no input file was found ({len(listing.paths)} before include and exclude)",
            where=config.source,
            allowed="a file, a folder or a glob with at least one file",
            mend="check the path, and the include and exclude globs",
        )
    kinds = {_kind(p) for p in taken}
    if len(kinds) > 1 or "" in kinds:
        odd = next((p for p in taken if not _kind(p)), taken[0])
        raise InvalidData(
            f"there are files of several kinds, or of one that is not read: {odd}",
            where=config.source,
            allowed="one kind: " + ", ".join((*TABLE_KINDS, *INSTANCE_KINDS, "or images")),
            mend="choose files with include and exclude",
        )
    return Source(listing, taken, kinds.pop())


def check(source: Source, bundle: Bundle) -> None:
    """Refuse early what the model cannot answer: looks at the head of every table.

    Raises:
        InvalidSettings: The files are not of the kind that the model takes.
        InvalidData: A table lacks columns of the model, or cannot be read.
    """
    is_image_model = bundle.problem is Problem.IMAGE_CLASSIFICATION
    allowed = ("image", *INSTANCE_KINDS) if is_image_model else (*TABLE_KINDS, *INSTANCE_KINDS)
    if source.kind not in allowed:
        raise InvalidSettings(
            f"the model takes {'images' if is_image_model else 'table rows'}, the source holds "
            f"{source.kind} files",
            where=source.listing.given,
            allowed=", ".join(allowed),
            mend="choose another model or another source",
        )
    if source.kind not in TABLE_KINDS:
        return
    wanted = [feature.name for feature in bundle.features]
    for path in source.files:
        with source.open(path) as file:
            found = column_names(file, path)
        missing = [name for name in wanted if name not in found]
        if missing:
            raise InvalidData(
                f"the file {path} has no column {', '.join(missing)}",
                where=source.listing.given,
                allowed=", ".join(wanted),
                mend="name the columns as in the data that the model was trained on",
            )


def batches(source: Source, columns: Sequence[str], size: int) -> Iterator[Batch]:
    """The rows of all files in order, `size` at a time; only one batch is in memory at once.

    Args:
        source: The files.
        columns: Raw feature columns to keep of tables.
        size: Rows of a batch; the last one of a file may be shorter.

    Raises:
        InvalidData: A file cannot be read.
    """
    for number, batch in enumerate(_unnumbered(source, columns, size)):
        yield Batch(number, **batch)


def estimate_rows(source: Source) -> int | None:
    """About how many rows there are, from names, footers and line ends; None where that does not tell."""
    if source.kind == "image":
        return len(source.files)
    if source.kind == "json":
        return None
    rows = 0
    for path in source.files:
        with source.open(path) as file:
            if source.kind == "parquet":
                rows += pq.ParquetFile(file).metadata.num_rows
            else:
                while block := file.read(2**20):
                    rows += block.count(b"\n")
    return rows


def _unnumbered(source: Source, columns: Sequence[str], size: int) -> Iterator[dict[str, Any]]:
    if source.kind == "image":
        for start in range(0, len(source.files), size):
            files = source.files[start : start + size]
            yield {"ids": files, "files": files}
        return
    for path in source.files:
        rows = 0
        try:
            for part in _read(source, path, columns, size):
                count = len(next(iter(part.values())))
                part.setdefault("ids", [f"{path}#{rows + row + 1}" for row in range(count)])
                rows += count
                yield part
        except (ValueError, OSError) as error:
            raise InvalidData(
                f"the file {path} cannot be read: {str(error)[:200]}",
                where=f"{source.listing.given}, after row {rows}",
                allowed=f"a whole {source.kind} file",
                mend="mend the file, or leave it out with exclude",
            ) from error


def _read(source: Source, path: str, columns: Sequence[str], size: int) -> Iterator[dict[str, Any]]:
    if source.kind == "json":
        with source.open(path) as file:
            document = orjson.loads(file.read())
        instances = document.get("instances") if isinstance(document, dict) else document
        if not isinstance(instances, list):
            raise ValueError('a list, or an object with a list under "instances", is needed')
        for start in range(0, len(instances), size):
            yield {"instances": instances[start : start + size]}
    elif source.kind == "jsonl":
        with source.open(path) as file:
            gathered: list[Any] = []
            for line in io.TextIOWrapper(file, "utf-8"):
                if line.strip():
                    gathered.append(orjson.loads(line))
                if len(gathered) == size:
                    yield {"instances": gathered}
                    gathered = []
            if gathered:
                yield {"instances": gathered}
    else:
        with source.open(path) as file:
            for frame in read_chunks(file, path, size):
                if len(frame):
                    yield _table(frame, columns)


def _table(frame: pd.DataFrame, columns: Sequence[str]) -> dict[str, Any]:
    part: dict[str, Any] = {"frame": frame[list(columns)].reset_index(drop=True)}
    if ID_COLUMN in frame.columns and ID_COLUMN not in columns:
        part["ids"] = [str(value) for value in frame[ID_COLUMN]]
    return part


def _is_taken(name: str, config: PredictConfig) -> bool:
    if PurePosixPath(name).name.startswith("_"):  # what writers of tables leave beside them: _SUCCESS
        return False
    if any(fnmatch.fnmatch(name, pattern) for pattern in config.exclude):
        return False
    return not config.include or any(fnmatch.fnmatch(name, pattern) for pattern in config.include)


def _kind(path: str) -> str:
    suffix = PurePosixPath(path).suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        return "image"
    kind = suffix.removeprefix(".")
    return kind if kind in (*TABLE_KINDS, *INSTANCE_KINDS) else ""
