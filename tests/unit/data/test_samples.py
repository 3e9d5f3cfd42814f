"""The samples are real data, complete, and the same every time."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from tasks.data.config import IngestConfig
from tasks.data.ingest import ingest
from tasks.data.sources import samples
from tasks.data.sources.samples import materialise
from tasks.data.sources.source import digest
from tasks.data.storage.store import DatasetStore
from tasks.errors import InvalidSettings, NotFound
from tasks.refs import Problem


def test_digits_are_all_there_once_with_their_pixels(tmp_path: Path) -> None:
    folder = materialise("digits", tmp_path)
    files = list(folder.rglob("*.png"))
    digits = load_digits()
    assert len({file.stem for file in files}) == len(files) == len(digits.target) == 1797
    splits = Counter(file.parts[-3] for file in files)
    assert splits["train"] > 1250
    assert abs(splits["test"] - 270) < 8
    assert abs(splits["validation"] - 270) < 8
    for file in files[::100]:
        row = int(file.stem)
        assert file.parent.name == str(digits.target[row])
        assert np.array_equal(np.round(np.asarray(Image.open(file)) / (255 / 16)), digits.images[row])


def test_writing_again_gives_the_same_files(tmp_path: Path) -> None:
    config = IngestConfig(source="sample:digits", name="digits", problem=Problem.IMAGE_CLASSIFICATION)
    digests = {digest(config, samples=tmp_path / str(time)) for time in range(2)}
    assert len(digests) == 1
    before = (tmp_path / "0" / "digits").stat().st_mtime_ns
    materialise("digits", tmp_path / "0")
    assert (tmp_path / "0" / "digits").stat().st_mtime_ns == before


def test_iris_comes_in_as_a_table(
    store: DatasetStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRAINYARD_HOME", str(tmp_path / "home"))
    config = IngestConfig(source="sample:iris", name="iris", problem=Problem.TABLE_CLASSIFICATION)
    manifest = store.open(ingest(config, store))
    assert manifest.rows == 150
    assert manifest.classes == ("setosa", "versicolor", "virginica")
    assert [feature.type for feature in manifest.features] == ["numeric"] * 4
    with (tmp_path / "home" / "samples" / "iris" / "iris.csv").open() as file:
        assert Counter(row["species"] for row in csv.DictReader(file)) == dict.fromkeys(manifest.classes, 50)


def test_what_a_killed_writer_left_is_not_taken_for_the_sample(tmp_path: Path) -> None:
    (tmp_path / ".iris-00000000").mkdir()
    (tmp_path / ".iris-00000000" / "iris.csv").write_text("half a")
    assert materialise("iris", tmp_path).read_text().count("\n") == 151


def test_a_failed_write_leaves_no_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "FASHION_MNIST_FOLDER", tmp_path / "nowhere")
    with pytest.raises(NotFound, match="sudo apt-get install dataset-fashion-mnist"):
        materialise("fashion-mnist", tmp_path / "samples")
    assert list((tmp_path / "samples").iterdir()) == []


def test_unknown_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match="digits, iris, fashion-mnist"):
        materialise("../digits", tmp_path)
