"""The data stage as Prefect tasks: from a folder to a preprocessed version, reused when nothing changed."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from prefect import flow

from blocks.dask_cluster import DaskCluster
from blocks.docs_site import DocsSite
from blocks.object_store import ObjectStore
from tasks.data.config import DatasetChoice, IngestConfig, PreprocessConfig, ValidateConfig
from tasks.data.storage.store import DatasetStore
from tasks.data.task import find_dataset, ingest_dataset, preprocess_dataset, validate_dataset
from tasks.errors import InvalidData
from tasks.refs import DatasetRef, Problem

SITE = "data-suite"


@flow
def prepare(data: IngestConfig) -> DatasetRef:
    raw = ingest_dataset(data, SITE)
    validate_dataset(raw, ValidateConfig(), SITE, PreprocessConfig())
    return preprocess_dataset(raw, PreprocessConfig(), SITE)


@flow
def check(data: IngestConfig) -> None:
    validate_dataset(ingest_dataset(data, SITE), ValidateConfig(), SITE)


@flow
def find(dataset: DatasetChoice) -> DatasetRef:
    return find_dataset(dataset, SITE)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data-stage")
    ObjectStore(url=str(folder / "store")).save(SITE, overwrite=True)
    DocsSite(folder=str(folder / "docs"), url="http://127.0.0.1:1/").save(SITE, overwrite=True)
    DaskCluster(n_workers=1).save(SITE, overwrite=True)
    return folder


def _table(path: Path, label: str = "yes") -> IngestConfig:
    rows = [f"{row},{row % 7},{(label, 'no', 'perhaps')[row % 3]}" for row in range(60)]
    rows[5] = ",3,no"
    path.write_text("\n".join(["height,width,fits", *rows]) + "\n")
    return IngestConfig(source=str(path), name=path.stem, problem=Problem.TABLE_CLASSIFICATION)


def test_steps_run_once_for_the_same_files_and_again_for_others(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = _table(home / "boxes.csv")
    first = prepare(config)
    with caplog.at_level(logging.INFO):
        assert prepare(config) == first
    for step in ("ingest", "validate", "preprocess"):
        assert f"Step {step} reused" in caplog.text
    assert find(DatasetChoice(name="boxes")) == first
    assert find(DatasetChoice(name="boxes", version="latest-raw")).version != first.version

    caplog.clear()
    _table(home / "boxes.csv", label="maybe")
    with caplog.at_level(logging.INFO):
        assert prepare(config).digest != first.digest
    assert "Step ingest runs: changed since the nearest earlier run: source files" in caplog.text


def test_failed_validation_points_to_pages_that_are_there(home: Path) -> None:
    config = _table(home / "gaps.csv", label="")
    with pytest.raises(InvalidData, match="20 of 60 rows have no label") as caught:
        check(config)
    assert caught.value.where.startswith("http://127.0.0.1:1/datasets/gaps/")
    assert (home / "docs" / caught.value.where.removeprefix("http://127.0.0.1:1/")).is_file()


def test_rows_without_a_label_stay_out_of_training_with_a_count(home: Path) -> None:
    made = prepare(_table(home / "unlabelled.csv", label=""))
    assert made.rows == 40
    manifest = DatasetStore(str(home / "store")).open(made)
    assert (manifest.unlabelled, manifest.left_out["unlabelled"]) == (0, 20)
