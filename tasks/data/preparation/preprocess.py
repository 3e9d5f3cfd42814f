"""Preprocess: divide a dataset version, fit the steps on its training rows, apply them to all.

Dask workers read the parent's shards, apply the steps and write the new shards themselves, so that no
rows pass through this process. What is learned is found in rounds of small answers (see `fitting`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tasks.data.config import PreprocessConfig
from tasks.data.listed import listed
from tasks.data.manifest import FOLD_COLUMN, ID_COLUMN, Feature, FileEntry, FittedStep, Manifest
from tasks.data.methods import METHODS, Learning
from tasks.data.partitions import Progress, each_partition, silent
from tasks.data.preparation.division import divided
from tasks.data.preparation.fitting import BYTES_AT_ONCE, fitted, rows_at_once
from tasks.data.preparation.partition import Partition, cut
from tasks.data.preparation.plan import planned_steps
from tasks.data.preparation.prepared import empty_batch, prepared
from tasks.data.shards import ShardTarget
from tasks.data.storage.store import DatasetStore
from tasks.errors import InvalidData
from tasks.refs import LOCAL_USER, DatasetRef

if TYPE_CHECKING:
    from distributed import Client

UNLABELLED = "unlabelled"
"""Counted for rows without a label."""


def preprocess(
    ref: DatasetRef,
    config: PreprocessConfig,
    store: DatasetStore,
    client: Client | None = None,
    progress: Progress = silent,
    owner: str = LOCAL_USER,
) -> DatasetRef:
    """Make a version that is ready for training.

    Rows without a label are left out, and counted with all others that do not come into the version.

    Args:
        ref: The version to start from.
        config: The steps, and how to divide rows where the version is not divided yet.
        store: The store that holds the version and gets the new one.
        client: Dask client; without one everything is done in this process.
        progress: Hears of the partitions that are done, rounds of fitting among them.
        owner: Who makes the version.

    Returns:
        The new version, or the one with the same content that is there already.

    Raises:
        InvalidSettings: A step does not apply to this data.
        InvalidData: No row has a label; gaps or text are left after the steps; images differ in size.
    """
    manifest = store.open(ref)
    steps = planned_steps(manifest.problem, config)
    shards = store.shards(manifest)
    learning = sum(isinstance(METHODS[step.method], Learning) for step in steps)
    track = _Track(progress, len(shards) * (2 + learning))
    division = divided(shards, manifest, config.split, client, lambda done, total: track.step())
    fit, partitions, left_out = fitted(division.partitions, steps, client, track.step)
    if division.unlabelled:
        left_out[UNLABELLED] = division.unlabelled
    features = _result_features(manifest, fit, division.folds)
    partitions = cut(partitions, _rows_of_a_shard(manifest, features, fit))
    with store.writer(ref.name) as writer:
        counts = Counter(partition.split for partition in partitions)
        seen: Counter[str] = Counter()
        jobs = []
        for partition in partitions:
            place = seen[partition.split]
            seen[partition.split] += 1
            jobs.append(
                _Job(
                    partition,
                    tuple(fit),
                    features,
                    division.folds > 0,
                    writer.target,
                    place,
                    counts[partition.split],
                )
            )
        track.expect(len(jobs))
        outcomes: list[_Outcome] = []
        # Closed before the writer: no worker writes on where it removes what is there.
        with closing(each_partition(_write, jobs, client)) as written:
            for outcome in written:
                outcomes.append(outcome)
                track.step()
        _refuse_unfit(outcomes, manifest, {partition.split for partition in partitions})
        for outcome in outcomes:
            for reason, count in outcome.left_out.items():
                left_out[reason] = left_out.get(reason, 0) + count
        return writer.commit(
            [outcome.file for outcome in outcomes if outcome.file is not None],
            problem=manifest.problem,
            features=features,
            label=manifest.label,
            classes=manifest.classes,
            folds=division.folds,
            left_out=left_out,
            parent=manifest.version,
            method="preprocess",
            parameters={
                "steps": [step.model_dump(mode="json") for step in steps],
                "split": config.split.model_dump(mode="json"),
            },
            preprocessing=(*manifest.preprocessing, *fit),
            source=str(ref),
            owner=owner,
        )


class _Track:
    """Counts what is done. How many rounds a step needs to learn is known when it has learned."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress = progress
        self._total = total
        self._done = 0

    def step(self) -> None:
        self._done += 1
        self._total = max(self._total, self._done)
        self._progress(self._done, self._total)

    def expect(self, more: int) -> None:
        """Exactly so many steps are to come."""
        self._total = self._done + more


