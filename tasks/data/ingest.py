"""Ingest: files in a known layout become a dataset version; what cannot be read is refused by name."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from tasks.data.adding import grow, require_newest
from tasks.data.config import IngestConfig
from tasks.data.crashes import MOST_LETHAL, sifted, survivors
from tasks.data.layouts import layout_of
from tasks.data.layouts.layout import Contents, Rows, SourcePartition
from tasks.data.listed import listed
from tasks.data.manifest import ID_COLUMN, FileEntry
from tasks.data.origins import ADDED, INGESTED
from tasks.data.partitions import Progress, map_partitions, silent
from tasks.data.row_keys import id_keys
from tasks.data.shards import ShardTarget
from tasks.data.sources.source import Source, opened
from tasks.data.storage.store import DatasetStore
from tasks.data.unions import Form, read_alike, union_of, version_to_add_to
from tasks.errors import InvalidData, Unavailable
from tasks.refs import LOCAL_USER, DatasetRef

if TYPE_CHECKING:
    from distributed import Client

_log = logging.getLogger(__name__)

MOST_NAMED = 20
"""A refusal names so many files."""

MOST_KEPT = 1_000
"""A manifest names so many of the files that were left out."""

_NOT_OF_THE_CONTENT = {"source", "name", "description", "private", "add", "add_folder"}
"""Where files are, and how they are shown: the same content is the same version."""

ATTEMPTS = 3
"""So often a group of files is read whose worker died, though no file in it kills one by itself."""


def ingest(
    config: IngestConfig,
    store: DatasetStore,
    client: Client | None = None,
    source: Source | None = None,
    progress: Progress = silent,
    owner: str = LOCAL_USER,
    warn: Callable[[str], None] = _log.warning,
) -> DatasetRef:
    """Make a dataset version of the source.

    Args:
        config: What to read, and how.
        store: Where the version goes.
        client: Dask client whose workers read the files and write the shards; this process does it
            without one, and dies of a file that kills its reader.
        source: The listing, if the caller opened it already.
        progress: Hears of the parts of the source that are done.
        owner: Who makes the version.
        warn: Hears of files that are left out.

    Returns:
        The new version, or the one with the same content that is there already; where rows are added,
        that is the version that has them all.

    Raises:
        NotFound, InvalidSettings: There is nothing at the source, or it is no address to read.
        InvalidData: The source is in no known layout, or files in it cannot be read; or they do not fit
            the rows that they are to be added to.
    """
    if source is None:
        with opened(config) as source:
            return ingest(config, store, client, source, progress, owner, warn)
    base = version_to_add_to(store, config) if config.add else None
    layout = layout_of(source, config)
    alike = config if base is None else read_alike(config, store, base, source)
    contents = layout.read(source, alike, client)
    union = None if base is None else union_of(base, store, contents, config.add_folder)
    with store.writer(config.name) as writer:
        before = Counter(file.split for file in union.base.files) if union else Counter[str]()
        counts = before.copy()
        for partition in contents.partitions:
            counts[partition.split] += partition.shards
        form = union.new if union else None
        outcomes = _written(contents, writer.target, before, counts, form, client, progress)
        faults = sorted(fault for outcome in outcomes for fault in outcome.faults)
        if faults:
            _judge(faults, source, config, warn)
        files = [file for outcome in outcomes for file in outcome.files]
        about: dict[str, Any] = {
            "problem": config.problem,
            "features": contents.features,
            "label": contents.label,
            "classes": contents.classes,
            "unlabelled": sum(outcome.unlabelled for outcome in outcomes),
            "left_out": {"unreadable": len(faults)} if faults else {},
            "parent": None,
            "method": f"{INGESTED}{layout.name}",
            "parameters": _parameters(config, contents, faults),
            "preprocessing": (),
            "source": config.source,
            "owner": owner,
        }
        if union is not None:
            ids = [each for outcome in outcomes for each in outcome.ids]
            grown = grow(union, store, writer.target, list(zip(files, ids, strict=True)), counts, client)
            if not grown.added:
                warn(f"{store.ref(union.base)} has all rows of {source.given} already: no version is made")
                return store.ref(union.base)
            files = grown.files
            about |= grown.about(union, about) | {"method": f"{ADDED}{layout.name}"}
            require_newest(store, union.base)
        return writer.commit(files, **about)


def _judge(faults: Sequence[str], source: Source, config: IngestConfig, warn: Callable[[str], None]) -> None:
    """Refuse the source for its unreadable files, or let them go with a warning."""
    named = listed(faults, MOST_NAMED)
    if config.unreadable == "refuse":
        raise InvalidData(
            f"{len(faults):,} files cannot be read: {named}",
            where=source.given,
            mend="repair or remove these files, exclude them, or set unreadable to leave-out",
        )
    warn(f"{len(faults):,} files of {source.given} cannot be read and are left out: {named}")


def _parameters(config: IngestConfig, contents: Contents, faults: Sequence[str]) -> dict[str, Any]:
    parameters = config.model_dump(mode="json", exclude=_NOT_OF_THE_CONTENT)
    parameters |= contents.parameters
    if faults:
        parameters["left_out_files"] = list(faults[:MOST_KEPT])
    return parameters


@dataclass(frozen=True)
class _Job:
    """Partitions whose rows become shards `first`, `first` + 1, … of the `count` of their split.

    One partition makes as many shards as it says; several, which one partition was cut into, make one.
    """

    partitions: tuple[SourcePartition, ...]
    target: ShardTarget
    first: int
    count: int
    label: str
    form: Form | None = None


@dataclass(frozen=True)
class _Outcome:
    files: Sequence[FileEntry] = ()
    faults: Sequence[str] = ()
    unlabelled: int = 0
    ids: Sequence[np.ndarray] = ()
    """Hashes of the ids in each file, where rows are added to others."""


def _written(
    contents: Contents,
    target: ShardTarget,
    before: Counter[str],
    counts: Counter[str],
    form: Form | None,
    client: Client | None,
    progress: Progress,
) -> list[_Outcome]:
    """Write them as shards of their split, of which some come before and `counts` are there in all."""
    seen = before.copy()
    jobs = []
    for partition in contents.partitions:
        jobs.append(
            _Job((partition,), target, seen[partition.split], counts[partition.split], contents.label, form)
        )
        seen[partition.split] += partition.shards
    if client is None:
        return map_partitions(_write, jobs, None, progress)
    return [
        outcome if outcome is not None else _written_again(job, client)
        for job, outcome in zip(jobs, survivors(_write, jobs, client, progress), strict=True)
    ]


def _written_again(job: _Job, client: Client) -> _Outcome:
    """What a worker died of, done without the files that kill."""
    partition = job.partitions[0]
    for _ in range(ATTEMPTS):
        parts = sifted(partition, client)
        faults = [f"{name} (the process that read it died)" for name in parts.lethal]
        if faults and partition.shards > 1:
            raise InvalidData(
                f"Worker processes die when they read {listed(parts.lethal)}",
                mend="repair the file, cut it into smaller ones, or give workers more memory",
            )
        if len(faults) >= MOST_LETHAL:
            raise InvalidData(
                f"Worker processes die when they read these files, and perhaps others: "
                f"{listed(parts.lethal, MOST_NAMED)}",
                mend="remove these files, or give workers more memory",
            )
        partitions = parts.safe if faults else (partition,)
        outcome = (
            survivors(_write, [replace(job, partitions=partitions)], client)[0] if partitions else _Outcome()
        )
        if outcome is not None:
            return replace(outcome, faults=[*outcome.faults, *faults])
    raise Unavailable(
        f"Worker processes die when they read {len(partition.names()):,} files together, "
        f"though not of any one of them: {listed(partition.names(), 3)}",
        mend="give workers more memory, or look into their logs",
    )


def _write(job: _Job) -> _Outcome:
    files: list[FileEntry] = []
    faults: list[str] = []
    ids: list[np.ndarray] = []
    unlabelled = 0
    for index, rows in enumerate(_shards(job), job.first):
        faults.extend(rows.faults)
        unlabelled += rows.table[job.label].null_count if job.label else 0
        if not rows.table.num_rows:
            continue
        table = rows.table if job.form is None else job.form.rows(rows.table)
        if job.form is not None:
            ids.append(id_keys(table[ID_COLUMN]))
        files.append(job.target.write(job.partitions[0].split, index, job.count, table))
    return _Outcome(files, faults, unlabelled, ids)


def _shards(job: _Job) -> Iterator[Rows]:
    if len(job.partitions) == 1:
        yield from job.partitions[0].read()
        return
    parts = [rows for partition in job.partitions for rows in partition.read()]
    faults = [fault for rows in parts for fault in rows.faults]
    yield Rows(pa.concat_tables([rows.table for rows in parts]), faults)
