"""An assignment in the object store: who labels what, and the files that Label Studio imports.

It is a folder `<root>/annotations/<dataset>/<id>` with `assignment.json`, the labelling page
`labelling.xml`, and one `tasks-<n>.json` for each annotator. The id follows from the dataset version
and the settings, so that handing out twice gives the same folder.
"""

from __future__ import annotations

import hashlib
import json

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tasks.annotate import label_studio
from tasks.annotate.assign import assign
from tasks.annotate.config import AssignConfig
from tasks.data.manifest import ID_COLUMN, Manifest
from tasks.data.read import contents_of, shard_tables
from tasks.data.storage.files import put
from tasks.data.storage.store import DatasetStore
from tasks.errors import InvalidSettings, NotFound
from tasks.refs import DatasetRef, Problem

ASSIGNMENT = "assignment.json"
PAGE = "labelling.xml"
_MEDIA_TYPES = {
    b"\x89PNG": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF8": "image/gif",
    b"RIFF": "image/webp",
}


class Assignment(BaseModel):
    """Who labels which items of which version."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: DatasetRef
    classes: list[str] = Field(description="Labels to choose from.")
    reviewer: str
    items: dict[str, list[str]] = Field(description="Item ids by annotator.")
    files: dict[str, str] = Field(description="Import file by annotator, relative to the folder.")
    folder: str = Field(description="Folder of the assignment, on the store's file system.")


def hand_out(store: DatasetStore, ref: DatasetRef, config: AssignConfig) -> Assignment:
    """Split the unlabelled items over the annotators and write their import files.

    Args:
        store: The dataset store.
        ref: Version with unlabelled items.
        config: Annotators, labels and seed.

    Raises:
        InvalidSettings: Nothing is unlabelled, there are too few classes, or a regression is asked for.
    """
    manifest = store.open(ref)
    choices = (Problem.IMAGE_CLASSIFICATION, Problem.TABLE_CLASSIFICATION)
    if manifest.problem not in choices:
        raise InvalidSettings(
            f"The labels of {ref} are not choices that can be handed out: it is for {manifest.problem.value}",
            allowed=", ".join(choices),
        )
    classes = sorted(set(config.classes)) or list(manifest.classes)
    if len(classes) < 2:
        raise InvalidSettings(
            "There are fewer than two labels to choose from",
            where="classes",
            mend="name the classes, since the dataset does not",
        )
    unlabelled = {key: place for place, key in enumerate(_unlabelled(store, manifest))}
    items = assign(list(unlabelled), config.annotators, config.seed)
    key = hashlib.sha256(f"{manifest.digest} {config.model_dump_json()}".encode()).hexdigest()[:12]
    folder = f"{store.root.rsplit('/', 1)[0]}/annotations/{ref.name}/{key}"
    tasks = _tasks(store, manifest, set(unlabelled))
    files = {name: f"tasks-{place}.json" for place, name in enumerate(items)}
    for name, file in files.items():
        content = json.dumps([tasks[item] for item in items[name]], ensure_ascii=False)
        put(store.fs, f"{folder}/{file}", content.encode())
    columns = None if not manifest.problem.is_table else [feature.name for feature in manifest.features]
    put(store.fs, f"{folder}/{PAGE}", label_studio.labelling_config(classes, columns).encode())
    assignment = Assignment(
        dataset=ref, classes=classes, reviewer=config.reviewer, items=items, files=files, folder=folder
    )
    put(store.fs, f"{folder}/{ASSIGNMENT}", assignment.model_dump_json(indent=1).encode())
    return assignment


def open_assignment(store: DatasetStore, folder: str) -> Assignment:
    """Read an assignment back.

    Raises:
        NotFound: There is none in this folder.
    """
    try:
        return Assignment.model_validate_json(store.fs.cat_file(f"{folder.rstrip('/')}/{ASSIGNMENT}"))
    except (FileNotFoundError, ValidationError) as error:
        raise NotFound(
            "There is no assignment in this folder",
            where=folder,
            mend="take the folder that handing out gave",
        ) from error


def _unlabelled(store: DatasetStore, manifest: Manifest) -> list[str]:
    found: list[str] = []
    for split in manifest.splits:
        for table in shard_tables(store, manifest, split, [ID_COLUMN, manifest.label]):
            found += table.filter(pc.is_null(table[manifest.label]))[ID_COLUMN].to_pylist()
    return found


def _tasks(store: DatasetStore, manifest: Manifest, items: set[str]) -> dict[str, dict[str, object]]:
    """Label Studio's task of each item."""
    wanted = pa.array(sorted(items), pa.string())
    names = [feature.name for feature in manifest.features]
    tasks: dict[str, dict[str, object]] = {}
    for split in manifest.splits:
        for table in shard_tables(store, manifest, split, [ID_COLUMN, *names]):
            rows = table.filter(pc.is_in(table[ID_COLUMN], value_set=wanted))
            keys = rows[ID_COLUMN].to_pylist()
            if manifest.problem.is_table:
                shown = rows.select(names).to_pylist()
                tasks |= {
                    key: label_studio.table_task(key, row) for key, row in zip(keys, shown, strict=True)
                }
            else:
                tasks |= {
                    key: label_studio.image_task(key, content, _media_type(content))
                    for key, content in zip(keys, contents_of(rows), strict=True)
                }
    return tasks


def _media_type(content: bytes) -> str:
    return next((kind for start, kind in _MEDIA_TYPES.items() if content.startswith(start)), "image/png")
