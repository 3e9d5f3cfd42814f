"""Unlabelled items go out as Label Studio tasks and come back as a labelled dataset version."""

from __future__ import annotations

import base64
import itertools
import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pandas as pd
import pytest

from tasks.annotate.assignment import Assignment, hand_out
from tasks.annotate.config import AssignConfig, CollectConfig
from tasks.annotate.take_back import take_back
from tasks.data.read import raw_manifest, read_raw_rows
from tasks.data.storage.store import DatasetStore
from tasks.errors import InvalidData, InvalidSettings, NotFound
from tasks.refs import Problem
from tests.helpers.stored_datasets import png, store_images, store_table

CLASSES = ("cat", "dog")


@pytest.fixture
def store(tmp_path: Path) -> DatasetStore:
    return DatasetStore(str(tmp_path / "store"))


@pytest.fixture
def assignment(store: DatasetStore) -> Assignment:
    rows: dict[str, list[tuple[str, int | None]]] = {
        "train": [("0.png", 1), *((f"{index}.png", None) for index in range(1, 6))],
        "test": [("t.png", None)],
    }
    ref = store_images(store, "pets", rows, CLASSES)
    return hand_out(store, ref, AssignConfig(annotators=["ada", "bob"], classes=["ape", "cat", "dog"]))


def _export(
    folder: Path, assignment: Assignment, annotator: str, labels: dict[str, str] | None = None
) -> Path:
    """What Label Studio writes for a project: the imported tasks with their annotations.

    Every item is a dog unless `labels` says otherwise; `-` leaves it without a label.
    """
    tasks = json.loads((Path(assignment.folder) / assignment.files[annotator]).read_text())
    done = []
    for number, task in enumerate(tasks):
        label = (labels or {}).get(task["data"]["item_id"], "dog")
        result = [{"from_name": "label", "to_name": "item", "type": "choices", "value": {"choices": [label]}}]
        kept = {"id": number, "was_cancelled": False, "result": result}
        skipped = {"id": 100 + number, "was_cancelled": True, "result": []}
        done.append({"id": number, **task, "annotations": [] if label == "-" else [skipped, kept]})
    path = folder / f"{annotator}.json"
    path.write_text(json.dumps(done))
    return path


def test_import_files_hold_the_pictures_and_the_page_the_labels(assignment: Assignment) -> None:
    shares = assignment.items
    assert sorted(itertools.chain(*shares.values())) == [
        *(f"{index}.png" for index in range(1, 6)), "t.png",
    ]  # fmt: skip
    assert {len(items) for items in shares.values()} == {3}
    tasks = json.loads((Path(assignment.folder) / assignment.files["ada"]).read_text())
    head, data = tasks[0]["data"]["image"].split(",")
    assert head == "data:image/png;base64"
    place = int(tasks[0]["data"]["item_id"][0]) if tasks[0]["data"]["item_id"] != "t.png" else 0
    assert base64.b64decode(data) == png(20 * place)
    page = ElementTree.parse(Path(assignment.folder) / "labelling.xml")
    assert [choice.get("value") for choice in page.iter("Choice")] == ["ape", "cat", "dog"]


def test_labels_join_into_a_version_whose_parent_is_the_unlabelled_one(
    store: DatasetStore, assignment: Assignment, tmp_path: Path
) -> None:
    for name in assignment.items:
        _export(tmp_path, assignment, name, {"1.png": "ape", "t.png": "cat"})
    config = CollectConfig(assignment=assignment.folder, exports=[str(tmp_path / "*.json")])
    ref, progress = take_back(store, config)

    manifest = store.open(ref)
    assert manifest.parent == assignment.dataset.version
    assert manifest.classes == ("ape", "cat", "dog")
    rows = read_raw_rows(store, ref, "train")
    # The class that was new moved the numbers of the old ones; 0.png was a dog before.
    assert dict(zip(rows.ids, rows.labels.tolist(), strict=True)) == {
        "0.png": 2, "1.png": 0, "2.png": 2, "3.png": 2, "4.png": 2, "5.png": 2,
    }  # fmt: skip
    assert read_raw_rows(store, ref, "test").labels.tolist() == [1]
    assert progress.done == {"ada": 3, "bob": 3}
    assert progress.counts == {"ape": 1, "cat": 1, "dog": 4}
    assert take_back(store, config)[0] == ref
    # No step was applied to the labelled version, so it is what preprocessing starts from.
    assert store.get(ref.name, "latest-raw") == manifest == raw_manifest(store, manifest)


