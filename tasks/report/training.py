"""What a training's MLflow run tells: its curves, its settings, its scores on each split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tasks.markdown import cell, link, number, table
from tasks.refs import Problem
from tasks.report.learning_curves import Points
from tasks.train.scores import headline

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

QUANTITIES = ("loss", "accuracy", "rmse", "silhouette", "explained_variance")
SPLITS = ("train", "validation")
_ABOUT = ("algorithm", "dataset", "seed", "train_rows", "validation_rows")


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
    return found


def best_scores(metrics: Mapping[str, float], problem: Problem) -> dict[str, dict[str, float]]:
    """Scores of the kept model while it was trained, by split, under the names that evaluations use."""
    decides, _ = headline(problem)
    names = {decides: decides} | ({"loss": "log_loss"} if problem.is_classification else {})
    return {
        split: {
            shown: metrics[f"best_{split}_{name}"]
            for name, shown in names.items()
            if f"best_{split}_{name}" in metrics
        }
        for split in SPLITS
        if any(f"best_{split}_{name}" in metrics for name in names)
    }


def render(run: Run, address: str) -> str:
    """The training as Markdown: how it went, and what it was told.

    Args:
        run: The finished MLflow run.
        address: Its page.
    """
    metrics, params = run.data.metrics, run.data.params
    facts: list[list[object]] = [
        ["data", cell(params.get("dataset", "-"))],
        [
            "rows",
            f"{params.get('train_rows', '-')} to train on, {params.get('validation_rows', '-')} to validate",
        ],
        ["fit time", f"{metrics['fit_time_s']:.1f} s" if "fit_time_s" in metrics else "-"],
        ["epochs", f"{metrics.get('epochs', 0):.0f}, kept {metrics.get('best_epoch', 0):.0f}"],
        ["ended", cell(run.data.tags.get("trainyard.ended", run.info.status.lower()))],
        ["parameters", number(int(metrics.get("parameters", 0)))],
        ["run", link("open in MLflow", address)],
    ]
    kept = sorted(name for name in metrics if name.startswith(("best_train", "best_validation")))
    scores = [[cell(name.removeprefix("best_").replace("_", " ")), number(metrics[name])] for name in kept]
    settings = [[cell(name), cell(value)] for name, value in sorted(params.items()) if name not in _ABOUT]
    parts = [
        f"# {cell(params.get('algorithm', 'Training'))}",
        table(["", ""], facts),
        "## Scores of the kept model",
        table(["score", "value"], scores, right=["value"]),
        "## Hyperparameters",
        table(["name", "value"], settings),
    ]
    return "\n\n".join(filter(None, parts))
