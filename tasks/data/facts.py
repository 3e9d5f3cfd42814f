"""Facts about every row of a version: what validation judges by.

Facts are gathered shard by shard and put together as one frame; only what compares rows with each
other (`related`) looks at the whole.
"""

from __future__ import annotations

import hashlib

import pandas as pd
import pyarrow as pa

from tasks.data.images import UNREADABLE, open_image
from tasks.data.manifest import ID_COLUMN, Manifest
from tasks.data.read import contents_of, shard_tables
from tasks.data.store import DatasetStore

# Columns of the frame. They have a space in them, to keep apart from a table's own columns.
ROW_ID = "row id"
ROW_SPLIT = "row split"
ROW_LABEL = "row label"
ROW_CONTENT = "row content"
IN_OTHER_SPLIT = "row in another split"
ROWS_OF_CLASS = "row class size"
CLASS_IN_TRAIN = "row class in training"
WIDTH = "image width"
HEIGHT = "image height"
MODE = "image mode"
BYTES = "image bytes"
DECODABLE = "image decodable"


def facts_of(store: DatasetStore, manifest: Manifest) -> pd.DataFrame:
    """One line for each row of a version, with a fresh index."""
    parts = [
        shard_facts(table, manifest, split)
        for split in manifest.splits
        for table in shard_tables(store, manifest, split)
    ]
    return related(pd.concat(parts, ignore_index=True), manifest)


def shard_facts(table: pa.Table, manifest: Manifest, split: str) -> pd.DataFrame:
    """What can be said of rows by themselves.

    Images: width and height in pixels, mode, bytes of the file, whether it decodes to its end. Tables:
    the feature columns. Both: id, split, label (class name; missing where there is none) and content,
    equal for equal rows.
    """
    labels = table[manifest.label].to_pandas()
    if manifest.problem.is_classification:
        names = dict(enumerate(manifest.classes))
        # A number that stands for no class is shown as it is, so that the check names it.
        labels = labels.map(lambda label: names.get(int(label), str(int(label))), na_action="ignore").astype(
            "str"
        )
    about = pd.DataFrame(
        {ROW_ID: table[ID_COLUMN].to_pandas(), ROW_SPLIT: split, ROW_LABEL: labels.to_numpy()}
    )
    if manifest.problem.is_table:
        frame = table.select([feature.name for feature in manifest.features]).to_pandas()
        content = pd.util.hash_pandas_object(frame, index=False)
        parts = [about, frame, content.rename(ROW_CONTENT)]
    else:
        parts = [about, pd.DataFrame([_image_facts(content) for content in contents_of(table)])]
    facts: pd.DataFrame = pd.concat(parts, axis=1)
    return facts


def related(frame: pd.DataFrame, manifest: Manifest) -> pd.DataFrame:
    """Add what a row is among the others: copies in other splits, size of its class."""
    copies = frame.groupby(ROW_CONTENT, sort=False)[ROW_SPLIT].nunique()
    frame[IN_OTHER_SPLIT] = frame[ROW_CONTENT].map(copies) > 1
    if manifest.problem.is_classification:
        sizes = frame[ROW_LABEL].value_counts()
        frame[ROWS_OF_CLASS] = frame[ROW_LABEL].map(sizes)
        trained = set(frame.loc[frame[ROW_SPLIT] == "train", ROW_LABEL].dropna())
        frame[CLASS_IN_TRAIN] = frame[ROW_LABEL].isin(trained) | frame[ROW_LABEL].isna()
    result: pd.DataFrame = frame.drop(columns=ROW_CONTENT)
    return result


def rows_by_class(frame: pd.DataFrame, manifest: Manifest) -> dict[str, dict[str, int]]:
    """Rows of every class in every split; rows without label are not counted."""
    if not manifest.problem.is_classification:
        return {}
    counts = frame.groupby([ROW_SPLIT, ROW_LABEL], sort=False).size()
    return {
        split: {label: int(counts.get((split, label), 0)) for label in manifest.classes}
        for split in manifest.splits
    }


def _image_facts(content: bytes) -> dict[str, object]:
    facts: dict[str, object] = {
        WIDTH: None,
        HEIGHT: None,
        MODE: None,
        BYTES: len(content),
        DECODABLE: False,
        ROW_CONTENT: hashlib.sha256(content).hexdigest(),
    }
    try:
        image = open_image(content)
        facts.update({WIDTH: image.width, HEIGHT: image.height, MODE: image.mode})
        image.load()
    except UNREADABLE:
        return facts
    facts[DECODABLE] = True
    return facts
