"""Both servers on PostgreSQL by one setting, against a cluster of the test's own."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.local_stack import SCRATCH_DEPLOYMENTS, LocalStack, spare_ports

BINARIES = Path("/usr/lib/postgresql/15/bin")

pytestmark = pytest.mark.skipif(
    not (BINARIES / "initdb").exists(),
    reason="PostgreSQL 15 is not installed (apt-get install postgresql-15)",
)


def as_postgres(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a program as the user that PostgreSQL accepts: root is refused by it."""
    if os.getuid() == 0:
        command = ("setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", *command)
    return subprocess.run(command, capture_output=True, text=True, cwd="/", timeout=120)


@pytest.fixture(scope="module")
def postgresql() -> Iterator[str]:
    """URL of a fresh cluster with a password, on a spare port of the loopback address."""
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


def test_both_servers_on_postgresql(postgresql: str, tmp_path: Path, signs: Path) -> None:
    stack = LocalStack(tmp_path / "home", SCRATCH_DEPLOYMENTS, TRAINYARD_DATABASE_URL=postgresql)
    try:
        stack.up()
        runs = [stack.create_run("patient/short", folder=str(signs)) for _ in range(3)]
        assert {stack.wait_final(run)["type"] for run in runs} == {"COMPLETED"}
        assert not list(stack.home.glob("*/*.db"))
        for pid in stack.pids():
            command = Path(f"/proc/{pid}/cmdline").read_bytes().decode()
            assert "gleis" not in command, "a command line shows the password to every user"
        stack.down()

        # The databases are there now; without the variable the stack remembers where.
        stack.environment.pop("TRAINYARD_DATABASE_URL")
        stack.up()
        assert stack.state(runs[0])["type"] == "COMPLETED"
    finally:
        stack.down()


def test_a_server_that_does_not_answer_is_one_sentence(tmp_path: Path) -> None:
    (port,) = spare_ports(1)
    url = f"postgresql://yard:secret@127.0.0.1:{port}"
    done = LocalStack(tmp_path / "home", TRAINYARD_DATABASE_URL=url).command("up")
    assert done.returncode == 1
    assert done.stderr.startswith("trainyard: PostgreSQL cannot be used")
    assert "TRAINYARD_DATABASE_URL" in done.stderr
    assert "secret" not in done.stderr
