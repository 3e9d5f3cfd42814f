"""The leaderboard of a sweep: leaderboard.json of its MLflow run, which the page of the flow run shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from tasks.train.algorithms.algorithm import Value

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from tasks.sweep.race import Entry

BOARD_FILE = "leaderboard.json"

Interval = tuple[float, float]


class BoardEntry(BaseModel):
    """One training; one that failed has no score, and a note why."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    algorithm: str
    hyperparameters: dict[str, Value] = Field(default={}, description="Those that differ from the defaults.")
    run_id: str = ""
    validation: float | None = Field(default=None, description="What the places go by.")
    validation_interval: Interval | None = Field(default=None, description="95 %, by the number of rows.")
    test: float | None = None
    test_interval: Interval | None = None
    fit_time_s: float | None = None
    latency_p50_ms: float | None = Field(
        default=None, description="Median time for one row, preprocessing included."
    )
    size_bytes: int | None = Field(default=None, description="Of the file with what was learned.")
    note: str = ""


class Board(BaseModel):
    """All trainings of a sweep."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    metric: str = Field(description="Headline metric, such as accuracy.")
    higher_is_better: bool
    entries: list[BoardEntry] = Field(description="Best first; those without a score last.")


def write_board(client: MlflowClient, run_id: str, board: Board) -> None:
    """Keep a board with the sweep's run."""
    client.log_text(run_id, board.model_dump_json(indent=1) + "\n", BOARD_FILE)


def read_board(client: MlflowClient, run_id: str) -> Board:
    """The board of a sweep's run.

    Raises:
        pydantic.ValidationError: The file is not one of ours.
    """
    import mlflow

    mlflow.set_tracking_uri(client.tracking_uri)
    return Board.model_validate_json(mlflow.artifacts.load_text(f"runs:/{run_id}/{BOARD_FILE}"))


def make_board(metric: str, higher_is_better: bool, entries: list[Entry]) -> Board:
    """The board of entries.

    Args:
        metric: Headline metric.
        higher_is_better: Of the metric.
        entries: In the order of the board.
    """
    return Board(
        metric=metric,
        higher_is_better=higher_is_better,
        entries=[_board_entry(entry) for entry in entries],
    )


def _board_entry(entry: Entry) -> BoardEntry:
    about = {"algorithm": entry.algorithm, "hyperparameters": entry.attempt.point, "note": entry.error}
    if entry.run is None:
        return BoardEntry.model_validate(about)
    metrics, size = entry.metrics, entry.metrics.get("bundle_size_bytes")
    validation, test = entry.held_out.get("validation"), entry.held_out.get("test")
    return BoardEntry.model_validate(
        {
            **about,
            "run_id": entry.run.run_id,
            "validation": entry.score,
            "validation_interval": validation and validation.interval,
            "test": test and test.value,
            "test_interval": test and test.interval,
            "fit_time_s": metrics.get("fit_time_s"),
            "latency_p50_ms": metrics.get("latency_p50_ms"),
            "size_bytes": None if size is None else int(size),
        }
    )
