from __future__ import annotations

import math
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tasks.errors import InvalidSettings
from tasks.refs import Problem
from tasks.train.algorithms.fit import FitContext, Rows, TrainingData
from tasks.train.loop.augmentation import ImageAugmentation
from tasks.train.loop.schedules import AFTER_WARMUP, share_of_highest
from tests.helpers.striped import fit_striped, striped


@pytest.mark.parametrize("schedule", AFTER_WARMUP)
def test_the_learning_rate_rises_once_and_never_again(schedule: str) -> None:
    rates = [share_of_highest(schedule, step, 100, 0.2) for step in range(100)]
    top = rates.index(max(rates))
    assert top == 20
    assert rates[top] == 1
    assert rates[:top] == sorted(rates[:top])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert rates[0] < 0.1
    assert rates[-1] == 1 if schedule == "constant" else 0 < rates[-1] < 0.05
    assert share_of_highest(schedule, 0, 100, 0) == 1


def test_it_stops_when_it_no_longer_gets_better() -> None:
    data = striped()
    assert data.validation is not None
    # Labels drawn by lot: the better the fit, the worse the validation loss.
    lots = np.random.default_rng(5).integers(0, 3, 48)
    hopeless = replace(data, validation=Rows(data.validation.inputs, lots))
    fit = fit_striped(hopeless, epochs=60, patience_epochs=3, learning_rate=0.01)
    assert fit.ended == "early stopping"
    assert len(fit.history) == fit.best_epoch + 3
    losses = [metrics["validation_loss"] for metrics in fit.history]
    assert fit.best["validation_loss"] == min(losses)


def test_the_model_is_that_of_the_best_epoch() -> None:
    data = striped()
    assert data.validation is not None
    fit = fit_striped(data, epochs=8)
    scores = fit.model.predict(data.validation.inputs)
    of_label = scores[np.arange(48), data.validation.labels]
    assert -np.log(of_label).mean() == pytest.approx(fit.best["validation_loss"], rel=1e-4)


def test_a_time_limit_cuts_even_the_first_epoch_short() -> None:
    started = time.monotonic()
    fit = fit_striped(striped(4000, side_px=16), FitContext(max_time_s=0.2), epochs=1000)
    assert fit.ended == "time limit"
    assert fit.best_epoch >= 1
    assert time.monotonic() - started < 30


def test_asked_to_stop_it_keeps_the_best_so_far() -> None:
    heard: list[int] = []
    context = FitContext(report=lambda epoch, *_: heard.append(epoch), should_stop=lambda: len(heard) == 2)
    fit = fit_striped(context=context)
    assert fit.ended == "stopped"
    assert heard == [1, 2]
    assert len(fit.history) == 2


@pytest.mark.parametrize(
    ("stop_after", "epochs_heard"), [(2, [1]), (6, [1]), (9, [1]), (33, [1, 2, 3, 4, 5])]
)
def test_a_stop_is_heard_at_the_next_step(stop_after: int, epochs_heard: list[int]) -> None:
    """Within the first epoch the short epoch is the model; later, the epochs before count."""
    heard: list[int] = []
    steps: list[int] = []
    context = FitContext(
        report=lambda epoch, *_: heard.append(epoch),
        report_steps=lambda step, _: steps.append(step),
        should_stop=lambda: len(steps) >= stop_after,
    )
    fit = fit_striped(context=context, logging_steps=1)  # 6 steps an epoch
    assert fit.ended == "stopped"
    assert heard == epochs_heard
    assert len(steps) <= stop_after + 1
    assert "validation_loss" in fit.best


def test_a_loss_that_is_not_finite_is_an_error_in_words() -> None:
    problem = Problem.TABLE_REGRESSION
    inputs = np.full((64, 1), 1e300)
    inputs[0] = -1e300
    data = TrainingData(problem, Rows(inputs, np.arange(64.0)), None, (), ("x",))
    from tasks.train import algorithms

    algorithm = algorithms.get("mlp")
    with pytest.raises(InvalidSettings, match=r"loss is (nan|inf) in epoch 1.*lower learning_rate"):
        algorithm.fit(data, algorithms.settings(algorithm, {"learning_rate": 10}), FitContext())


