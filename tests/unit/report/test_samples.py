"""Random rows of every kind of data are shown as people read them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tasks.data.config import IngestConfig
from tasks.data.export import template
from tasks.data.ingest import ingest
from tasks.data.layouts import LAYOUTS
from tasks.data.manifest import Manifest
from tasks.data.storage.store import DatasetStore
from tasks.errors import NotFound
from tasks.refs import Problem
from tasks.report import dataset, sample_table, samples
from tests.helpers.stored_datasets import store_images

KINDS = [(layout.name, problem) for layout in LAYOUTS for problem in Problem if layout.reads(problem)]


@pytest.fixture
def store(tmp_path: Path) -> DatasetStore:
    return DatasetStore(str(tmp_path / "store"))


def ingested(store: DatasetStore, folder: Path, layout: str, problem: Problem) -> Manifest:
    archive = folder / "example.zip"
    archive.write_bytes(template(layout, problem))
    return store.open(ingest(IngestConfig(source=str(archive), name="example", problem=problem), store))


@pytest.mark.parametrize(("layout", "problem"), KINDS)
def test_rows_of_every_kind_are_drawn_and_shown(
    store: DatasetStore, tmp_path: Path, layout: str, problem: Problem
) -> None:
    manifest = ingested(store, tmp_path, layout, problem)
    split = samples.usual_split(manifest)
    drawn = samples.draw(store, manifest, split, 2, seed=3)
    assert len(drawn.rows) == 2
    assert drawn.rows == samples.draw(store, manifest, split, 2, seed=3).rows
    if problem.modality == "image":
        shown = samples.as_images(drawn)
        assert [max(image.size) > 0 for image in shown.images] == [True, True]
        assert all(shown.captions)
    else:
        kept: list[bytes] = []
        page = sample_table.render(
            drawn, lambda content, suffix: kept.append(content) or f"http://x/1{suffix}"
        )
        assert "Samples of example" in page
        assert len([line for line in page.splitlines() if line.startswith("| ")]) == 4  # head, rule, two rows
        assert len(kept) == (2 if problem.modality == "audio" else 0)
    page = dataset.render(dataset.summarise(store, manifest))
    assert f"| rows | {manifest.rows:,} |" in page
    assert ("## Objects of each class" in page) == problem.has_objects


def test_boxes_and_maps_are_drawn_into_the_image(store: DatasetStore, tmp_path: Path) -> None:
    from tasks.data.formats.images import open_image, plain

    for layout, problem in (("coco", Problem.OBJECT_DETECTION), ("seg-maps", Problem.SEMANTIC_SEGMENTATION)):
        manifest = ingested(store, tmp_path, layout, problem)
        (row,) = samples.draw(store, manifest, "train", 1).rows
        (shown,) = samples.as_images(samples.draw(store, manifest, "train", 1)).images
        bare = plain(open_image(row["image"]["bytes"])).convert("RGB")
        assert shown.size == bare.size
        assert (np.asarray(shown) != np.asarray(bare)).any()


def test_rows_are_chosen_by_class_or_by_an_object_of_it(store: DatasetStore, tmp_path: Path) -> None:
    rows: dict[str, list[tuple[str, int | None]]] = {
        "train": [(f"{i}.png", None if i % 5 == 4 else i % 3) for i in range(60)]
    }
    manifest = store.open(store_images(store, "pets", rows, ("a", "b", "c")))
    labels = [row["label"] for row in samples.draw(store, manifest, "train", 8).rows]
    assert labels[:4] == [None, 0, 1, 2]  # the classes in turn; rows without a label are one
    drawn = samples.draw(store, manifest, "train", 50, label="b")
    assert [row["label"] for row in drawn.rows] == [1] * 16
    other = samples.draw(store, manifest, "train", 50, seed=1, label="b")
    assert {row["id"] for row in other.rows} == {row["id"] for row in drawn.rows}
    assert [row["id"] for row in other.rows] != [row["id"] for row in drawn.rows]

    objects = ingested(store, tmp_path, "coco", Problem.OBJECT_DETECTION)
    wanted = objects.classes[0]
    for row in samples.draw(store, objects, "train", 9, label=wanted).rows:
        assert 0 in [one["category"] for one in row["objects"]]
    with pytest.raises(NotFound, match="class named unicorn"):
        samples.draw(store, objects, "train", 9, label="unicorn")