@dataclass(frozen=True)
class _Job:
    """A partition, and which shard of its split it becomes."""

    partition: Partition
    steps: tuple[FittedStep, ...]
    features: tuple[Feature, ...]
    folds: bool
    target: ShardTarget
    index: int
    count: int


@dataclass(frozen=True)
class _Outcome:
    """The shard that was written, if a row came through, and what of it cannot be trained on."""

    file: FileEntry | None
    left_out: dict[str, int]
    gaps: dict[str, int]
    shapes: set[tuple[int, int, str]]


def _write(job: _Job) -> _Outcome:
    """Apply the steps to one partition and write its shard."""
    result = prepared(job.partition, job.steps, job.features, job.folds)
    file = None
    if result.table.num_rows:
        file = job.target.write(job.partition.split, job.index, job.count, result.table)
    return _Outcome(file, dict(result.left_out), dict(result.gaps), result.shapes)


def _rows_of_a_shard(manifest: Manifest, features: Sequence[Feature], steps: Sequence[FittedStep]) -> int:
    """How many rows a worker may make at once: prepared images are not compressed, unlike photographs."""
    if manifest.problem.is_table:
        return rows_at_once(len(features))
    sizes = [step.parameters for step in steps if "width_px" in step.parameters]
    if manifest.problem.modality != "image" or not sizes:
        return max(file.rows for file in manifest.files)
    return max(16, BYTES_AT_ONCE // (3 * int(sizes[-1]["width_px"]) * int(sizes[-1]["height_px"])))


def _result_features(manifest: Manifest, steps: Sequence[FittedStep], folds: int) -> tuple[Feature, ...]:
    """The columns after the steps."""
    if not manifest.problem.is_table:
        return manifest.features
    frame = empty_batch(manifest, steps).rows
    names = [str(column) for column in frame.columns]
    taken = {ID_COLUMN, *manifest.label_columns, *([FOLD_COLUMN] if folds else [])}
    clashing = sorted({name for name in names if names.count(name) > 1 or name in taken})
    after = f"after preprocessing {manifest.name}@{manifest.version}"
    where = "preprocess.steps"
    if clashing:
        raise InvalidData(
            f"There would be several columns of one name: {listed(clashing)} {after}",
            where=where,
            allowed="columns with names of their own",
            mend="rename columns with rename-columns, or in the source",
        )
    text = [name for name in names if frame[name].dtype != np.float64]
    if text:
        raise InvalidData(
            f"{len(text)} columns still hold text: {listed(text)} {after}",
            where=where,
            allowed="numeric columns",
            mend="add the method encode",
        )
    if not names:
        raise InvalidData(
            f"No column is left to learn from {after}", where=where, mend="leave fewer columns out"
        )
    return tuple(Feature(name=name, type="numeric") for name in names)


def _refuse_unfit(outcomes: Sequence[_Outcome], manifest: Manifest, splits: set[str]) -> None:
    """Refuse what must not reach training: gaps, images of several shapes, splits without rows."""
    where = f"{manifest.name}@{manifest.version}"
    gaps: Counter[str] = Counter()
    for outcome in outcomes:
        gaps.update(outcome.gaps)
    if gaps:
        raise InvalidData(
            f"{sum(gaps.values()):,} values are missing after preprocessing: "
            + listed([f"{count:,} in {column}" for column, count in gaps.most_common()]),
            where=where,
            mend="put the method impute first among the steps",
        )
    empty = splits - {outcome.file.split for outcome in outcomes if outcome.file is not None}
    if empty:
        lost: Counter[str] = Counter()
        for outcome in outcomes:
            lost.update(outcome.left_out)
        reasons = listed([f"{count:,} {reason}" for reason, count in lost.items()])
        raise InvalidData(
            f"No row of {listed(sorted(empty))} is left after preprocessing",
            where=where,
            allowed="at least one row in each split",
            mend=f"leave fewer rows out ({reasons})",
        )
    shapes = set().union(*(outcome.shapes for outcome in outcomes))
    if len(shapes) > 1:
        raise InvalidData(
            f"Images come out of preprocessing in {len(shapes)} sizes or colour modes: "
            + listed([f"{width} × {height} {mode}" for width, height, mode in sorted(shapes)]),
            where=where,
            mend="put resize and colour-mode last among the steps",
        )
