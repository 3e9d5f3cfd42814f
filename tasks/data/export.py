"""Export: a version as a zip of files in the layout that it came in; and templates of the layouts."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePosixPath
from typing import IO

import pyarrow as pa

from tasks.data.layouts import layout_named
from tasks.data.layouts.layout import StoredVersion
from tasks.data.listed import listed
from tasks.data.manifest import ID_COLUMN, Manifest
from tasks.data.origins import INGESTED, origin_of
from tasks.data.partitions import Progress, silent
from tasks.data.sources.globs import Selection
from tasks.data.storage.store import DatasetStore
from tasks.errors import InvalidSettings
from tasks.refs import DatasetRef, Problem

PRESSED = frozenset({".csv", ".json", ".md", ".tsv", ".txt"})
"""Files with other endings are compressed already."""

ABOUT_FILE = "README.md"

_ROWS = {"table": 65_536, "text": 8_192}
_ROWS_OF_FILES = 256
_READABLE = 0o100644 << 16


def export(
    store: DatasetStore,
    version: DatasetRef | Manifest,
    file: IO[bytes],
    splits: Sequence[str] | None = None,
    include: Sequence[str] = (),
    progress: Progress = silent,
) -> None:
    """Write a version as a zip, shard by shard; ingesting it gives the same rows, labels and splits.

    Args:
        store: The store that holds it.
        version: The version.
        file: Where the zip goes; it need not be seekable.
        splits: Only these splits.
        include: Only the rows whose ids are these or match these globs.
        progress: Hears of the shards that are done.

    Raises:
        InvalidSettings: There is no such split, or no such row.
        Damaged: A shard is not what was written.
    """
    manifest = version if isinstance(version, Manifest) else store.open(version)
    chosen = _chosen(manifest, splits)
    origin = origin_of(store, manifest)
    name = origin.method.removeprefix(INGESTED)
    reader = _Reader(store, manifest, Selection(include), chosen, progress)
    stored = StoredVersion(manifest=manifest, origin=origin, splits=chosen, tables=reader.tables)
    layout = layout_named(name, manifest.problem)
    with zipfile.ZipFile(file, "w") as archive:
        for path, blocks in layout.export(stored):
            _add(archive, path, blocks)
        if not reader.taken:
            raise InvalidSettings(
                f"No row of {manifest.name}@{manifest.version} matches {listed(include)}",
                where="include",
                allowed="ids of rows, which are paths for files, or globs such as **/cat/*.png",
            )
        _add(archive, ABOUT_FILE, [_about(manifest, layout.describes, chosen, include).encode()])


def template(layout: str, problem: Problem) -> bytes:
    """A zip of a few files in a layout, which ingests as it is.

    Raises:
        InvalidSettings: There is no layout of that name for this problem.
    """
    found = layout_named(layout, problem)
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        for path, content in found.template(problem).items():
            _add(archive, path, [content])
        described = found.describes[:1].upper() + found.describes[1:]
        about = (
            f"# Template: {found.name} for {problem.value}\n\n{described}."
            "\n\nReplace these files by your own, keep the arrangement, and ingest the folder or its zip.\n"
        )
        _add(archive, ABOUT_FILE, [about.encode()])
    return sink.getvalue()


class _Reader:
    """Reads the rows that are wanted; layouts may ask for a split more than once."""

    def __init__(
        self,
        store: DatasetStore,
        manifest: Manifest,
        selection: Selection,
        splits: Sequence[str],
        progress: Progress,
    ) -> None:
        self._store, self._manifest, self._selection = store, manifest, selection
        self._progress = progress
        self._all = sum(len(manifest.files_of(split)) for split in splits)
        self._done: set[str] = set()
        self.taken = False

    def tables(self, split: str) -> Iterator[pa.Table]:
        rows = _ROWS.get(self._manifest.problem.modality, _ROWS_OF_FILES)
        for shard in self._store.shards(self._manifest, split):
            with shard.opened(ahead=True) as file:
                for batch in file.iter_batches(batch_size=rows):
                    table = self._wanted(pa.Table.from_batches([batch]))
                    if table.num_rows:
                        self.taken = True
                        yield table
            self._done.add(shard.file.path)
            self._progress(len(self._done), self._all)

    def _wanted(self, table: pa.Table) -> pa.Table:
        taken = [self._selection.takes(key) for key in table[ID_COLUMN].to_pylist()]
        return table if all(taken) else table.filter(pa.array(taken))


def _chosen(manifest: Manifest, splits: Sequence[str] | None) -> list[str]:
    there = [split for split, rows in manifest.splits.items() if rows]
    unknown = sorted(set(splits or ()) - set(there))
    if unknown:
        raise InvalidSettings(
            f"The version {manifest.name}@{manifest.version} has no split {listed(unknown)}",
            where="splits",
            allowed=", ".join(there),
        )
    return [split for split in there if not splits or split in splits]


def _add(archive: zipfile.ZipFile, path: str, blocks: Iterable[bytes]) -> None:
    about = zipfile.ZipInfo(path)  # of 1980, so that the same version is the same zip
    about.external_attr = _READABLE
    pressed = PurePosixPath(path).suffix.lower() in PRESSED
    about.compress_type = zipfile.ZIP_DEFLATED if pressed else zipfile.ZIP_STORED
    if isinstance(blocks, list):
        about.file_size = sum(len(block) for block in blocks)
    # How large a stream becomes is not known before: its size gets the room that it may need.
    with archive.open(about, "w", force_zip64=not isinstance(blocks, list)) as file:
        for block in blocks:
            file.write(block)


def _about(manifest: Manifest, describes: str, splits: Sequence[str], include: Sequence[str]) -> str:
    rows = ", ".join(f"{split} {manifest.splits[split]:,}" for split in splits)
    lines = [
        f"# {manifest.name}@{manifest.version}",
        "",
        f"Exported by Trainyard, in the layout: {describes}.",
        "",
        f"- problem: {manifest.problem.value}",
        f"- rows: {rows}" + (f" (of which those that match {listed(include)})" if include else ""),
        f"- made by: {manifest.method}",
        f"- digest: {manifest.digest}",
    ]
    if manifest.classes:
        lines.append(f"- classes: {listed(manifest.classes, 50)}")
    return "\n".join(lines) + "\n"
