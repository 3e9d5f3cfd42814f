"""Metrics in lines of output: regular expressions that cannot hang, checked on a sample before launch."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any, Self

import regex  # like re, and knows time limits
from pydantic import Field, model_validator

from tasks.settings import Settings
from tasks.train.metric_names import LONGEST_NAME, metric_name

ANY_NAME = "*"
LONGEST_LINE = 2_000
"""Characters of a line that patterns are tried on; what comes after is not looked at."""

SAMPLE_TIMEOUT_S = 0.5
LINE_TIMEOUT_S = 0.25


class Hangs(Exception):
    """A pattern takes so long on a line that it would hold up the training."""


class MetricPattern(Settings):
    """How one metric stands in the output."""

    pattern: str = Field(
        min_length=1,
        max_length=500,
        description="Regular expression with one group, the value, or two: the step, then the value. Groups "
        "may be named step and value.",
        examples=[r"epoch (\d+) accuracy: ([\d.]+)"],
    )
    sample_line: str = Field(
        min_length=1,
        max_length=LONGEST_LINE,
        description="A line as the code prints it; the pattern must find a number in it.",
        examples=["epoch 1 accuracy: 0.9"],
    )

    @model_validator(mode="after")
    def _fits_its_sample(self) -> Self:
        try:
            groups = self.compiled.groups
        except regex.error as error:
            raise ValueError(f"the pattern {self.pattern!r} is no regular expression: {error}") from None
        if groups not in (1, 2):
            raise ValueError(f"the pattern {self.pattern!r} has {groups} groups; one or two are needed")
        try:
            found = self.compiled.search(self.sample_line, timeout=SAMPLE_TIMEOUT_S)
            # A pattern that backtracks without end often does so only where it does not fit.
            self.compiled.search(self.sample_line * 8 + "\x00", timeout=SAMPLE_TIMEOUT_S)
        except TimeoutError:
            raise ValueError(
                f"the pattern {self.pattern!r} takes too long on its sample line: it backtracks; "
                "do not nest repetitions such as (a+)+"
            ) from None
        if found is None:
            raise ValueError(f"the pattern {self.pattern!r} finds nothing in its sample line")
        return self

    @cached_property
    def compiled(self) -> Any:
        """The pattern of the module `regex`, which knows time limits."""
        return regex.compile(self.pattern)

    def require(self, name: str) -> None:
        """Check what the sample line gives under a metric's name.

        Raises:
            ValueError: It is no number, the step is none, or the name `*` has no group for names.
        """
        if name != ANY_NAME and (not name or len(name) > LONGEST_NAME or not name.isprintable()):
            raise ValueError(f"{name!r} is not the name of a metric")
        if name == ANY_NAME and self.compiled.groups != 2:
            raise ValueError(f"the pattern of {ANY_NAME} needs two groups: the name, then the value")
        if self.read(name, self.sample_line) is None:
            raise ValueError(f"{name}: the pattern {self.pattern!r} finds no number in its sample line")

    def read(self, name: str, line: str) -> tuple[str, int | None, float] | None:
        """The metric in a line of output.

        Returns:
            Its name as MLflow takes it, its step if the line says it, and its value (NaN and infinity as
            they are); None where the line has none.

        Raises:
            Hangs: The pattern takes longer than a line may take.
        """
        try:
            found = self.compiled.search(line[:LONGEST_LINE], timeout=LINE_TIMEOUT_S)
        except TimeoutError:
            raise Hangs(name) from None
        if found is None:
            return None
        named = found.groupdict()
        try:
            if name == ANY_NAME:
                return metric_name(str(found[1])), None, float(found[2])
            name = metric_name(name)
            value = float(named["value"] if "value" in named else found[self.compiled.groups])
            if self.compiled.groups == 1:
                return name, None, value
            step = float(named["step"] if "step" in named else found[1])
        except (TypeError, ValueError):
            return None
        return (name, int(step), value) if math.isfinite(step) and abs(step) < 2**53 else None
