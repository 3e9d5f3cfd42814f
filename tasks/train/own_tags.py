"""Tags that people give a training, beside those that Trainyard and MLflow set."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field

MOST_TAGS = 10
LONGEST_VALUE = 500
_NAME = re.compile(r"[\w.\- ]{1,100}")
_TAKEN = ("mlflow.", "trainyard.")


def _are_plain(tags: dict[str, str]) -> dict[str, str]:
    for name, value in tags.items():
        if not _NAME.fullmatch(name) or name in (".", "..") or len(value) > LONGEST_VALUE:
            raise ValueError(
                f"the tag {name[:100]!r} is not up to 100 letters, digits, dots, dashes and spaces with "
                f"a value of up to {LONGEST_VALUE} characters"
            )
        if name.startswith(_TAKEN):
            raise ValueError(f"the tag {name!r} is not one of your own: mlflow. and trainyard. are taken")
    return tags


Tags = Annotated[dict[str, str], Field(max_length=MOST_TAGS), AfterValidator(_are_plain)]
"""Up to ten tags by name: none that MLflow would refuse, and none that says how a training stands."""
