"""The gate's verdicts: better, equal, worse, none before, floors, and pairs of known difference."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tasks.errors import InvalidSettings
from tasks.register.config import GateConfig, RegisterConfig
from tasks.register.gate import Decision, Scored, decide


def scored(version: int, accuracy: float, **changes: object) -> Scored:
    values = {
        "version": version, "digest": f"digest-{version}",
        "metrics": {"accuracy": accuracy, "rmse": accuracy}, "dataset": "d", "split": "test", "rows": 540,
    }  # fmt: skip
    return Scored.model_validate(values | changes)


def verdict(candidate: float, champion: float | None, **settings: float) -> Decision:
    other = None if champion is None else scored(1, champion)
    return decide(scored(2, candidate), other, "accuracy", True, GateConfig(**settings))


@pytest.mark.parametrize(
    ("candidate", "champion", "settings", "promoted", "words"),
    [
        (0.98, 0.97, {}, True, "better by 0.0100"),
        (0.97, 0.97, {}, True, "no different"),
        (0.96, 0.97, {}, False, "worse by 0.0100"),
        (0.97, 0.97, {"min_gain": 0.001}, False, "a gain of at least 0.0010 is asked for"),
        (0.98, 0.97, {"min_gain": 0.01}, True, "better by 0.0100"),
        (0.9, None, {}, True, "no champion yet"),
        (0.9, None, {"floor": 0.95}, False, "at least 0.9500"),
        (0.99, 0.97, {"floor": 0.95}, True, "at least 0.9500"),
        (0.94, 0.90, {"floor": 0.95}, False, "at least 0.9500"),
        (math.nan, None, {}, False, "not a number"),
        (math.nan, 0.5, {}, False, "not a number"),
        (0.5, math.nan, {}, True, "against nan"),
    ],
)
def test_verdicts(
    candidate: float, champion: float | None, settings: dict[str, float], promoted: bool, words: str
) -> None:
    decision = verdict(candidate, champion, **settings)
    assert decision.promote is promoted
    assert words in " ".join(decision.reasons)
    assert decision.candidate.metrics["accuracy"] is not None
    assert Decision.model_validate_json(decision.model_dump_json()).promote is promoted


def test_lower_is_better_for_errors() -> None:
    better = decide(scored(2, 1.0), scored(1, 1.5), "rmse", False, GateConfig())
    assert (better.promote, better.gain) == (True, 0.5)
    assert not decide(scored(2, 1.5), scored(1, 1.0), "rmse", False, GateConfig()).promote
    assert not decide(scored(2, 1.5), None, "rmse", False, GateConfig(floor=1.0)).promote
    assert decide(scored(2, 0.9), None, "rmse", False, GateConfig(floor=1.0)).promote


def test_the_same_model_is_already_the_champion() -> None:
    same = decide(scored(1, 0.9), scored(1, 0.9), "accuracy", True, GateConfig(min_gain=0.1))
    assert (same.promote, same.gain) == (True, 0.0)
    assert same.reasons == ["v1 is already the champion."]
    again = decide(
        scored(2, 0.9, digest="digest-1"), scored(1, 0.9), "accuracy", True, GateConfig(min_gain=0.1)
    )
    assert again.reasons == ["v2 is the same model as the champion v1."]


@pytest.mark.parametrize("changes", [{"dataset": "other"}, {"split": "validation"}, {"rows": 539}])
def test_different_rows_cannot_be_compared(changes: dict[str, object]) -> None:
    with pytest.raises(InvalidSettings, match="different rows"):
        decide(scored(2, 0.9), scored(1, 0.9, **changes), "accuracy", True, GateConfig())


def test_a_metric_that_was_not_measured_is_refused() -> None:
    with pytest.raises(InvalidSettings, match="not measured by f1"):
        decide(scored(2, 0.9), None, "f1", True, GateConfig())


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 0.5))
def test_never_worse_than_the_champion(candidate: float, champion: float, min_gain: float) -> None:
    if verdict(candidate, champion, min_gain=min_gain).promote:
        assert candidate >= champion + min_gain - 1e-9


def test_a_worse_model_of_known_accuracy_rarely_passes_a_margin() -> None:
    """200 pairs on the same 1,000 rows: the candidate is truly 3 points worse."""
    random = np.random.default_rng(0)
    promoted = 0
    for _ in range(200):
        difficulty = random.random(1000)
        promoted += verdict(float((difficulty < 0.92).mean()), float((difficulty < 0.95).mean())).promote
    assert promoted == 0


def test_settings_are_bounded() -> None:
    for bad in ({"min_gain": math.nan}, {"floor": math.inf}, {"alpha": 1}):
        with pytest.raises(ValidationError):
            GateConfig.model_validate(bad)
    for name in ("a/b", "a:b", " a", "x" * 101):
        with pytest.raises(ValidationError):
            RegisterConfig(model=name)
