"""Both servers on PostgreSQL by one setting, against a cluster of the test's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.local_stack import SCRATCH_DEPLOYMENTS, LocalStack, spare_ports
from tests.helpers.postgresql import needs_postgresql, postgresql

pytestmark = needs_postgresql


@pytest.fixture(scope="module")
def database_url() -> Iterator[str]:
    with postgresql() as url:
        yield url


def test_both_servers_on_postgresql(database_url: str, tmp_path: Path, signs: Path) -> None:
    stack = LocalStack(tmp_path / "home", SCRATCH_DEPLOYMENTS, TRAINYARD_DATABASE_URL=database_url)
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
