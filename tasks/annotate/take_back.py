"""Join finished labels into a new version of the dataset."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import fsspec
import pyarrow as pa

from tasks.annotate.assignment import Assignment, open_assignment
from tasks.annotate.collect import Progress, merge, progress, require_complete
from tasks.annotate.config import CollectConfig
from tasks.annotate.label_studio import Choice, read_export
from tasks.data.manifest import ID_COLUMN
from tasks.data.shards import schema
from tasks.data.storage.store import DatasetStore
from tasks.errors import InvalidData, NotFound
from tasks.refs import DatasetRef


def take_back(store: DatasetStore, config: CollectConfig) -> tuple[DatasetRef, Progress]:
    """Read the exports, check them against the assignment and store the labelled version.

    Rows that were labelled before keep their labels. Taking the same exports back twice gives the
    same version.

    Args:
        store: The dataset store.
        config: The assignment and its exports.

    Returns:
        The labelled version, whose parent is the unlabelled one; and who labelled how much.

    Raises:
        NotFound: The assignment, its dataset version or an export is gone.
        InvalidData: The labels are incomplete, unknown or in conflict.
    """
    assignment = open_assignment(store, config.assignment)
    labels = merge(_read(config.exports, store.options), assignment.items, assignment.classes)
    if config.require_complete:
        require_complete(labels, assignment.items)
    done = progress(labels, assignment.items, assignment.classes)
    return _store(store, assignment, labels), done


def _read(patterns: Sequence[str], options: dict[str, object]) -> list[Choice]:
    choices: list[Choice] = []
    for pattern in patterns:
        remote = options if "://" in pattern else {}
        files = fsspec.open_files(pattern, "rb", **remote)
        if not files:
            raise NotFound("No export matches", where=pattern, mend="give the path of the exported JSON")
        for file in files:
            try:
                with file as opened:
                    content = json.load(opened)
            except FileNotFoundError:
                raise NotFound(
                    "The export is not there", where=file.path, mend="give the path of the exported JSON"
                ) from None
            except ValueError as error:
                raise InvalidData(
                    f"The export is not JSON: {error}", where=file.path, mend="export the project as JSON"
                ) from None
            choices += read_export(content, file.path)
    return choices


def _store(store: DatasetStore, assignment: Assignment, labels: Mapping[str, str]) -> DatasetRef:
    before = store.open(assignment.dataset)
    # Labels are indices into the sorted names: a new class moves the numbers of those behind it.
    classes = tuple(_sorted_classes({*before.classes, *assignment.classes}))
    moved = {index: classes.index(name) for index, name in enumerate(before.classes)}
    layout = schema(before.problem, before.features, before.label, classes)
    with store.writer(before.name) as writer:
        files = []
        for split in before.splits:
            shards = store.shards(before, split)
            for place, shard in enumerate(shards):
                table = shard.read()
                old = table[before.label].to_pylist()
                new = [
                    classes.index(labels[item]) if item in labels else None if label is None else moved[label]
                    for item, label in zip(table[ID_COLUMN].to_pylist(), old, strict=True)
                ]
                column = table.schema.get_field_index(before.label)
                labelled = table.set_column(column, before.label, pa.array(new, pa.int64()))
                joined = labelled.select(layout.names).cast(layout)
                files.append(writer.target.write(split, place, len(shards), joined))
        return writer.commit(
            files,
            problem=before.problem,
            features=before.features,
            label=before.label,
            classes=classes,
            parent=before.version,
            method="annotate",
            parameters={"assignment": assignment.folder.rsplit("/", 1)[-1], "labelled": len(labels)},
            preprocessing=before.preprocessing,
            source=before.source,
        )


def _sorted_classes(names: set[str]) -> list[str]:
    """Names in the order that ingest gives them: as numbers where all are whole numbers."""
    numeric = all(name.removeprefix("-").isdecimal() for name in names)
    return sorted(names, key=int) if numeric else sorted(names)
