"""Gradient-boosted trees by LightGBM."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from tasks.refs import Problem
from tasks.train.algorithms.algorithm import AlgorithmSettings, SearchRange
from tasks.train.algorithms.fields import ClassWeights
from tasks.train.algorithms.fit import Fit, FitContext, Metrics, TrainingData
from tasks.train.algorithms.suitability import (
    FEW_ROWS,
    Characteristics,
    Suitability,
    filled_in,
    suitability,
    tree_reason,
)
from tasks.train.scores import split_scores

if TYPE_CHECKING:
    from numpy.typing import NDArray


class LightgbmHyperparameters(AlgorithmSettings):
    """Settings of the boosting."""

    rounds: int = Field(default=300, ge=1, le=100_000, description="Most boosting rounds.")
    learning_rate: float = Field(default=0.05, gt=0, le=1, description="Share of each tree that is added.")
    max_leaves: int = Field(default=31, ge=2, le=4096, description="Most leaves of a tree.")
    max_depth: int | None = Field(
        default=None, ge=1, le=1000, description="Largest depth of a tree; empty is limited by leaves alone."
    )
    min_rows_in_leaf: int = Field(
        default=5, ge=1, le=1_000_000, description="Fewest training rows in a leaf."
    )
    row_fraction: float = Field(default=1.0, gt=0, le=1, description="Share of the rows that each tree sees.")
    column_fraction: float = Field(
        default=1.0, gt=0, le=1, description="Share of the columns that each tree sees."
    )
    l1_penalty: float = Field(
        default=0.0, ge=0, le=1e6, description="Penalty on leaf values, which makes small ones zero."
    )
    l2_penalty: float = Field(default=0.0, ge=0, le=1e6, description="Penalty on large leaf values.")
    class_weights: ClassWeights = "none"
    patience_rounds: int = Field(
        default=30,
        ge=1,
        le=100_000,
        description="Boosting ends after this many rounds without a better validation loss.",
    )


class Lightgbm:
    """Trees added one after the other, each on what the earlier ones left."""

    name: ClassVar[str] = "lightgbm"
    title: ClassVar[str] = "LightGBM"
    summary: ClassVar[str] = (
        "Gradient-boosted trees; usually the most accurate on tables of some thousand rows or more."
    )
    problems: ClassVar[frozenset[Problem]] = frozenset(
        {Problem.TABLE_CLASSIFICATION, Problem.TABLE_REGRESSION}
    )
    Hyperparameters: ClassVar[type[AlgorithmSettings]] = LightgbmHyperparameters
    usual_search: ClassVar[dict[str, SearchRange]] = {
        "learning_rate": {"kind": "log", "low": 1e-2, "high": 3e-1},
        "max_leaves": {"kind": "int", "low": 7, "high": 127, "step": 8},
        "min_rows_in_leaf": {"kind": "int", "low": 1, "high": 30},
        "row_fraction": {"kind": "float", "low": 0.6, "high": 1.0},
        "column_fraction": {"kind": "float", "low": 0.6, "high": 1.0},
        "l2_penalty": {"kind": "log", "low": 1e-3, "high": 10.0},
    }

    def suitability(self, data: Characteristics) -> Suitability:
        """See `Algorithm.suitability`."""
        if data.train_rows < FEW_ROWS:
            return suitability(1.5, f"strong on tables, but {data.train_rows:,} rows are few for boosting")
        mixed = data.categorical_share > 0.3
        return suitability(
            3.0 + 0.3 * mixed + 0.1 * filled_in(data),
            f"usually the most accurate on tables with as many rows ({data.train_rows:,})",
            "many columns are categories, which trees split well" if mixed else "",
            tree_reason(data),
        )

    def refuse(self, data: TrainingData, settings: AlgorithmSettings) -> None:
        """Nothing: see `Algorithm.refuse`."""

    def refit_settings(self, settings: AlgorithmSettings, best_epochs: Sequence[int]) -> AlgorithmSettings:
        """As many rounds as the folds' best: see `Algorithm.refit_settings`."""
        return settings.model_copy(update={"rounds": round(statistics.fmean(best_epochs))})

    def fit(self, data: TrainingData, settings: AlgorithmSettings, context: FitContext) -> Fit:
        """Boost until the validation loss stops falling: see `Algorithm.fit`."""
        import lightgbm

        from tasks.train.models.lightgbm_text import LightgbmModel

        assert isinstance(settings, LightgbmHyperparameters)
        weights = None
        if data.problem.is_classification and settings.class_weights == "balanced":
            weights = balanced_weights(data.train.labels)
        train = lightgbm.Dataset(
            data.train.inputs, data.train.labels, weight=weights, params={"verbosity": -1}
        )
        watched = (
            train
            if data.validation is None
            else train.create_valid(data.validation.inputs, data.validation.labels)
        )
        booster = lightgbm.Booster(_parameters(settings, data, context), train)
        booster.add_valid(watched, "watched")
        prefix = "train" if data.validation is None else "validation"
        history: list[Metrics] = []
        best, ended = 1, "finished"
        started = time.monotonic()
        for round_ in range(1, settings.rounds + 1):
            exhausted = booster.update()
            history.append({f"{prefix}_{name}": value for name, value in _watched(booster).items()})
            loss = history[-1][f"{prefix}_loss"]
            context.report(round_, settings.rounds, history[-1])
            if loss < history[best - 1][f"{prefix}_loss"]:
                best = round_
            if round_ - best >= settings.patience_rounds:
                ended = "early stopping"
            elif context.max_time_s and time.monotonic() - started >= context.max_time_s:
                ended = "time limit"
            elif context.should_stop():
                ended = "stopped"
            if exhausted or ended != "finished":
                break
        model = LightgbmModel(booster, best)
        for split, rows in (("train", data.train), ("validation", data.validation)):
            if rows is not None:
                history[best - 1] |= split_scores(
                    split, data.problem, rows.labels, model.predict(rows.inputs)
                )
        return Fit(model, tuple(history), best, ended, time.monotonic() - started)