def test_missing_items_are_named_with_who_has_them(
    store: DatasetStore, assignment: Assignment, tmp_path: Path
) -> None:
    first = assignment.items["bob"][0]
    exports = [
        str(_export(tmp_path, assignment, "ada")),
        str(_export(tmp_path, assignment, "bob", {first: "-"})),
    ]
    with pytest.raises(InvalidData, match="1 item is not labelled yet") as caught:
        take_back(store, CollectConfig(assignment=assignment.folder, exports=exports))
    assert assignment.items["bob"][0] in caught.value.where
    assert "bob lacks 1" in caught.value.where

    partial = CollectConfig(assignment=assignment.folder, exports=exports, require_complete=False)
    _, progress = take_back(store, partial)
    assert progress.done == {"ada": 3, "bob": 2}


def test_unknown_labels_and_conflicts_are_named(
    store: DatasetStore, assignment: Assignment, tmp_path: Path
) -> None:
    item = assignment.items["ada"][0]
    bad = _export(tmp_path, assignment, "ada", {item: "wolf"})
    with pytest.raises(InvalidData, match=r"unknown: wolf.*Allowed: ape, cat, dog"):
        take_back(store, CollectConfig(assignment=assignment.folder, exports=[str(bad)]))

    (tmp_path / "review").mkdir()
    exports = [
        str(_export(tmp_path, assignment, "ada")),
        str(_export(tmp_path / "review", assignment, "ada", {item: "cat"})),
    ]
    with pytest.raises(InvalidData, match=r"different labels: .* \(dog or cat\)"):
        take_back(store, CollectConfig(assignment=assignment.folder, exports=exports))


def test_strange_files_are_refused_in_words(
    store: DatasetStore, assignment: Assignment, tmp_path: Path
) -> None:
    def take(content: str) -> None:
        (tmp_path / "x.json").write_text(content)
        take_back(store, CollectConfig(assignment=assignment.folder, exports=[str(tmp_path / "x.json")]))

    with pytest.raises(InvalidData, match="not JSON"):
        take("{")
    with pytest.raises(InvalidData, match="not a list"):
        take("{}")
    with pytest.raises(InvalidData, match="Task 0"):
        take('[{"data": {}}]')
    with pytest.raises(InvalidData, match=r"never assigned: 0\.png"):
        take('[{"data": {"item_id": "0.png"}, "annotations": [{"result": [{"from_name": "label",'
             ' "value": {"choices": ["cat"]}}]}]}]')  # fmt: skip
    with pytest.raises(NotFound):
        take_back(store, CollectConfig(assignment=assignment.folder, exports=["nowhere.json"]))
    with pytest.raises(NotFound, match="no assignment"):
        take_back(store, CollectConfig(assignment=str(tmp_path), exports=["x.json"]))


def test_rows_of_a_table_are_labelled_too(store: DatasetStore, tmp_path: Path) -> None:
    frame = pd.DataFrame({"a <b>": [1.0, 2.0], "kind": ["x", None], "label": [None, None]}, dtype=object)
    frame["a <b>"] = frame["a <b>"].astype(float)
    ref = store_table(store, "rows", {"train": frame}, Problem.TABLE_CLASSIFICATION)
    with pytest.raises(InvalidSettings, match="fewer than two"):
        hand_out(store, ref, AssignConfig(annotators=["ada"]))
    assignment = hand_out(store, ref, AssignConfig(annotators=["ada"], classes=["10", "9"]))
    ElementTree.parse(Path(assignment.folder) / "labelling.xml")
    export = _export(tmp_path, assignment, "ada", dict.fromkeys(assignment.items["ada"], "9"))
    labelled, _ = take_back(store, CollectConfig(assignment=assignment.folder, exports=[str(export)]))
    assert store.open(labelled).classes == ("9", "10")
    assert read_raw_rows(store, labelled, "train").labels.tolist() == [0, 0]
