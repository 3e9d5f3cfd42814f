"""Table files to ingest, and the rows that come of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
from distributed import Client

from tasks.data.config import IngestConfig
from tasks.data.ingest import ingest
from tasks.data.manifest import Manifest
from tasks.data.read import shard_tables
from tasks.data.storage.store import DatasetStore
from tasks.refs import Problem

TABLE, NUMBER, TEXT = Problem.TABLE_CLASSIFICATION, Problem.TABLE_REGRESSION, Problem.TEXT_CLASSIFICATION

Write = Callable[..., Path]
"""Writes files and gives their folder."""


def ingested(
    store: DatasetStore, source: Path, problem: Problem = TABLE, client: Client | None = None, **more: Any
) -> Manifest:
    config = IngestConfig(source=str(source), name="rows", problem=problem, **more)
    return store.open(ingest(config, store, client))


def rows_of(store: DatasetStore, manifest: Manifest, split: str = "train") -> pa.Table:
    return pa.concat_tables(shard_tables(store, manifest, split))
