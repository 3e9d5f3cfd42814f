"""What every algorithm must do, whatever library it stands on."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from tasks.errors import InvalidSettings
from tasks.refs import Problem
from tasks.sweep.config import SweepConfig
from tasks.sweep.recommend import recommend
from tasks.train import algorithms, models
from tasks.train.algorithms.fit import Fit, FitContext, Metrics, Rows, TrainingData
from tasks.train.algorithms.network_algorithm import TRANSFORMERS_NAMES, NetworkHyperparameters
from tasks.train.algorithms.suitability import Characteristics
from tasks.train.config import TrainConfig
from tasks.train.scores import headline
from tasks.tune import points, ranges
from tasks.tune.config import TuneConfig

CASES = [
    pytest.param(name, problem, id=f"{name}-{problem}")
    for name, algorithm in algorithms.CATALOGUE.items()
    for problem in sorted(algorithm.problems)
]
QUICK: dict[str, dict[str, int | float]] = {
    "six_layer_cnn": {"width": 8, "epochs": 6, "batch_size_per_rank": 16},
    "small_resnet": {"width": 8, "epochs": 6, "batch_size_per_rank": 16},
    "mlp": {"epochs": 12},
    "lightgbm": {"rounds": 50, "learning_rate": 0.1},
    "resnet_18": {"epochs": 2, "batch_size_per_rank": 16},
    "efficientnet_b0": {"epochs": 3, "batch_size_per_rank": 8},
    "mobilenet_v2": {"epochs": 3, "batch_size_per_rank": 8, "width": 0.35},
    "convnext_tiny": {"epochs": 1, "batch_size_per_rank": 16},
    "vit_tiny": {"epochs": 1, "batch_size_per_rank": 8},
}

OTHER_SIZES = {"resnet_34", "resnet_50", "resnet_101", "efficientnet_b1", "vit_small"}
"""Larger sizes of families: a few steps of each are enough, one size goes through all of this."""
FITTED = [case for case in CASES if case.values[0] not in OTHER_SIZES]


def _data(problem: Problem, *, classes: int = 3) -> TrainingData:
    """Rows that are easy to tell apart: stripes this way or that, or shifted clouds of points."""
    random = np.random.default_rng(0)

    def rows(n: int) -> Rows:
        labels = random.integers(0, classes, n)
        if problem is Problem.IMAGE_CLASSIFICATION:
            images = random.integers(0, 60, (n, 12, 12, 1), dtype=np.uint8)
            for image, label in zip(images, labels, strict=True):
                if label:  # 0 is plain noise, 1 has horizontal stripes, 2 vertical ones
                    striped = image if label == 1 else image.transpose(1, 0, 2)
                    striped[::3] += 150
            return Rows(images, labels)
        inputs = random.normal(size=(n, 4))
        inputs[:, 1] += 3.0 * labels
        if not problem.has_label:
            return Rows(inputs, np.full(n, np.nan))
        if problem is Problem.TABLE_REGRESSION:
            return Rows(inputs, 100 + 10 * inputs[:, 1] + random.normal(size=n))
        return Rows(inputs, labels)

    names = tuple("abcdefgh"[:classes]) if problem.is_classification else ()
    columns = () if problem is Problem.IMAGE_CLASSIFICATION else ("p", "q", "r", "s")
    return TrainingData(problem, rows(160), rows(60), names, columns)


def _fit(name: str, data: TrainingData, **context: object):
    algorithm = algorithms.get(name, data.problem)
    settings = algorithms.settings(algorithm, QUICK.get(name, {}))
    return algorithm.fit(data, settings, FitContext(**context))


def _brief(name: str, problem: Problem, data: TrainingData | None = None) -> Fit:
    """A fit that need not have learned: one epoch, where there are such."""
    algorithm = algorithms.get(name, problem)
    values = dict(QUICK.get(name, {}))
    if "epochs" in algorithm.Hyperparameters.model_fields:
        values["epochs"] = 1
    data, settings = data or _data(problem), algorithms.settings(algorithm, values)
    algorithm.refuse(data, settings)  # as every training does first
    return algorithm.fit(data, settings, FitContext(seed=7))


_kept_brief = cache(_brief)


@pytest.mark.parametrize(("name", "problem"), FITTED)
def test_learns_reports_and_survives_being_saved(name: str, problem: Problem, tmp_path: Path) -> None:
    data = _data(problem)
    heard: list[tuple[int, int, Metrics]] = []
    fit = _fit(name, data, seed=1, report=lambda *told: heard.append(told))

    assert data.validation is not None
    scores = fit.model.predict(data.validation.inputs)
    assert scores.dtype == np.float32
    if problem.is_classification:
        assert scores.shape == (60, 3)
        np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-5)
        assert (scores.argmax(axis=1) == data.validation.labels).mean() > 0.8
    elif not problem.has_label:
        assert scores.shape == (60, len(fit.outputs))
    else:
        assert scores.shape == (60,)
        spread = data.validation.labels.std()
        assert np.sqrt(np.square(scores - data.validation.labels).mean()) < 0.5 * spread

    assert [epoch for epoch, _, _ in heard] == list(range(1, len(fit.history) + 1))
    decides, _ = headline(problem)
    assert {"train_loss", "validation_loss", f"validation_{decides}"} <= fit.best.keys()
    assert fit.model.parameters > 0
    assert fit.fit_time_s > 0

    path = tmp_path / models.FORMATS[fit.model.format]
    fit.model.save(path)
    again = models.load(fit.model.format, path, fit.model.description())
    np.testing.assert_array_equal(again.predict(data.validation.inputs), scores)


@pytest.mark.parametrize(("name", "problem"), FITTED)
def test_same_seed_gives_the_same_model(name: str, problem: Problem) -> None:
    data = _data(problem)
    first, second = _kept_brief(name, problem), _brief(name, problem)
    np.testing.assert_array_equal(
        first.model.predict(data.train.inputs), second.model.predict(data.train.inputs)
    )
    timings = {"epoch_time_s", "rows_per_s"}
    for one, other in zip(first.history, second.history, strict=True):
        assert {k: v for k, v in one.items() if k not in timings} == {
            k: v for k, v in other.items() if k not in timings
        }


@pytest.mark.parametrize(("name", "problem"), FITTED)
def test_one_row_scores_as_among_others(name: str, problem: Problem) -> None:
    data = _data(problem)
    model = _kept_brief(name, problem).model
    together = model.predict(data.train.inputs[:20])
    alone = np.concatenate([model.predict(data.train.inputs[row : row + 1]) for row in range(20)])
    np.testing.assert_allclose(alone, together, atol=1e-5, rtol=1e-5)
    assert len(model.predict(data.train.inputs[:0])) == 0


@pytest.mark.parametrize(("name", "problem"), FITTED)
def test_does_without_validation_rows(name: str, problem: Problem) -> None:
    whole = _data(problem)
    fit = _brief(name, problem, TrainingData(problem, whole.train, None, whole.classes, whole.inputs))
    assert not [key for key in fit.best if key.startswith("validation")]


@pytest.mark.parametrize(("name", "problem"), [c for c in FITTED if c.values[1].is_classification])
def test_a_class_without_rows_has_its_place_in_the_scores(name: str, problem: Problem) -> None:
    data = _data(problem, classes=3)
    wider = TrainingData(problem, data.train, data.validation, ("a", "b", "c", "never seen"), data.inputs)
    scores = _fit(name, wider).model.predict(data.train.inputs)
    assert scores.shape == (160, 4)
    assert (scores.argmax(axis=1) != 3).all()


@pytest.mark.parametrize("name", sorted(OTHER_SIZES))
def test_larger_sizes_take_steps_and_survive_being_saved(name: str, tmp_path: Path) -> None:
    data = _data(Problem.IMAGE_CLASSIFICATION)
    few = Rows(data.train.inputs[:32], data.train.labels[:32])
    algorithm = algorithms.get(name)
    # Smaller than its images: the larger sizes have the same layout as the one that is tested in full.
    settings = algorithms.settings(algorithm, {"epochs": 1, "batch_size_per_rank": 16, "input_size": 8})
    context = FitContext(threads=1)
    fit = algorithm.fit(TrainingData(data.problem, few, None, data.classes), settings, context)
    scores = fit.model.predict(few.inputs)
    np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-5)
    path = tmp_path / models.FORMATS[fit.model.format]
    fit.model.save(path)
    again = models.load(fit.model.format, path, fit.model.description())
    np.testing.assert_array_equal(again.predict(few.inputs), scores)


@pytest.mark.parametrize(("name", "problem"), CASES)
def test_the_tuner_has_it_without_being_told_what_to_search(name: str, problem: Problem) -> None:
    resolved, space = ranges.resolve(TuneConfig(algorithm=name), problem, rows=150)
    assert resolved == name
    assert {dimension.name for dimension in space} == set(algorithms.get(name).usual_search)
    for point in points.draw(space, 20, seed=0):
        algorithms.settings(algorithms.get(name), dict(point))


@pytest.mark.parametrize("rows", [80, 5_000, 50_000])
@pytest.mark.parametrize(("name", "problem"), CASES)
def test_the_sweep_and_the_forms_have_it(name: str, problem: Problem, rows: int) -> None:
    about = Characteristics(problem=problem, train_rows=rows, columns=9, image_side_px=28, classes=3)
    (ranked,) = (one for one in recommend(about, algorithms.names(problem)) if one.algorithm == name)
    assert 0 < ranked.score < 5
    assert ranked.reason
    for form, field in ((TrainConfig, "algorithm"), (TuneConfig, "algorithm"), (SweepConfig, "algorithms")):
        assert f'"{name}"' in json.dumps(form.model_json_schema()["properties"][field])


@pytest.mark.parametrize("name", algorithms.names())
def test_bad_hyperparameters_are_refused_in_words(name: str) -> None:
    algorithm = algorithms.get(name)
    known = list(algorithm.Hyperparameters.model_fields)
    with pytest.raises(InvalidSettings) as refused:
        algorithms.settings(algorithm, {known[0]: float("nan"), known[0] + "x": 1, "nonsense": 2})
    text = str(refused.value)
    assert f"did you mean '{known[0]}'" in text
    assert "'nonsense' is unknown" in text
    assert f"'{known[0]}' is nan" in text


NETWORKS = [
    name
    for name, algorithm in algorithms.CATALOGUE.items()
    if issubclass(algorithm.Hyperparameters, NetworkHyperparameters)
]


@pytest.mark.parametrize("theirs", TRANSFORMERS_NAMES)
@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_takes_the_names_of_transformers(name: str, theirs: str) -> None:
    algorithm, ours = algorithms.get(name), TRANSFORMERS_NAMES[theirs]
    value = 0.25 if ours == "label_smoothing" else 3
    assert getattr(algorithms.settings(algorithm, {theirs: value}), ours) == value
    assert algorithms.settings(algorithm, {ours: value}) == algorithms.settings(algorithm, {theirs: value})
    with pytest.raises(InvalidSettings, match=f"'{theirs}' is unknown"):  # which of the two would hold?
        algorithms.settings(algorithm, {ours: value, theirs: value})
    with pytest.raises(InvalidSettings, match=ours):
        algorithms.settings(algorithm, {theirs: -1})


def test_unfit_algorithms_are_refused_with_those_that_fit() -> None:
    with pytest.raises(InvalidSettings, match=r"logistic_regresion.*did you mean 'logistic_regression'"):
        algorithms.get("logistic_regresion")
    with pytest.raises(InvalidSettings, match=r"cannot learn image-classification.*six_layer_cnn"):
        algorithms.get("lightgbm", Problem.IMAGE_CLASSIFICATION)
