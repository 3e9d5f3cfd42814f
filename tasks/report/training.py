"""What a training's MLflow run tells: its curves, its settings, its scores on each split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tasks.markdown import cell, link, number, table
from tasks.refs import Problem
from tasks.report.learning_curves import Points
from tasks.train.cross_validation import CrossValidated
from tasks.train.scores import headline
from tasks.train.system_metrics import SYSTEM_PREFIX
from tasks.train.tags import ENDED_TAG, NOT_SERVED_TAG, WARNING_TAG

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

QUANTITIES = ("loss", "accuracy", "rmse", "silhouette", "explained_variance")
SPLITS = ("train", "validation")
MOST_CURVES = 8
"""Panels of metrics that own code has named itself."""
_ABOUT = ("algorithm", "dataset", "seed", "train_rows", "validation_rows")
_COUNTS = ("best_epoch", "epochs", "fit_time_s", "parameters", "bundle_size_bytes")


def curves(client: MlflowClient, run: Run) -> dict[str, dict[str, Points]]:
    """Points of every quantity that was logged for each epoch, by quantity and split."""
    found: dict[str, dict[str, Points]] = {}
    for quantity in QUANTITIES:
        for split in SPLITS:
            name = f"{split}_{quantity}"
            if f"best_{name}" in run.data.metrics:
                history = client.get_metric_history(run.info.run_id, name)
                points = sorted((metric.step, metric.value) for metric in history if metric.step > 0)
                found.setdefault(quantity, {})[split] = points
    return found or _own_curves(client, run)


def _own_curves(client: MlflowClient, run: Run) -> dict[str, dict[str, Points]]:
    """Those metrics that own code logged more than once, by name; nobody knows which split they are of."""
    found: dict[str, dict[str, Points]] = {}
    for name in _own_metrics(run.data.metrics)[:MOST_CURVES]:
        history = client.get_metric_history(run.info.run_id, name)
        if len(history) > 1:
            found[name] = {name: sorted((metric.step, metric.value) for metric in history)}
    return found


def _own_metrics(metrics: Mapping[str, float]) -> list[str]:
    return sorted(
        name for name in metrics if name not in _COUNTS and not name.startswith(("best_", SYSTEM_PREFIX))
    )


def kept_epoch(metrics: Mapping[str, float]) -> int | None:
    """Which epoch's weights are the model; None where no epochs are known, as of own code."""
    known = any(name.startswith(("best_train", "best_validation")) for name in metrics)
    return int(metrics.get("best_epoch", 0)) or None if known else None


def best_scores(metrics: Mapping[str, float], problem: Problem) -> dict[str, dict[str, float]]:
    """Scores of the kept model while it was trained, by split, under the names that evaluations use.

    Of a cross-validated one the folds' means stand for validation rows, which it has none of.
    """
    decides, _ = headline(problem)
    names = {decides: decides} | ({"loss": "log_loss"} if problem.is_classification else {})
    keys = {split: f"best_{split}_{{}}" for split in SPLITS} | {"folds (mean)": "cv_validation_{}_mean"}
    found = {
        split: {
            shown: metrics[key.format(name)] for name, shown in names.items() if key.format(name) in metrics
        }
        for split, key in keys.items()
    }
    return {split: scores for split, scores in found.items() if scores}


def render(run: Run, address: str, folds: Mapping[str, CrossValidated] | None = None) -> str:
    """The training as Markdown: how it went, and what it was told.

    Args:
        run: The finished MLflow run.
        address: Its page.
        folds: Its cross-validation by metric, if there was one.
    """
    metrics, params = run.data.metrics, run.data.params
    kept = sorted(name for name in metrics if name.startswith(("best_train", "best_validation")))
    # Of own code we know what it told, not its rows, epochs or scores of what was kept.
    shown = kept or _own_metrics(metrics)
    facts: list[list[object]] = [["data", cell(params.get("dataset", "-"))]]
    if "train_rows" in params:
        validation = params.get("validation_rows", "0")
        rows = f"{params['train_rows']} to train on, {validation} to validate"
        if "folds" in params:
            rows = f"{params['train_rows']}, each validated once, in {cell(params['folds'])} folds"
        facts.append(["rows", rows])
    if "fit_time_s" in metrics:
        facts.append(["fit time", f"{metrics['fit_time_s']:.1f} s"])
    epochs = metrics.get("epochs", 0)
    if kept and (epochs > 1 or "epochs" in params):  # one call of a library has none to count
        facts.append(["epochs", f"{epochs:.0f}, kept {metrics.get('best_epoch', 0):.0f}"])
    facts.append(["ended", cell(run.data.tags.get(ENDED_TAG, run.info.status.lower()))])
    if "parameters" in metrics:
        facts.append(["parameters", number(int(metrics["parameters"]))])
    facts.append(["run", link("open in MLflow", address)])
    scores = [[cell(name.removeprefix("best_").replace("_", " ")), number(metrics[name])] for name in shown]
    settings = [[cell(name), cell(value)] for name, value in sorted(params.items()) if name not in _ABOUT]
    # Not in the table, whose lines are cut off at the edge of the page.
    warning, not_served = (run.data.tags.get(tag) for tag in (WARNING_TAG, NOT_SERVED_TAG))
    parts = [
        f"# {cell(params.get('algorithm', 'Training'))}",
        f"**Look at this:** {cell(warning)}." if warning else "",
        f"**The model is kept, but cannot be served:** {cell(not_served)}." if not_served else "",
        table(["", ""], facts),
        ("## Scores of the kept model" if kept else "## Metrics, as last told") if scores else "",
        table(["score", "value"], scores, right=["value"]) if scores else "",
        _folds(folds) if folds else "",
        "## Hyperparameters",
        table(["name", "value"], settings),
    ]
    return "\n\n".join(filter(None, parts))


def _folds(folds: Mapping[str, CrossValidated]) -> str:
    """The folds' scores, each on the rows that its fit left out."""
    numbers = sorted({fold for scores in folds.values() for fold in scores.folds})
    head = ["score", "mean", "deviation", *(f"fold {fold}" for fold in numbers)]
    lines = [
        [
            cell(name.replace("_", " ")),
            f"**{number(scores.mean)}**",
            f"± {number(scores.deviation)}",
            *(number(scores.folds.get(fold)) for fold in numbers),
        ]
        for name, scores in folds.items()
    ]
    about = "Scores of the fits that left a fold out, on that fold; the kept model learned from all rows."
    return f"## Cross-validation\n\n{about}\n\n" + table(head, lines, right=head[1:])
