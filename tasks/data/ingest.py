"""Ingest: files in a known layout become a dataset version; what cannot be read is refused by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.data.config import IngestConfig
from tasks.data.layouts import layout_of
from tasks.data.layouts.layout import Shard
from tasks.data.listed import listed
from tasks.data.manifest import FileEntry
from tasks.data.partitions import map_partitions
from tasks.data.shards import ShardTarget
from tasks.data.sources import Source, digest, scan
from tasks.data.store import DatasetStore
from tasks.errors import InvalidData
from tasks.refs import DatasetRef

if TYPE_CHECKING:
    from distributed import Client


def source_of(
    config: IngestConfig, options: Mapping[str, Any] | None = None, samples: Path | None = None
) -> Source:
    """List the files that the settings point at, after writing out a sample if they name one.

    Args:
        config: The settings.
        options: fsspec storage options for a source at a URL.
        samples: Folder for samples; the installation's own by default.
    """
    return scan(config.source, options, samples)


def source_digest(
    config: IngestConfig, options: Mapping[str, Any] | None = None, samples: Path | None = None
) -> str:
    """SHA-256, hex, over the names and contents of the source's files: same digest, same version."""
    return digest(source_of(config, options, samples))


def ingest(
    config: IngestConfig,
    store: DatasetStore,
    client: Client | None = None,
    source: Source | None = None,
) -> DatasetRef:
    """Make a dataset version of the source.

    Args:
        config: What to read, and how.
        store: Where the version goes.
        client: Dask client whose workers read and write the shards; this process does it without one.
        source: The listing, if the caller made it already.

    Returns:
        The new version, or the one with the same content that is there already.

    Raises:
        NotFound, InvalidSettings: There is nothing at the source, or it is no address to read.
        InvalidData: The source is in no known layout, or files in it cannot be read.
    """
    source = source or source_of(config)
    layout = layout_of(source, config)
    contents = layout.read(source, config)
    with store.writer(config.name) as writer:
        counts = Counter(shard.split for shard in contents.shards)
        seen: Counter[str] = Counter()
        jobs = []
        for shard in contents.shards:
            jobs.append(_Job(shard, writer.target, seen[shard.split], counts[shard.split]))
            seen[shard.split] += 1
        outcomes = map_partitions(_write, jobs, client if contents.on_workers else None)
        faults = [fault for outcome in outcomes for fault in outcome.faults]
        if faults:
            raise InvalidData(
                f"{len(faults):,} files cannot be read: {listed(faults)}",
                where=source.given,
                mend="repair or remove these files",
            )
        return writer.commit(
            [outcome.file for outcome in outcomes],
            problem=config.problem,
            features=contents.features,
            label=contents.label,
            classes=contents.classes,
            parent=None,
            method=f"ingest:{layout.name}",
            parameters=config.model_dump(mode="json", exclude={"source", "name"}),
            preprocessing=(),
            source=config.source,
        )


@dataclass(frozen=True)
class _Job:
    shard: Shard
    target: ShardTarget
    index: int
    count: int


@dataclass(frozen=True)
class _Outcome:
    file: FileEntry
    faults: list[str]


def _write(job: _Job) -> _Outcome:
    table, faults = job.shard.table()
    return _Outcome(job.target.write(job.shard.split, job.index, job.count, table), faults)
