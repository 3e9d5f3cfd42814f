"""Where the servers keep their records, and mending of a first start that was cut short."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from infra.settings import Settings
from infra.stack import database, home
from tasks.errors import Unavailable


@pytest.fixture
def stack(tmp_path: Path) -> Settings:
    settings = Settings(home=tmp_path / "home", database_url=None)
    home.prepare(settings)
    return settings


def make_database(settings: Settings, service: str) -> Path:
    file = database.sqlite_file(settings, service)
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE rows (x)")
    return file


def test_sqlite_is_the_default(stack: Settings) -> None:
    assert database.prefect_url(stack) == f"sqlite+aiosqlite:///{stack.home}/prefect/prefect.db"
    assert database.mlflow_url(stack) == f"sqlite:///{stack.home}/mlflow/mlflow.db"


def test_one_postgresql_server_holds_both_databases(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, database_url="postgres://yard:p%40w@db:5433/ignored?sslmode=require")
    assert database.prefect_url(settings) == "postgresql+asyncpg://yard:p%40w@db:5433/prefect?sslmode=require"
    assert database.mlflow_url(settings) == "postgresql://yard:p%40w@db:5433/mlflow?sslmode=require"


def test_messages_hide_the_password() -> None:
    assert database.without_password("postgresql://yard:pw@db:5433") == "postgresql://yard:…@db:5433"
    assert database.without_password("postgresql://yard@db") == "postgresql://yard@db"


def test_an_unfinished_database_is_moved_aside(stack: Settings) -> None:
    file = make_database(stack, "prefect")
    file.with_name("prefect.db-wal").write_bytes(b"")
    sentence = database.heal(stack, "prefect")
    assert sentence is not None
    assert "cut short" in sentence
    assert sorted(f.name.partition(".half-made")[0] for f in file.parent.iterdir()) == [
        "prefect.db",
        "prefect.db-wal",
    ]
    assert not file.exists()


def test_a_finished_database_stays(stack: Settings) -> None:
    file = make_database(stack, "mlflow")
    database.mark_ready(stack, "mlflow")
    assert database.heal(stack, "mlflow") is None
    assert file.exists()


def test_a_database_that_was_taken_away_starts_anew(stack: Settings) -> None:
    file = make_database(stack, "mlflow")
    database.mark_ready(stack, "mlflow")
    file.unlink()
    assert database.heal(stack, "mlflow") is None
    make_database(stack, "mlflow")  # its first start is cut short again
    assert database.heal(stack, "mlflow") is not None


def test_a_damaged_database_is_named(stack: Settings) -> None:
    file = make_database(stack, "prefect")
    database.mark_ready(stack, "prefect")
    database.require_sound(stack)
    file.write_bytes(b"no database at all" * 1000)
    with pytest.raises(Unavailable) as caught:
        database.require_sound(stack)
    assert caught.value.where == str(file)
