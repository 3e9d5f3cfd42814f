"""A PostgreSQL cluster of a test's own, with a password, on a spare port of the loopback address."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.helpers.local_stack import spare_ports

BINARIES = Path("/usr/lib/postgresql/15/bin")

needs_postgresql = pytest.mark.skipif(
    not (BINARIES / "initdb").exists(),
    reason="PostgreSQL 15 is not installed (apt-get install postgresql-15)",
)


def as_postgres(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a program as the user that PostgreSQL accepts: root is refused by it."""
    if os.getuid() == 0:
        command = ("setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", *command)
    return subprocess.run(command, capture_output=True, text=True, cwd="/", timeout=120)


@contextmanager
def postgresql() -> Iterator[str]:
    """Start a fresh cluster; gives its URL."""
    folder = Path(tempfile.mkdtemp(prefix="trainyard-postgresql-"))
    (port,) = spare_ports(1)
    password = folder / "password"
    password.write_text("gleis 9\n")
    if os.getuid() == 0:
        owner = pwd.getpwnam("postgres")
        for path in (folder, password):
            os.chown(path, owner.pw_uid, owner.pw_gid)
    data = folder / "data"
    try:
        made = as_postgres(
            *(str(BINARIES / "initdb"), "-D", str(data), "-U", "yard", "-A", "scram-sha-256"),
            *("--pwfile", str(password), "--no-sync"),
        )
        assert made.returncode == 0, made.stderr
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"
        started = as_postgres(
            *(
                str(BINARIES / "pg_ctl"),
                "-D",
                str(data),
                "-w",
                "-l",
                str(folder / "log"),
                "-o",
                options,
                "start",
            )
        )
        assert started.returncode == 0, started.stdout + started.stderr
        yield f"postgresql://yard:gleis%209@127.0.0.1:{port}"
    finally:
        as_postgres(str(BINARIES / "pg_ctl"), "-D", str(data), "-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)
