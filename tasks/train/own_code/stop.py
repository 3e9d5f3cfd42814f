"""When somebody asked for an end: one clock for all that has to happen until a worker's patience is over."""

from __future__ import annotations

import time
from collections.abc import Callable


class Stop:
    """Asks whether to end, as `FitContext.should_stop` does, and notes when the answer was first yes.

    Args:
        asked: Says whether to end.
    """

    def __init__(self, asked: Callable[[], bool]) -> None:
        self._asked = asked
        self._at: float | None = None

    def __call__(self) -> bool:
        return self._since() is not None

    def past(self, seconds: float) -> bool:
        """Whether the stop is longer ago than this."""
        at = self._since()
        return at is not None and time.monotonic() - at > seconds

    def _since(self) -> float | None:
        if self._at is None and self._asked():
            self._at = time.monotonic()
        return self._at
