"""TensorBoard event files, read as they grow."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any

from tasks.train.metric_names import metric_name

EVERY_S = 1.0

Point = tuple[str, int, float]
"""Name, step and value of a metric."""


class EventReader:
    """Scalars of all event files below a folder.

    Args:
        folder: The folder; files may come later.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._loaders: dict[Path, Any] = {}
        self._read_at = 0.0

    def new(self, *, now: bool = False) -> list[Point]:
        """Name, step and value of each scalar that came since the last call; at most once a second.

        Names are those of the tags, below the names of their folders, as MLflow takes them. A file
        that is damaged is passed over from there on.

        Args:
            now: Read even if the last reading was a moment ago.
        """
        if not now and time.monotonic() - self._read_at < EVERY_S:
            return []
        found: list[Point] = []
        for path in sorted(self._folder.rglob("*tfevents*")):
            if path.is_symlink() or not path.is_file():  # who opens a pipe may wait for ever
                continue
            below = path.parent.relative_to(self._folder).as_posix()
            before = "" if below == "." else f"{below}/"
            # The library raises what its parsers raise, for a file that is cut or is none.
            with contextlib.suppress(Exception):
                for event in self._loader(path).Load():
                    for value in event.summary.value:
                        number = _number(value)
                        if number is not None:
                            name = metric_name(f"{before}{value.tag}")
                            found.append((name, int(event.step), number))
        self._read_at = time.monotonic()
        return found

    def _loader(self, path: Path) -> Any:
        if path not in self._loaders:
            from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

            self._loaders[path] = LegacyEventFileLoader(str(path))
        return self._loaders[path]


def _number(value: Any) -> float | None:
    """A scalar as either generation of writers stores it."""
    if value.HasField("simple_value"):
        return float(value.simple_value)
    if value.HasField("tensor") and value.metadata.plugin_data.plugin_name in ("scalars", ""):
        from tensorboard.util import tensor_util

        array = tensor_util.make_ndarray(value.tensor)
        return float(array) if array.size == 1 and array.dtype.kind in "fiu" else None
    return None
