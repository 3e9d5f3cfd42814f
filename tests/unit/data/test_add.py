"""Rows added to a version: both together, nothing lost, nothing mixed up, nothing twice."""

from __future__ import annotations

import io
import re
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import load_dataset
from distributed import Client
from PIL import Image

from tasks.data.config import IngestConfig, PreprocessConfig, ValidateConfig
from tasks.data.export import export
from tasks.data.formats.images import pixels
from tasks.data.ingest import ingest
from tasks.data.manifest import Manifest
from tasks.data.preparation.preprocess import preprocess
from tasks.data.read import raw_manifest, shard_tables
from tasks.data.storage.access import DatasetCard
from tasks.data.storage.store import DatasetStore
from tasks.data.validation.validate import validate
from tasks.errors import Damaged, InvalidData, InvalidSettings, NotAllowed, NotFound, Unavailable
from tasks.refs import LOCAL_USER, Problem
from tests.contracts.test_layouts import boxes, folder_of_sounds, maps, polygons_and_masks

from .conftest import encoded, picture

TABLE = Problem.TABLE_CLASSIFICATION


def files(root: Path, names: dict[str, int]) -> Path:
    """Images by path, each with the pixels of a seed."""
    for name, seed in names.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encoded(picture(seed)))
    return root


def put(store: DatasetStore, source: Path, client: Client | None = None, **how: Any) -> Manifest:
    config = IngestConfig(source=str(source), name="zoo", **how)
    return store.open(ingest(config, store, client, owner=store.asker or LOCAL_USER))


def rows(store: DatasetStore, manifest: Manifest) -> dict[str, tuple[str, str | None]]:
    """Split and class by id."""
    found = {}
    for split in manifest.splits:
        for table in shard_tables(store, manifest, split):
            for row in table.to_pylist():
                label = row[manifest.label]
                assert row["id"] not in found
                found[row["id"]] = (split, None if label is None else manifest.classes[label])
    return found


