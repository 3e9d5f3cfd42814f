"""The scale of each hyperparameter, as the values that were tried tell it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tasks.markdown import number
from tasks.train.algorithms.algorithm import Value
from tasks.tune.view import StudyView

LOG_RATIO = 100
"""Positive values that span as many times their smallest are shown by their logarithm."""

FEW = 6
"""So many different numbers are all written at their axis."""


@dataclass(frozen=True)
class Scale:
    """Where values lie between the smallest and the largest.

    Attributes:
        low: Smallest number.
        high: Largest number.
        log: Whether by logarithm.
        choices: The values of a list, where they are not all numbers: then they are evenly apart.
        few: The numbers, where they are so few that each can be written.
    """

    low: float = 0.0
    high: float = 0.0
    log: bool = False
    choices: tuple[Value, ...] = ()
    few: tuple[float, ...] = ()

    @property
    def varies(self) -> bool:
        """Whether there are two different values."""
        return self.low < self.high or len(self.choices) > 1

    def place(self, value: Value) -> float:
        """From 0 at the smallest to 1 at the largest; a scale of one value has it in the middle."""
        if self.choices:
            last = len(self.choices) - 1
            return self.choices.index(value) / last if last else 0.5
        low, high, here = self.low, self.high, float(value)
        if self.log:
            low, high, here = math.log(low), math.log(high), math.log(here)
        return (here - low) / (high - low) if high > low else 0.5

    def marks(self) -> list[tuple[float, str]]:
        """What to write at which place."""
        if self.choices:
            return [(self.place(choice), str(choice)) for choice in self.choices]
        if self.few:
            values = list(self.few)
        elif self.log:
            powers = range(math.ceil(math.log10(self.low)), math.floor(math.log10(self.high)) + 1)
            values = [self.low, *(10.0**power for power in powers), self.high]
        else:
            values = [self.low + (self.high - self.low) * part / 4 for part in range(5)]
        marks: dict[float, str] = {}
        for value in dict.fromkeys([values[0], values[-1], *values]):
            if all(abs(self.place(value) - place) > 0.08 for place in marks):
                marks[self.place(value)] = short(value)
        return list(marks.items())


def scales(view: StudyView) -> dict[str, Scale]:
    """The scale of each hyperparameter by its name."""
    return {
        name: _scale([row.point[name] for row in view.rows if name in row.point])
        for name in view.hyperparameters
    }


def short(value: Value) -> str:
    """A value in few letters."""
    if isinstance(value, float):
        return f"{value:.0f}" if value.is_integer() and abs(value) < 1e5 else f"{value:.3g}"
    return number(value) if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _scale(values: Sequence[Value]) -> Scale:
    numbers = [float(value) for value in values if isinstance(value, int | float)]
    plain = len(numbers) == len(values) and not any(isinstance(value, bool) for value in values)
    if not plain or not all(map(math.isfinite, numbers)):
        return Scale(choices=tuple(sorted(set(values), key=str)))
    low, high = min(numbers), max(numbers)
    return Scale(
        low,
        high,
        log=low > 0 and high / low >= LOG_RATIO,
        few=tuple(sorted(set(numbers))) if len(set(numbers)) <= FEW else (),
    )
