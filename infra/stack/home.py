"""The data folder of a stack: its layout, secrets, identity and lock."""

from __future__ import annotations

import base64
import json
import os
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from infra.settings import Settings
from tasks.errors import Unavailable

FOLDERS = (
    "run", "logs", "secrets", "prefect", "mlflow", "mlflow/artifacts", "store", "samples", "docs",
    "endpoints", "supervisor.d", "work",
)  # fmt: skip
_LEAST_FREE_BYTES = 300 * 2**20
_INDEX = """<!doctype html><meta charset="utf-8"><title>Trainyard pages</title>
<h1>Trainyard pages</h1>
<p>Data Docs and reports are linked from the artifacts of the runs that wrote them.</p>
"""


def prepare(settings: Settings) -> str:
    """Make the folders and secrets that are missing; returns the stack's id.

    Raises:
        Unavailable: The folder cannot be written to, or its disk is full.
    """
    home = settings.home
    try:
        # Databases and logs hold what users typed in; nobody else on the host needs to read them.
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        for folder in FOLDERS:
            (home / folder).mkdir(exist_ok=True, mode=0o700, parents=True)
        settings.socket.parent.mkdir(exist_ok=True, mode=0o700, parents=True)
    except OSError as error:
        raise Unavailable(
            f"The data folder cannot be made: {error.strerror}",
            where=str(error.filename or home),
            allowed="a folder on a local disk that this user may write to",
            mend="mend the folder, or choose another one with TRAINYARD_HOME",
        ) from error
    if not os.access(home, os.W_OK | os.X_OK):
        raise Unavailable(
            "The data folder is not writable", where=str(home), mend="choose another one with TRAINYARD_HOME"
        )
    require_space(home)
    if settings.socket.parent != settings.run_folder:
        _link(settings.run_folder / "supervisor.sock", settings.socket)
    index = home / "docs" / "index.html"
    if not index.exists():
        write(index, _INDEX, mode=0o600)
    return stack_id(settings)


def require_space(home: Path, least_bytes: int = _LEAST_FREE_BYTES) -> None:
    """Refuse a nearly full disk: databases that cannot grow end half-written."""
    usage = shutil.disk_usage(home)
    if usage.free < least_bytes:
        raise Unavailable(
            f"The disk is full: {usage.free / 2**20:.0f} MiB free",
            where=str(home),
            allowed=f"at least {least_bytes / 2**20:.0f} MiB",
            mend="free some space, or choose a data folder on another disk with TRAINYARD_HOME",
        )


def stack_id(settings: Settings) -> str:
    """The random id that every process of this home's stack carries in its environment."""
    return _secret(settings.run_folder / "stack-id", lambda: secrets.token_hex(12))


def known_stack_id(settings: Settings) -> str | None:
    """The stack's id, or None where this home never ran one."""
    try:
        return (settings.run_folder / "stack-id").read_text().strip() or None
    except OSError:
        return None


def prefect_key(settings: Settings) -> str:
    """The key that Prefect encrypts secret blocks with; losing it loses them."""

    def new_key() -> str:
        return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()

    return _secret(settings.home / "secrets" / "prefect-encryption.key", new_key)


def mlflow_key(settings: Settings) -> str:
    """The key that MLflow signs its pages' forms with."""
    return _secret(settings.home / "secrets" / "mlflow-flask.key", lambda: secrets.token_hex(32))


def write(path: Path, text: str, *, mode: int = 0o600) -> None:
    """Replace a file in one step, so that a reader never sees half of it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def record(settings: Settings) -> None:
    """Remember what the stack runs with, for later commands with the same home."""
    content = {
        "settings": settings.model_dump(mode="json"),
        "socket": str(settings.socket),
        "prefect_api_url": settings.prefect_api_url,
        "mlflow_url": settings.mlflow_url,
        "docs_url": settings.docs_url,
    }
    write(settings.record_file, json.dumps(content, indent=2) + "\n")


@contextmanager
def lifecycle_lock(settings: Settings, *, timeout_s: float = 300.0) -> Iterator[None]:
    """Let one `up` or `down` of a home work at a time; the second waits for the first."""
    settings.run_folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = FileLock(settings.run_folder / "lifecycle.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print("Another trainyard command works on this stack; waiting for it …", file=sys.stderr, flush=True)
        try:
            lock.acquire(timeout=timeout_s)
        except Timeout:
            raise Unavailable(
                f"Another trainyard command has worked on this stack for {timeout_s:.0f} s",
                where=str(settings.home),
                mend="wait for it or end it, then try again",
            ) from None
    try:
        yield
    finally:
        lock.release()


def aside(path: Path) -> Path:
    """Move a half-made file out of the way, beside itself; returns where it went."""
    target = path.with_name(f"{path.name}.half-made-{time.strftime('%Y%m%d-%H%M%S')}")
    os.replace(path, target)
    return target


def _secret(path: Path, make: Callable[[], str]) -> str:
    try:
        text = path.read_text().strip()
    except FileNotFoundError:
        text = ""
    if not text:
        text = make()
        write(path, text + "\n")
    return text


def _link(link: Path, target: Path) -> None:
    if link.is_symlink() and Path(os.readlink(link)) == target:
        return
    link.unlink(missing_ok=True)
    link.symlink_to(target)