def csv(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_version_holds_the_old_rows_and_the_new(any_store: DatasetStore, tmp_path: Path) -> None:
    first = put(
        any_store, files(tmp_path / "one", {"train/cat/1.png": 1, "train/dog/2.png": 2, "test/cat/3.png": 3})
    )
    source = files(tmp_path / "two", {"train/bird/4.png": 4, "train/cat/5.png": 5, "test/dog/6.png": 6})
    second = put(any_store, source, add=True)

    assert (second.parent, second.method) == (first.version, "add:label-folders")
    assert second.parameters["rows_added"] == 3
    assert second.classes == ("bird", "cat", "dog")
    assert second.splits == {"train": 4, "test": 2}
    assert rows(any_store, second) == {
        "train/cat/1.png": ("train", "cat"),
        "train/dog/2.png": ("train", "dog"),
        "test/cat/3.png": ("test", "cat"),
        "train/bird/4.png": ("train", "bird"),
        "train/cat/5.png": ("train", "cat"),
        "test/dog/6.png": ("test", "dog"),
    }
    for table in shard_tables(any_store, second, "train"):
        for row in table.to_pylist():
            seed = int(row["id"][-5])
            assert (pixels(row["image"]["bytes"])[..., 0] == np.asarray(picture(seed))).all()
    any_store.verify(any_store.ref(second), deep=True)
    any_store.verify(any_store.ref(first), deep=True)
    assert any_store.get("zoo", "latest-raw") == second
    assert [file.path for file in second.files_of("train")] == [
        "data/train-00000-of-00002.parquet",
        "data/train-00001-of-00002.parquet",
    ]


def test_shards_stay_byte_for_byte_while_the_classes_do(any_store: DatasetStore, tmp_path: Path) -> None:
    first = put(any_store, files(tmp_path / "one", {"cat/1.png": 1, "dog/2.png": 2}))
    second = put(any_store, files(tmp_path / "two", {"dog/3.png": 3}), add=True)  # one class is enough
    assert second.files[0].sha256 == first.files[0].sha256
    third = put(any_store, files(tmp_path / "three", {"ant/4.png": 4}), add=True)
    assert third.files[0].sha256 != first.files[0].sha256  # labels moved
    assert {key: label for key, (_, label) in rows(any_store, third).items()} == {
        "cat/1.png": "cat",
        "dog/2.png": "dog",
        "dog/3.png": "dog",
        "ant/4.png": "ant",
    }
    assert third.parent == second.version


def test_workers_do_the_same(store: DatasetStore, tmp_path: Path, client: Client) -> None:
    put(store, files(tmp_path / "one", {"cat/1.png": 1, "dog/2.png": 2}), client)
    second = put(store, files(tmp_path / "two", {"ant/1.png": 3, "cat/1.png": 1}), client, add=True)
    assert rows(store, second) == {
        "cat/1.png": ("train", "cat"),
        "dog/2.png": ("train", "dog"),
        "ant/1.png": ("train", "ant"),
    }


def test_a_row_that_is_there_is_kept_once(any_store: DatasetStore, tmp_path: Path) -> None:
    source = files(tmp_path / "one", {"cat/1.png": 1, "dog/2.png": 2, "unlabelled/7.png": 7})
    first = put(any_store, source)
    warned: list[str] = []
    config = IngestConfig(source=str(source), name="zoo", add=True)
    assert ingest(config, any_store, warn=warned.append) == any_store.ref(first)
    assert "has all rows" in warned[0]
    assert len(any_store.list("zoo")) == 1

    files(source, {"ant/3.png": 3, "unlabelled/8.png": 8})  # the folder grew
    second = put(any_store, source, add=True)
    assert (second.rows, second.unlabelled) == (5, 2)
    assert second.parameters["rows_added"] == 2
    assert second.parameters["rows_already_there"] == 3
    assert second.left_out == {}
    any_store.verify(any_store.ref(second), deep=True)


@pytest.mark.parametrize("place", ["train/cat/1.png", "train/dog/1.png", "test/cat/1.png"])
def test_an_id_of_another_row_is_refused_by_name(store: DatasetStore, tmp_path: Path, place: str) -> None:
    put(store, files(tmp_path / "one", {"train/cat/1.png": 1, "train/dog/1.png": 2, "test/cat/1.png": 3}))
    source = files(tmp_path / "two", {place: 9, "train/cat/5.png": 5})
    before = store.fs.find(store.root)
    with pytest.raises(InvalidData, match=f"1 rows have the id of another row of zoo@.*: {place}"):
        put(store, source, add=True)
    assert store.fs.find(store.root) == before

    second = put(store, source, add=True, add_folder="batch-2/")
    assert f"batch-2/{place}" in rows(store, second)
    assert f"batch-2/{place}" in {
        row["image"]["path"]
        for split in second.splits
        for table in shard_tables(store, second, split)
        for row in table.to_pylist()
    }
    assert second.rows == 5


def test_a_row_of_another_label_or_split_is_not_the_same(store: DatasetStore, tmp_path: Path) -> None:
    lines = ["id,legs,kind", "a,4,cat", "b,2,bird", "c,4,cat"]
    put(store, csv(tmp_path / "one.csv", *lines), problem=TABLE)
    put(store, csv(tmp_path / "two.csv", lines[0], lines[1], "d,6,ant"), problem=TABLE, add=True)
    with pytest.raises(InvalidData, match=r"1 rows have the id .*: a"):
        put(store, csv(tmp_path / "two.csv", lines[0], "a,4,bird"), problem=TABLE, add=True)
    with pytest.raises(InvalidData, match=r"1 rows have the id .*: a"):
        put(store, csv(tmp_path / "two.csv", lines[0], "a,,cat"), problem=TABLE, add=True)
    with pytest.raises(InvalidData, match=r"1 rows have the id .*: a \(in train there\)"):
        put(store, csv(tmp_path / "test.csv", *lines[:2]), problem=TABLE, add=True)
    assert len(store.list("zoo")) == 2


def test_a_table_that_grew_adds_its_new_lines(any_store: DatasetStore, tmp_path: Path) -> None:
    file = csv(tmp_path / "boxes.csv", "size,colour,kind", "1,red,a", "2,,b", ",blue,a")
    first = put(any_store, file, problem=TABLE)
    with file.open("a") as more:
        more.write("4,green,b\n,,\n5,red,a\n")
    second = put(any_store, file, problem=TABLE, add=True)
    assert (second.rows, second.unlabelled) == (6, 1)
    assert (second.parameters["rows_added"], second.parameters["rows_already_there"]) == (3, 3)
    assert [feature.categories for feature in second.features] == [(), ("blue", "green", "red")]
    assert first.features[1].categories == ("blue", "red")


def test_columns_take_the_types_that_they_have(store: DatasetStore, tmp_path: Path) -> None:
    put(store, csv(tmp_path / "one.csv", "code,kind,size", "x1,a,1", "7,b,2"), problem=TABLE, label="kind")
    second = put(
        store, csv(tmp_path / "two.csv", "size,kind,code", "3,a,8", "4,b,9"), problem=TABLE, add=True
    )
    tables = pa.concat_tables(list(shard_tables(store, second, "train")))
    assert tables["code"].to_pylist() == ["x1", "7", "8", "9"]
    assert tables["size"].to_pylist() == [1, 2, 3, 4]
    assert second.parameters["label"] == "kind"


@pytest.mark.parametrize(
    ("lines", "how", "words"),
    [
        (("code,kind", "x,a", "y,b"), {}, "they lack size$"),
        (("code,size,hue,kind", "x,1,2,a", "y,1,2,b"), {}, "they have hue besides$"),
        (
            ("code,size,kind", "1,1,a", "2,2,b"),
            {"column_types": {"code": "numeric"}},
            "code is categorical there, numeric here$",
        ),
        (("code,size,sort", "x,1,a", "y,2,b"), {}, "its label is kind, theirs is sort$"),
        (("code,size,kind", "x,large,a", "y,2,b"), {}, "The column size holds 'large'"),
    ],
)
def test_other_columns_are_refused_by_name(
    store: DatasetStore, tmp_path: Path, lines: tuple[str, ...], how: dict[str, Any], words: str
) -> None:
    put(store, csv(tmp_path / "one.csv", "code,size,kind", "x,1,a", "y,2,b"), problem=TABLE)
    with pytest.raises(InvalidData) as caught:
        put(store, csv(tmp_path / "two.csv", *lines), problem=TABLE, add=True, **how)
    assert re.search(words, caught.value.what)
    assert len(store.list("zoo")) == 1


def test_what_cannot_be_added_to_is_refused_in_words(store: DatasetStore, tmp_path: Path) -> None:
    source = files(tmp_path / "one", {"cat/1.png": 1, "dog/2.png": 2})
    with pytest.raises(NotFound, match="no dataset named zoo that rows could be added to"):
        put(store, source, add=True)
    put(store, source)
    with pytest.raises(InvalidSettings, match=r"zoo@.* is for image-classification"):
        put(store, csv(tmp_path / "t.csv", "a,b", "1,x"), problem=TABLE, add=True)
    with pytest.raises(InvalidSettings, match="are at most 800 px, those to add 400 px"):
        put(store, source, add=True, max_image_side_px=400)
    with pytest.raises(ValueError, match="is not a folder"):
        IngestConfig(add_folder="../up")


def test_only_who_may_write_adds(store: DatasetStore, tmp_path: Path) -> None:
    url = store.url
    source = files(tmp_path / "one", {"cat/1.png": 1, "dog/2.png": 2})
    put(DatasetStore(url, asker="ada"), source)
    more = files(tmp_path / "two", {"cat/3.png": 3})
    with pytest.raises(NotAllowed, match="user eve may not add versions"):
        put(DatasetStore(url, asker="eve"), more, add=True)
    DatasetStore(url, asker="ada").change_card("zoo", DatasetCard(owner="ada", visibility="private"))
    with pytest.raises(NotFound, match="no dataset named zoo"):
        put(DatasetStore(url, asker="eve"), more, add=True)
    assert put(DatasetStore(url, asker="ada"), more, add=True).rows == 3


def test_a_damaged_version_is_not_added_to(store: DatasetStore, tmp_path: Path) -> None:
    first = put(store, files(tmp_path / "one", {"cat/1.png": 1, "dog/2.png": 2}))
    Path(store.folder("zoo", first.version), first.files[0].path).unlink()
    with pytest.raises(Damaged, match="is missing"):
        put(store, files(tmp_path / "two", {"cat/3.png": 3}), add=True)


def test_a_version_that_came_meanwhile_is_not_passed_over(
    store: DatasetStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks.data import ingest as module

    put(store, files(tmp_path / "one", {"cat/1.png": 1, "dog/2.png": 2}))
    grow = module.grow

    def slowly(*arguments: Any) -> Any:
        monkeypatch.undo()
        put(store, files(tmp_path / "other", {"dog/8.png": 8}), add=True)
        return grow(*arguments)

    monkeypatch.setattr(module, "grow", slowly)
    with pytest.raises(Unavailable, match="While rows were added"):
        put(store, files(tmp_path / "two", {"cat/3.png": 3}), add=True)
    assert store.get("zoo").rows == 3


def test_integer_labels_keep_their_numbers(store: DatasetStore, tmp_path: Path) -> None:
    def labelled(name: str, lines: dict[str, Any], names: str | None) -> Path:
        root = files(tmp_path / name, {f"img/{key}.png": int(key) for key in lines})
        csv(root / "labels.csv", "file,label", *(f"img/{key}.png,{value}" for key, value in lines.items()))
        if names:
            (root / "label_names.json").write_text(names)
        return root

    put(store, labelled("one", {"1": 0, "2": 1}, '["dog", "cat"]'))
    second = put(store, labelled("two", {"3": 1, "4": 0}, None), add=True)  # the names are known
    assert second.classes == ("dog", "cat")
    assert [label for _, label in rows(store, second).values()] == ["dog", "cat", "cat", "dog"]
    third = put(store, labelled("three", {"5": 0, "6": 1}, '["ant", "dog"]'), add=True)
    assert third.classes == ("dog", "cat", "ant")
    assert [label for _, label in rows(store, third).values()] == ["dog", "cat", "cat", "dog", "ant", "dog"]


def test_hugging_face_reads_classes_of_both(store: DatasetStore, tmp_path: Path) -> None:
    put(store, files(tmp_path / "one", {"cat/1.png": 1, "dog/2.png": 2}))
    second = put(store, files(tmp_path / "two", {"zebra/3.png": 3}), add=True)
    shards = [f"{store.folder('zoo', second.version)}/{file.path}" for file in second.files]
    found = load_dataset("parquet", data_files=shards, split="train", cache_dir=str(tmp_path / "cache"))
    assert found.features["label"].names == ["cat", "dog", "zebra"]
    assert found["label"] == [0, 1, 2]


@pytest.mark.parametrize("example", [boxes, polygons_and_masks, maps, folder_of_sounds])
def test_every_kind_of_label_is_added_and_comes_out_again(
    store: DatasetStore, tmp_path: Path, example: Callable[[Path], IngestConfig]
) -> None:
    config = example(tmp_path / "one")
    first = store.open(ingest(config, store))
    again = config.model_copy(update={"add": True, "add_folder": "more"})
    second = store.open(ingest(again, store))
    assert second.classes == first.classes
    assert second.splits == {split: 2 * count for split, count in first.splits.items()}
    assert [file.sha256 for file in second.files[: len(first.files)]].count(first.files[0].sha256) == 1
    came_back = _ingested_again(store, second, tmp_path)
    assert came_back.splits == second.splits
    assert came_back.classes == second.classes


def test_category_ids_stay_with_their_classes(store: DatasetStore, tmp_path: Path) -> None:
    config = boxes(tmp_path / "one")
    first = store.open(ingest(config, store))
    for file in Path(config.source).rglob("*.json"):  # other ids for the same names, and a new class
        text = file.read_text().replace('{"id": 9, "name": "dog"}', '{"id": 9, "name": "cow"}')
        file.write_text(text)
    second = store.open(ingest(config.model_copy(update={"add": True, "add_folder": "b"}), store))
    assert second.classes == ("cat", "dog", "cow")
    assert second.parameters["category_ids"] == [7, 9, 10]
    counts = Counter(
        second.classes[one["category"]]
        for split in second.splits
        for table in shard_tables(store, second, split)
        for row in table.to_pylist()
        for one in row["objects"] or ()
    )
    old = Counter(
        first.classes[one["category"]]
        for split in first.splits
        for table in shard_tables(store, first, split)
        for row in table.to_pylist()
        for one in row["objects"] or ()
    )
    assert counts == {"cat": 2 * old["cat"], "dog": old["dog"], "cow": old["dog"]}
    came_back = _ingested_again(store, second, tmp_path)
    assert came_back.classes == second.classes
    assert came_back.parameters["category_ids"] == [7, 9, 10]


def test_map_values_move_to_the_new_places(store: DatasetStore, tmp_path: Path) -> None:
    config = maps(tmp_path / "one")
    ingest(config, store)
    names = Path(config.source) / "resources" / "id2lable.json"
    names.write_text('{"0": "unlabeled", "7": "horse", "9": "cat"}')
    second = store.open(ingest(config.model_copy(update={"add": True, "add_folder": "b"}), store))
    assert second.classes == ("unlabeled", "cat", "dog", "horse")
    assert second.parameters["class_ids"] == [0, 7, 9, 10]
    seen: dict[str, set[str]] = {}
    for split in second.splits:
        for table in shard_tables(store, second, split):
            for row in table.to_pylist():
                values = np.unique(np.asarray(Image.open(io.BytesIO(row["seg_map"]["bytes"]))))
                kind = "new" if row["id"].startswith("b/") else "old"
                seen.setdefault(kind, set()).update(second.classes[value] for value in values)
    assert seen == {"old": {"unlabeled", "cat", "dog"}, "new": {"unlabeled", "cat", "horse"}}
    assert _ingested_again(store, second, tmp_path).classes == second.classes


def test_it_is_validated_preprocessed_and_exported(store: DatasetStore, tmp_path: Path) -> None:
    def batch(first: int) -> dict[str, int]:
        return {
            f"{label}/{n}.png": 2 * n + (label == "dog")
            for n in range(first, first + 20)
            for label in ("cat", "dog")
        }

    put(store, files(tmp_path / "one", batch(0)))
    second = put(store, files(tmp_path / "two", batch(20)), add=True)
    report = validate(store.ref(second), store, ValidateConfig(), str(tmp_path / "docs"))
    assert report.success
    assert report.rows == 80
    made = store.open(preprocess(store.ref(second), PreprocessConfig(), store))
    assert made.rows == 80
    assert raw_manifest(store, made) == second
    assert _ingested_again(store, made, tmp_path).rows == 80
    left = put(store, files(tmp_path / "three", {"cat/99.png": 99}), add=True)
    assert (left.parent, left.rows) == (second.version, 81)  # the raw version, not the prepared one


def test_counts_of_what_is_left_out_add_up(store: DatasetStore, tmp_path: Path) -> None:
    for name, seed in (("one", 1), ("two", 5)):
        root = files(tmp_path / name, {f"cat/{seed}.png": seed, f"dog/{seed}.png": seed + 1})
        (root / "cat" / f"bad{seed}.png").write_bytes(b"no image")
    put(store, tmp_path / "one", unreadable="leave-out")
    second = put(store, tmp_path / "two", unreadable="leave-out", add=True)
    assert second.left_out == {"unreadable": 2}
    assert (second.rows, second.splits) == (4, {"train": 4})


def test_rows_without_labels_are_added_for_annotation(store: DatasetStore, tmp_path: Path) -> None:
    put(store, files(tmp_path / "one", {"cat/1.png": 1, "dog/2.png": 2}))
    second = put(store, files(tmp_path / "two", {"unlabelled/3.png": 3}), add=True)
    assert (second.unlabelled, second.rows, second.classes) == (1, 3, ("cat", "dog"))
    assert rows(store, second)["unlabelled/3.png"] == ("train", None)


def test_numbers_to_predict_and_texts_in_tables(store: DatasetStore, tmp_path: Path) -> None:
    prices = Problem.TABLE_REGRESSION
    put(store, csv(tmp_path / "one.csv", "size,price", "1,2.5", "2,3"), problem=prices)
    second = put(store, csv(tmp_path / "two.csv", "price,size", "9,4"), problem=prices, add=True)
    assert (second.label, second.rows, second.classes) == ("price", 3, ())

    def texts(source: Path, **how: Any) -> Manifest:
        config = IngestConfig(source=str(source), name="talk", problem=Problem.TEXT_CLASSIFICATION, **how)
        return store.open(ingest(config, store))

    one = csv(tmp_path / "a.csv", "body,topic,n", "hello,x,1", "bye,y,2")
    texts(one, text_column="body", label="topic")
    grown = texts(csv(tmp_path / "b.csv", "n,topic,body", "3,z,ciao"), add=True)
    assert (grown.rows, grown.classes) == (3, ("x", "y", "z"))
    mixed = texts(_text(tmp_path / "files" / "y" / "1.txt"), add=True)
    assert rows(store, mixed)["y/1.txt"] == ("train", "y")
    sink = io.BytesIO()
    export(store, mixed, sink)
    with zipfile.ZipFile(sink) as packed:
        assert packed.read("train.csv").decode().splitlines()[0] == '"id","body","topic"'


def _text(file: Path) -> Path:
    file.parent.mkdir(parents=True)
    file.write_text("good evening")
    return file.parent.parent


def test_parquet_stays_parquet(store: DatasetStore, tmp_path: Path) -> None:
    table = pa.table({"id": ["1", "2"], "size": [1.5, 2.5], "kind": ["a", "b"]})
    pq.write_table(table, tmp_path / "one.parquet")
    put(store, tmp_path / "one.parquet", problem=TABLE)
    second = put(store, csv(tmp_path / "two.csv", "id,size,kind", "3,1,c"), problem=TABLE, add=True)
    sink = io.BytesIO()
    export(store, second, sink)
    with zipfile.ZipFile(sink) as packed:
        assert pq.read_table(io.BytesIO(packed.read("train.parquet")))["kind"].to_pylist() == ["a", "b", "c"]


def _ingested_again(store: DatasetStore, manifest: Manifest, folder: Path) -> Manifest:
    file = folder / "export.zip"
    with file.open("wb") as sink:
        export(store, manifest, sink)
    config = IngestConfig(source=str(file), name="again", problem=manifest.problem)
    return store.open(ingest(config, store))
