"""Batch inference from start to end: look early, share out, write aside, make visible at once."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fsspec

from tasks.data.partitions import stop
from tasks.errors import InvalidSettings, TrainyardError
from tasks.predict.config import PredictConfig, PredictionResult
from tasks.predict.score import packed, score_and_write
from tasks.predict.sources import batches, check, estimate_rows, find
from tasks.train.bundle import Bundle

if TYPE_CHECKING:
    from tasks.refs import ModelVersionRef

Report = Callable[[int, int, int | None], None]
"""`report(rows, errors, total)`: rows done, those without a prediction, about how many there are."""

MANIFEST = "manifest.json"
IN_FLIGHT_PER_THREAD = 3
"""Batches that are out at once, so that a long source never lies in memory as a whole."""


class OutOfTimeError(TrainyardError):
    """The time that was allowed is over; there are no results."""


def predict(
    config: PredictConfig,
    version: ModelVersionRef,
    bundle_folder: Path,
    client: Any,
    options: dict[str, Any] | None = None,
    report: Report = lambda rows, errors, total: None,
    roots: Sequence[str] | None = None,
    closed: Sequence[str] = (),
) -> PredictionResult:
    """Predict all rows of a source.

    The results are written beside the output folder and moved there when they are whole; on a store
    without renaming, `manifest.json` is written last and says that they are.

    Args:
        config: Model, source and output.
        version: The version of the model that `bundle_folder` holds.
        bundle_folder: The model.
        client: A `distributed.Client`.
        options: fsspec options for source and output, where they are on a store that needs them.
        report: Hears of rows done after each batch.
        roots: Local folders that a source may be in; None for any.
        closed: Folders and URLs that no source may be in, such as the dataset store's.

    Returns:
        Where the results are, and how many.

    Raises:
        InvalidSettings: The output exists, or the source does not fit the model; nothing is written.
        InvalidData: A file cannot be read.
        NotFound: There is no input.
        OutOfTimeError: `max_time_s` is over.
    """
    started = time.monotonic()
    target_options = _options_for(config.output, options)
    filesystem, output = fsspec.core.url_to_fs(config.output, **target_options)
    if filesystem.exists(output):
        raise InvalidSettings(
            "the output exists already",
            where=config.output,
            allowed="a folder that does not exist yet",
            mend="choose another output, or delete this one",
        )
    source = find(config, options, roots, closed)
    bundle = Bundle.load(bundle_folder)
    check(source, bundle)
    total = estimate_rows(source)
    renames = "file" in _protocols(filesystem)
    aside = f"{output}.partial-{uuid.uuid4().hex[:8]}" if renames else output
    columns = [feature.name for feature in bundle.features] if bundle.problem.is_table else []
    filesystem.makedirs(aside, exist_ok=True)
    waiting: set[Any] = set()
    try:
        rows = errors = parts = 0
        files = client.scatter(packed(bundle_folder), broadcast=True, hash=False)
        most = max(2, IN_FLIGHT_PER_THREAD * sum(client.nthreads().values()))
        for batch in batches(source, columns, config.batch_size):
            name = f"part-{batch.number:05d}.{config.format}"
            waiting.add(
                client.submit(
                    score_and_write,
                    files,
                    batch,
                    source.listing.reader,
                    filesystem.unstrip_protocol(f"{aside}/{name}"),
                    target_options,
                    pure=False,
                )
            )
            parts += 1
            while len(waiting) >= most:
                rows, errors = _gather(waiting, rows, errors, started, config, report, total)
        while waiting:
            rows, errors = _gather(waiting, rows, errors, started, config, report, total)
        result = PredictionResult(
            url=config.output,
            model=version.name,
            version=version.version,
            rows=rows,
            errors=errors,
            parts=parts,
            seconds=round(time.monotonic() - started, 3),
        )
        manifest = {**result.model_dump(), "digest": bundle.digest, "config": config.model_dump(mode="json")}
        filesystem.pipe_file(f"{aside}/{MANIFEST}", json.dumps(manifest, indent=2).encode())
        if renames:
            filesystem.mv(aside, output, recursive=True)
    except BaseException:
        # Also when the run is cancelled: nothing half-made stays.
        stop(client, waiting)
        filesystem.rm(aside, recursive=True)
        raise
    return result


def _gather(
    waiting: set[Any],
    rows: int,
    errors: int,
    started: float,
    config: PredictConfig,
    report: Report,
    total: int | None,
) -> tuple[int, int]:
    """Wait for at least one batch, within the time that is left."""
    import distributed

    wait: Any = distributed.wait
    left = None if config.max_time_s is None else config.max_time_s - (time.monotonic() - started)
    try:
        if left is not None and left <= 0:
            raise TimeoutError
        done = wait(waiting, timeout=left, return_when="FIRST_COMPLETED").done
    except TimeoutError:
        raise OutOfTimeError(
            f"{rows:,} rows were done when the time was over",
            where="max_time_s",
            allowed=f"{config.max_time_s} s",
            mend="allow more time, or give fewer files",
        ) from None
    for future in done:
        waiting.discard(future)
        part_rows, part_errors = future.result()
        rows, errors = rows + part_rows, errors + part_errors
    report(rows, errors, total)
    return rows, errors


def _options_for(url: str, options: dict[str, Any] | None) -> dict[str, Any]:
    """The store's options for URLs that have a protocol; local paths need none."""
    return dict(options or {}) if "://" in url and not url.startswith("file://") else {}


def _protocols(filesystem: Any) -> tuple[str, ...]:
    protocol = filesystem.protocol
    return (protocol,) if isinstance(protocol, str) else tuple(protocol)
