"""A weighted ensemble of a sweep's trainings, itself an ordinary training below the sweep's run.

Greedy selection with replacement of Caruana et al. (2004), "Ensemble selection from libraries of models".
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.data.read import preprocessing_of
from tasks.data.storage.store import DatasetStore
from tasks.refs import DatasetRef, Problem, RunRef
from tasks.sweep.plan import ENSEMBLE
from tasks.train.algorithms.fit import Fit, FitContext, Metrics, TrainingData
from tasks.train.bundle import Bundle, TrainedOn
from tasks.train.models.ensemble import EnsembleModel, weighted_mean
from tasks.train.scores import headline, split_scores
from tasks.train.tracking import TrackedRun
from tasks.train.trainer import Fitted

if TYPE_CHECKING:
    from numpy.typing import NDArray

ROUNDS = 25
"""Members that are drawn, with replacement: weights are multiples of one over it."""
FOLDS = 5
"""Parts of the validation rows: each is scored with weights that were chosen by the others."""


def greedy_weights(
    answers: Sequence[NDArray[np.float32]], labels: NDArray[Any], problem: Problem
) -> list[float]:
    """Add, again and again, the model that makes the mean of those that were added best.

    Args:
        answers: What each model says of the rows: `[n, classes]`, or `[n]`.
        labels: `[n]`.
        problem: Decides what is best: the headline metric; of equals, the lower loss.

    Returns:
        One weight a model, adding up to 1; most are 0. They are those of the best round.
    """
    chosen: Counter[int] = Counter()
    total = np.zeros(answers[0].shape, dtype=np.float64)
    best: tuple[tuple[float, float], Counter[int]] | None = None
    for members in range(1, ROUNDS + 1):
        badness, place = min(
            (_badness(problem, labels, (total + answer) / members), place)
            for place, answer in enumerate(answers)
        )
        chosen[place] += 1
        total += answers[place]
        if best is None or badness < best[0]:
            best = badness, Counter(chosen)
    assert best is not None  # there is a first round
    counts = best[1]
    return [counts[place] / counts.total() for place in range(len(answers))]


def honest_scores(
    answers: Sequence[NDArray[np.float32]], labels: NDArray[Any], problem: Problem, seed: int
) -> NDArray[np.float32]:
    """The ensemble's answers to rows that its weights were not chosen by, fold by fold.

    Args:
        answers: What each model says of the validation rows.
        labels: Of those.
        problem: See `greedy_weights`.
        seed: Start of the random division into folds.
    """
    fold_of = np.random.default_rng(seed).permutation(len(labels)) % FOLDS
    scores = np.empty_like(answers[0])
    for fold in range(FOLDS):
        out = fold_of == fold
        weights = greedy_weights([answer[~out] for answer in answers], labels[~out], problem)
        scores[out] = weighted_mean([answer[out] for answer in answers], weights)
    return scores


@dataclass(frozen=True)
class Ensemble:
    """Weighs models by the validation rows: see `tasks.train.trainer.Trainer`.

    Attributes:
        ref: The dataset version.
        store: Where it is.
        data: Its rows.
        runs: The members' trainings, best first.
        bundles: Their models.
        seed: Of the folds.
    """

    ref: DatasetRef
    store: DatasetStore
    data: TrainingData
    runs: list[RunRef]
    bundles: list[Bundle]
    seed: int

    @property
    def name(self) -> str:
        return ENSEMBLE

    @property
    def params(self) -> dict[str, Any]:
        return {"candidates": len(self.runs), "rounds": ROUNDS}

    def fit(self, run: TrackedRun, context: FitContext, folder: Path) -> Fitted:
        """See `Trainer.fit`. The validation metrics are of rows that the weights were not chosen by."""
        started = time.monotonic()
        rows = self.data.validation
        assert rows is not None  # the sweep refuses versions without
        problem, labels = self.ref.problem, rows.labels
        answers = [bundle.model.predict(rows.inputs) for bundle in self.bundles]
        metrics: Metrics = split_scores(
            "validation", problem, labels, honest_scores(answers, labels, problem, self.seed)
        )
        weights = greedy_weights(answers, labels, problem)
        kept = [place for place, weight in enumerate(weights) if weight]
        model = EnsembleModel([self.bundles[at].model for at in kept], [weights[at] for at in kept])
        run.stream(1, metrics)
        members = {self.runs[at].run_id: round(weights[at], 4) for at in kept}
        first = self.bundles[0].description
        bundle = Bundle.write(
            folder,
            model=model,
            preprocessing=preprocessing_of(self.store, self.ref),
            problem=problem,
            algorithm=ENSEMBLE,
            hyperparameters={"members": members},
            seed=self.seed,
            classes=first.classes,
            label=first.label,
            inputs=first.inputs,
            dataset=TrainedOn(name=self.ref.name, version=self.ref.version, digest=self.ref.digest),
        )
        fit = Fit(model, (metrics,), 1, "finished", time.monotonic() - started)
        run.complete(fit.history)
        return Fitted(fit, bundle, bundle.digest, params={"members": len(kept)})


def _badness(problem: Problem, labels: NDArray[Any], scores: NDArray[np.float64]) -> tuple[float, float]:
    """Lower is better: the headline metric, then the loss."""
    found = split_scores("all", problem, labels, scores.astype(np.float32))
    name, higher_is_better = headline(problem)
    value = found[f"all_{name}"]
    return -value if higher_is_better else value, found["all_loss"]
