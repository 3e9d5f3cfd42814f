"""Settings of the stack: environment first, then what the home last ran with."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra import settings
from infra.settings import Settings
from infra.stack import home
from tasks.errors import InvalidSettings


@pytest.fixture(autouse=True)
def only_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"TRAINYARD_{name.upper()}", raising=False)
    monkeypatch.setenv("TRAINYARD_HOME", str(tmp_path / "home"))


def remembered(**values: object) -> Settings:
    stack = Settings(**values)
    stack.run_folder.mkdir(parents=True)
    home.record(stack)
    return stack


def test_defaults_lie_in_the_home(tmp_path: Path) -> None:
    stack = settings.from_environment()
    assert stack.home == tmp_path / "home"
    assert stack.prefect_api_url == "http://127.0.0.1:4200/api"
    assert stack.database_url is None


def test_what_the_stack_runs_with_is_remembered() -> None:
    remembered(mlflow_port=5077, database_url="postgresql://yard:pw@127.0.0.1:5432")
    stack = settings.of_home()
    assert stack.mlflow_port == 5077
    assert stack.database_url is not None
    assert stack.database_url.get_secret_value() == "postgresql://yard:pw@127.0.0.1:5432"
    assert (stack.record_file.stat().st_mode & 0o777) == 0o600


def test_the_environment_decides_a_start_and_not_the_talk(monkeypatch: pytest.MonkeyPatch) -> None:
    remembered(mlflow_port=5077)
    monkeypatch.setenv("TRAINYARD_MLFLOW_PORT", "5078")
    assert settings.from_environment().mlflow_port == 5078
    assert settings.of_home().mlflow_port == 5077
    assert settings.differences(settings.from_environment(), settings.of_home()) == ["TRAINYARD_MLFLOW_PORT"]


def test_a_copied_home_describes_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    remembered()
    (tmp_path / "home").rename(tmp_path / "moved")
    monkeypatch.setenv("TRAINYARD_HOME", str(tmp_path / "moved"))
    assert settings.of_home().home == tmp_path / "moved"


def test_a_damaged_record_is_as_none() -> None:
    remembered(mlflow_port=5077).record_file.write_text("{")
    assert settings.of_home().mlflow_port == 5000


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("TRAINYARD_PREFECT_PORT", "80"),
        ("TRAINYARD_MLFLOW_PORT", "many"),
        ("TRAINYARD_DATABASE_URL", "mysql://root@127.0.0.1"),
        ("TRAINYARD_HOME", "/data/100%"),
    ],
)
def test_a_bad_value_names_its_variable(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(InvalidSettings) as caught:
        settings.from_environment()
    assert caught.value.where == variable


def test_equal_ports_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINYARD_DOCS_PORT", "5000")
    with pytest.raises(InvalidSettings, match="must differ"):
        settings.from_environment()


def test_the_socket_of_a_long_home_has_a_short_path(tmp_path: Path) -> None:
    short, long = Settings(home=Path("/data/t")), Settings(home=tmp_path / ("x" * 120))
    assert short.socket == Path("/data/t/run/supervisor.sock")
    assert len(str(long.socket)) < 100
    home.prepare(long)
    assert (long.run_folder / "supervisor.sock").resolve() == long.socket.resolve()
    long.socket.parent.rmdir()


def test_folders_to_ingest_from(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert _source_roots(settings.from_environment())[-1] == "/usr/share/datasets"
    assert str(tmp_path) in _source_roots(settings.from_environment())
    monkeypatch.setenv("TRAINYARD_SOURCE_ROOTS", f"{tmp_path}/a:b::~/c")
    chosen = [str(tmp_path / "a"), str(tmp_path / "b"), str(Path("~/c").expanduser())]
    assert _source_roots(settings.from_environment()) == chosen
    home.prepare(settings.from_environment())
    home.record(settings.from_environment())
    monkeypatch.delenv("TRAINYARD_SOURCE_ROOTS")
    assert _source_roots(settings.of_home()) == chosen


def _source_roots(stack: Settings) -> list[str]:
    from deployments.registration import local_blocks

    return list(local_blocks(stack)[0].source_roots)
