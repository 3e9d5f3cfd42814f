"""What is known of a study's trials, and how trials and the study ended, in words."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import Literal

from tasks.refs import Problem
from tasks.train.scores import headline
from tasks.tune.points import Point

Status = Literal[
    "created", "running", "succeeded", "killed", "failed", "metrics unavailable", "early stopped"
]
FINAL: tuple[Status, ...] = ("succeeded", "killed", "failed", "metrics unavailable", "early stopped")
EndReason = Literal[
    "goal reached",
    "max trials reached",
    "search space exhausted",
    "too many failures",
    "time limit",
    "stopped",
]


@dataclass
class Trial:
    """One trial so far."""

    id: str
    number: int
    point: Point
    run_id: str
    status: Status = "created"
    best: float | None = None
    best_epoch: int | None = None
    epoch: int = 0
    ended: str = ""
    error: str = ""


def objective(problem: Problem, metric: str | None) -> tuple[str, Literal["min", "max"]]:
    """The metric of a study and its direction; the problem's headline metric unless another is named."""
    best, higher_is_better = headline(problem)
    name = metric or f"validation_{best}"
    return name, "max" if name.endswith(best) and higher_is_better else "min"


def metric_names(problem: Problem, splits: list[str]) -> list[str]:
    """Every metric that a fit on these splits reports."""
    kinds = ("loss", headline(problem)[0])
    return [f"{split}_{kind}" for split in ("validation", "train") if split in splits for kind in kinds]


@dataclass
class Study:
    """The trials of one study.

    Attributes:
        metric: What is optimised.
        mode: `max` or `min`.
        planned: Trials to run at most.
        exhausts: Whether these are all points of the space.
        goal: The study ends at a value at least as good.
        max_failed: More failed trials than this end the study.
        time_limit_s: The study ends after this.
        started: Value of `time.monotonic()` at the start; of a study that goes on, as if it had not paused.
        stop_asked: Whether somebody asked it to end with what it has.
    """

    metric: str
    mode: Literal["min", "max"]
    planned: int
    exhausts: bool = False
    goal: float | None = None
    max_failed: int = 3
    time_limit_s: float = math.inf
    started: float = field(default_factory=time.monotonic)
    stop_asked: bool = False
    trials: dict[str, Trial] = field(default_factory=dict)

    def better(self, value: float, than: float | None) -> bool:
        return than is None or (value > than if self.mode == "max" else value < than)

    def hear(self, trial: Trial, value: float, epoch: int) -> None:
        """Note a reported value."""
        trial.status = "running"
        trial.epoch = epoch
        if math.isfinite(value) and self.better(value, trial.best):
            trial.best, trial.best_epoch = value, epoch

    @property
    def best(self) -> Trial | None:
        """The best trial so far; of equals the one with the lowest number."""
        found: Trial | None = None
        for trial in sorted(self.trials.values(), key=lambda trial: trial.number):
            if trial.best is not None and self.better(trial.best, None if found is None else found.best):
                found = trial
        return found

    @property
    def failed(self) -> int:
        return sum(trial.status == "failed" for trial in self.trials.values())

    @property
    def finished(self) -> int:
        return sum(trial.status not in ("created", "running") for trial in self.trials.values())

    @property
    def goal_reached(self) -> bool:
        best = self.best
        return (
            self.goal is not None
            and best is not None
            and best.best is not None
            and not self.better(self.goal, best.best)
        )

    @property
    def should_end(self) -> bool:
        return self.goal_reached or self.failed > self.max_failed or self.stop_asked

    @property
    def seconds(self) -> float:
        """How long it has run."""
        return time.monotonic() - self.started

    def close(self, trial: Trial, *, error: str = "") -> Status:
        """Give an ended trial its final status."""
        if error:
            trial.status, trial.error = "failed", error
        elif trial.best is None:
            trial.status = "metrics unavailable"
            trial.error = "" if self.out_of_time else f"no {self.metric} that is a finite number: it diverged"
        elif trial.ended:
            trial.status = "succeeded"
        else:
            trial.status = "killed" if self.should_end or self.out_of_time else "early stopped"
        return trial.status

    @property
    def out_of_time(self) -> bool:
        return self.seconds >= self.time_limit_s

    def end_reason(self) -> EndReason:
        """Why the study ended."""
        if self.goal_reached:
            return "goal reached"
        if self.failed > self.max_failed:
            return "too many failures"
        if self.stop_asked:
            return "stopped"
        done = sum(t.status not in ("created", "running", "killed") for t in self.trials.values())
        if done < self.planned:
            return "time limit"
        return "search space exhausted" if self.exhausts else "max trials reached"
