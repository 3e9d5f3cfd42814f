"""What is shown of a study: plain values, from the study that runs or from its records."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tasks.tune.points import Point
from tasks.tune.records import Study

RUNNING = ("created", "running")


@dataclass(frozen=True)
class Row:
    """One trial.

    Attributes:
        number: From 1, in the order in which they were made.
        status: One of `tasks.tune.records.Status`.
        point: Its hyperparameters; a conditional one may be absent.
        best: Its best value so far.
        epochs: Finished epochs.
        seconds: How long it took; None while it runs.
        run_url: Page of its MLflow run.
        error: What it failed of.
    """

    number: int
    status: str
    point: Point
    best: float | None = None
    epochs: int = 0
    seconds: float | None = None
    run_url: str = ""
    error: str = ""


@dataclass(frozen=True)
class StudyView:
    """A study with its trials so far.

    Attributes:
        name: What is searched, such as `tune mlp on iris`.
        metric: What is optimised.
        mode: `max` or `min`.
        rows: The trials by number.
        goal: The study ends at a value at least as good.
        planned: Trials to run at most; 0 where that is not known.
        end_reason: Why it ended; empty while it runs.
        best_url: Page of the training that it resulted in.
    """

    name: str
    metric: str
    mode: Literal["min", "max"]
    rows: Sequence[Row] = field(default=())
    goal: float | None = None
    planned: int = 0
    end_reason: str = ""
    best_url: str = ""

    @property
    def quantity(self) -> str:
        """The metric in words."""
        return self.metric.replace("_", " ")

    @property
    def hyperparameters(self) -> list[str]:
        """Every name that some trial has, in the order in which they come up."""
        return list(dict.fromkeys(name for row in self.rows for name in row.point))

    @property
    def ranked(self) -> list[Row]:
        """Trials that have a value, the best first; of equals the one with the lowest number."""
        sign = -1.0 if self.mode == "max" else 1.0
        scored = [(sign * row.best, row.number, row) for row in self.rows if row.best is not None]
        return [row for *_, row in sorted(scored, key=lambda each: each[:2])]

    @property
    def finished(self) -> int:
        """Trials that have ended."""
        return sum(row.status not in RUNNING for row in self.rows)


def of_study(
    study: Study,
    name: str,
    address: Callable[[str], str] = lambda run_id: "",
    seconds: Mapping[str, float] | None = None,
) -> StudyView:
    """The view of a study that runs.

    Args:
        study: Its records.
        name: What is searched.
        address: Gives the page of a run by its id.
        seconds: How long trials that have ended took, by their ids.
    """
    trials = sorted(study.trials.values(), key=lambda trial: trial.number)
    rows = [
        Row(
            number=trial.number,
            status=trial.status,
            point=dict(trial.point),
            best=trial.best,
            epochs=trial.epoch,
            seconds=(seconds or {}).get(trial.id),
            run_url=address(trial.run_id),
            error=trial.error,
        )
        for trial in trials
    ]
    return StudyView(name, study.metric, study.mode, tuple(rows), study.goal, study.planned)
