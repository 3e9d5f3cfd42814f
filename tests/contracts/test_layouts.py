"""What every layout must do, run against each of them with the same animals in it."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tasks.data.config import IngestConfig
from tasks.data.ingest import ingest, source_digest
from tasks.data.layouts import LAYOUTS, layout_of
from tasks.data.manifest import Manifest
from tasks.data.read import read_raw_rows, shard_tables
from tasks.data.sources import scan
from tasks.data.store import DatasetStore
from tasks.refs import Problem

ANIMALS = [("cat", 0), ("dog", 1), ("cat", 2), ("dog", 3), ("cat", 4), ("dog", 5)]


def _picture(number: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(number).integers(0, 256, (8, 8), np.uint8))


def folder_of_splits(root: Path) -> IngestConfig:
    for (label, number), split in zip(ANIMALS, ["train"] * 4 + ["validation", "test"], strict=True):
        (root / split / label).mkdir(parents=True, exist_ok=True)
        _picture(number).save(root / split / label / f"{number}.png")
    return IngestConfig(source=str(root), name="animals", problem=Problem.IMAGE_CLASSIFICATION)


def folder_of_labels(root: Path) -> IngestConfig:
    for label, number in ANIMALS:
        (root / label).mkdir(parents=True, exist_ok=True)
        _picture(number).save(root / label / f"{number}.png")
    return IngestConfig(source=str(root), name="animals", problem=Problem.IMAGE_CLASSIFICATION)


def images_and_integer_labels(root: Path) -> IngestConfig:
    (root / "images").mkdir(parents=True)
    with (root / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "label"])
        for label, number in ANIMALS:
            _picture(number).save(root / "images" / f"{number}.png")
            writer.writerow([f"images/{number}.png", int(label == "dog")])
    (root / "label_names.json").write_text('{"0": "cat", "1": "dog"}')
    return IngestConfig(source=str(root), name="animals", problem=Problem.IMAGE_CLASSIFICATION)


def images_and_names_without_header(root: Path) -> IngestConfig:
    root.mkdir(parents=True)
    lines = []
    for label, number in ANIMALS:
        _picture(number).save(root / f"{number}.png")
        lines.append(f"{number}.png;{label}")
    (root / "labels.csv").write_text("\ufeff" + "\r\n".join(lines), encoding="utf-8")
    return IngestConfig(source=str(root), name="animals", problem=Problem.IMAGE_CLASSIFICATION)


def csv_table(root: Path) -> IngestConfig:
    root.mkdir(parents=True)
    lines = ["legs,name,kind", *(f"4,n{number},{label}" for label, number in ANIMALS)]
    (root / "animals.csv").write_text("\n".join(lines) + "\n")
    return IngestConfig(
        source=str(root / "animals.csv"), name="animals", problem=Problem.TABLE_CLASSIFICATION
    )


def csv_table_of_splits(root: Path) -> IngestConfig:
    root.mkdir(parents=True)
    for split, rows in (("train", ANIMALS[:4]), ("validation", ANIMALS[4:5]), ("test", ANIMALS[5:])):
        lines = ["kind\tlegs\tname", *(f"{label}\t4\tn{number}" for label, number in rows)]
        (root / f"{split}.csv").write_text("\n".join(lines))
    return IngestConfig(source=str(root), name="animals", problem=Problem.TABLE_CLASSIFICATION, label="kind")


def parquet_table(root: Path) -> IngestConfig:
    root.mkdir(parents=True)
    labels, numbers = zip(*ANIMALS, strict=True)
    names = [f"n{number}" for number in numbers]
    table = pa.table({"id": numbers, "legs": pa.array([4] * 6, pa.int8()), "name": names, "kind": labels})
    pq.write_table(table, root / "animals.parquet")
    return IngestConfig(source=str(root), name="animals", problem=Problem.TABLE_CLASSIFICATION)


EXAMPLES: dict[Callable[[Path], IngestConfig], str] = {
    folder_of_splits: "image-folder",
    folder_of_labels: "image-folder",
    images_and_integer_labels: "image-csv",
    images_and_names_without_header: "image-csv",
    csv_table: "table",
    csv_table_of_splits: "table",
    parquet_table: "table",
}


def test_every_layout_has_an_example() -> None:
    assert {layout.name for layout in LAYOUTS} == set(EXAMPLES.values())


@pytest.fixture(params=EXAMPLES, ids=lambda example: example.__name__)
def example(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[IngestConfig, str]:
    return request.param(tmp_path / "source"), EXAMPLES[request.param]


def _ingested(config: IngestConfig, tmp_path: Path) -> tuple[DatasetStore, Manifest]:
    store = DatasetStore(str(tmp_path / "store"))
    return store, store.open(ingest(config, store))


def test_it_is_recognised_by_its_layout_alone(example: tuple[IngestConfig, str]) -> None:
    config, name = example
    source = scan(config.source)
    assert layout_of(source, config).name == name
    assert [layout.name for layout in LAYOUTS if layout.matches(source, config)] == [name]


def test_every_row_comes_in_with_its_label(example: tuple[IngestConfig, str], tmp_path: Path) -> None:
    config, name = example
    store, manifest = _ingested(config, tmp_path)
    assert manifest.rows == len(ANIMALS)
    assert manifest.classes == ("cat", "dog")
    assert manifest.method == f"ingest:{name}"
    assert manifest.parent is None
    found = set()
    for split in manifest.splits:
        rows = read_raw_rows(store, store.ref(manifest), split)
        things = (
            [image.tobytes() for image in rows.images] if rows.images else list(rows.table["name"])  # type: ignore[index]
        )
        found |= {(manifest.classes[label], thing) for label, thing in zip(rows.labels, things, strict=True)}
    image = manifest.features[0].type == "image"
    assert found == {
        (label, _picture(number).tobytes() if image else f"n{number}") for label, number in ANIMALS
    }


def test_ids_are_unique_and_the_shards_say_what_is_in_them(
    example: tuple[IngestConfig, str], tmp_path: Path
) -> None:
    config, _ = example
    store, manifest = _ingested(config, tmp_path)
    ids: list[str] = []
    for split in manifest.splits:
        for table in shard_tables(store, manifest, split):
            ids.extend(table["id"].to_pylist())
            assert table.schema.metadata[b"huggingface"]
    assert len(set(ids)) == len(ids) == manifest.rows


def test_reading_again_gives_the_same_version(example: tuple[IngestConfig, str], tmp_path: Path) -> None:
    config, _ = example
    store, manifest = _ingested(config, tmp_path)
    before = source_digest(config)
    assert ingest(config, store) == store.ref(manifest)
    assert len(store.list()) == 1
    assert source_digest(config) == before
    source = Path(config.source)
    changed = source if source.is_file() else max(path for path in source.rglob("*") if path.is_file())
    changed.write_bytes(changed.read_bytes() + b"\n")
    assert source_digest(config) != before


def test_given_splits_are_kept(tmp_path: Path) -> None:
    for write in (folder_of_splits, csv_table_of_splits):
        _, manifest = _ingested(write(tmp_path / write.__name__), tmp_path)
        assert manifest.splits == {"train": 4, "validation": 1, "test": 1}
    _, manifest = _ingested(folder_of_labels(tmp_path / "labels"), tmp_path)
    assert manifest.splits == {"train": 6}
