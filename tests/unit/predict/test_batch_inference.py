"""Batch inference on real Dask workers: every input kind, order, errors by row, all or nothing."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from distributed import Client

from tasks.data.config import IngestConfig, PreprocessConfig
from tasks.data.ingest import ingest
from tasks.data.preparation.preprocess import preprocess
from tasks.data.read import TableSplit, preprocessing_of, read_split
from tasks.data.storage.store import DatasetStore
from tasks.errors import InvalidData, InvalidSettings, NotFound
from tasks.predict.config import PredictConfig
from tasks.predict.predict import OutOfTimeError, predict
from tasks.predict.sources import find
from tasks.refs import ModelVersionRef, Problem
from tasks.train import algorithms
from tasks.train.algorithms.fit import FitContext, Rows, TrainingData
from tasks.train.bundle import Bundle
from tasks.train.model_inputs import stack_table
from tests.helpers.dask_clusters import two_workers
from tests.helpers.models import TRAINED_ON, digit_images, digits_bundle, iris_bundle, iris_rows

VERSION = ModelVersionRef(name="m", version=3, run_id="r", model_uri="models:/m-x", digest="d")


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with two_workers() as client:
        yield client


@pytest.fixture(scope="module")
def iris(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "iris"
    iris_bundle(folder)
    return folder


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "digits"
    digits_bundle(folder)
    return folder


def config(source: Path | str, output: Path, **more: Any) -> PredictConfig:
    return PredictConfig(model="m", source=str(source), output=str(output), **more)


def read_results(url: str) -> pd.DataFrame:
    """All records, in the order of the inputs."""
    return pd.concat(
        [
            pd.read_json(part, lines=True) if part.suffix == ".jsonl" else pd.read_parquet(part)
            for part in sorted(Path(url).glob("part-*"))
        ],
        ignore_index=True,
    )


def expected_iris(iris: Path) -> np.ndarray:
    return Bundle.load(iris).predict_table(iris_rows()[0])


@pytest.mark.parametrize("kind", ["csv", "parquet", "jsonl", "json"])
@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_tables_of_every_kind_are_answered_in_order(
    client: Client, iris: Path, tmp_path: Path, kind: str, form: Any
) -> None:
    frame, labels = iris_rows()
    rows = frame.to_numpy().tolist()
    source = tmp_path / f"flowers.{kind}"
    match kind:
        case "csv":
            frame.assign(species=labels)[["species", *reversed(frame.columns)]].to_csv(source, index=False)
        case "parquet":
            frame.assign(id=[f"flower-{n}" for n in range(150)]).to_parquet(source)
        case "jsonl":
            source.write_text("".join(json.dumps(row) + "\n" for row in rows))
        case "json":
            source.write_text(json.dumps({"instances": rows}))
    heard: list[tuple[int, int, int | None]] = []
    settings = config(source, tmp_path / "out", format=form, batch_size=40)
    result = predict(settings, VERSION, iris, client, report=lambda *counts: heard.append(counts))
    assert (result.rows, result.errors, result.parts, result.version) == (150, 0, 4, 3)
    assert heard[-1][:2] == (150, 0)
    found = read_results(result.url)
    assert (np.stack(found["prediction"].to_list()).astype(np.float32) == expected_iris(iris)).all()
    ids = (
        [f"flower-{n}" for n in range(150)]
        if kind == "parquet"
        else [f"flowers.{kind}#{n}" for n in range(1, 151)]
    )
    assert found["id"].to_list() == ids
    assert set(found["label"]) == {"setosa", "versicolor", "virginica"}
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["digest"] == Bundle.load(iris).digest
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([source.name, "out"])


@pytest.mark.parametrize(("suffix", "delimiter"), [("csv", ","), ("csv", ";"), ("tsv", "\t")])
def test_codes_and_delimiters_are_read_as_at_training(
    client: Client, tmp_path: Path, suffix: str, delimiter: str
) -> None:
    """Codes keep their leading zeros: 007 and 7 are two depots, and only one of them is late."""
    rows = [(("007", "7", "12")[n % 3], n, ("yes", "no", "no")[n % 3]) for n in range(60)]
    lines = [("depot", "load", "late"), *rows]
    text = "\n".join(delimiter.join(map(str, line)) for line in lines) + "\n"
    (tmp_path / f"trains.{suffix}").write_text(text)
    store = DatasetStore(str(tmp_path / "store"))
    problem = Problem.TABLE_CLASSIFICATION
    source = tmp_path / f"trains.{suffix}"
    ingestion = IngestConfig(
        source=str(source), name="trains", problem=problem, column_types={"depot": "categorical"}
    )
    raw = ingest(ingestion, store)
    assert store.open(raw).features[0].categories == ("007", "12", "7")
    ref = preprocess(raw, PreprocessConfig(), store)
    split, classes = read_split(store, ref, "train"), store.open(ref).classes
    assert isinstance(split, TableSplit)
    chosen = algorithms.get("logistic_regression", problem)
    values = algorithms.settings(chosen, {})
    names = tuple(split.features.columns)
    data = TrainingData(problem, Rows(stack_table(split.features, names), split.labels), None, classes, names)
    bundle = Bundle.write(
        tmp_path / "bundle", model=chosen.fit(data, values, FitContext(seed=0)).model,
        preprocessing=preprocessing_of(store, ref), problem=problem, algorithm="logistic_regression",
        hyperparameters=values.model_dump(), seed=0, classes=classes, label="late", inputs=names,
        dataset=TRAINED_ON,
    )  # fmt: skip
    assert bundle.classes == classes
    settings = config(source, tmp_path / "out", batch_size=7)
    result = predict(settings, VERSION, tmp_path / "bundle", client)
    assert (result.rows, result.errors) == (60, 0)
    assert read_results(result.url)["label"].to_list() == ["yes", "no", "no"] * 20


@pytest.mark.parametrize(
    "source", ["http://127.0.0.1:9/x.csv", "simplecache::http://127.0.0.1:9/x.csv", "memory://x"]
)
def test_addresses_that_ingest_refuses_are_refused(tmp_path: Path, source: str) -> None:
    with pytest.raises(InvalidSettings, match="not an address"):
        find(config(source, tmp_path / "out"))


def test_a_link_that_leads_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret.csv").write_text("x\n1\n")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.csv").symlink_to(tmp_path / "secret.csv")
    with pytest.raises(InvalidData, match="leads out of the folder"):
        find(config(tmp_path / "in", tmp_path / "out"))


def pictures(folder: Path, count: int = 6) -> None:
    for number, image in enumerate(digit_images(count)[0]):
        target = folder / ("even" if number % 2 == 0 else "odd") / f"{number}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        image.save(target)


def test_image_folders_with_include_and_exclude(client: Client, digits: Path, tmp_path: Path) -> None:
    pictures(tmp_path / "in")
    settings = config(tmp_path / "in", tmp_path / "out", include=["even/*", "odd/1.png"], exclude=["*/4.png"])
    result = predict(settings, VERSION, digits, client)
    found = read_results(result.url)
    assert found["id"].to_list() == ["even/0.png", "even/2.png", "odd/1.png"]
    best = Bundle.load(digits).predict_images(digit_images(1)[0])[0]
    assert found["prediction"][0][0]["label"] == str(best.argmax()) == str(found["label"][0])
    assert found["prediction"][0][0]["score"] == pytest.approx(float(best.max()), abs=1e-5)


def test_a_glob_names_files_relative_to_its_fixed_part(tmp_path: Path) -> None:
    pictures(tmp_path / "in")
    source = find(config(tmp_path / "in" / "*" / "*.png", tmp_path / "out"))
    assert source.files[:2] == ["even/0.png", "even/2.png"]


def test_rows_at_fault_are_told_and_the_others_answered(client: Client, digits: Path, tmp_path: Path) -> None:
    pictures(tmp_path / "in", 3)
    (tmp_path / "in" / "broken.png").write_bytes(b"no image")
    result = predict(config(tmp_path / "in", tmp_path / "out"), VERSION, digits, client)
    assert (result.rows, result.errors) == (4, 1)
    found = read_results(result.url).set_index("id")
    assert found.loc["broken.png", "error"] == "The file is not an image of a known kind."
    assert found["error"].notna().sum() == 1
    assert found["prediction"].notna().sum() == 3


def test_table_rows_at_fault_are_told(client: Client, iris: Path, tmp_path: Path) -> None:
    lines = [[5.1, 3.5, 1.4, 0.2], [1, 2], {"sepal_length": 1}, [5.1, None, 1.4, 0.2], [5.1, "x", 1.4, 0.2]]
    frame = iris_rows()[0]
    named = dict.fromkeys(frame.columns, 1.0)
    (tmp_path / "in.jsonl").write_text("\n".join(json.dumps(line) for line in [*lines, named]))
    settings = config(tmp_path / "in.jsonl", tmp_path / "out", format="parquet")
    result = predict(settings, VERSION, iris, client)
    assert (result.rows, result.errors) == (6, 4)
    found = read_results(result.url)
    assert found["prediction"].notna().to_list() == [True, False, False, False, False, True]
    assert "4 values" in found["error"][1]
    assert "sepal_width" in found["error"][2]


def test_images_in_instances(client: Client, digits: Path, tmp_path: Path) -> None:
    sink = io.BytesIO()
    digit_images(1)[0][0].save(sink, "PNG")
    good = {"data": base64.b64encode(sink.getvalue()).decode()}
    (tmp_path / "in.json").write_text(json.dumps([good, {"data": "***"}, {"url": "x"}]))
    result = predict(config(tmp_path / "in.json", tmp_path / "out"), VERSION, digits, client)
    assert (result.rows, result.errors) == (3, 2)


def test_an_output_that_exists_is_refused(client: Client, iris: Path, tmp_path: Path) -> None:
    iris_rows()[0].to_csv(tmp_path / "in.csv", index=False)
    (tmp_path / "out").mkdir()
    with pytest.raises(InvalidSettings, match="exists already"):
        predict(config(tmp_path / "in.csv", tmp_path / "out"), VERSION, iris, client)


@pytest.mark.parametrize(
    ("name", "content", "error", "words"),
    [
        ("in.csv", "a,b\n1,2\n", InvalidData, "no column sepal_length"),
        ("in.csv", "", InvalidData, "it is empty"),
        ("in.parquet", "not parquet", InvalidData, "not a Parquet file"),
        ("in.jsonl", "[1,\n", InvalidData, "cannot be read"),
        ("in.json", '{"rows": []}', InvalidData, "cannot be read"),
        ("in.txt", "hello", InvalidData, "not read: in.txt"),
        ("in.png", "x", InvalidSettings, "takes table rows"),
    ],
)
def test_bad_inputs_are_refused_and_leave_nothing(
    client: Client, iris: Path, tmp_path: Path, name: str, content: str, error: type[Exception], words: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(error, match=words):
        predict(config(tmp_path / name, tmp_path / "out"), VERSION, iris, client)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_nothing_found_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="There is no"):
        find(config(tmp_path / "absent", tmp_path / "out"))
    (tmp_path / "a.csv").write_text("x\n1\n")
    with pytest.raises(NotFound, match="1 before include and exclude"):
        find(config(tmp_path, tmp_path / "out", include=["*.csv"], exclude=["a*"]))


def test_files_of_several_kinds_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x\n1\n")
    (tmp_path / "b.jsonl").write_text("[1]\n")
    with pytest.raises(InvalidData, match="several kinds"):
        find(config(tmp_path, tmp_path / "out"))


def test_past_its_time_nothing_is_left(client: Client, iris: Path, tmp_path: Path) -> None:
    frame = pd.concat([iris_rows()[0]] * 200)
    frame.to_csv(tmp_path / "in.csv", index=False)
    settings = config(tmp_path / "in.csv", tmp_path / "out", batch_size=1).model_copy(
        update={"max_time_s": 0.5}
    )
    with pytest.raises(OutOfTimeError, match="when the time was over"):
        predict(settings, VERSION, iris, client)
    assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]


def test_another_file_system_gets_its_manifest_last(client: Client, iris: Path, tmp_path: Path) -> None:
    import fsspec

    iris_rows()[0].to_csv(tmp_path / "in.csv", index=False)
    result = predict(config(tmp_path / "in.csv", "memory://results"), VERSION, iris, _InProcess())  # type: ignore[arg-type]
    assert result.rows == 150
    memory = fsspec.filesystem("memory")
    assert sorted(path.rpartition("/")[2] for path in memory.ls("/results", detail=False)) == [
        "manifest.json",
        "part-00000.jsonl",
    ]
    memory.rm("/results", recursive=True)


class _InProcess:
    """Dask's `Client` in this very process, whose memory the file system of the test is."""

    def __init__(self) -> None:
        self._client = Client(processes=False, n_workers=1, threads_per_worker=1, dashboard_address=None)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def __del__(self) -> None:
        self._client.close()
