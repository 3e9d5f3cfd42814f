"""What every layout must do, run against each of them with the same animals in it."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from PIL import Image

from tasks.data.config import IngestConfig
from tasks.data.export import export, template
from tasks.data.formats.images import pixels
from tasks.data.ingest import ingest
from tasks.data.layouts import LAYOUTS, layout_of
from tasks.data.manifest import Manifest
from tasks.data.read import shard_tables
from tasks.data.sources.source import digest, opened
from tasks.data.storage.store import DatasetStore
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


def _sound(number: int) -> bytes:
    sink = io.BytesIO()
    samples = np.random.default_rng(number).normal(0, 0.1, 800).clip(-1, 1)
    soundfile.write(sink, samples, 8_000, format="WAV", subtype="PCM_16")
    return sink.getvalue()


def folder_of_texts(root: Path) -> IngestConfig:
    for label, number in ANIMALS:
        (root / label).mkdir(parents=True, exist_ok=True)
        (root / label / f"{number}.txt").write_text(f"naïve, \u201cn{number}\u201d\r\n", newline="")
    return IngestConfig(source=str(root), name="animals", problem=Problem.TEXT_CLASSIFICATION)


def texts_and_labels(root: Path) -> IngestConfig:
    root.mkdir(parents=True)
    for _, number in ANIMALS:
        (root / f"={number}.txt").write_text(f"n{number}")
    lines = ["file_name,length,label", *(f"={number}.txt,2,{label}" for label, number in ANIMALS)]
    (root / "metadata.csv").write_text("\n".join(lines))
    return IngestConfig(source=str(root), name="animals", problem=Problem.TEXT_CLASSIFICATION)


def folder_of_sounds(root: Path) -> IngestConfig:
    for (label, number), split in zip(ANIMALS, ["train"] * 4 + ["val", "test"], strict=True):
        (root / split / label).mkdir(parents=True, exist_ok=True)
        (root / split / label / f"{number}.wav").write_bytes(_sound(number))
    return IngestConfig(source=str(root), name="animals", problem=Problem.AUDIO_CLASSIFICATION)


def sounds_and_labels(root: Path) -> IngestConfig:
    (root / "sounds").mkdir(parents=True)
    for _, number in ANIMALS:
        (root / "sounds" / f"{number}.wav").write_bytes(_sound(number))
    # Names are below the one folder of sounds, not beside the file that names them.
    (root / "labels.csv").write_text("\n".join(f"{number}.wav,{label}" for label, number in ANIMALS))
    return IngestConfig(source=str(root), name="animals", problem=Problem.AUDIO_CLASSIFICATION)


CATEGORIES = {"cat": 7, "dog": 9}


def _coco(root: Path, problem: Problem, splits: dict[str, list[tuple[str, int]]]) -> IngestConfig:
    """Each animal with a box, a polygon and a crowd; and an image without objects in every split."""
    for split, animals in splits.items():
        (root / split).mkdir(parents=True)
        document: dict[str, list[dict[str, Any]]] = {
            "categories": [{"id": number, "name": name} for name, number in CATEGORIES.items()],
            "images": [{"id": 900, "file_name": "none.png", "width": 8, "height": 8}],
            "annotations": [],
        }
        _picture(len(split)).save(root / split / "none.png")
        for label, number in animals:
            _picture(number).save(root / split / f"{number}.png")
            document["images"].append({"id": number, "file_name": f"{number}.png", "width": 8, "height": 8})
            shared = {"image_id": number, "category_id": CATEGORIES[label]}
            document["annotations"] += [
                shared
                | {"id": 2 * number, "bbox": [1.1, 2, 3.3, 4], "area": 9.5, "iscrowd": 0}
                | {"segmentation": [[1.1, 2, 4.4, 2, 4.4, 6], [2, 2, 3, 2, 3, 3.5]]},
                shared
                | {"id": 2 * number + 1, "bbox": [0, 0, 8, 4], "area": 32, "iscrowd": 1}
                | {"segmentation": {"size": [8, 8], "counts": [0, 4, 4, 4, 4, 4, 4, 40]}},
            ]
        (root / split / "_annotations.coco.json").write_text(json.dumps(document))
    return IngestConfig(source=str(root), name="animals", problem=problem)


def boxes(root: Path) -> IngestConfig:
    return _coco(root, Problem.OBJECT_DETECTION, {"train": ANIMALS[:4], "valid": ANIMALS[4:]})


def polygons_and_masks(root: Path) -> IngestConfig:
    return _coco(root, Problem.INSTANCE_SEGMENTATION, {"train": ANIMALS[:4], "test": ANIMALS[4:]})


def boxes_without_splits(root: Path) -> IngestConfig:
    root.parent.mkdir(parents=True, exist_ok=True)
    return _coco(root, Problem.OBJECT_DETECTION, {"": ANIMALS})


def maps(root: Path) -> IngestConfig:
    for split, animals in {"train": ANIMALS[:4], "validation": ANIMALS[4:]}.items():
        (root / split / "images").mkdir(parents=True)
        (root / split / "annotations").mkdir()
        entries = []
        for label, number in animals:
            entry = {"image": f"images/{number}.png", "seg_map": f"annotations/{number}.png"}
            _picture(number).save(root / split / entry["image"])
            numbers = np.zeros((8, 8), np.uint8)
            numbers[2:5, 1:7] = CATEGORIES[label]
            Image.fromarray(numbers).save(root / split / entry["seg_map"])
            entries.append(entry)
        (root / split / f"{split}.json").write_text(json.dumps(entries))
    (root / "resources").mkdir()
    names = {"0": "unlabeled", "7": "cat", "9": "dog"}
    (root / "resources" / "id2lable.json").write_text(json.dumps(names))
    return IngestConfig(source=str(root), name="animals", problem=Problem.SEMANTIC_SEGMENTATION)


def texts_in_a_table(root: Path) -> IngestConfig:
    root.mkdir(parents=True)
    lines = ["label,text", *(f'{label},"n{number}, a ""quote"" and\na line"' for label, number in ANIMALS)]
    (root / "texts.csv").write_text("\n".join(lines))
    return IngestConfig(source=str(root), name="animals", problem=Problem.TEXT_CLASSIFICATION)


EXAMPLES: dict[Callable[[Path], IngestConfig], str] = {
    folder_of_splits: "label-folders",
    folder_of_labels: "label-folders",
    images_and_integer_labels: "labels-csv",
    images_and_names_without_header: "labels-csv",
    folder_of_texts: "label-folders",
    texts_and_labels: "labels-csv",
    folder_of_sounds: "label-folders",
    sounds_and_labels: "labels-csv",
    boxes: "coco",
    polygons_and_masks: "coco",
    boxes_without_splits: "coco",
    maps: "seg-maps",
    csv_table: "table",
    csv_table_of_splits: "table",
    parquet_table: "table",
    texts_in_a_table: "text-table",
}


def test_every_layout_has_an_example() -> None:
    assert {layout.name for layout in LAYOUTS} == set(EXAMPLES.values())


@pytest.fixture(params=EXAMPLES, ids=lambda example: example.__name__)
def example(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[IngestConfig, str]:
    return request.param(tmp_path / "source"), EXAMPLES[request.param]


def _ingested(config: IngestConfig, folder: Path) -> tuple[DatasetStore, Manifest]:
    store = DatasetStore(str(folder / "store"))
    return store, store.open(ingest(config, store))


def _rows(store: DatasetStore, manifest: Manifest) -> dict[str, dict[str, Any]]:
    """Rows by id, each with its split; files without the path that is kept beside them, images as pixels."""
    found = {}
    for split in manifest.splits:
        for table in shard_tables(store, manifest, split):
            for row in table.to_pylist():
                for name, value in row.items():
                    if isinstance(value, dict) and "bytes" in value:
                        content = value["bytes"]
                        row[name] = content if content[:4] == b"RIFF" else pixels(content).tolist()
                if manifest.problem.is_classification and row[manifest.label] is not None:
                    row[manifest.label] = manifest.classes[row[manifest.label]]
                found[row["id"]] = {name: value for name, value in row.items() if name != "id"} | {
                    "split": split
                }
    return found


def test_it_is_recognised_by_its_layout_alone(example: tuple[IngestConfig, str]) -> None:
    config, name = example
    with opened(config) as source:
        assert layout_of(source, config).name == name
        assert [layout.name for layout in LAYOUTS if layout.matches(source, config)] == [name]


def test_every_row_comes_in_with_its_label(example: tuple[IngestConfig, str], tmp_path: Path) -> None:
    config, name = example
    store, manifest = _ingested(config, tmp_path)
    assert manifest.method == f"ingest:{name}"
    assert manifest.parent is None
    assert manifest.unlabelled == 0
    assert manifest.classes == (("unlabeled",) if name == "seg-maps" else ()) + ("cat", "dog")
    rows = list(_rows(store, manifest).values())
    feature = manifest.features[0].name
    pictures = {json.dumps(_picture(number).tobytes().hex()): number for _, number in ANIMALS}
    sounds = {_sound(number): number for _, number in ANIMALS}
    found = set()
    for row in rows:
        label = row[manifest.label]
        if isinstance(label, list) and name == "coco":
            if not label:
                continue  # the image without objects
            assert [one["iscrowd"] for one in label] == [False, True]
            assert label[0]["bbox"] == [1.1, 2, 3.3, 4]
            assert label[0]["area"] == 9.5
            label = manifest.classes[label[0]["category"]]
        elif isinstance(label, list):
            assert np.unique(label).tolist() in ([0, 1], [0, 2])
            label = manifest.classes[np.max(label)]
        if feature == "image":
            number = pictures[json.dumps(np.uint8(row[feature]).tobytes().hex())]
        elif feature == "audio":
            number = sounds[row[feature]]
        else:
            text = row["text" if feature == "text" else "name"]
            number = next(number for _, number in ANIMALS if f"n{number}" in text)
        found.add((label, number))
    assert found == set(ANIMALS)
    assert len(rows) == manifest.rows


def test_ids_are_unique_and_the_shards_say_what_is_in_them(
    example: tuple[IngestConfig, str], tmp_path: Path
) -> None:
    config, _ = example
    store, manifest = _ingested(config, tmp_path)
    assert len(_rows(store, manifest)) == manifest.rows
    for split in manifest.splits:
        for table in shard_tables(store, manifest, split):
            assert table.schema.metadata[b"huggingface"]


def test_hugging_face_datasets_reads_the_shards(
    example: tuple[IngestConfig, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets

    config, _ = example
    store, manifest = _ingested(config, tmp_path)
    folder = store.folder(manifest.name, manifest.version)
    files = {
        split: [f"{folder}/{file.path}" for file in manifest.files_of(split)] for split in manifest.splits
    }
    loaded = datasets.load_dataset("parquet", data_files=files, cache_dir=str(tmp_path / "cache"))
    assert {split: part.num_rows for split, part in loaded.items()} == manifest.splits
    kind = manifest.features[0].type
    for split, part in loaded.items():
        if kind == "audio":  # decoding takes a library of its own
            part = part.cast_column("audio", datasets.Audio(decode=False))
        if manifest.problem.is_classification:
            assert part.features[manifest.label].names == list(manifest.classes)
        for row, (key, ours) in zip(part, _in_order(store, manifest, split), strict=True):
            assert row["id"] == key
            if kind == "image":
                assert np.asarray(row["image"]).tolist() == np.squeeze(ours["image"]).tolist()
            if config.problem is Problem.SEMANTIC_SEGMENTATION:
                assert np.asarray(row["seg_map"]).tolist() == np.squeeze(ours["seg_map"]).tolist()
            if config.problem.has_objects:
                assert [one["bbox"] for one in row["objects"]] == [one["bbox"] for one in ours["objects"]]


def _in_order(store: DatasetStore, manifest: Manifest, split: str) -> list[tuple[str, dict[str, Any]]]:
    return [(key, row) for key, row in _rows(store, manifest).items() if row["split"] == split]


def test_reading_again_gives_the_same_version(example: tuple[IngestConfig, str], tmp_path: Path) -> None:
    config, _ = example
    store, manifest = _ingested(config, tmp_path)
    before = digest(config)
    assert ingest(config, store) == store.ref(manifest)
    assert len(store.list()) == 1
    assert digest(config) == before
    source = Path(config.source)
    changed = source if source.is_file() else max(path for path in source.rglob("*") if path.is_file())
    changed.write_bytes(changed.read_bytes() + b"\n")
    assert digest(config) != before


def test_what_was_exported_comes_in_again_alike(example: tuple[IngestConfig, str], tmp_path: Path) -> None:
    config, name = example
    store, manifest = _ingested(config, tmp_path)
    with (tmp_path / "export.zip").open("wb") as file:
        export(store, manifest, file)
    again = config.model_copy(update={"source": str(tmp_path / "export.zip"), "labels_file": None})
    with opened(again) as source:
        assert layout_of(source, again).name == name
    other, copy = _ingested(again, tmp_path / "again")
    assert copy.classes == manifest.classes
    assert copy.splits == manifest.splits
    rows = _rows(store, manifest)
    if manifest.problem.is_table or name == "text-table":
        assert _rows(other, copy) == rows
        return
    # A row's id is its file's path, which an export may change: folders of splits are named alike.
    assert sorted(_rows(other, copy).values(), key=repr) == sorted(rows.values(), key=repr)


def test_given_splits_are_kept(tmp_path: Path) -> None:
    for write in (folder_of_splits, csv_table_of_splits, folder_of_sounds):
        _, manifest = _ingested(write(tmp_path / write.__name__), tmp_path)
        assert manifest.splits == {"train": 4, "validation": 1, "test": 1}
    _, manifest = _ingested(folder_of_labels(tmp_path / "labels"), tmp_path)
    assert manifest.splits == {"train": 6}


@pytest.mark.parametrize(
    ("layout", "problem"),
    [(layout.name, problem) for problem in Problem for layout in LAYOUTS if layout.reads(problem)],
)
def test_templates_come_in_as_they_are(layout: str, problem: Problem, tmp_path: Path) -> None:
    (tmp_path / "template.zip").write_bytes(template(layout, problem))
    config = IngestConfig(source=str(tmp_path / "template.zip"), name="template", problem=problem)
    _, manifest = _ingested(config, tmp_path)
    assert manifest.method == f"ingest:{layout}"
    assert set(manifest.splits) == {"train", "validation", "test"}
    assert manifest.unlabelled == 0
    assert template(layout, problem) == template(layout, problem)
