"""Where Prefect and MLflow keep their records: SQLite files of the home, or one PostgreSQL server."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from infra.settings import Settings
from infra.stack import home
from tasks.errors import Unavailable

DATABASES = ("prefect", "mlflow")


def prefect_url(settings: Settings) -> str:
    """SQLAlchemy URL of Prefect's database (asynchronous driver)."""
    if settings.database_url is None:
        return f"sqlite+aiosqlite:///{sqlite_file(settings, 'prefect')}"
    return _on_server(settings, "postgresql+asyncpg", "prefect")


def mlflow_url(settings: Settings) -> str:
    """SQLAlchemy URL of MLflow's database."""
    if settings.database_url is None:
        return f"sqlite:///{sqlite_file(settings, 'mlflow')}"
    return _on_server(settings, "postgresql", "mlflow")


def sqlite_file(settings: Settings, service: str) -> Path:
    return settings.home / service / f"{service}.db"


def mark_ready(settings: Settings, service: str) -> None:
    """Note that a service has answered with this database: its tables are all there."""
    marker = _marker(settings, service)
    if settings.database_url is None and not marker.exists():
        home.write(marker, "the tables of this database were made to the end\n")


def heal(settings: Settings, service: str) -> str | None:
    """Move a SQLite file aside whose first start was cut short; nothing has been stored in it yet.

    Must be called while nobody has the file open. PostgreSQL makes its tables in one transaction
    and needs no mending.

    Returns:
        A sentence about what was done, or None.
    """
    file, marker = sqlite_file(settings, service), _marker(settings, service)
    if settings.database_url is not None:
        return None
    if not file.exists():
        marker.unlink(missing_ok=True)  # the file was taken away: what comes next is a first start
        return None
    if marker.exists():
        return None
    moved = home.aside(file)
    for suffix in ("-wal", "-shm", "-journal"):
        journal = file.with_name(file.name + suffix)
        if journal.exists():
            home.aside(journal)
    return f"The first start of {service} was cut short; its unfinished database was moved to {moved}."


def require_sound(settings: Settings) -> None:
    """Refuse files in the databases' place that are no databases.

    Raises:
        Unavailable: A file is not a SQLite database, or is damaged in its first page.
    """
    if settings.database_url is not None:
        return
    for service in DATABASES:
        file = sqlite_file(settings, service)
        if not file.exists() or not _marker(settings, service).exists():
            continue
        try:
            connection = sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=5)
            try:
                connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            finally:
                connection.close()
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                continue
            raise _damaged(file, error) from error
        except sqlite3.DatabaseError as error:
            raise _damaged(file, error) from error


def create_missing(settings: Settings) -> None:
    """Create the two databases on the PostgreSQL server where they are missing.

    Raises:
        Unavailable: The server does not answer or refuses.
    """
    if settings.database_url is None:
        return
    import psycopg2
    from psycopg2 import errors, sql

    url = settings.database_url.get_secret_value()
    try:
        connection = psycopg2.connect(_with_path(url, "postgresql", "postgres"), connect_timeout=10)
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                for name in DATABASES:
                    cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,))
                    if cursor.fetchone():
                        continue
                    try:
                        cursor.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
                    except (errors.DuplicateDatabase, errors.UniqueViolation):
                        continue  # another stack was quicker
        finally:
            connection.close()
    except psycopg2.Error as error:
        first_line = str(error).strip().splitlines()[0]
        raise Unavailable(
            f"PostgreSQL cannot be used: {first_line}",
            where=without_password(url),
            allowed="a running PostgreSQL server on which this user may create databases",
            mend="start the server or correct TRAINYARD_DATABASE_URL; unset it for SQLite",
        ) from error


def without_password(url: str) -> str:
    """The URL for a message."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    return urlunsplit(parts._replace(netloc=parts.netloc.replace(f":{parts.password}@", ":…@")))


def _on_server(settings: Settings, scheme: str, name: str) -> str:
    assert settings.database_url is not None
    return _with_path(settings.database_url.get_secret_value(), scheme, name)


def _with_path(url: str, scheme: str, name: str) -> str:
    return urlunsplit(urlsplit(url)._replace(scheme=scheme, path=f"/{name}"))


def _marker(settings: Settings, service: str) -> Path:
    return settings.home / service / "database-ready"


def _damaged(file: Path, error: Exception) -> Unavailable:
    return Unavailable(
        f"A database of the stack is damaged: {error}",
        where=str(file),
        mend="put back a copy of it, or move the file away to start with an empty one",
    )
