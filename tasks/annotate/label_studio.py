"""Label Studio's formats: the labelling page, the tasks to import, the labels that come back.

Only the two formats for one choice an item are here, for images and for table rows.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import quoteattr

from tasks.errors import InvalidData

CHOICE = "label"
ID_FIELD = "item_id"


@dataclass(frozen=True)
class Choice:
    """What one person chose for one item."""

    item: str
    label: str
    source: str


def labelling_config(classes: Sequence[str], columns: Sequence[str] | None = None) -> str:
    """The labelling page as Label Studio's XML.

    Args:
        classes: Labels to choose from; exactly one is required.
        columns: Columns of a table row to show; None for an image.
    """
    if columns is None:
        shown = ['  <Image name="item" value="$image" zoom="true"/>']
        target = "item"
    else:
        shown = [
            f"  <Text name={quoteattr(f'column{place}')} value={quoteattr(f'$column{place}')}/>"
            for place in range(len(columns))
        ]
        target = "column0"
    choices = [f"    <Choice value={quoteattr(name)}/>" for name in classes]
    asks = f'name="{CHOICE}" toName="{target}" choice="single-radio" required="true" showInLine="true"'
    opening = f"  <Choices {asks}>"
    return "\n".join(["<View>", *shown, opening, *choices, "  </Choices>", "</View>", ""])


def image_task(item: str, content: bytes, media_type: str = "image/png") -> dict[str, Any]:
    """One image to label; it travels inside the task, so that Label Studio needs no access to the store."""
    data = base64.b64encode(content).decode("ascii")
    return {"data": {"image": f"data:{media_type};base64,{data}", ID_FIELD: item}}


def table_task(item: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """One table row to label: `name: value` for each column."""
    shown = {f"column{place}": f"{name}: {value}" for place, (name, value) in enumerate(row.items())}
    return {"data": {**shown, ID_FIELD: item}}


def read_export(tasks: object, source: str) -> list[Choice]:
    """The choices in one JSON export.

    Cancelled (skipped) annotations and tasks without one give no choice.

    Args:
        tasks: The parsed file.
        source: Its name, for errors.

    Raises:
        InvalidData: The file is not such an export, or an item has a choice that cannot be read.
    """
    if not isinstance(tasks, list):
        raise InvalidData(
            "The file is not a list of Label Studio tasks",
            where=source,
            allowed="the export format JSON (not JSON-MIN, CSV or COCO)",
            mend="export the project again, as JSON",
        )
    choices: list[Choice] = []
    for place, task in enumerate(tasks):
        try:
            item = task["data"][ID_FIELD]
            annotations = task["annotations"]
            for annotation in annotations:
                if annotation.get("was_cancelled"):
                    continue
                for result in annotation["result"]:
                    if result.get("from_name") == CHOICE:
                        (label,) = result["value"]["choices"]
                        choices.append(Choice(str(item), str(label), source))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InvalidData(
                f"Task {place} of the export cannot be read: {type(error).__name__} {error}",
                where=source,
                allowed=f"tasks with data.{ID_FIELD} and annotations with one choice each",
                mend="export the project again, as JSON, without changing its labelling page",
            ) from None
    return choices
