"""What the code says while it runs: its output in the log at a bounded rate, and its metrics."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from tasks.errors import InvalidData
from tasks.train.algorithms.fit import Metrics, StepReport, silent_steps
from tasks.train.metric_names import metric_name
from tasks.train.own_code.config import OwnCode
from tasks.train.own_code.events import EventReader, Point
from tasks.train.own_code.patterns import LONGEST_LINE, Hangs

LINES_A_SECOND = 20
"""Lines of output shown in the log each second; the file has all of them."""

LAST_LINES = 400

MOST_NAMES = 1_000
"""Names of metrics that are taken; code that names one after each step would have no end of them."""

PATTERNS_S = 30.0
"""Seconds that patterns may take beside half of the time that the code runs; a long output with slow
patterns would otherwise be read long after the code has ended."""


class Follower:
    """Reads the output and the event files of one run of the code.

    Args:
        own: The settings.
        tensorboard: Folder of the event files.
        log: Hears lines of output.
        report_steps: Hears metrics as they appear.
        logged: What is new of the metrics that the code logs to MLflow itself.
        show: Hears those: they need not be reported to MLflow.
    """

    def __init__(
        self,
        own: OwnCode,
        tensorboard: Path,
        log: Callable[[str], None],
        report_steps: StepReport,
        logged: Callable[[], list[Point]] = list,
        show: StepReport = silent_steps,
    ) -> None:
        self._own, self._log, self._report = own, log, report_steps
        self._logged, self._show_logged = logged, show
        self._readings = self._last_step = 0
        self._events = EventReader(tensorboard)
        self._rest = b""
        self._too_long = False
        self._second, self._shown, self._skipped = 0.0, 0, 0
        self._seen: dict[str, int] = {}
        self._asked_for = {metric_name(name) for name in (*own.metrics, *own.required_metrics)}
        self._from_output = {metric_name(name) for name in own.metrics}
        self._names_are_full = False
        self._began, self._patterns_s, self._gave_up = time.monotonic(), 0.0, False
        self.last: Metrics = {}
        self.lines: deque[str] = deque(maxlen=LAST_LINES)

    def __call__(self, new: bytes) -> None:
        """Hear of new output: see `process.run`.

        Raises:
            InvalidData: A loss is not a finite number any more, or a pattern hangs on a line.
        """
        self._split(new)
        self._take_events(self._events.new())
        self._take_logged(self._logged())

    def finish(self) -> None:
        """Take what is left when the code has ended."""
        if self._rest:
            self._line(self._rest)
            self._rest = b""
        self._tell_skipped()
        self._take_events(self._events.new(now=True))
        self._take_logged(self._logged())

    def _split(self, new: bytes) -> None:
        """Cut output into lines; a carriage return, as of progress bars, ends one as well."""
        if not new:
            return
        *lines, self._rest = (self._rest + new.replace(b"\r", b"\n")).split(b"\n")
        for line in lines:
            if not self._too_long:
                self._line(line)
            self._too_long = False
        if len(self._rest) > 4 * LONGEST_LINE:  # a line without an end: its beginning is looked at
            if not self._too_long:
                self._line(self._rest)
            self._rest, self._too_long = b"", True

    def _line(self, raw: bytes) -> None:
        line = raw[: 4 * LONGEST_LINE].decode(errors="replace").rstrip()[:LONGEST_LINE]
        if not line:
            return
        self.lines.append(line)
        self._show(line)
        if not self._gave_up:
            began = time.monotonic()
            self._find_metrics(line)
            ended = time.monotonic()
            self._patterns_s += ended - began
            if self._patterns_s > PATTERNS_S + 0.5 * (ended - self._began):
                self._gave_up = True
                self._log("The patterns of the metrics take too long; the rest of the output is not searched")

    def _find_metrics(self, line: str) -> None:
        for name, pattern in self._own.metrics.items():
            try:
                found = pattern.read(name, line)
            except Hangs:
                raise InvalidData(
                    f"the pattern of the metric {name} takes too long on a line of the output",
                    where=line[:200],
                    mend="write it without nested repetitions such as (a+)+",
                ) from None
            if found is not None:
                self._take(*found)

    def _show(self, line: str) -> None:
        now = time.monotonic()
        if now - self._second >= 1:
            self._tell_skipped()
            self._second, self._shown = now, 0
        if self._shown < LINES_A_SECOND:
            self._shown += 1
            self._log(line)
        else:
            self._skipped += 1

    def _tell_skipped(self) -> None:
        if self._skipped:
            self._log(f"… {self._skipped:,} more lines; all of them are in output.log")
        self._skipped = 0

    def _take_events(self, events: list[Point]) -> None:
        for name, step, value in events:
            self._take(name, step, value)

    def _take_logged(self, points: list[Point]) -> None:
        """Show what was logged to MLflow since the last reading, all of it at the highest step so far.

        Metrics of steps and of epochs would otherwise go to and fro. Where the code names no steps, readings
        are counted.
        """
        # What was read here comes back from MLflow.
        own = {name: (step, value) for name, step, value in points if name not in self._seen}
        for name, (step, value) in own.items():
            self._require_finite(name, step, value)
        values = {name: value for name, (_, value) in own.items() if math.isfinite(value)}
        if values:
            self._readings += 1
            self._last_step = max(self._last_step, *(step for step, _ in own.values()))
            self._show_logged(self._last_step or self._readings, values)

    def _take(self, name: str, step: int | None, value: float) -> None:
        """Report a metric under a name that MLflow takes; one without a step counts its own."""
        name = metric_name(name)
        if name not in self._seen and name not in self._asked_for and len(self._seen) >= MOST_NAMES:
            if not self._names_are_full:
                self._log(f"There are {MOST_NAMES:,} metrics; {name} and others that are new are left out.")
            self._names_are_full = True
            return
        step = self._seen.get(name, 0) + 1 if step is None else step
        self._seen[name] = step
        self._require_finite(name, step, value)
        if math.isfinite(value):
            self.last[name] = value
            self._report(step, {name: value})

    def _require_finite(self, name: str, step: int, value: float) -> None:
        """Of a loss, and of what a pattern of the settings reads."""
        if not math.isfinite(value) and ("loss" in name.lower() or name in self._from_output):
            raise InvalidData(
                f"the metric {name} is {value} at step {step}: the training has gone astray",
                where="output of the code" if name in self._from_output else "metrics of the code",
                mend="lower the learning rate, and look for empty values and divisions by zero",
            )
