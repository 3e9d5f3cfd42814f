"""One ephemeral Prefect server for the whole flow suite."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from prefect.testing.utilities import prefect_test_harness


@pytest.fixture(scope="session", autouse=True)
def prefect_server() -> Iterator[None]:
    """Run flows against a temporary database and a temporary result storage."""
    with prefect_test_harness(server_startup_timeout=120):
        yield
