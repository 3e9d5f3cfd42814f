"""Fitting: what the steps learn from the training rows, asked of workers in rounds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.data.config import StepConfig
from tasks.data.manifest import FittedStep
from tasks.data.methods import METHODS, Learning, TextMethod
from tasks.data.partitions import each_partition
from tasks.data.preparation.partition import Partition, cut
from tasks.data.preparation.prepared import batch_of, empty_batch, row_keys
from tasks.errors import InvalidData

if TYPE_CHECKING:
    from distributed import Client

BYTES_AT_ONCE = 128 * 2**20
"""What the rows of one partition may come to in a worker."""


def fitted(
    partitions: list[Partition], steps: Sequence[StepConfig], client: Client | None, done: Callable[[], None]
) -> tuple[list[FittedStep], list[Partition], dict[str, int]]:
    """Fit step by step: each learns from the training rows as the steps before it leave them.

    Args:
        partitions: All rows of the new version.
        steps: As planned.
        client: Dask client, or None.
        done: Called after each partition of a round.

    Returns:
        The steps, the rows without those that are copies of others, and how many are left out as such.
    """
    manifest = partitions[0].shard.manifest
    found: list[FittedStep] = []
    left_out: dict[str, int] = {}
    for step in steps:
        method = METHODS[step.method]
        parameters = method.Parameters.model_validate(step.parameters)
        state: dict[str, Any] = {}
        if isinstance(method, Learning):
            like = empty_batch(manifest, found)
            train = [partition for partition in partitions if partition.split == "train"]
            train = cut(train, rows_at_once(like.rows.shape[1])) if manifest.problem.is_table else train

            def ask(question: Any, train: list[Partition] = train, step: StepConfig = step) -> Iterator[Any]:
                before = tuple(found)
                asked = partial(_answer, before=before, step=step, question=question)
                for answer in each_partition(asked, train, client):
                    done()
                    yield answer

            state = method.learn(ask, like, parameters)
        if isinstance(method, TextMethod) and method.leaves_out:
            before = sum(partition.count for partition in partitions)
            partitions = _without_copies(partitions, found, client, done)
            left_out[method.leaves_out] = (
                left_out.get(method.leaves_out, 0) + before - sum(partition.count for partition in partitions)
            )
        found.append(FittedStep(method=method.name, parameters=step.parameters, state=state))
    return found, partitions, {reason: count for reason, count in left_out.items() if count}


def rows_at_once(columns: int) -> int:
    """How many rows of a table a worker may hold."""
    return max(256, BYTES_AT_ONCE // (8 * max(1, columns)))


def _answer(partition: Partition, before: tuple[FittedStep, ...], step: StepConfig, question: Any) -> Any:
    method = METHODS[step.method]
    assert isinstance(method, Learning)
    parameters = method.Parameters.model_validate(step.parameters)
    return method.summarise(question, batch_of(partition, before), parameters)


def _without_copies(
    partitions: Sequence[Partition],
    steps: Sequence[FittedStep],
    client: Client | None,
    done: Callable[[], None],
) -> list[Partition]:
    """The rows without those that equal an earlier one; the partitions are in the order of the splits."""
    keys = []
    for of_partition in each_partition(partial(row_keys, steps=tuple(steps)), partitions, client):
        done()
        keys.append(of_partition)
    together = np.concatenate(keys)
    first = np.zeros(len(together), bool)
    first[np.unique(together, return_index=True)[1]] = True
    kept: list[Partition] = []
    start = 0
    for partition in partitions:
        here = first[start : start + partition.count]
        start += partition.count
        if here.all():
            kept.append(partition)
        elif here.any():
            kept.append(partition.only(np.flatnonzero(here)))
    lost = {partition.split for partition in partitions} - {partition.split for partition in kept}
    if lost:
        raise InvalidData(
            f"Every row of {', '.join(sorted(lost))} is a copy of a row in another split",
            where="preprocess.steps: deduplicate",
            mend="bring other rows for it, or leave the split out of the source, to cut a new one",
        )
    return kept
