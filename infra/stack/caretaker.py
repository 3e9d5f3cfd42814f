"""The caretaker: closes dead runs, notes databases as ready, keeps log and work folders small."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from filelock import FileLock, Timeout

from infra import settings as stack_settings
from infra.settings import Settings
from infra.stack import database, health, processes, supervisor
from infra.stack.reaper import Reaper
from infra.stack.tracking import TrackingReaper
from tasks.errors import Unavailable
from tasks.train import kept_models

_ROUND_S = 5.0
_FIRST_ROUNDS_S = 1.0
_TRACKING_S = 10.0
_SWEEP_S = 3600.0
_LOG_BYTES = 20 * 2**20
_WORK_S = 7 * 24 * 3600.0
_SCRATCH = ("trainyard-study-*", "trainyard-sweep-*", "trainyard-rank-*")


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
    """Delete what killed trainings and studies left, and models that were fetched, untouched for a week.

    The former are work folders, the files beside them, and pictures of curves. A folder whose training holds
    its lock is left, however long an epoch takes; see `tasks.train.work_folder`. So is a model that a process
    has taken; see `tasks.train.kept_models`.

    Returns:
        The folders and files that are gone.
    """
    temporary = Path(tempfile.gettempdir())
    models = settings.home / "work" / "models"
    works = [settings.home / "work" / name for name in ("train", "search")]
    found = [path for work in works for path in work.glob("*") if path.suffix != ".lock"]
    found += [path for work in works for path in work.glob("*.lock")]  # after the folders that they are of
    found += [*models.glob("*")]
    found += [folder for pattern in _SCRATCH for folder in temporary.glob(pattern)]
    found += [*(settings.home / "docs" / "pictures").glob("live-*")]
    swept = []
    for path in found:
        try:
            if path.lstat().st_uid != os.getuid() or time.time() - _touched(path) < oldest_s:
                continue
            lock = path.with_suffix(".lock") if path.parent in works else None
            if kept_models.remove_unused(path) if path.parent == models else _removed(path, lock):
                swept.append(path)
        except FileNotFoundError:  # whoever worked there has just removed it, or it went with its folder
            continue
        except OSError as error:  # it is being worked in at this moment
            print(f"{path} was left: {error}", flush=True)
    return swept


def _touched(path: Path) -> float:
    """When something was last written there, in seconds since 1970."""
    inside = path.rglob("*") if path.is_dir() and not path.is_symlink() else ()
    times: list[float] = [one.lstat().st_mtime for one in (path, *inside)]
    return max(times)


def _removed(path: Path, lock: Path | None) -> bool:
    """Remove a folder or file, unless a process holds its lock; says whether it is gone."""
    with ExitStack() as held:
        if lock is not None:
            try:
                held.enter_context(FileLock(lock, timeout=0))
            except Timeout:
                return False
            held.callback(lock.unlink, missing_ok=True)  # before it is released, as its holders do
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=path == lock)
    return True


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
            for path in sweep_work(settings):
                print(f"Deleted {path}: untouched for a week.", flush=True)
        keep_small(settings.log_folder / "flows.log")
        time.sleep(_ROUND_S if ready else _FIRST_ROUNDS_S)


if __name__ == "__main__":
    main()
