"""Tables are exported as they came in: the same bytes once they are ingested again."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tasks.data.layouts import LAYOUTS
from tasks.data.layouts.layout import StoredVersion
from tasks.data.manifest import Manifest
from tasks.data.read import shard_tables
from tasks.data.storage.store import DatasetStore
from tasks.refs import Problem
from tests.helpers.table_files import NUMBER, TABLE, TEXT, Write, ingested


def exported_to(folder: Path, store: DatasetStore, manifest: Manifest) -> dict[str, bytes]:
    layout = next(one for one in LAYOUTS if manifest.method == f"ingest:{one.name}")
    version = StoredVersion(
        manifest, manifest, tuple(manifest.splits), lambda split: shard_tables(store, manifest, split)
    )
    files = {path: b"".join(blocks) for path, blocks in layout.export(version)}
    folder.mkdir()
    for path, content in files.items():
        (folder / path).write_bytes(content)
    return files


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize("problem", [TABLE, NUMBER, TEXT])
def test_what_is_exported_comes_in_again_as_it_was(
    store: DatasetStore, write: Write, tmp_path: Path, problem: Problem, suffix: str
) -> None:
    columns = {
        "=name": ["=SUM(A1)", "@x", "two\nlines", 'a "q", b', "'=kept", "  spaced", None, "007"],
        "number": [0.1 + 0.2, 1e300, 5e-324, -5.0, None, 1 / 3, 7.0, -0.25],
        "codes": ["1", "2", "03", "+4", None, "-5", "6", "7"],
        "target": [1.5, 2.5, 1.5, None, 2.5, 1.5, 2.5, 1.5] if problem is NUMBER else list("-=-=-=-="),
    }
    tables = {"train": pa.table(columns).slice(0, 5), "test": pa.table(columns).slice(5)}
    settings: dict[str, Any] = {"column_types": {"codes": "categorical"}, "label": "target"}
    if problem is TEXT:
        settings = {"text_column": "=name", "label": "target"}
    files: dict[str, Any] = {}
    for split, table in tables.items():
        if suffix == "csv":
            frame = table.to_pandas()
            files[f"{split}_csv"] = frame.to_csv(index=False, quoting=csv.QUOTE_NONNUMERIC)
        else:
            files[f"{split}_parquet"] = table
    manifest = ingested(store, write(**files), problem, **settings)
    written = exported_to(tmp_path / "exported", store, manifest)
    assert {name.partition(".")[0] for name in written} >= {"train", "test"}
    assert f"train.{suffix}" in written
    if suffix == "csv":
        cells = [cell for row in csv.reader(io.StringIO(written["train.csv"].decode())) for cell in row]
        assert "'=SUM(A1)" in cells
        assert not [cell for cell in cells if cell.startswith(("=", "@", "\t", "\r"))]
    again = ingested(DatasetStore(str(tmp_path / "again")), tmp_path / "exported", problem)
    assert [feature.type for feature in again.features] == [feature.type for feature in manifest.features]
    assert (again.label, again.classes, again.splits) == (manifest.label, manifest.classes, manifest.splits)
    assert again.files == manifest.files  # the same bytes
    assert again.unlabelled == manifest.unlabelled


def test_integer_labels_are_exported_as_they_came(store: DatasetStore, write: Write, tmp_path: Path) -> None:
    manifest = ingested(store, write(data_csv="x,kind\n1,0\n2,1\n"), label_names=("cat", "dog"))
    files = exported_to(tmp_path / "exported", store, manifest)
    assert files["train.csv"].decode().splitlines()[1:] == ['"data.csv#1",1,0', '"data.csv#2",2,1']
    assert json.loads(files["label_names.json"]) == {"0": "cat", "1": "dog"}
    again = ingested(DatasetStore(str(tmp_path / "again")), tmp_path / "exported")
    assert again.classes == ("cat", "dog")
    assert again.files == manifest.files
