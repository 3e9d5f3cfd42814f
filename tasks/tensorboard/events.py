"""Event files as TensorBoard reads them, written from metrics; without TensorFlow and without PyTorch."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.compat.proto.types_pb2 import DT_STRING
from tensorboard.plugins.text import metadata
from tensorboard.summary.writer.record_writer import RecordWriter

from tasks.markdown import cell, table

SPLITS = ("train", "validation", "test")
_PREFIXES = {"best": "best", "evaluated": "evaluated", "step": "steps"}


def tag(metric: str) -> str:
    """TensorBoard's name of a metric: those of one quantity make one group.

    `train_loss` becomes `loss/train`, `best_train_loss` `best loss/train`; `system/…` and names that say
    no split stay as they are.
    """
    prefix, _, rest = metric.partition("_")
    said = ""
    if prefix in _PREFIXES and rest.partition("_")[0] in SPLITS:
        said = f"{_PREFIXES[prefix]} "
        prefix, _, rest = rest.partition("_")
    return f"{said}{rest}/{prefix}" if prefix in SPLITS and rest else metric


class EventFile:
    """One growing event file.

    Args:
        folder: Folder of the run: its name is the run's name in TensorBoard.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = (folder / f"events.out.tfevents.{int(time.time())}.trainyard").open("ab")
        self._records = RecordWriter(self._file)
        self._write(Event(wall_time=time.time(), file_version="brain.Event:2"))

    def scalars(self, name: str, points: Iterable[tuple[float, int, float]]) -> None:
        """Add points of one metric.

        Args:
            name: The metric's name in MLflow.
            points: Time in seconds since 1970, step, value.
        """
        for time_s, step, value in points:
            summary = Summary(value=[Summary.Value(tag=tag(name), simple_value=value)])
            self._write(Event(wall_time=time_s, step=step, summary=summary))

    def text(self, name: str, markdown: str) -> None:
        """Add a text, which TensorBoard shows on a page of its own."""
        tensor = TensorProto(
            dtype=DT_STRING,
            string_val=[markdown.encode()],
            tensor_shape=TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)]),
        )
        about = metadata.create_summary_metadata(display_name=name, description="")
        summary = Summary(value=[Summary.Value(tag=name, metadata=about, tensor=tensor)])
        self._write(Event(wall_time=time.time(), summary=summary))

    def flush(self) -> None:
        """Have everything read that was added."""
        self._file.flush()

    def close(self) -> None:
        self._file.close()

    def _write(self, event: Event) -> None:
        self._records.write(event.SerializeToString())


def settings_table(params: Mapping[str, str]) -> str:
    """A run's parameters as a Markdown table."""
    return table(["setting", "value"], [(cell(name), cell(value)) for name, value in sorted(params.items())])
