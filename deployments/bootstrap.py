"""Register what the flows are offered through: pool, queues, blocks, deployments, automations.

`python -m deployments.bootstrap` is safe to run at any time. It does nothing where the server has
already registered the same declarations, and never touches what it did not declare.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from infra import settings as stack_settings
from infra.settings import REPOSITORY, Settings
from infra.stack import home, http
from tasks.errors import Unavailable

VARIABLE = "trainyard_bootstrap"
_SOURCES = ("blocks", "deployments", "flows", "tasks")
_CHECK_S = 0.2


def declarations_digest(settings: Settings) -> str:
    """SHA-256 over everything that the registration depends on: sources, locked versions, settings."""
    files = [
        file
        for folder in _SOURCES
        for file in (REPOSITORY / folder).rglob("*")
        if file.suffix in (".py", ".yaml", ".json") and "__pycache__" not in file.parts
    ]
    digest = hashlib.sha256(settings.model_dump_json(exclude={"database_url"}).encode())
    for file in sorted({*files, REPOSITORY / "requirements.lock", settings.deployments_file}):
        if file.exists():
            digest.update(os.fsencode(file) + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()


def registered_digest(settings: Settings) -> str | None:
    """What the server was last given; None where it has nothing or its pool is gone."""
    api = settings.prefect_api_url
    try:
        http.call("GET", f"{api}/work_pools/{stack_settings.WORK_POOL}")
        return str(http.call("GET", f"{api}/variables/name/{VARIABLE}")["value"])
    except http.Refused as error:
        if error.status == 404:
            return None
        raise


def wait_for_api(settings: Settings) -> None:
    """Wait until Prefect's API answers.

    Raises:
        Unavailable: It did not within the settings' time.
    """
    deadline = time.monotonic() + settings.ready_timeout_s
    while True:
        try:
            http.call("GET", f"{settings.prefect_api_url}/health", timeout_s=5)
            return
        except Unavailable:
            if time.monotonic() > deadline:
                raise
            time.sleep(_CHECK_S)


def load_registration() -> Callable[[Settings, str], Coroutine[Any, Any, list[str]]]:
    """Import the registration, which brings all of Prefect; a second call costs nothing."""
    from deployments import registration

    return registration.register


def main() -> None:
    """Register everything; exits with 1 where a deployment could not be loaded."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--force", action="store_true", help="register even where nothing has changed")
    force = parser.parse_args().force
    settings = stack_settings.of_home()
    digest = declarations_digest(settings)
    remembered = settings.run_folder / "bootstrap.digest"
    expect_nothing = not force and _text(remembered) == digest
    if not expect_nothing:
        load_registration()  # while the server is still starting: both take seconds
    wait_for_api(settings)
    if not force and registered_digest(settings) == digest:
        home.write(remembered, digest)
        print("Everything is registered already.")
        return

    failures = asyncio.run(load_registration()(settings, digest))
    if failures:
        print(*failures, sep="\n")
        sys.exit(1)
    home.write(remembered, digest)


def _text(file: Path) -> str | None:
    try:
        return file.read_text()
    except OSError:
        return None


if __name__ == "__main__":
    main()
