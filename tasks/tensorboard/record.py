"""What is written down about a view.

<home>/tensorboard/<name>/view.json      what it shows and where
<home>/tensorboard/<name>/logs/          event files
<home>/supervisor.d/<name>.conf          how the supervisor runs it
<home>/logs/<name>.log                   its log
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from tasks.errors import NotFound
from tasks.refs import LOCAL_USER


class ViewRecord(BaseModel):
    """One view as its process needs to know it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    user: str = LOCAL_USER
    """Who opened it, and may close it."""
    title: str
    runs: tuple[str, ...]
    experiment_id: str
    datasets: tuple[str, ...] | None = None
    """Datasets whose runs of the experiment may be shown; None for all."""
    idle_hours: float
    tracking_uri: str
    host: str
    port: int

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}/"


class ViewPlace:
    """The files of one view.

    Args:
        home: Data folder of the stack.
        name: The view's name, which is its program's as well.
    """

    def __init__(self, home: Path, name: str) -> None:
        self.home = home
        self.name = name
        self.folder = home / "tensorboard" / name
        self.logs = self.folder / "logs"
        self.record_file = self.folder / "view.json"
        self.conf_file = home / "supervisor.d" / f"{name}.conf"
        self.log_file = home / "logs" / f"{name}.log"

    @classmethod
    def of_folder(cls, folder: Path) -> ViewPlace:
        """The place of a view whose folder is known."""
        return cls(folder.parent.parent, folder.name)

    def read(self) -> ViewRecord:
        """The record.

        Raises:
            NotFound: There is no such view.
        """
        try:
            return ViewRecord.model_validate_json(self.record_file.read_bytes())
        except (FileNotFoundError, ValueError) as error:
            known = ", ".join(place.name for place in views(self.home))
            raise NotFound(
                f"there is no open view named {self.name!r}", allowed=known or "no view is open"
            ) from error

    def write(self, record: ViewRecord) -> None:
        """Write the record, readable by its owner alone."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        aside = self.record_file.with_suffix(f".{os.getpid()}")
        aside.write_text(record.model_dump_json(indent=1))
        aside.replace(self.record_file)

    def forget(self) -> None:
        """Remove everything of the view but its log."""
        self.conf_file.unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)


def views(home: Path) -> list[ViewPlace]:
    """The views that there are, by name."""
    found = sorted((home / "tensorboard").glob("*/view.json"))
    return [ViewPlace(home, file.parent.name) for file in found]
