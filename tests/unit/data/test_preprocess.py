"""Preprocessing a version: fitted on training rows only, the same on Dask as at an endpoint."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from distributed import Client
from PIL import Image

from tasks.data.config import IngestConfig, PreprocessConfig, SplitConfig, StepConfig
from tasks.data.ingest import ingest
from tasks.data.preparation.preprocess import preprocess
from tasks.data.read import ImageSplit, TableSplit, preprocessing_of, read_raw_rows, read_split
from tasks.data.storage.store import DatasetStore
from tasks.errors import InvalidData, InvalidSettings, NotFound
from tasks.refs import DatasetRef, Problem

from .conftest import picture

IMAGES = Problem.IMAGE_CLASSIFICATION
TABLE = Problem.TABLE_CLASSIFICATION


def steps(*given: tuple[str, dict[str, object]], **more: object) -> PreprocessConfig:
    chosen = tuple(StepConfig.model_validate({"method": name, "parameters": of}) for name, of in given)
    return PreprocessConfig.model_validate({"steps": chosen, **more})


def stored_images(store: DatasetStore, folder: Path) -> DatasetRef:
    return ingest(IngestConfig(source=str(folder), name="pictures", problem=IMAGES), store)


def stored_table(
    store: DatasetStore, tmp_path: Path, frame: pd.DataFrame, problem: Problem = TABLE
) -> DatasetRef:
    path = tmp_path / "rows.csv"
    frame.to_csv(path, index=False)
    return ingest(IngestConfig(source=str(path), name="rows", problem=problem), store)


def frame(rows: int = 200) -> pd.DataFrame:
    random = np.random.default_rng(5)
    table = pd.DataFrame(
        {
            "age": random.normal(40, 9, rows).round(2),
            "town": random.choice(["Bern", "Graz", "Ulm"], rows),
            "buys": random.choice(["yes", "no"], rows),
        }
    )
    table.loc[::9, "age"] = np.nan
    table.loc[::11, "town"] = np.nan
    return table


def served_equals_stored(store: DatasetStore, ref: DatasetRef, split: str) -> None:
    """The raw rows, through the steps as they travel with a model, are the rows that are trained on."""
    raw = read_raw_rows(store, ref, split)
    ready = read_split(store, ref, split)
    assert raw.ids == ready.ids
    assert raw.labels.tolist() == ready.labels.tolist()
    preprocessing = preprocessing_of(store, ref)
    preprocessing = type(preprocessing).from_json(preprocessing.to_json())
    if isinstance(ready, ImageSplit):
        assert raw.contents is not None
        images = preprocessing.images([Image.open(io.BytesIO(content)) for content in raw.contents])
        for image, pixels in zip(images, ready.images, strict=True):
            assert np.array_equal(np.asarray(image).reshape(pixels.shape), pixels)
    else:
        assert raw.table is not None
        for row in range(len(raw.table)):
            pd.testing.assert_frame_equal(
                preprocessing.table(raw.table.iloc[[row]]), ready.features.iloc[[row]]
            )


def test_images_on_dask_as_in_one_process_and_as_served(
    store: DatasetStore, image_folder: Callable[..., Path], client: Client
) -> None:
    raw = stored_images(store, image_folder(mode="RGB"))
    config = steps(("greyscale", {}), ("rotate", {"angle_degrees": 30}), ("blur", {}), input_size_px=12)
    ref = preprocess(raw, config, store, client)
    assert preprocess(raw, config, store) == ref
    manifest = store.open(ref)
    assert manifest.parent == raw.version
    assert [step.method for step in manifest.preprocessing] == ["greyscale", "rotate", "blur", "resize"]
    assert manifest.splits == {"train": 8, "validation": 8, "test": 8}
    for split in manifest.splits:
        served_equals_stored(store, ref, split)
    train = read_split(store, ref, "train")
    assert isinstance(train, ImageSplit)
    assert train.images.shape == (8, 12, 12, 1)


def test_an_original_larger_than_what_is_stored_is_treated_as_the_stored_copy(
    store: DatasetStore, image_folder: Callable[..., Path]
) -> None:
    folder = image_folder(side_px=64)
    config = IngestConfig(source=str(folder), name="pictures", max_image_side_px=32)
    ref = preprocess(ingest(config, store), steps(input_size_px=12), store)
    stored = read_split(store, ref, "test")
    assert isinstance(stored, ImageSplit)
    originals = [Image.open(folder / id_) for id_ in stored.ids]
    served = [np.asarray(image) for image in preprocessing_of(store, ref).images(originals)]
    assert np.array_equal(np.stack(served), stored.images[..., 0])


def test_a_table_on_dask_as_in_one_process_and_as_served(
    store: DatasetStore, tmp_path: Path, client: Client
) -> None:
    raw = stored_table(store, tmp_path, frame())
    ref = preprocess(raw, PreprocessConfig(), store, client)
    assert preprocess(raw, PreprocessConfig(), store) == ref
    manifest = store.open(ref)
    assert [feature.name for feature in manifest.features] == ["age", "town=Bern", "town=Graz", "town=Ulm"]
    assert sum(manifest.splits.values()) == 200
    for split in ("train", "validation", "test"):
        served_equals_stored(store, ref, split)


def test_workers_write_to_s3(
    s3: dict[str, object], image_folder: Callable[..., Path], client: Client
) -> None:
    import s3fs

    s3fs.S3FileSystem(**s3).mkdir("workers")
    store = DatasetStore("s3://workers/store", s3)
    config = IngestConfig(source=str(image_folder()), name="pictures", problem=IMAGES)
    raw = ingest(config, store, client)
    ref = preprocess(raw, PreprocessConfig(), store, client)
    store.verify(ref, deep=True)
    served_equals_stored(store, ref, "test")


def test_nothing_is_learned_from_rows_that_are_held_out(store: DatasetStore, tmp_path: Path) -> None:
    table = frame()
    ref = preprocess(stored_table(store, tmp_path, table), PreprocessConfig(), store)
    train = read_raw_rows(store, ref, "train").table
    assert train is not None
    fitted = {step.method: step.state for step in store.open(ref).preprocessing}
    assert fitted["impute"]["fill"]["age"] == train["age"].median()
    filled = train["age"].fillna(train["age"].median())
    assert fitted["scale"]["offset"]["age"] == pytest.approx(filled.mean())
    assert fitted["scale"]["divisor"]["age"] == pytest.approx(filled.std(ddof=0))

    held_out = {*read_raw_rows(store, ref, "test").ids, *read_raw_rows(store, ref, "validation").ids}
    lines = [int(row.split("#")[1]) - 1 for row in held_out]
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "train.csv").write_text(table.drop(index=lines).to_csv(index=False))
    changed = table.loc[lines].assign(age=1e6, town="Rome")
    (tmp_path / "given" / "test.csv").write_text(changed.iloc[:20].to_csv(index=False))
    (tmp_path / "given" / "validation.csv").write_text(changed.iloc[20:].to_csv(index=False))
    given = IngestConfig(source=str(tmp_path / "given"), name="given", problem=TABLE)
    other = preprocess(ingest(given, store), PreprocessConfig(), store)
    states = {step.method: step.state for step in store.open(other).preprocessing}
    assert states["impute"] == fitted["impute"]
    assert states["encode"]["categories"]["town"] == ["Bern", "Graz", "Ulm"]


def test_missing_splits_are_cut_out_of_train(store: DatasetStore, image_folder: Callable[..., Path]) -> None:
    folder = image_folder(splits=("train", "test"), each=20)
    raw = stored_images(store, folder)
    split = SplitConfig(train_percent=60, validation_percent=20, test_percent=20)
    manifest = store.open(preprocess(raw, PreprocessConfig(split=split), store))
    assert manifest.splits == {"train": 30, "validation": 10, "test": 40}
    before = set(read_raw_rows(store, raw, "test").ids)
    assert set(read_raw_rows(store, store.ref(manifest), "test").ids) == before


def test_copies_of_a_row_stay_in_one_split(store: DatasetStore, tmp_path: Path) -> None:
    table = pd.concat([frame(40)] * 5, ignore_index=True)
    ref = preprocess(stored_table(store, tmp_path, table), PreprocessConfig(), store)
    rows = {split: read_raw_rows(store, ref, split).table for split in ("train", "validation", "test")}
    contents = {
        split: {tuple(map(str, row)) for row in part.itertuples(index=False)}
        for split, part in rows.items()
        if part is not None
    }
    assert not contents["train"] & contents["test"]
    assert not contents["train"] & contents["validation"]


def test_a_regression_is_divided_without_classes(store: DatasetStore, tmp_path: Path) -> None:
    table = frame().assign(buys=np.arange(200) / 10)
    ref = preprocess(
        stored_table(store, tmp_path, table, Problem.TABLE_REGRESSION), PreprocessConfig(), store
    )
    split = read_split(store, ref, "test")
    assert isinstance(split, TableSplit)
    assert split.labels.dtype == np.float64
    assert len(split.labels) == 30


def test_mixed_modes_become_rgb_and_grey_stays_grey(
    store: DatasetStore, image_folder: Callable[..., Path]
) -> None:
    folder = image_folder()
    grey = preprocess(stored_images(store, folder), PreprocessConfig(), store)
    assert read_split(store, grey, "train").images.shape[3] == 1  # type: ignore[union-attr]
    picture(77, mode="RGB").save(folder / "train" / "cat" / "colour.png")
    mixed = preprocess(stored_images(store, folder), PreprocessConfig(), store)
    assert read_split(store, mixed, "test").images.shape[3] == 3  # type: ignore[union-attr]
    served_equals_stored(store, mixed, "train")


def test_images_that_no_step_changes_keep_their_bytes(
    store: DatasetStore, image_folder: Callable[..., Path]
) -> None:
    folder = image_folder(side_px=28)
    picture(78, 28, 28).save(folder / "train" / "cat" / "photo.jpg")
    raw = stored_images(store, folder)
    ref = preprocess(raw, PreprocessConfig(), store)
    before = read_raw_rows(store, raw, "train")
    ready = store.ref(store.open(ref).model_copy(update={"parent": None}))
    assert before.contents is not None
    after = read_raw_rows(store, _without_parent(store, ready), "train").contents
    assert after is not None
    for name, old, new in zip(before.ids, before.contents, after, strict=True):
        assert (old == new) == name.endswith(".png")
        assert new.startswith(b"\x89PNG")
    served_equals_stored(store, ref, "train")


def _without_parent(store: DatasetStore, ref: DatasetRef) -> DatasetRef:
    """A copy of a version that counts as ingested, to look at its own files."""
    manifest = store.get(ref.name, ref.version)
    with store.writer("copy") as writer:
        source, target = store.folder(ref.name, ref.version), store.folder("copy", writer.version)
        store.fs.cp(f"{source}/data", f"{target}/data", recursive=True)
        about = manifest.model_dump(
            include={"problem", "features", "label", "classes", "parameters", "preprocessing", "source"}
        )
        return writer.commit(manifest.files, **about, parent=None, method="copy")


def test_preprocessing_a_preprocessed_version_chains_the_steps(store: DatasetStore, tmp_path: Path) -> None:
    raw = stored_table(store, tmp_path, frame())
    first = preprocess(raw, steps(("impute", {}), ("encode", {})), store)
    second = preprocess(first, steps(("scale", {"to": "min-max"})), store)
    manifest = store.open(second)
    assert [step.method for step in manifest.preprocessing] == ["impute", "encode", "scale"]
    assert manifest.parent == first.version
    for split in manifest.splits:
        served_equals_stored(store, second, split)


def test_gaps_that_no_step_fills_are_refused_with_their_counts(store: DatasetStore, tmp_path: Path) -> None:
    raw = stored_table(store, tmp_path, frame())
    with pytest.raises(InvalidData, match=r"23 values are missing after preprocessing: 23 in age.*impute"):
        preprocess(raw, steps(("encode", {})), store)
    with pytest.raises(InvalidData, match="1 columns still hold text: town"):
        preprocess(raw, steps(("impute", {})), store)
    assert [one.version for one in store.list()] == [raw.version]


def test_a_column_without_values_cannot_be_filled(store: DatasetStore, tmp_path: Path) -> None:
    raw = stored_table(store, tmp_path, frame().assign(height=np.arange(200), age=np.nan))
    with pytest.raises(InvalidData, match="The column age has no value in any training row"):
        preprocess(raw, PreprocessConfig(), store)
    dropped = steps(("drop-columns", {"columns": ["age"]}), ("impute", {}), ("encode", {}))
    assert "age" not in {feature.name for feature in store.open(preprocess(raw, dropped, store)).features}


def test_rows_without_label_are_left_out_and_counted(store: DatasetStore, tmp_path: Path) -> None:
    table = frame()
    table.loc[:6, "buys"] = np.nan
    raw = stored_table(store, tmp_path, table)
    manifest = store.open(preprocess(raw, PreprocessConfig(), store))
    assert manifest.rows == 193
    assert manifest.left_out == {"unlabelled": 7}
    assert manifest.unlabelled == 0
    ids = [id_ for split in manifest.splits for id_ in read_raw_rows(store, store.ref(manifest), split).ids]
    assert not {f"rows.csv#{row}" for row in range(1, 8)} & set(ids)


def test_images_of_several_sizes_are_refused(store: DatasetStore, image_folder: Callable[..., Path]) -> None:
    folder = image_folder()
    picture(1, 9, 5).save(folder / "train" / "cat" / "wide.png")
    config = steps(("resize", {}), ("rotate", {"angle_degrees": 45, "expand": True}), ("colour-mode", {}))
    raw = stored_images(store, folder)
    store.open(preprocess(raw, config, store))
    crooked = steps(("colour-mode", {}), ("centre-crop", {"width_px": 9, "height_px": 9}))
    store.open(preprocess(raw, crooked, store))
    with pytest.raises(InvalidData, match="differ in size or colours"):
        read_split(store, raw, "train")


def test_a_method_for_other_data_is_refused(store: DatasetStore, tmp_path: Path) -> None:
    raw = stored_table(store, tmp_path, frame())
    with pytest.raises(InvalidSettings, match="resize is not for tables"):
        preprocess(raw, steps(("resize", {})), store)


def test_encoded_columns_that_clash_are_refused(store: DatasetStore, tmp_path: Path) -> None:
    table = frame().rename(columns={"age": "town=Bern"})
    with pytest.raises(InvalidData, match="columns of one name: town=Bern"):
        preprocess(stored_table(store, tmp_path, table), PreprocessConfig(), store)


def test_reading_what_is_not_there(store: DatasetStore, tmp_path: Path) -> None:
    raw = stored_table(store, tmp_path, frame())
    with pytest.raises(NotFound, match=r"no rows in a split named test\. Allowed: train"):
        read_split(store, raw, "test")
    with pytest.raises(InvalidData, match="missing values or text in age, town"):
        read_split(store, raw, "train")
