"""The ranks of a job while they run, and what it means that one of them ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, NamedTuple

from tasks.errors import TrainyardError, Unavailable
from tasks.train.ranks.host import Polled
from tasks.train.ranks.launcher import Place

SILENT_S = 60.0
"""A rank or worker that gives no sign of life for so long stands still; a busy host may be slow."""
CAUSE_S = 5.0
"""How long the cause is waited for when ranks only say that they lost another."""
FIRST_S = 1.0
"""How long others are waited for when a function raised, since theirs may have been the first."""


class RankLost(Unavailable):
    """A rank was killed, stands still, or went down with its worker."""


class Cause(IntEnum):
    """Why a rank did not end well; what tells most comes first."""

    GONE = 0
    AT_FAULT = 1
    LEFT_ALONE = 2


_PATIENCE_S = {Cause.GONE: 0.0, Cause.AT_FAULT: FIRST_S, Cause.LEFT_ALONE: CAUSE_S}


class Fault(NamedTuple):
    """How a rank did not end well.

    Attributes:
        cause: Why.
        at: When, in seconds since 1970 on its host.
        error: What to raise for it.
    """

    cause: Cause
    at: float
    error: BaseException


@dataclass
class Running:
    """The ranks of one job.

    Attributes:
        job: Its id.
        places: Where they are.
        ended: Those that have ended, by rank.
        faults: Those of them that did not end well.
        asked_at: When they were asked to end; None if they were not.
        wishes: What they are told: see `rank.Wishes`.
    """

    job: str
    places: Sequence[Place]
    ended: dict[int, Polled] = field(default_factory=dict)
    faults: dict[int, Fault] = field(default_factory=dict)
    asked_at: float | None = None
    wishes: list[str] = field(default_factory=list)
    _heard_at: dict[int, float] = field(default_factory=dict)
    _faulty_at: float | None = None

    def gone(self, workers: Collection[str]) -> None:
        """Take in that workers are not there any more; `heard` raises for it."""
        for place in self.places:
            if place.worker in workers and place.rank not in self.ended:
                what = f"rank {place.rank} is lost with its worker {place.worker}"
                self.faults[place.rank] = Fault(Cause.GONE, 0.0, RankLost(what, where=place.host))

    def heard(self, polled: Mapping[str, Any], hear: Callable[[Any], None]) -> tuple[str, int] | None:
        """Take in how the ranks stand.

        Args:
            polled: What each worker answered, or why it did not.
            hear: Called with what rank 0 told.

        Returns:
            `("result", its size in bytes)` or `("resized", 0)` of rank 0, once all have ended; None before.

        Raises:
            RankLost: One of them is lost.
            Exception: What the function raised, on the rank that did first.
        """
        for place in self.places:
            answer = polled.get(place.worker)
            if answer is None or place.rank in self.ended:
                continue
            now = time.monotonic()
            silent_s = now - self._heard_at.setdefault(place.rank, now)
            if isinstance(answer, TimeoutError) and silent_s < SILENT_S:
                continue
            if isinstance(answer, BaseException):
                how = f"silent for {silent_s:.0f} s" if isinstance(answer, TimeoutError) else str(answer)
                what = f"rank {place.rank} is lost with its worker {place.worker}: {how}"
                self.faults[place.rank] = Fault(Cause.GONE, 0.0, RankLost(what, where=place.host))
                continue
            self._heard_at[place.rank] = now
            for said in answer.said if place.rank == 0 else ():
                hear(said)
            if answer.code is not None:
                self.ended[place.rank] = answer
                if (fault := _fault(place, answer)) is not None:
                    self.faults[place.rank] = fault
            elif answer.silent_s > SILENT_S:
                what = f"rank {place.rank} on {place.worker} stands still: silent for {answer.silent_s:.0f} s"
                self.faults[place.rank] = Fault(Cause.GONE, 0.0, RankLost(what, where=place.host))
        if self.faults:
            self._raise_the_first()
        if self.faults or len(self.ended) < len(self.places):
            return None
        return _unpacked(self.ended[0])[0], self.ended[0].result_bytes

    def _raise_the_first(self) -> None:
        """Raise for the rank that took the others along, once it is known."""
        self._faulty_at = self._faulty_at or time.monotonic()
        first = min(self.faults.values(), key=lambda fault: (fault.cause, fault.at))
        waited_s = time.monotonic() - self._faulty_at
        if len(self.ended) == len(self.places) or waited_s >= _PATIENCE_S[first.cause]:
            raise first.error


def _fault(place: Place, polled: Polled) -> Fault | None:
    """Why a rank that has ended did not end well; None where it did."""
    if polled.outcome is None:
        code = polled.code or 0
        how = f"was killed by signal {-code}" if code < 0 else f"exited with {code}"
        what = f"rank {place.rank} on {place.worker} {how}"
        return Fault(Cause.GONE, 0.0, RankLost(what, where=place.host, mend=_last_line(polled.tail)))
    kind, what, at = _unpacked(polled)
    if kind == "error":
        if not isinstance(what, TrainyardError):
            what.add_note(f"On rank {place.rank} of {place.size}:\n{polled.tail}")
        return Fault(Cause.AT_FAULT, at, what)
    if kind == "loss":
        lonely = RankLost(f"rank {place.rank} lost the others: {what}", where=place.host)
        return Fault(Cause.LEFT_ALONE, at, lonely)
    return None


def _unpacked(polled: Polled) -> tuple[str, Any, float]:
    """How a rank said that it ended; pickled, as all is that travels over Dask."""
    import cloudpickle

    kind, what, at = cloudpickle.loads(polled.outcome)
    return str(kind), what, float(at)


def _last_line(tail: str) -> str:
    lines = tail.strip().splitlines()
    return f"its output ends with: {lines[-1][:300]}" if lines else ""
