"""Records, names, programs: what needs no process."""

from __future__ import annotations

import configparser
import io
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from pydantic import ValidationError

from tasks.errors import Damaged, InvalidSettings, NotFound, Unavailable
from tasks.programs import Supervisor
from tasks.serve import endpoints
from tasks.serve.config import ServeConfig
from tasks.serve.program import program_text
from tasks.serve.record import EndpointPlace, EndpointRecord, list_records
from tasks.serve.requestlog import RequestLog


def record(name: str = "iris", **changes: object) -> EndpointRecord:
    values = {
        "name": name, "model": "iris", "alias": "champion", "host": "127.0.0.1", "port": 3000, "url": "http://x",
        "token_file": "/x", "token_sha256": "0", "tracking_uri": "http://m", "created_at": "2026-01-01",
    }  # fmt: skip
    return EndpointRecord.model_validate(values | changes)


@pytest.mark.parametrize(
    ("model", "name"), [("iris", "iris"), ("My Model_2", "my-model-2"), ("Ärzte", "rzte"), ("__", "model")]
)
def test_an_endpoints_name_comes_from_the_model(model: str, name: str) -> None:
    assert endpoints.endpoint_name(model) == name


@pytest.mark.parametrize("name", ["", "../etc", "A", "a b", "-a", "a" * 64, "a/b", "a\nb"])
def test_a_name_that_could_lead_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidSettings, match="not a name for an endpoint"):
        EndpointPlace(tmp_path, name)


def test_names_in_settings_are_checked() -> None:
    assert ServeConfig().endpoint == ""
    with pytest.raises(ValidationError):
        ServeConfig(endpoint="../x")


def test_records_are_read_back_and_listed(tmp_path: Path) -> None:
    for name in ("b", "a"):
        EndpointPlace(tmp_path, name).write(record(name))
    (tmp_path / "endpoints" / "broken").mkdir()
    (tmp_path / "endpoints" / "broken" / "endpoint.json").write_text("{")
    assert [found.name for found in list_records(tmp_path)] == ["a", "b"]
    with pytest.raises(Damaged):
        EndpointPlace(tmp_path, "broken").read()
    with pytest.raises(NotFound, match="the endpoints a, b"):
        EndpointPlace(tmp_path, "c").read()


def test_a_token_is_made_once_and_read_by_its_owner_alone(tmp_path: Path) -> None:
    place = EndpointPlace(tmp_path, "a")
    with pytest.raises(NotFound):
        place.token()
    token = place.ensure_token()
    assert len(token) >= 40
    assert place.ensure_token() == place.token() == token
    assert place.token_file.stat().st_mode & 0o777 == 0o600


def test_the_program_is_a_file_that_the_supervisor_can_read(tmp_path: Path) -> None:
    place = EndpointPlace(tmp_path / "50% off", "a")
    text = program_text(place, record("a"))
    parser = configparser.RawConfigParser()
    parser.read_string(text)
    program = parser["program:endpoint-a"]
    assert program["command"].startswith("setpriv --pdeathsig KILL -- ")
    assert "--host 127.0.0.1 --port 3000" in program["command"]
    assert "50%% off" in program["stdout_logfile"]
    changed = program_text(place, record("a", max_queue=7))
    assert changed != text
    switched_off = program_text(place, record("a", enabled=False))
    assert switched_off == text


def test_without_a_supervisor_the_error_says_how_to_start_it(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="trainyard up"):
        Supervisor(tmp_path).state("x")


def test_the_end_of_a_log_is_short(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    assert endpoints.log_tail(path) == ""
    path.write_text("a" * 10_000 + "end")
    assert endpoints.log_tail(path).endswith("end")
    assert len(endpoints.log_tail(path)) == 2000


def test_stop_keeps_what_was_written_before_it_had_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = EndpointPlace(tmp_path, "a")
    place.write(record("a"))

    class LateLock(FileLock):
        """Gets the lock after another caller that changes the record."""

        def acquire(self, *arguments: Any, **named: Any) -> Any:
            place.write(record("a", port=3001))
            return super().acquire(*arguments, **named)

    monkeypatch.setattr(endpoints, "FileLock", LateLock)
    with pytest.raises(Unavailable, match="trainyard up"):  # there is no supervisor here
        endpoints.stop(tmp_path, "a")
    assert place.read() == record("a", port=3001, enabled=False)


def test_a_line_of_the_log_outlives_a_flush_in_between() -> None:
    stream = io.StringIO()
    log = RequestLog({}, stream, flush_every_s=3600)

    class Flushes:
        def __str__(self) -> str:
            log.flush()
            return "written"

    log.request(error=Flushes())
    log.close()
    assert stream.getvalue().count("written") == 1


def test_an_endpoint_whose_record_is_broken_can_be_deleted(tmp_path: Path) -> None:
    place = EndpointPlace(tmp_path, "a")
    place.folder.mkdir(parents=True)
    place.record_file.write_text("{")
    place.conf_file.parent.mkdir()
    place.conf_file.write_text("[program:endpoint-a]")
    with pytest.raises(Unavailable, match="trainyard up"):  # it comes as far as the supervisor
        endpoints.delete(tmp_path, "a")
    assert not place.conf_file.exists()
    with pytest.raises(NotFound):
        endpoints.delete(tmp_path, "b")
