"""What tests of ranks share: a mark that finds their processes, and chance with a seed that is printed."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from uuid import uuid4

import pytest

from tests.helpers.dask_clusters import running_ranks
from tests.helpers.serving_stack import wait_until


@pytest.fixture(scope="session", autouse=True)
def _marked() -> Iterator[str]:
    """In the environment of all that these tests start, and so of their ranks."""
    mark = uuid4().hex
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RANK_FAULTS_MARK", mark)
        yield mark


@pytest.fixture
def mark(_marked: str) -> Iterator[str]:
    """The mark; after the test no rank that has it is left."""
    yield _marked
    wait_until(lambda: not running_ranks(_marked), 15)


@pytest.fixture
def chance() -> random.Random:
    """Random numbers; their seed is printed, and can be given."""
    seed = int(os.environ.get("RANK_FAULTS_SEED", random.randrange(2**32)))
    print(f"\nseed {seed}")
    return random.Random(seed)
