"""The next trial, whenever Ray asks: first those that an earlier attempt left unfinished, then new ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ray.tune.search import Searcher

from tasks.tune.points import Point
from tasks.tune.records import Study
from tasks.tune.suggest import Suggestions
from tasks.tune.trial import NUMBER, POINT


class TrialQueue(Searcher):  # type: ignore[misc]
    """Ray's side of the suggestions. It keeps no state of its own: MLflow has the trials.

    Args:
        suggestions: Have been told of all trials that are over.
        study: What each trial reached.
        unfinished: Trials to go on with, by number, each with its point.
        first: Number of the first new trial.
    """

    def __init__(
        self, suggestions: Suggestions, study: Study, unfinished: Sequence[tuple[int, Point]], first: int
    ) -> None:
        super().__init__(metric=study.metric, mode=study.mode)
        self._suggestions, self._study = suggestions, study
        self._unfinished, self._next = list(unfinished), first
        self._numbers: dict[str, int] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]
        """The settings of a trial; `FINISHED` where there are no more points."""
        if self._unfinished:
            number, point = self._unfinished.pop(0)
        else:
            number, suggested = self._next, self._suggestions.suggest(self._next)
            if suggested is None:
                return str(Searcher.FINISHED)
            point, self._next = suggested, self._next + 1
        self._numbers[trial_id] = number
        return {POINT: point, NUMBER: number}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tell what a trial reached at its best: its last value says less."""
        trial = self._study.trials.get(trial_id)
        self._suggestions.tell(self._numbers[trial_id], None if trial is None else trial.best)

    def __getstate__(self) -> dict[str, Any]:
        """Nothing to keep: Ray writes all that it was given to a file that is never read."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Nothing: see the class."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: see the class."""
