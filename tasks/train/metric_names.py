"""Names of metrics that come from outside, as MLflow takes them."""

from __future__ import annotations

import re

LONGEST_NAME = 250
"""Characters of a metric's name in MLflow."""
_NOT_IN_NAMES = re.compile(r"[^\w.\- /:]")


def metric_name(text: str) -> str:
    """A name that MLflow takes for any text, and the text itself where MLflow takes that.

    MLflow has letters, digits and `_ . - / :` and spaces in names, which must also be normal paths
    (`mlflow.utils.validation`): other characters become `_`, and empty parts and those of dots alone are
    left out, so that `/loss` becomes `loss`, and `acc (%)` becomes `acc ___`.
    """
    parts = _NOT_IN_NAMES.sub("_", text)[:LONGEST_NAME].split("/")
    return "/".join(part for part in parts if part not in ("", ".", "..")) or "_"