ALGORITHMS = (Lightgbm(),)


def balanced_weights(labels: NDArray[Any]) -> NDArray[np.float64]:
    """A weight for each row, float64 `[n]`: the same for all classes together, 1 in the mean.

    Args:
        labels: Class indices `[n]`.
    """
    counts = np.bincount(labels)
    return np.asarray((len(labels) / (np.count_nonzero(counts) * np.maximum(counts, 1)))[labels])


def _watched(booster: Any) -> Metrics:
    """The loss and the headline metric on the watched rows, from what LightGBM evaluates itself."""
    found = {metric: float(value) for _, metric, value, _ in booster.eval_valid()}
    if "multi_error" in found:
        return {"loss": found["multi_logloss"], "accuracy": 1 - found["multi_error"]}
    return {"loss": found["l2"], "rmse": math.sqrt(found["l2"])}


def _parameters(settings: LightgbmHyperparameters, data: TrainingData, context: FitContext) -> dict[str, Any]:
    """LightGBM's own names, with what makes two runs equal bit for bit."""
    kind = (
        {"objective": "multiclass", "num_class": data.outputs, "metric": ["multi_logloss", "multi_error"]}
        if data.problem.is_classification
        else {"objective": "regression", "metric": "l2"}
    )
    return kind | {
        "learning_rate": settings.learning_rate,
        "num_leaves": settings.max_leaves,
        "min_data_in_leaf": settings.min_rows_in_leaf,
        "bagging_fraction": settings.row_fraction,
        "bagging_freq": 1 if settings.row_fraction < 1 else 0,
        "feature_fraction": settings.column_fraction,
        "max_depth": settings.max_depth or -1,
        "lambda_l1": settings.l1_penalty,
        "lambda_l2": settings.l2_penalty,
        "num_threads": context.threads or 0,
        "seed": context.seed,
        "deterministic": True,
        "force_row_wise": True,
        "verbosity": -1,
    }
