"""The caretaker: closes dead runs, notes databases as ready, keeps log and work folders small."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path

from infra import settings as stack_settings
from infra.settings import Settings
from infra.stack import database, health, processes, supervisor
from infra.stack.reaper import Reaper
from infra.stack.tracking import TrackingReaper
from tasks.errors import Unavailable

_ROUND_S = 5.0
_FIRST_ROUNDS_S = 1.0
_TRACKING_S = 15.0
_SWEEP_S = 3600.0
_LOG_BYTES = 20 * 2**20
_WORK_S = 7 * 24 * 3600.0
_SCRATCH = ("trainyard-study-*", "trainyard-sweep-*")


def note_ready(settings: Settings) -> bool:
    """Mark the databases of services that answer; returns whether all are marked."""
    programs = supervisor.programs(settings)
    ready = True
    for service in database.DATABASES:
        if health.is_healthy(settings, service, programs.get(service)):
            database.mark_ready(settings, service)
        else:
            ready = False
    return ready


def keep_small(log: Path, most_bytes: int = _LOG_BYTES) -> bool:
    """Start a log anew that many processes append to; the old content is kept as one older file."""
    if not log.exists() or log.stat().st_size <= most_bytes:
        return False
    shutil.copyfile(log, log.with_name(f"{log.name}.1"))
    os.truncate(log, 0)
    return True


def sweep_work(settings: Settings, oldest_s: float = _WORK_S) -> list[Path]:
    """Delete work folders of killed trainings and studies that nothing has touched for a week.

    Returns:
        The folders that are gone.
    """
    temporary = Path(tempfile.gettempdir())
    folders = [*(settings.home / "work" / "train").glob("*")]
    folders += [folder for pattern in _SCRATCH for folder in temporary.glob(pattern)]
    swept = []
    for folder in folders:
        try:
            if folder.lstat().st_uid != os.getuid():
                continue
            touched = max(path.lstat().st_mtime for path in (folder, *folder.rglob("*")))
            if time.time() - touched < oldest_s:
                continue
            shutil.rmtree(folder)
        except OSError as error:  # it is being worked in, or deleted, at this moment
            print(f"{folder} was left: {error}", flush=True)
            continue
        swept.append(folder)
    return swept


def main() -> None:
    settings = stack_settings.of_home()
    reaper, tracking = Reaper(settings, os.environ[processes.STACK_ID]), TrackingReaper(settings)
    ready = False
    looked_at = swept_at = float("-inf")
    while True:
        ready = ready or note_ready(settings)
        try:
            for name in reaper.round():
                print(f"Closed the run {name}: its process is gone.", flush=True)
            if ready and time.monotonic() - looked_at >= _TRACKING_S:
                looked_at = time.monotonic()
                for name in tracking.round():
                    print(f"Closed the MLflow run {name}: its flow run is over.", flush=True)
        except Unavailable as error:
            if ready:
                print(error, flush=True)
        if time.monotonic() - swept_at >= _SWEEP_S:
            swept_at = time.monotonic()
            for folder in sweep_work(settings):
                print(f"Deleted {folder}: untouched for a week.", flush=True)
        keep_small(settings.log_folder / "flows.log")
        time.sleep(_ROUND_S if ready else _FIRST_ROUNDS_S)


if __name__ == "__main__":
    main()
