"""Preprocess: divide a dataset version, fit the steps on its training rows, apply them to all.

A partition is one shard of the parent: Dask workers read it, apply the steps and write the new shards
themselves, so that no rows pass through this process.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from tasks.data.config import PreprocessConfig, StepConfig
from tasks.data.images import open_image, plain, plain_png_header, png
from tasks.data.listed import listed
from tasks.data.manifest import ID_COLUMN, Feature, FileEntry, FittedStep, Manifest
from tasks.data.methods import METHODS
from tasks.data.partitions import map_partitions
from tasks.data.parts import Part, StoredShard, divided, features_of
from tasks.data.plan import planned_steps
from tasks.data.preprocessing import apply_table_steps, bound_image_steps
from tasks.data.read import contents_of
from tasks.data.shards import ShardTarget, image_table, schema
from tasks.data.store import DatasetStore
from tasks.errors import InvalidData
from tasks.refs import DatasetRef, Problem

if TYPE_CHECKING:
    from distributed import Client
    from PIL import Image


def preprocess(
    ref: DatasetRef, config: PreprocessConfig, store: DatasetStore, client: Client | None = None
) -> DatasetRef:
    """Make a version that is ready for training.

    Args:
        ref: The version to start from.
        config: The steps, and how to divide rows where the version is not divided yet.
        store: The store that holds the version and gets the new one.
        client: Dask client; without one everything is done in this process.

    Returns:
        The new version, or the one with the same content that is there already.

    Raises:
        InvalidSettings: A step does not apply to this data.
        InvalidData: Rows have no label; gaps or text are left after the steps; images differ in size.
    """
    manifest = store.open(ref)
    steps = planned_steps(manifest.problem, config)
    shards = [
        StoredShard(store.version_url(ref.name, ref.version), store.options, manifest, file)
        for file in manifest.files
    ]
    parts = divided(shards, manifest, config.split, client)
    fitted = _fitted([part for part in parts if part.split == "train"], steps, client)
    features = _result_features(manifest, fitted)
    with store.writer(ref.name) as writer:
        counts = Counter(part.split for part in parts)
        seen: Counter[str] = Counter()
        jobs = []
        for part in parts:
            jobs.append(
                _Job(part, tuple(fitted), features, writer.target, seen[part.split], counts[part.split])
            )
            seen[part.split] += 1
        outcomes = map_partitions(_write, jobs, client)
        _refuse_unfit(outcomes, manifest)
        return writer.commit(
            [outcome.file for outcome in outcomes],
            problem=manifest.problem,
            features=features,
            label=manifest.label,
            classes=manifest.classes,
            parent=manifest.version,
            method="preprocess",
            parameters={
                "steps": [step.model_dump(mode="json") for step in steps],
                "split": config.split.model_dump(mode="json"),
            },
            preprocessing=(*manifest.preprocessing, *fitted),
            source=str(ref),
        )


@dataclass(frozen=True)
class _Job:
    part: Part
    steps: tuple[FittedStep, ...]
    features: tuple[Feature, ...]
    target: ShardTarget
    index: int
    count: int


@dataclass(frozen=True)
class _Outcome:
    """The shard that was written, and what of it cannot be trained on."""

    file: FileEntry
    unlabelled: int
    gaps: dict[str, int]
    shapes: set[tuple[int, int, str]]


def _fitted(train: Sequence[Part], steps: Sequence[StepConfig], client: Client | None) -> list[FittedStep]:
    """Fit step by step: each learns from the training rows as the steps before it leave them."""
    fitted: list[FittedStep] = []
    for step in steps:
        method = METHODS[step.method]
        state: dict[str, Any] = {}
        if method.learns:
            passes = [_Pass(part, tuple(fitted), step) for part in train]
            summaries = map_partitions(_summarise, passes, client)
            state = method.learn(summaries, method.Parameters.model_validate(step.parameters))
        fitted.append(FittedStep(method=method.name, parameters=step.parameters, state=state))
    return fitted


@dataclass(frozen=True)
class _Pass:
    part: Part
    before: tuple[FittedStep, ...]
    step: StepConfig


def _summarise(work: _Pass) -> Any:
    method = METHODS[work.step.method]
    table = work.part.read()
    manifest = work.part.shard.manifest
    if manifest.problem.is_table:
        batch: Any = apply_table_steps(features_of(table, manifest), work.before)
    else:
        batch = _images(contents_of(table), work.before)
    return method.summarise(batch, method.Parameters.model_validate(work.step.parameters))


def _images(contents: Sequence[bytes], steps: Sequence[FittedStep]) -> Iterator[Image.Image]:
    """One image after the other; not even decoded where no step changed it and it is plain as stored."""
    bound = bound_image_steps(steps)
    for content in contents:
        image = open_image(content)
        if bound or plain_png_header(content) is None:
            image = plain(image)
        for method, parameters, state in bound:
            image = method.apply(image, parameters, state)
        yield image


def _result_features(manifest: Manifest, steps: Sequence[FittedStep]) -> tuple[Feature, ...]:
    """The columns after the steps."""
    if not manifest.problem.is_table:
        return manifest.features
    layout = schema(manifest.problem, manifest.features, manifest.label, manifest.classes)
    frame = apply_table_steps(features_of(layout.empty_table(), manifest), steps)
    names = [str(column) for column in frame.columns]
    taken = {ID_COLUMN, manifest.label}
    clashing = sorted({name for name in names if names.count(name) > 1 or name in taken})
    after = f"after preprocessing {manifest.name}@{manifest.version}"
    where = "preprocess.steps"
    if clashing:
        raise InvalidData(
            f"Encoding makes columns of one name: {listed(clashing)} {after}",
            where=where,
            allowed="columns with names of their own",
            mend="rename the columns in the source",
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


def _write(job: _Job) -> _Outcome:
    """Apply the steps to one part and write its shard."""
    table = job.part.read()
    manifest = job.part.shard.manifest
    gaps: dict[str, int] = {}
    shapes: set[tuple[int, int, str]] = set()
    if manifest.problem.is_table:
        frame = apply_table_steps(features_of(table, manifest), job.steps)
        missing = frame.isin([np.inf, -np.inf]).to_numpy() | frame.isna().to_numpy()
        counts = missing.sum(axis=0)
        gaps = {str(column): int(count) for column, count in zip(frame.columns, counts, strict=True) if count}
        layout = schema(manifest.problem, job.features, manifest.label, manifest.classes)
        columns = [
            table[ID_COLUMN],
            *(pa.array(frame[column]) for column in frame.columns),
            table[manifest.label],
        ]
        result = pa.table(columns, schema=layout)
    else:
        bound = bound_image_steps(job.steps)
        contents = []
        for content in contents_of(table):
            content, shape = _transformed(content, bound)
            contents.append(content)
            shapes.add(shape)
        ids = table[ID_COLUMN].to_pylist()
        result = image_table(ids, contents, table[manifest.label].to_pylist(), manifest.classes)
    file = job.target.write(job.part.split, job.index, job.count, result)
    return _Outcome(file, table[manifest.label].null_count, gaps, shapes)


def _transformed(content: bytes, steps: Sequence[Any]) -> tuple[bytes, tuple[int, int, str]]:
    """An image file after the steps, as PNG, with its width, height and mode.

    A plain PNG file that no step would change is passed on as it is: PNG is lossless, so decoding and
    encoding it again would give other bytes for the same pixels, at fifty times the cost. JPEG never
    passes: every version after preprocessing is PNG, whose pixels do not depend on the decoder.
    """
    header = plain_png_header(content)
    if header is not None and all(
        method.keeps(header, parameters, state) for method, parameters, state in steps
    ):
        return content, (header.width_px, header.height_px, header.mode)
    image = plain(open_image(content))
    for method, parameters, state in steps:
        image = method.apply(image, parameters, state)
    return png(image), (image.width, image.height, image.mode)


def _refuse_unfit(outcomes: Sequence[_Outcome], manifest: Manifest) -> None:
    """Refuse what must not reach training: rows without label, gaps, images of several shapes."""
    where = f"{manifest.name}@{manifest.version}"
    unlabelled = sum(outcome.unlabelled for outcome in outcomes)
    if unlabelled:
        raise InvalidData(
            f"{unlabelled:,} of {manifest.rows:,} rows have no label",
            where=where,
            mend="label them, or take them out of the source",
        )
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
    shapes = set().union(*(outcome.shapes for outcome in outcomes))
    if manifest.problem is Problem.IMAGE_CLASSIFICATION and len(shapes) > 1:
        raise InvalidData(
            f"Images come out of preprocessing in {len(shapes)} sizes or colour modes: "
            + listed([f"{width} × {height} {mode}" for width, height, mode in sorted(shapes)]),
            where=where,
            mend="put resize and colour-mode last among the steps",
        )
