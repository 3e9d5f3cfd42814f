"""Fitting: what the steps learn from the training rows, asked of workers in rounds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.data.config import StepConfig
from tasks.data.manifest import FittedStep
from tasks.data.methods import METHODS, TextMethod
from tasks.data.partitions import each_partition
from tasks.data.preparation.parts import Part, cut
from tasks.data.preparation.prepared import batch_of, empty_batch, row_keys
from tasks.errors import InvalidData

if TYPE_CHECKING:
    from distributed import Client

BYTES_AT_ONCE = 128 * 2**20
"""What the rows of one part may come to in a worker."""


def fitted(
    parts: list[Part], steps: Sequence[StepConfig], client: Client | None, done: Callable[[], None]
) -> tuple[list[FittedStep], list[Part], dict[str, int]]:
    """Fit step by step: each learns from the training rows as the steps before it leave them.

    Args:
        parts: All rows of the new version.
        steps: As planned.
        client: Dask client, or None.
        done: Called after each part of a round.

    Returns:
        The steps, the rows without those that are copies of others, and how many are left out as such.
    """
    manifest = parts[0].shard.manifest
    found: list[FittedStep] = []
    left_out: dict[str, int] = {}
    for step in steps:
        method = METHODS[step.method]
        parameters = method.Parameters.model_validate(step.parameters)
        state: dict[str, Any] = {}
        if method.learns:
            like = empty_batch(manifest, found)
            train = [part for part in parts if part.split == "train"]
            train = cut(train, rows_at_once(like.rows.shape[1])) if manifest.problem.is_table else train

            def ask(question: Any, train: list[Part] = train, step: StepConfig = step) -> Iterator[Any]:
                before = tuple(found)
                asked = (_Question(part, before, step, question) for part in train)
                for answer in each_partition(_answer, asked, client):
                    done()
                    yield answer

            state = method.learn(ask, like, parameters)
        if isinstance(method, TextMethod) and method.leaves_out:
            before = sum(part.count for part in parts)
            parts = _without_copies(parts, found, client, done)
            left_out[method.leaves_out] = (
                left_out.get(method.leaves_out, 0) + before - sum(part.count for part in parts)
            )
        found.append(FittedStep(method=method.name, parameters=step.parameters, state=state))
    return found, parts, {reason: count for reason, count in left_out.items() if count}


def rows_at_once(columns: int) -> int:
    """How many rows of a table a worker may hold."""
    return max(256, BYTES_AT_ONCE // (8 * max(1, columns)))


@dataclass(frozen=True)
class _Question:
    part: Part
    before: tuple[FittedStep, ...]
    step: StepConfig
    question: Any


def _answer(asked: _Question) -> Any:
    method = METHODS[asked.step.method]
    parameters = method.Parameters.model_validate(asked.step.parameters)
    return method.summarise(asked.question, batch_of(asked.part, asked.before), parameters)


@dataclass(frozen=True)
class _Keyed:
    part: Part
    steps: tuple[FittedStep, ...]


def _row_keys(work: _Keyed) -> np.ndarray:
    return row_keys(work.part, work.steps)


def _without_copies(
    parts: Sequence[Part], steps: Sequence[FittedStep], client: Client | None, done: Callable[[], None]
) -> list[Part]:
    """The rows without those that equal an earlier one; the parts are in the order of the splits."""
    keys = []
    for of_part in each_partition(_row_keys, [_Keyed(part, tuple(steps)) for part in parts], client):
        done()
        keys.append(of_part)
    together = np.concatenate(keys)
    first = np.zeros(len(together), bool)
    first[np.unique(together, return_index=True)[1]] = True
    kept: list[Part] = []
    start = 0
    for part in parts:
        here = first[start : start + part.count]
        start += part.count
        if here.all():
            kept.append(part)
        elif here.any():
            kept.append(part.only(np.flatnonzero(here)))
    lost = {part.split for part in parts} - {part.split for part in kept}
    if lost:
        raise InvalidData(
            f"Every row of {', '.join(sorted(lost))} is a copy of a row in another split",
            where="preprocess.steps: deduplicate",
            mend="bring other rows for it, or leave the split out of the source, to cut a new one",
        )
    return kept
