"""Which rows come through preprocessing, and into which split and fold."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from distributed import Client

from tasks.data.config import PreprocessConfig
from tasks.data.manifest import Manifest
from tasks.data.preparation.preprocess import preprocess
from tasks.data.read import preprocessing_of, read_fold, shard_tables
from tasks.data.storage.store import DatasetStore
from tasks.errors import InvalidData, InvalidSettings
from tasks.refs import DatasetRef, Problem
from tests.helpers.stored_datasets import store_images, store_table

TABLE = Problem.TABLE_CLASSIFICATION
CLASSES = ("no", "yes")


def config(*steps: tuple[str, dict[str, Any]], **split: Any) -> PreprocessConfig:
    chosen = [{"method": name, "parameters": given} for name, given in steps]
    return PreprocessConfig.model_validate({"steps": chosen, "split": split})


def rows(count: int = 300, seed: int = 5) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "patient": pd.Series([f"p{number}" for number in random.integers(0, 40, count)], dtype="str"),
            "age": random.normal(40, 9, count),
            "income": random.lognormal(3, 1, count),
            "label": random.integers(0, 2, count),
        }
    )


def stored(store: DatasetStore, problem: Problem = TABLE, **frames: pd.DataFrame) -> DatasetRef:
    classes = CLASSES if problem.is_classification else ()
    return store_table(store, "rows", frames, problem, classes)


def version(store: DatasetStore, ref: DatasetRef) -> tuple[Manifest, dict[str, pa.Table]]:
    manifest = store.open(ref)
    return manifest, {
        split: pa.concat_tables(shard_tables(store, manifest, split)) for split in manifest.splits
    }


def patients(store: DatasetStore, raw: DatasetRef, ref: DatasetRef) -> dict[str, set[str]]:
    """The patients of each split of a version."""
    manifest = store.open(raw)
    of = {}
    for split in manifest.splits:
        for table in shard_tables(store, manifest, split):
            of.update(zip(table["id"].to_pylist(), table["patient"].to_pylist(), strict=True))
    return {
        split: {of[key] for key in table["id"].to_pylist()} for split, table in version(store, ref)[1].items()
    }


def test_a_group_is_in_one_split(store: DatasetStore, client: Client) -> None:
    raw = stored(store, train=rows())
    chosen = config(("drop-columns", {"columns": ["patient"]}), group_by="patient")
    ref = preprocess(raw, chosen, store, client)
    found = patients(store, raw, ref)
    assert sum(len(group) for group in found.values()) == len(set().union(*found.values())) == 40
    sizes = store.open(ref).splits
    assert abs(sizes["test"] - 45) <= 10
    assert preprocess(raw, chosen, store) == ref


def test_a_group_of_files_is_found_in_their_names(store: DatasetStore) -> None:
    names = [(f"train/cat/patient{number % 9}_{number}.png", number % 2) for number in range(60)]
    raw = store_images(store, "pictures", {"train": names}, CLASSES)
    ref = preprocess(raw, config(group_by=r"(patient\d+)_"), store)
    groups = {
        split: {key.split("/")[-1].split("_")[0] for key in table["id"].to_pylist()}
        for split, table in version(store, ref)[1].items()
    }
    assert sum(len(group) for group in groups.values()) == 9
    with pytest.raises(InvalidData, match=r"56 rows are in no group by patient\(0\|1\)x\?_1: train/cat/p"):
        preprocess(raw, config(group_by="patient(0|1)x?_1"), store)
    with pytest.raises(InvalidSettings, match="is no regular expression"):
        preprocess(raw, config(group_by="(patient"), store)


def test_groups_that_are_not_there_are_refused(store: DatasetStore) -> None:
    table = rows()
    table.loc[:3, "patient"] = None
    raw = stored(store, train=table)
    drop = ("drop-columns", {"columns": ["patient"]})
    with pytest.raises(
        InvalidSettings, match=r"no column doctor to group rows by.*Allowed: id, patient, age"
    ):
        preprocess(raw, config(drop, group_by="doctor"), store)
    with pytest.raises(InvalidData, match="4 rows are in no group by patient"):
        preprocess(raw, config(drop, group_by="patient"), store)
    two = stored(store, train=rows().assign(patient=["a"] * 150 + ["b"] * 150))
    with pytest.raises(InvalidData, match="2 different groups are too few to divide into train, valid"):
        preprocess(two, config(drop, group_by="patient"), store)
    assert {one.parent for one in store.list()} == {None}


@pytest.mark.parametrize("problem", [TABLE, Problem.TABLE_REGRESSION])
def test_folds_take_the_place_of_the_validation_split(
    store: DatasetStore, client: Client, problem: Problem
) -> None:
    raw = stored(store, problem, train=rows(), validation=rows(80, 6))
    ref = preprocess(raw, config(folds=5), store, client)
    assert preprocess(raw, config(folds=5), store) == ref
    manifest, tables = version(store, ref)
    assert manifest.folds == 5
    assert set(manifest.splits) == {"train", "test"}
    assert manifest.rows == 380
    train = tables["train"].to_pandas()
    assert train["fold"].value_counts().to_dict().keys() == set(range(5))
    sizes = np.bincount(train["fold"])
    assert sizes.max() - sizes.min() <= (2 if problem.is_classification else 1)
    if problem.is_classification:
        shares = train.groupby("fold")["label"].mean()
        assert shares.max() - shares.min() < 0.04
    assert tables["test"]["fold"].null_count == manifest.splits["test"]
    kept, held_out = read_fold(store, ref, 2)
    assert sorted([*kept.ids, *held_out.ids]) == sorted(train["id"])
    assert set(held_out.ids) == set(train["id"][train["fold"] == 2])
    import datasets

    files = {
        split: [f"{ref.url}/{one.path}" for one in manifest.files_of(split)] for split in manifest.splits
    }
    loaded = datasets.load_dataset("parquet", data_files=files, cache_dir=f"{store.url}/cache")
    assert loaded["train"]["fold"] == train["fold"].tolist()


def test_folds_stay_with_a_version_that_is_preprocessed_again(store: DatasetStore) -> None:
    raw = stored(store, train=rows())
    first = preprocess(raw, config(("encode", {"to": "ordinal"}), folds=4), store)
    second = preprocess(first, config(("scale", {})), store)
    _, before = version(store, first)
    manifest, after = version(store, second)
    assert manifest.folds == 4
    assert set(manifest.splits) == {"train", "test"}
    assert after["train"].select(["id", "fold"]) == before["train"].select(["id", "fold"])
    other = preprocess(first, config(("scale", {}), folds=3), store)
    manifest, again = version(store, other)
    assert manifest.folds == 3
    assert set(again["train"]["fold"].to_pylist()) == {0, 1, 2}


def test_folds_keep_groups_together(store: DatasetStore) -> None:
    raw = stored(store, train=rows())
    ref = preprocess(raw, config(("encode", {"to": "ordinal"}), folds=4, group_by="patient"), store)
    train = version(store, ref)[1]["train"].to_pandas()
    assert (train.groupby("patient")["fold"].nunique() == 1).all()


def test_a_column_named_fold_makes_room(store: DatasetStore) -> None:
    raw = stored(store, train=rows().rename(columns={"age": "fold"}))
    chosen = ("encode", {"to": "ordinal"})
    preprocess(raw, config(chosen), store)
    with pytest.raises(InvalidData, match="several columns of one name: fold"):
        preprocess(raw, config(chosen, folds=3), store)
    rename = ("rename-columns", {"names": {"fold": "age"}})
    assert store.open(preprocess(raw, config(rename, chosen, folds=3), store)).folds == 3


def test_one_fold_is_refused(store: DatasetStore) -> None:
    raw = stored(store, train=rows())
    with pytest.raises(InvalidSettings, match="One fold is no division"):
        preprocess(raw, config(folds=1), store)


def test_rows_with_gaps_are_left_out_of_every_split(store: DatasetStore, client: Client) -> None:
    table = rows()
    table.loc[::7, "age"] = np.nan
    table.loc[3, "patient"] = None
    raw = stored(store, train=table)
    chosen = config(
        ("impute", {"numeric": "drop", "categorical": "drop"}), ("encode", {"to": "ordinal"}), ("scale", {})
    )
    ref = preprocess(raw, chosen, store, client)
    assert preprocess(raw, chosen, store) == ref
    manifest, tables = version(store, ref)
    assert manifest.left_out == {"missing values": 44}
    assert manifest.rows == 256
    train = tables["train"].to_pandas()
    np.testing.assert_allclose(train[["age", "income"]].mean(), 0, atol=1e-12)  # fitted on what is left
    preprocessing = preprocessing_of(store, ref)
    whole = table.drop(columns="label")
    assert len(preprocessing.table(whole.dropna())) == 256
    with pytest.raises(InvalidData, match=r"missing in the column patient.*row 4 of 300"):
        preprocessing.table(whole)


def test_outliers_are_left_out_of_training_rows_alone(store: DatasetStore) -> None:
    table = rows()
    raw = stored(store, train=table)
    plain = preprocess(raw, config(("encode", {"to": "ordinal"})), store)
    steps = ("outliers", {"action": "drop", "columns": ["income"]}), ("encode", {"to": "ordinal"})
    ref = preprocess(raw, config(*steps), store)
    (_, before), (manifest, after) = version(store, plain), version(store, ref)
    income = before["train"]["income"].to_pandas()
    low, high = np.percentile(income, [25, 75])
    limits = low - 1.5 * (high - low), high + 1.5 * (high - low)
    within = income.between(*limits)
    assert 0 < (~within).sum() == manifest.left_out["outliers"]
    assert after["train"]["id"].to_pylist() == before["train"]["id"].to_pandas()[within].tolist()
    for split in ("validation", "test"):
        assert after[split]["income"] == before[split]["income"]
    assert after["test"]["income"].to_pandas().max() > limits[1]


def test_a_split_that_loses_all_its_rows_is_refused(store: DatasetStore) -> None:
    raw = stored(store, train=rows(), validation=rows(20, 6), test=rows(20, 7).assign(age=np.nan))
    with pytest.raises(InvalidData, match=r"No row of test is left.*leave fewer rows out \(20 missing"):
        preprocess(raw, config(("impute", {"numeric": "drop"}), ("encode", {"to": "ordinal"})), store)
    bare = stored(store, train=rows(), test=rows(20, 7).assign(label=None))
    with pytest.raises(InvalidData, match="No row of test has a label"):
        preprocess(bare, config(("encode", {"to": "ordinal"})), store)
    assert {one.parent for one in store.list()} == {None}


def test_what_is_learned_does_not_depend_on_how_rows_lie_in_shards(
    store: DatasetStore, client: Client
) -> None:
    table = rows(997)
    table.loc[::13, "income"] = np.nan
    chosen = config(
        ("impute", {"numeric": "median"}),
        ("outliers", {}),
        ("log", {"columns": ["income"]}),
        ("encode", {"to": "target"}),
        ("scale", {"to": "robust"}),
    )
    states = []
    for cuts in ([], [1, 400, 401, 900]):
        raw = _in_shards(store, table, cuts)
        states.append(store.open(preprocess(raw, chosen, store, client)).preprocessing)
    assert states[0] == states[1]


def _in_shards(store: DatasetStore, table: pd.DataFrame, cuts: list[int]) -> DatasetRef:
    raw = stored(store, train=table, validation=rows(30, 6), test=rows(30, 7))
    manifest = store.open(raw)
    (whole,) = shard_tables(store, manifest, "train")
    bounds = [0, *cuts, whole.num_rows]
    with store.writer("cut") as writer:
        files = [
            writer.target.write("train", place, len(cuts) + 1, whole.slice(low, high - low))
            for place, (low, high) in enumerate(pairwise(bounds))
        ]
        for split in ("validation", "test"):
            (other,) = shard_tables(store, manifest, split)
            files.append(writer.target.write(split, 0, 1, other))
        about = manifest.model_dump(
            include={"problem", "features", "label", "classes", "parameters", "preprocessing", "source"}
        )
        return writer.commit(files, **about, parent=None, method="ingest:test")


def test_progress_ends_at_its_total(store: DatasetStore) -> None:
    heard: list[tuple[int, int]] = []
    raw = stored(store, train=rows())
    chosen = config(("encode", {"to": "ordinal"}), ("scale", {"to": "robust"}))
    preprocess(raw, chosen, store, progress=lambda done, total: heard.append((done, total)), owner="ada")
    assert [done for done, _ in heard] == list(range(1, len(heard) + 1))
    assert all(done <= total for done, total in heard)
    assert heard[-1][0] == heard[-1][1]
    assert store.list()[0].owner == "ada"


def test_a_wide_version_is_written_in_small_shards(
    store: DatasetStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks.data.preparation import fitting

    monkeypatch.setattr(fitting, "BYTES_AT_ONCE", 8 * 256 * 40)
    table = rows(3000).assign(patient=[f"p{row % 40}" for row in range(3000)])
    raw = stored(store, train=table)
    manifest = store.open(preprocess(raw, config(("encode", {}), ("scale", {})), store))
    assert len(manifest.features) == 42
    assert max(file.rows for file in manifest.files) <= 256
    assert manifest.rows == 3000
    store.verify(store.ref(manifest), deep=True)


def test_nothing_is_stored_when_a_worker_fails(store: DatasetStore, client: Client, tmp_path: Path) -> None:
    raw = stored(store, train=rows().assign(income=-1.0))
    with pytest.raises(InvalidData, match=r"-1 in the column income has no logarithm.*rows.csv#train\d+\."):
        preprocess(
            raw, config(("encode", {"to": "ordinal"}), ("log", {"columns": ["income"]})), store, client
        )
    assert [one.version for one in store.list()] == [raw.version]
    assert store.versions("rows") == [raw.version]