def test_a_validation_loss_that_is_not_finite_is_one_too() -> None:
    inputs = np.random.default_rng(0).normal(size=(64, 1))
    watched = Rows(np.full((8, 1), np.inf), np.arange(8.0))
    data = TrainingData(Problem.TABLE_REGRESSION, Rows(inputs, inputs[:, 0]), watched, (), ("x",))
    from tasks.train import algorithms

    algorithm = algorithms.get("mlp")
    with pytest.raises(InvalidSettings, match=r"validation loss is (nan|inf) in epoch 1"):
        algorithm.fit(data, algorithms.settings(algorithm, {}), FitContext())


def test_it_ends_at_the_step_at_which_the_loss_was_seen_not_to_be_finite() -> None:
    """A loss that explodes after epochs that went well gives no model, and no further epoch."""
    heard: list[int] = []
    context = FitContext(report=lambda epoch, *_: heard.append(epoch))
    with pytest.raises(InvalidSettings, match=r"loss is (nan|inf) in epoch"):
        fit_striped(
            context=context, epochs=200, optimizer="sgd", learning_rate=10, momentum=0.99, weight_decay=10
        )
    assert len(heard) < 200


def test_regression_metrics_are_in_the_labels_units() -> None:
    from tasks.train import algorithms

    random = np.random.default_rng(0)
    inputs = random.normal(size=(400, 2))
    labels = 5000 + 1000 * inputs[:, 0]
    rows = Rows(inputs[:300], labels[:300]), Rows(inputs[300:], labels[300:])
    data = TrainingData(Problem.TABLE_REGRESSION, *rows, (), ("a", "b"))
    algorithm = algorithms.get("mlp")
    fit = algorithm.fit(data, algorithms.settings(algorithm, {"epochs": 20}), FitContext())
    errors = fit.model.predict(rows[1].inputs) - rows[1].labels
    rmse = math.sqrt(np.square(errors).mean())
    assert rmse == pytest.approx(fit.best["validation_rmse"], rel=1e-3)
    assert rmse < 150


def test_bfloat16_is_repeatable_too() -> None:
    one, other = (fit_striped(precision="bfloat16", width=16, epochs=3) for _ in range(2))
    assert [m["train_loss"] for m in one.history] == [m["train_loss"] for m in other.history]
    data = striped()
    np.testing.assert_array_equal(
        one.model.predict(data.train.inputs), other.model.predict(data.train.inputs)
    )


def test_another_seed_gives_another_model() -> None:
    one, other = (fit_striped(context=FitContext(seed=seed), epochs=2) for seed in (0, 1))
    assert one.history[0]["train_loss"] != other.history[0]["train_loss"]


def test_images_that_are_too_small_are_refused() -> None:
    with pytest.raises(InvalidSettings, match=r"7 x 7 pixels are too small.*at least 8"):
        fit_striped(striped(side_px=7))


def test_shifts_move_pixels_and_invent_none() -> None:
    images = torch.arange(2 * 5 * 4 * 1, dtype=torch.uint8).reshape(2, 5, 4, 1)
    moved = ImageAugmentation(shift_px=1)(images, torch.Generator().manual_seed(0))
    assert moved.shape == images.shape
    for before, after in zip(images, moved, strict=True):
        assert set(after.flatten().tolist()) <= set(before.flatten().tolist())
    still = ImageAugmentation(horizontal_flip=True)(images, torch.Generator().manual_seed(0))
    assert all(
        torch.equal(after, before) or torch.equal(after, before.flip(1))
        for before, after in zip(images, still, strict=True)
    )


def test_nothing_is_left_in_a_work_folder_but_two_checkpoints(tmp_path: Path) -> None:
    fit_striped(context=FitContext(work_folder=tmp_path))
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert [name[:27] for name in names] == [
        "epoch-000005-step-000000000",
        "epoch-000006-step-000000000",
    ]
