"""Weights of an ensemble from plain arrays, and its model as a bundle."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tasks.errors import Damaged
from tasks.refs import Problem
from tasks.sweep.ensemble import greedy_weights, honest_scores
from tasks.train.bundle import Bundle
from tasks.train.models import load
from tasks.train.models.ensemble import EnsembleModel
from tests.helpers.models import iris_bundle, iris_rows


def _noisy(labels: np.ndarray, noise: float, seed: int) -> np.ndarray:
    """Probabilities of two classes that lean to the labels."""
    logits = np.random.default_rng(seed).normal(0, noise, len(labels)) + np.where(labels == 1, 1.0, -1.0)
    of_one = 1 / (1 + np.exp(-logits))
    return np.stack([1 - of_one, of_one], axis=1).astype(np.float32)


def test_models_with_errors_of_their_own_are_better_together() -> None:
    labels = np.random.default_rng(9).integers(0, 2, 4000)
    answers = [_noisy(labels, 1.5, seed) for seed in range(3)] + [_noisy(labels, 30.0, 7)]
    weights = greedy_weights(answers, labels, Problem.TABLE_CLASSIFICATION)
    assert sum(weights) == pytest.approx(1)
    assert weights[3] < 0.1 < min(weights[:3])

    def accuracy(scores: np.ndarray) -> float:
        return float((scores.argmax(axis=1) == labels).mean())

    honest = accuracy(honest_scores(answers, labels, Problem.TABLE_CLASSIFICATION, 0))
    assert honest > max(map(accuracy, answers)) + 0.02


def test_of_chance_alone_nothing_is_gained() -> None:
    """Weights that fit the rows that they are scored on would look better than chance."""
    labels = np.random.default_rng(0).integers(0, 2, 400)
    answers = [_noisy(np.random.default_rng(seed).integers(0, 2, 400), 1.0, seed) for seed in range(1, 21)]
    weights = greedy_weights(answers, labels, Problem.TABLE_CLASSIFICATION)
    fitted = sum(weight * answer for weight, answer in zip(weights, answers, strict=True)).argmax(axis=1)
    honest = honest_scores(answers, labels, Problem.TABLE_CLASSIFICATION, 0).argmax(axis=1)
    assert (fitted == labels).mean() > 0.56
    assert (honest == labels).mean() < 0.56


def test_values_are_weighed_by_rmse() -> None:
    truth = np.linspace(0, 1, 200)
    answers = [(truth + 0.2).astype(np.float32), (truth - 0.1).astype(np.float32)]
    weights = greedy_weights(answers, truth, Problem.TABLE_REGRESSION)
    assert weights == pytest.approx([1 / 3, 2 / 3])


def _members(folder: Path) -> list[Bundle]:
    names = ("logistic_regression", "lightgbm", "mlp")
    return [iris_bundle(folder / name, algorithm=name) for name in names]


def test_an_ensemble_is_the_same_after_it_was_saved(tmp_path: Path) -> None:
    members = _members(tmp_path)
    model = EnsembleModel([member.model for member in members], [0.5, 0.25, 0.25])
    model.save(tmp_path / "ensemble.zip")
    description = json.loads(json.dumps(model.description()))
    loaded = load("ensemble", tmp_path / "ensemble.zip", description)
    inputs = iris_rows()[0].to_numpy(np.float64)
    np.testing.assert_array_equal(loaded.predict(inputs), model.predict(inputs))
    each = [member.model.predict(inputs) for member in members]
    np.testing.assert_allclose(
        model.predict(inputs), 0.5 * each[0] + 0.25 * each[1] + 0.25 * each[2], atol=1e-6
    )
    assert loaded.parameters == sum(member.model.parameters for member in members) + 3


def test_archives_that_are_not_what_they_say_are_refused(tmp_path: Path) -> None:
    (member,) = _members(tmp_path)[:1]
    model = EnsembleModel([member.model], [1.0])
    path = tmp_path / "ensemble.zip"
    model.save(path)
    (about,) = model.description()["members"]  # type: ignore[misc, union-attr]
    for members, words in (
        ([], "add up to 1"),
        ([{**about, "weight": 0.5}], "add up to 1"),
        ([{**about, "format": "ensemble"}], "cannot have"),
        ([{"format": "skops"}], "not described"),
        ([{**about, "weight": 0.5}] * 2, "it holds 0-model.skops"),
    ):
        with pytest.raises(Damaged, match=words):
            load("ensemble", path, {"members": members})  # type: ignore[dict-item]
    content = zipfile.ZipFile(path).read("0-model.skops")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("0-model.skops", content)
    with pytest.raises(Damaged, match="compressed"):
        load("ensemble", path, model.description())
    path.write_bytes(b"no archive")
    with pytest.raises(Damaged, match="no archive"):
        load("ensemble", path, model.description())
