"""The sweeping step: algorithms side by side on Ray, with progress in the Prefect UI."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefect import task
from prefect.logging import get_run_logger

from tasks.cache import StepCache
from tasks.refs import DatasetRef, StudyRef
from tasks.sweep.config import SweepConfig
from tasks.tune.task import SearchProgress, verify_best, workplace

if TYPE_CHECKING:
    from tasks.sweep.race import Entry


@task(
    name="sweep",
    task_run_name="sweep algorithms on {ref.name}",
    cache_policy=StepCache(verify=verify_best),
    persist_result=True,
    result_serializer="json",
)
def sweep_algorithms(ref: DatasetRef, config: SweepConfig, site: str = "local") -> StudyRef:
    """Train all or chosen algorithms under one time budget; the best is the result.

    Args:
        ref: A preprocessed dataset version.
        config: Which algorithms, and for how long.
        site: Which set of blocks to use.
    """
    watch = Watcher()
    with workplace(site) as place:
        from tasks.sweep.sweep import run_sweep

        sweep = run_sweep(ref, config, place.store, place.client, place.folder, watch, tags=place.tags)
    get_run_logger().info(
        "Sweep %s: %s; the best is %s.", sweep.run_id, sweep.end_reason, sweep.best.algorithm
    )
    return sweep


class Watcher(SearchProgress):
    """Shows a sweep: see `tasks.sweep.race.Watch`."""

    def __init__(self) -> None:
        super().__init__("sweep-progress", "Sweep")

    def __call__(self, entries: list[Entry], total: int) -> None:
        """Hear of a training that ended."""
        ended = {
            str(entry.attempt.number): f"{entry.algorithm}{_shown(entry)}: "
            + (entry.error if entry.score is None else f"score {entry.score:.4f}")
            for entry in entries
        }
        self.show(ended, 100.0 * len(entries) / max(total, 1), f"{len(entries)} of {total} trainings ended")


def _shown(entry: Entry) -> str:
    values = ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in entry.attempt.point.items()
    )
    return f" with {values}" if values else ""
