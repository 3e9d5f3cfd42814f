"""A study or a sweep as its MLflow runs tell it: every trial, best first."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tasks.markdown import cell, link, number, table

if TYPE_CHECKING:
    from mlflow.entities import Run


def render(parent: Run, children: list[Run], address: Callable[[str], str]) -> str:
    """The trials of a study as Markdown.

    Args:
        parent: The study's run.
        children: Its trials' runs.
        address: Gives the page of a run by its id.
    """
    metric, mode = parent.data.params["metric"], parent.data.params["mode"]
    name = f"best_{metric}"
    trials = [
        run
        for run in children
        if "trainyard.trial" in run.data.tags and "trainyard.kind" not in run.data.tags
    ]

    def rank(run: Run) -> tuple[bool, float]:
        value = run.data.metrics.get(name)
        return value is None, (-value if mode == "max" else value) if value is not None else 0.0

    rows = []
    for run in sorted(trials, key=rank):
        tags, value = run.data.tags, run.data.metrics.get(name)
        settings = ", ".join(f"{key} {_short(given)}" for key, given in sorted(run.data.params.items()))
        rows.append(
            [
                link(f"trial {tags['trainyard.trial']}", address(run.info.run_id)),
                number(value),
                cell(tags.get("trainyard.status", run.info.status.lower())),
                number(int(run.data.metrics.get("best_epoch", 0))),
                cell(settings),
                cell(tags.get("trainyard.error", "")),
            ]
        )
    best = parent.data.tags.get("trainyard.best_run", "")
    head = [
        f"# {cell(parent.info.run_name)}",
        f"Ended: **{cell(parent.data.tags.get('trainyard.end_reason', 'not yet'))}**, "
        f"{len(rows)} trials. {link('The best as a training', address(best)) if best else ''}",
    ]
    header = ["trial", metric.replace("_", " "), "status", "best epoch", "settings", "error"]
    return "\n\n".join([*head, table(header, rows, right=(header[1], "best epoch"))])


def _short(value: str) -> str:
    try:
        return number(float(value)) if "." in value or "e" in value else value
    except ValueError:
        return value
