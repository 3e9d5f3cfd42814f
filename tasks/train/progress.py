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
        self._curves = LivePicture(docs, "learning-curves")
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
        if self._curves.shown if standing.ended else due:
            self._draw(standing)

    def _draw(self, standing: Standing) -> None:
        picture = live_curves(standing.curves, standing.epochs, self._detail)
        if picture:
            self._curves.show(
                picture, f"Learning curves of {self._detail}, while it trains", f"epoch={standing.epoch}"
            )
            self._drawn_at = time.monotonic()


class LivePicture:
    """A picture on the page of the flow run: one file and one artifact, which are replaced each time.

    Args:
        docs: Holds the file.
        key: Of the artifact.
    """

    def __init__(self, docs: DocsSite, key: str) -> None:
        self._docs = docs
        self._key = key
        self._name = f"pictures/live-{uuid4().hex}.svg"
        self._artifact: UUID | None = None

    @property
    def shown(self) -> bool:
        """Whether there is a picture yet."""
        return self._artifact is not None

    def show(self, picture: str, about: str, version: str) -> None:
        """Publish the picture as it is now.

        Args:
            picture: SVG.
            about: What it shows.
            version: Another one each time: browsers keep what they have seen of the same address.
        """
        file = Path(self._docs.folder, self._name)
        file.parent.mkdir(parents=True, exist_ok=True)
        aside = file.with_suffix(".partial")
        aside.write_text(picture)
        aside.replace(file)
        url = f"{self._docs.url.rstrip('/')}/{self._name}?{version}"
        if self._artifact is None:
            self._artifact = cast(UUID, create_image_artifact(url, key=self._key, description=about))
        else:
            with get_client(sync_client=True) as client:
                client.update_artifact(self._artifact, ArtifactUpdate(data=url, description=about))
