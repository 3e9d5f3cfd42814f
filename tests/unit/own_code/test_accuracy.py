"""Code whose own accuracy is not that of the model which it saved is told so."""

from __future__ import annotations

import pytest

from tasks.train.own_code.accuracy import accuracy_apart

OURS = {"validation_accuracy": 0.13, "train_accuracy": 0.9, "validation_loss": 3.0}


@pytest.mark.parametrize(
    ("name", "value"),
    [("eval_accuracy", 0.93), ("val/acc", 93.0), ("eval_balanced_accuracy", 0.4), ("accuracy", 0.5)],
)
def test_far_apart(name: str, value: float) -> None:
    said = accuracy_apart({name: value, "loss": 0.1}, OURS)
    assert f"{name} {value:.3g}" in said
    assert "0.13" in said


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("eval_accuracy", 0.2),
        ("eval_accuracy", 13.0),
        ("accuracy", 0.93),  # of the training rows, it may be
        ("train_accuracy", 0.5),
        ("test_accuracy", 0.5),
        ("eval_loss", 0.93),
        ("evaluation_acceleration", 7.0),
    ],
)
def test_near_or_not_to_be_compared(name: str, value: float) -> None:
    assert accuracy_apart({name: value}, OURS) == ""


def test_nothing_to_compare_with() -> None:
    assert accuracy_apart({"eval_accuracy": 0.9}, {"validation_rmse": 1.0}) == ""
