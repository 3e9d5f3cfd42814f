"""Sides of a benchmark in turn, and the line of the table that they make."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from typing import TypeVar

Outcome = TypeVar("Outcome")


def in_turn(sides: Mapping[str, Callable[[], Outcome]], rounds: int) -> dict[str, list[Outcome]]:
    """The outcomes of each side, a round at a time; every other round goes backwards."""
    outcomes: dict[str, list[Outcome]] = {name: [] for name in sides}
    for number in range(rounds):
        names = list(sides) if number % 2 == 0 else list(reversed(sides))
        for name in names:
            outcomes[name].append(sides[name]())
            print(f"\nround {number + 1}, {name}: {outcomes[name][-1]}", flush=True)
    return outcomes


def ratio(what: str, own: list[float], other: list[float], least: float | None) -> float:
    """Print the line of the table; returns the median of the ratios of the rounds."""
    ratios = [a / b for a, b in zip(own, other, strict=True)]
    middle = statistics.median(ratios)
    wanted = f"at least {least:g} ×" if least is not None else "–"
    print(f"\n| {what} | {middle:.3f} × | {min(ratios):.3f} to {max(ratios):.3f} | {wanted} |")
    return middle
