"""A study as its MLflow runs tell it, when it has ended."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, cast

from tasks.train.tags import BEST_RUN_TAG, END_REASON_TAG, ERROR_TAG, KIND_TAG, STATUS_TAG, TRIAL_TAG
from tasks.tune.view import Row, StudyView

if TYPE_CHECKING:
    from mlflow.entities import Run

    from tasks.train.algorithms.algorithm import Value


def of_runs(parent: Run, children: Sequence[Run], address: Callable[[str], str]) -> StudyView:
    """The view of a recorded study.

    Args:
        parent: The study's run.
        children: Its trials' runs; others below it, such as the best training, are left out.
        address: Gives the page of a run by its id.
    """
    params, tags = parent.data.params, parent.data.tags
    trials = [run for run in children if TRIAL_TAG in run.data.tags and KIND_TAG not in run.data.tags]
    best = tags.get(BEST_RUN_TAG, "")
    goal = params.get("goal", "")
    return StudyView(
        name=parent.info.run_name,
        metric=params["metric"],
        mode=cast(Literal["min", "max"], params["mode"]),
        rows=tuple(
            sorted((_row(run, params["metric"], address) for run in trials), key=lambda row: row.number)
        ),
        goal=float(goal) if goal not in ("", "None") else None,
        planned=int(params.get("max_trials", 0)),
        end_reason=tags.get(END_REASON_TAG, ""),
        best_url=address(best) if best else "",
    )


def _row(run: Run, metric: str, address: Callable[[str], str]) -> Row:
    tags, info = run.data.tags, run.info
    best = run.data.metrics.get(f"best_{metric}", math.nan)
    steps = {logged.key: logged.step for logged in run.data.to_proto().metrics}
    return Row(
        number=int(tags[TRIAL_TAG]),
        status=tags.get(STATUS_TAG, info.status.lower()),
        point={name: _value(text) for name, text in sorted(run.data.params.items())},
        best=best if math.isfinite(best) else None,
        epochs=int(steps.get(metric, 0)),
        seconds=(info.end_time - info.start_time) / 1000 if info.end_time else None,
        run_url=address(info.run_id),
        error=tags.get(ERROR_TAG, ""),
    )


def _value(text: str) -> Value:
    """A hyperparameter of which MLflow has kept the text."""
    if text in ("True", "False"):
        return text == "True"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
