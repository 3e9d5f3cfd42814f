"""Follow a fit while it runs: what was heard is shown by a thread of its own, at a bounded rate.

Nothing here knows where it is shown. The loop only leaves a few numbers; pages, pictures and requests are
the thread's, and none of its errors reaches the fit.
"""

from __future__ import annotations

import contextvars
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from tasks.train.algorithms.fit import Metrics

SHOW_EVERY_S = 1.0
MOST_POINTS = 400
"""Epochs of a curve that are kept; beyond, every second one is left out."""
_SHARE = 0.01
"""Showing may take this share of the time: the longer one showing took, the later comes the next."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Standing:
    """How far a fit is.

    Attributes:
        epoch: Finished epochs.
        epochs: Those that it will have at most; 0 where that is not known, as of own code.
        metrics: Of the last finished epoch.
        curves: The epochs so far, thinned evenly where they are many: (epoch, its metrics).
        ended: Whether nothing comes after this.
        finished: Whether it ended in good order, with as many epochs as it needed.
    """

    epoch: int
    epochs: int
    metrics: Metrics
    curves: list[tuple[int, Metrics]] = field(default_factory=list)
    ended: bool = False
    finished: bool = False


class Live:
    """Hears a fit's epochs, as a `Report`, and has them shown.

    Args:
        show: Shows a standing: called by the thread, and never by two at once.
        every_s: Seconds between two calls, at least.
    """

    def __init__(self, show: Callable[[Standing], None], every_s: float = SHOW_EVERY_S) -> None:
        self._show = show
        self._every_s = every_s
        self._lock = threading.Lock()
        self._curves: list[tuple[int, Metrics]] = []
        self._heard = 0
        self._every = 1  # of so many that are heard one is kept; own code may count by hundreds
        self._latest: Standing | None = None
        self._ended = threading.Event()
        self._finished = False
        # What is shown belongs to the flow run of whoever made this: its context goes with the thread.
        work = contextvars.copy_context().run
        self._thread = threading.Thread(target=work, args=(self._work,), name="live view", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Show the last standing, and end."""
        self._finished = kind is None
        self._ended.set()
        self._thread.join()

    def __call__(self, epoch: int, epochs: int, metrics: Metrics) -> None:
        """Hear of a finished epoch, or of more metrics of it; returns at once."""
        with self._lock:
            more = self._latest is not None and self._latest.epoch == epoch
            if self._latest and more:
                metrics = self._latest.metrics | metrics
            else:
                self._heard += 1
            if self._curves and self._curves[-1][0] == epoch:
                self._curves[-1] = (epoch, metrics)
            elif not more and (self._heard - 1) % self._every == 0:
                self._curves.append((epoch, metrics))
            if len(self._curves) > MOST_POINTS:
                self._curves = self._curves[::2]
                self._every *= 2
            self._latest = Standing(epoch, epochs, metrics)

    def _work(self) -> None:
        shown: tuple[int, Metrics, bool] | None = None
        pause_s = self._every_s / 4  # the first epochs of a quick fit are worth seeing soon
        while True:
            ended = self._ended.wait(pause_s)
            began = time.monotonic()
            standing = self._standing(ended)
            if standing and (standing.epoch, standing.metrics, ended) != shown:
                shown = (standing.epoch, standing.metrics, ended)
                try:
                    self._show(standing)
                except Exception as error:  # a page that could not be reached is no reason to end a fit
                    _log.warning("The training's progress could not be shown: %s", error)
            if ended:
                return
            pause_s = max(self._every_s, (time.monotonic() - began) / _SHARE)

    def _standing(self, ended: bool) -> Standing | None:
        with self._lock:
            latest, curves = self._latest, list(self._curves)
        if latest is None:
            return None
        if curves[-1][0] != latest.epoch:
            curves.append((latest.epoch, latest.metrics))
        return Standing(latest.epoch, latest.epochs, latest.metrics, curves, ended, self._finished)
