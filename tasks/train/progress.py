"""A fit as the Prefect UI shows it while it runs. Beside `task.py`, this is where training knows Prefect."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, cast
from uuid import UUID, uuid4

from prefect.artifacts import create_image_artifact, create_progress_artifact, update_progress_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactUpdate
from prefect.logging import get_run_logger

from tasks.train.cross_validation import place_of
from tasks.train.live import Standing
from tasks.train.live_curves import live_curves

if TYPE_CHECKING:
    from blocks.docs_site import DocsSite

_MOST_SAID = 6
"""Metrics of own code in the line of a progress bar."""

CURVES_INTERVAL_S = 5.0
"""Between two pictures of the curves while a fit runs; the first comes after as long."""


class Progress:
    """Shows a fit in the Prefect UI: a progress bar, a log line and the learning curves so far.

    Args:
        docs: Holds the picture of the curves.
        detail: What is trained.
    """

    def __init__(self, docs: DocsSite, detail: str) -> None:
        self.log = get_run_logger()
        self._detail = detail
        self._said = ""
        self._docs = docs
        self._picture = f"pictures/live-{uuid4().hex}.svg"
        self._drawn: UUID | None = None
        self._drawn_at = time.monotonic()
        self._bar = cast(
            UUID,
            create_progress_artifact(
                progress=0.0, key="training-progress", description="Training: reading the data"
            ),
        )

    def __call__(self, standing: Standing) -> None:
        """Show how far a fit is: what `tasks.train.live.Live` calls from its thread."""
        scores = {k: v for k, v in standing.metrics.items() if k.startswith(("train_", "validation_"))}
        known = standing.epochs > 0  # of own code only the steps are known, and its output is in the log
        said = (scores or dict(list(standing.metrics.items())[:_MOST_SAID])).items()
        line = f"Step {standing.epoch}"
        if known:
            line = place_of(standing.metrics, standing.epoch, standing.epochs)
        if said:
            line += ": " + ", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in said)
        if known and line != self._said:  # the last standing is shown once more, as the one that ended
            self.log.info(line)
            self._said = line
        share = standing.epoch / standing.epochs if known else 0.0
        if standing.finished:  # it may have ended early
            share = 1.0
        update_progress_artifact(self._bar, progress=100.0 * share, description=line)
        due = time.monotonic() - self._drawn_at >= CURVES_INTERVAL_S
        if self._drawn if standing.ended else due:
            self._draw(standing)

    def _draw(self, standing: Standing) -> None:
        """Publish the curves so far: one file and one artifact, which are replaced each time."""
        picture = live_curves(standing.curves, standing.epochs, self._detail)
        if not picture:
            return
        file = Path(self._docs.folder, self._picture)
        file.parent.mkdir(parents=True, exist_ok=True)
        aside = file.with_suffix(".partial")
        aside.write_text(picture)
        aside.replace(file)
        # An address that changes with the picture: browsers keep what they have seen of the same one.
        url = f"{self._docs.url.rstrip('/')}/{self._picture}?epoch={standing.epoch}"
        about = f"Learning curves of {self._detail}, while it trains"
        if self._drawn is None:
            self._drawn = cast(UUID, create_image_artifact(url, key="learning-curves", description=about))
        else:
            with get_client(sync_client=True) as client:
                client.update_artifact(self._drawn, ArtifactUpdate(data=url, description=about))
        self._drawn_at = time.monotonic()
