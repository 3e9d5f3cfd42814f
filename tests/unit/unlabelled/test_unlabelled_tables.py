"""Tables without a label, from files to answers: clusters and principal components."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score, silhouette_score

from tasks.data.browsing import browse
from tasks.data.config import IngestConfig, PreprocessConfig, SplitConfig, StepConfig, ValidateConfig
from tasks.data.config_store import BrowseConfig
from tasks.data.export import export
from tasks.data.ingest import ingest
from tasks.data.preparation.preprocess import preprocess
from tasks.data.read import preprocessing_of, read_fold, read_raw_rows
from tasks.data.shards import schema
from tasks.data.storage.store import DatasetStore
from tasks.data.validation.validate import validate
from tasks.errors import InvalidData, InvalidSettings
from tasks.evaluate.evaluate import evaluate
from tasks.evaluate.examples import scores_of
from tasks.evaluate.unlabelled import Clusters, Components
from tasks.predict.score import score
from tasks.predict.sources import Batch
from tasks.refs import DatasetRef, Problem
from tasks.report import dataset as dataset_page
from tasks.report import sample_table, samples, style
from tasks.report.evaluation_figures import figures
from tasks.serve import wire
from tasks.serve.versions import signature_of
from tasks.train import algorithms
from tasks.train.algorithms.fit import Fit, FitContext, Rows, TrainingData
from tasks.train.bundle import Bundle, TrainedOn
from tasks.train.config import TrainConfig
from tasks.train.mlflow_model import download_bundle
from tasks.train.own_code.datasets import write_dataset
from tasks.train.train import train
from tasks.train.training_data import read_training_data
from tasks.train.unlabelled_scores import clustering_scores, explained_variance, silhouettes

CLUSTERING, REDUCTION = Problem.TABLE_CLUSTERING, Problem.TABLE_DIMENSION_REDUCTION


def _table(rows: int = 240) -> pd.DataFrame:
    """Three clouds in four columns of different scales, and what each row is."""
    random = np.random.default_rng(3)
    kind = np.arange(rows) % 3
    centres = np.array([[0, 0, 0, 0], [8, 8, 0, 0], [0, 8, 8, 8]])
    values = (centres[kind] + random.normal(size=(rows, 4))) * [1, 10, 100, 1000]
    frame = pd.DataFrame(values, columns=["mm", "cm", "m", "km"])
    return frame.assign(colour=np.where(kind == 2, "red", "blue"), kind=np.array(["a", "b", "c"])[kind])


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    _table().to_csv(folder / "things.csv", index=False)
    return folder / "things.csv"


@pytest.fixture(scope="module")
def versions(store: DatasetStore, files: Path) -> dict[Problem, tuple[DatasetRef, DatasetRef]]:
    """The raw and the prepared version for each problem."""
    made = {}
    for problem in (CLUSTERING, REDUCTION):
        config = IngestConfig(source=str(files), name=problem.value, problem=problem, label="kind")
        raw = ingest(config, store)
        made[problem] = raw, preprocess(raw, PreprocessConfig(), store)
    return made


@pytest.fixture(scope="module")
def trained(
    store: DatasetStore, versions: dict[Problem, Any], tmp_path_factory: pytest.TempPathFactory
) -> dict[Problem, tuple[Fit, Bundle]]:
    """What `auto` makes of them, opened again from its files."""
    made = {}
    for problem, (_, ref) in versions.items():
        data = read_training_data(store, ref)
        algorithm = algorithms.choose("auto", problem, ref.rows)
        settings = algorithms.settings(algorithm, {})
        fit = algorithm.fit(data, settings, FitContext())
        folder = tmp_path_factory.mktemp("bundles") / problem.value
        Bundle.write(
            folder, model=fit.model, preprocessing=preprocessing_of(store, ref), problem=problem,
            algorithm=algorithm.name, hyperparameters={}, seed=0, classes=fit.outputs, label=None,
            inputs=data.inputs, dataset=TrainedOn(name=ref.name, version=ref.version, digest=ref.digest),
        )  # fmt: skip
        made[problem] = fit, Bundle.load(folder)
    return made


@pytest.mark.parametrize("problem", [CLUSTERING, REDUCTION])
def test_a_version_has_no_label_and_the_named_column_is_left_out(
    problem: Problem, store: DatasetStore, versions: dict[Problem, Any], tmp_path: Path
) -> None:
    raw, ref = versions[problem]
    manifest = store.open(raw)
    assert manifest.label == ""
    assert [feature.name for feature in manifest.features] == ["mm", "cm", "m", "km", "colour"]
    assert schema(problem, manifest.features, "", ()).names == ["id", "mm", "cm", "m", "km", "colour"]
    report = validate(raw, store, ValidateConfig(), tmp_path / "docs", PreprocessConfig())
    assert all(check.success for check in report.checks)
    assert not [check for check in report.checks if "label" in check.name]
    assert set(store.open(ref).splits) == {"train", "validation", "test"}
    page = dataset_page.render(dataset_page.summarise(store, store.open(ref)))
    assert "| label | none |" in page
    drawn = samples.draw(store, store.open(ref), "train", 3)
    assert "| id | mm |" in sample_table.render(drawn, lambda *file: "")
    assert browse(store, store.open(ref), BrowseConfig()).items[0].label == ""
    with pytest.raises(InvalidSettings, match="rows have no label"):
        browse(store, store.open(ref), BrowseConfig(label="unlabelled"))


@pytest.mark.parametrize("problem", [CLUSTERING, REDUCTION])
def test_the_training_step_takes_it(
    problem: Problem, store: DatasetStore, versions: dict[Problem, Any], tmp_path: Path
) -> None:
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    client.create_experiment("rows", artifact_location=str(tmp_path / "artifacts"))
    run = train(versions[problem][1], TrainConfig(experiment="rows"), store, client, tmp_path / "work")
    assert client.get_run(run.run_id).info.status == "FINISHED"
    assert Bundle.load(download_bundle(client, run.model_uri, tmp_path / "models")).problem is problem


def test_it_comes_out_and_in_again_and_takes_more_rows(store: DatasetStore, tmp_path: Path) -> None:
    first, more = _table(30).drop(columns="kind"), _table(60).drop(columns="kind")[30:]
    (tmp_path / "one").mkdir()
    first.to_csv(tmp_path / "one" / "a.csv", index=False)
    config = IngestConfig(source=str(tmp_path / "one"), name="grows", problem=CLUSTERING)
    manifest = store.open(ingest(config, store))
    assert len(manifest.features) == 5  # the last column is a feature like the others
    with (tmp_path / "out.zip").open("wb") as file:
        export(store, manifest, file)
    again = ingest(IngestConfig(source=str(tmp_path / "out.zip"), name="again", problem=CLUSTERING), store)
    assert store.open(again).features == manifest.features
    assert store.open(again).rows == 30
    (tmp_path / "two").mkdir()
    more.to_csv(tmp_path / "two" / "b.csv", index=False)
    update = {"source": str(tmp_path / "two"), "add": True}
    assert ingest(config.model_copy(update=update), store).rows == 60


def test_folds_go_without_a_label(store: DatasetStore, versions: dict[Problem, Any]) -> None:
    raw, _ = versions[CLUSTERING]
    ref = preprocess(raw, PreprocessConfig(split=SplitConfig(folds=3)), store)
    train, held_out = read_fold(store, ref, 1)
    assert len(train.ids) > len(held_out.ids) > 0
    assert np.isnan(train.labels).all()


def test_k_means_finds_what_is_there(
    store: DatasetStore, versions: dict[Problem, Any], trained: dict[Problem, tuple[Fit, Bundle]]
) -> None:
    _, ref = versions[CLUSTERING]
    fit, bundle = trained[CLUSTERING]
    data = read_training_data(store, ref)
    assert bundle.classes == fit.outputs == ("cluster 0", "cluster 1", "cluster 2")
    assert [metrics["clusters"] for metrics in fit.history] == list(range(2, 11))
    plain = KMeans(3, n_init=10, random_state=0).fit(data.train.inputs)
    assert fit.best["train_loss"] * len(data.train) == pytest.approx(plain.inertia_)
    assert fit.best["train_silhouette"] == pytest.approx(silhouette_score(data.train.inputs, plain.labels_))

    raw = read_raw_rows(store, ref, "test")
    evaluation, predictions = evaluate(bundle, raw, ref, "test", ())
    frame = predictions.frame()
    assert list(frame.columns) == ["id", "prediction", "scores"]
    kinds = _table()["kind"].to_numpy()[[int(key.rpartition("#")[2]) - 1 for key in raw.ids]]
    assert adjusted_rand_score(kinds, frame["prediction"]) == 1.0
    assert evaluation.headline == "silhouette"
    assert evaluation.higher_is_better
    assert evaluation.interval[0] < evaluation.metrics["silhouette"] < evaluation.interval[1]
    assert {"inertia", "davies_bouldin", "calinski_harabasz"} <= evaluation.metrics.keys()
    assert isinstance(evaluation.clusters, Clusters)
    assert sum(evaluation.clusters.sizes) == len(raw.ids)
    assert [one.clusters for one in evaluation.clusters.tried] == list(range(2, 11))
    drawn = {one.key: style.png(one.card) for one in figures(evaluation, {})}
    assert drawn.keys() == {"clusters", "number-of-clusters"}
    assert all(picture.startswith(b"\x89PNG") for picture in drawn.values())


def test_components_are_those_of_the_covariance(
    store: DatasetStore, versions: dict[Problem, Any], trained: dict[Problem, tuple[Fit, Bundle]]
) -> None:
    _, ref = versions[REDUCTION]
    fit, bundle = trained[REDUCTION]
    data = read_training_data(store, ref)
    shares = np.sort(np.linalg.eigvalsh(np.cov(data.train.inputs.T)))[::-1]
    shares /= shares.sum()
    kept = int((shares.cumsum() < 0.95).sum()) + 1
    assert len(fit.outputs) == kept
    assert fit.best["train_explained_variance"] == pytest.approx(shares[:kept].sum())
    plain = PCA(kept).fit(data.train.inputs)
    np.testing.assert_allclose(
        fit.model.predict(data.train.inputs), plain.transform(data.train.inputs), atol=1e-4
    )
    raw = read_raw_rows(store, ref, "test")
    evaluation, predictions = evaluate(bundle, raw, ref, "test", ())
    assert list(predictions.frame().columns) == ["id", "scores"]
    assert evaluation.headline == "explained_variance"
    assert (
        0.9 < evaluation.interval[0] < evaluation.metrics["explained_variance"] < evaluation.interval[1] <= 1
    )
    assert isinstance(evaluation.components, Components)
    assert evaluation.components.ratios == pytest.approx(shares.tolist(), abs=1e-6)
    assert {one.key for one in figures(evaluation, {})} == {"components", "explained-variance"}


@pytest.mark.parametrize("problem", [CLUSTERING, REDUCTION])
def test_an_endpoint_and_a_batch_answer_with_lists(
    problem: Problem,
    store: DatasetStore,
    versions: dict[Problem, Any],
    trained: dict[Problem, tuple[Fit, Bundle]],
) -> None:
    _, bundle = trained[problem]
    raw = read_raw_rows(store, versions[problem][1], "test", limit=5)
    assert raw.table is not None
    scores = bundle.predict_table(raw.table)
    signature = signature_of(bundle)
    assert wire.check_scores(scores, 5, signature) is None
    assert wire.check_scores(scores[:, :1], 5, signature)
    assert bundle.predict_table([]).shape == (0, len(bundle.classes))
    _, predictions = evaluate(bundle, raw, versions[problem][1], "test", ())
    assert scores_of(predictions.frame(), raw.ids) == scores.tolist()
    records = score(bundle, Batch(0, raw.ids, frame=raw.table), SimpleNamespace())  # type: ignore[arg-type]
    assert records[0]["prediction"] == pytest.approx(scores[0].tolist())
    if problem is CLUSTERING:
        assert records[0]["label"] == bundle.classes[int(scores[0].argmin())]
    else:
        assert "label" not in records[0]


def _rows(problem: Problem, inputs: np.ndarray) -> TrainingData:
    names = tuple(str(place) for place in range(inputs.shape[1]))
    return TrainingData(problem, Rows(inputs, np.full(len(inputs), np.nan)), None, (), names)


def _fit(name: str, data: TrainingData, **settings: Any) -> Fit:
    algorithm = algorithms.get(name, data.problem)
    return algorithm.fit(data, algorithms.settings(algorithm, settings), FitContext())


def test_what_cannot_be_found_is_refused_in_words(
    store: DatasetStore, versions: dict[Problem, Any], files: Path
) -> None:
    with pytest.raises(InvalidData, match=r"2 distinct training rows.*3 clusters"):
        _fit("k_means", _rows(CLUSTERING, np.array([[0.0], [1.0]] * 5)), clusters=3)
    with pytest.raises(InvalidSettings, match=r"9 components.*4 columns.*1 to 4"):
        _fit("principal_components", _rows(REDUCTION, np.random.default_rng(0).random((20, 4))), components=9)
    with pytest.raises(InvalidSettings, match=r"cannot learn table-clustering.*k_means"):
        algorithms.get("lightgbm", CLUSTERING)
    with pytest.raises(InvalidData, match="There is no column sort"):
        ingest(IngestConfig(source=str(files), name="x", problem=CLUSTERING, label="sort"), store)
    step = StepConfig.model_validate({"method": "encode", "parameters": {"to": "target"}})
    with pytest.raises(InvalidData, match="needs a label"):
        preprocess(versions[CLUSTERING][0], PreprocessConfig(steps=(step,)), store)


def test_equal_rows_leave_nothing_to_find(store: DatasetStore, tmp_path: Path) -> None:
    split = {"train.csv": "x,y\n" + "1,2\n" * 10, "validation.csv": "x,y\n3,4\n", "test.csv": "x,y\n5,6\n"}
    for name, text in split.items():
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "data" / name).write_text(text)
    raw = ingest(IngestConfig(source=str(tmp_path / "data"), name="same", problem=CLUSTERING), store)
    with pytest.raises(InvalidData, match=r"nothing to learn.*1 distinct row\b.*at least two rows"):
        read_training_data(store, raw)


def test_stopping_keeps_the_best_number_so_far() -> None:
    data = _rows(CLUSTERING, np.random.default_rng(0).random((50, 2)))
    algorithm = algorithms.get("k_means")
    fit = algorithm.fit(data, algorithms.settings(algorithm, {}), FitContext(should_stop=lambda: True))
    assert (fit.ended, len(fit.history), len(fit.outputs)) == ("stopped", 1, 2)


def test_scores_of_known_cases() -> None:
    inputs = np.array([[0.0], [0.0], [10.0], [10.0]])
    clusters = np.array([0, 0, 1, 1])
    assert silhouettes(inputs, clusters).tolist() == [1, 1, 1, 1]
    assert silhouettes(inputs, np.zeros(4, np.int64)).tolist() == [0, 0, 0, 0]
    distances = np.abs(inputs - np.array([1.0, 10.0]))
    assert clustering_scores("test", inputs, distances) == {"test_loss": 0.5, "test_silhouette": 1.0}
    assert explained_variance(np.array([1.0, 1.0]), np.array([4.0, 4.0])) == 0.75
    assert explained_variance(np.zeros(2), np.zeros(2)) == 1.0
    many = np.random.default_rng(0).normal(size=(2_500, 2))
    halves = (many[:, 0] > 0).astype(np.int64)
    sampled = silhouettes(many, halves)
    assert len(sampled) == 2_000
    assert sampled.mean() == pytest.approx(silhouette_score(many, halves), abs=0.02)


def test_own_code_gets_the_columns_alone(
    store: DatasetStore, versions: dict[Problem, Any], tmp_path: Path
) -> None:
    write_dataset(store, versions[CLUSTERING][1], tmp_path / "given")
    frame = pd.read_csv(tmp_path / "given" / "train.csv")
    assert list(frame.columns)[:4] == ["mm", "cm", "m", "km"]
    assert len(frame) == store.open(versions[CLUSTERING][1]).splits["train"]
