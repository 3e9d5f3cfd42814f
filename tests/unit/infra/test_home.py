"""The data folder: secrets, space, one command at a time."""

from __future__ import annotations

import base64
import os
import stat
import threading
from pathlib import Path

import pytest

from infra.settings import Settings
from infra.stack import home, services, supervisor
from tasks.errors import Unavailable


@pytest.fixture
def stack(tmp_path: Path) -> Settings:
    settings = Settings(home=tmp_path / "home with spaces", database_url=None)
    home.prepare(settings)
    return settings


def test_secrets_are_kept_and_private(stack: Settings) -> None:
    key = home.prefect_key(stack)
    assert len(base64.urlsafe_b64decode(key)) == 32
    assert home.prefect_key(stack) == key
    assert home.mlflow_key(stack) != key
    for file in (stack.home / "secrets").iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_preparing_twice_keeps_the_identity(stack: Settings) -> None:
    assert home.prepare(stack) == home.prepare(stack) == home.known_stack_id(stack)


def test_a_full_disk_is_one_sentence(stack: Settings) -> None:
    with pytest.raises(Unavailable, match="The disk is full") as caught:
        home.require_space(stack.home, least_bytes=2**62)
    assert "TRAINYARD_HOME" in caught.value.mend


def test_a_write_that_fails_leaves_the_old_file(stack: Settings) -> None:
    file = stack.home / "value"
    home.write(file, "old")
    with pytest.raises(UnicodeEncodeError):
        home.write(file, "new \ud800")
    assert file.read_text() == "old"
    assert list(stack.home.glob(".value*")) == []


def test_the_second_command_waits_for_the_first(stack: Settings) -> None:
    entered, leave, order = threading.Event(), threading.Event(), []

    def first() -> None:
        with home.lifecycle_lock(stack):
            entered.set()
            leave.wait(10)
            order.append("first")

    thread = threading.Thread(target=first)
    thread.start()
    entered.wait(10)
    with (
        pytest.raises(Unavailable, match="Another trainyard command"),
        home.lifecycle_lock(stack, timeout_s=0.1),
    ):
        pass
    leave.set()
    with home.lifecycle_lock(stack, timeout_s=10):
        order.append("second")
    thread.join()
    assert order == ["first", "second"]


def test_the_supervisor_reads_its_configuration(stack: Settings) -> None:
    """With spaces in the path, which its format would split in some places."""
    from supervisor.options import ServerOptions

    supervisor.configure(stack)
    options = ServerOptions()
    options.realize(args=["-n", "-c", str(supervisor.configuration_file(stack))])
    names = {group.name for group in options.process_group_configs}
    assert names == {service.name for service in services.declared(stack)} | {"keeper"}
    (stack.home / "supervisor.d" / "endpoint-x.conf").write_text("[program:x]\ncommand=true\n")
    options = ServerOptions()
    options.realize(args=["-n", "-c", str(supervisor.configuration_file(stack))])
    assert "x" in {group.name for group in options.process_group_configs}
    assert options.logfile == str(stack.log_folder / "supervisor.log")


def test_services_do_not_inherit_other_servers_settings(
    stack: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_KEY", "theirs")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "theirs")
    monkeypatch.setenv("HTTP_PROXY", "http://proxy")
    environment = services.environment(stack)
    assert "theirs" not in environment.values()
    assert environment["HTTP_PROXY"] == "http://proxy"
    assert "127.0.0.1" in environment["NO_PROXY"]
    assert environment["TRAINYARD_STACK_ID"] == home.known_stack_id(stack)
    for service in services.declared(stack):
        own = services.environment(stack, service)
        assert all(isinstance(value, str) for value in own.values())
        # Secrets reach a service by its environment, never by its command line.
        assert not {home.prefect_key(stack), home.mlflow_key(stack)} & set(service.command)
    assert os.environ["PREFECT_API_KEY"] == "theirs"
