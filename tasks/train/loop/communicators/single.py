"""One process: nothing to say."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from tasks.train.loop.world import World


class SingleProcess:
    """The communicator of a training without other ranks."""

    world = World()

    def begin_sum_(self, tensor: Tensor) -> Callable[[], None]:
        """See `Communicator.begin_sum_`: the sum of one."""
        return lambda: None

    def average_(self, tensor: Tensor) -> None:
        """See `Communicator.average_`: the mean of one."""

    def broadcast_(self, tensor: Tensor) -> None:
        """See `Communicator.broadcast_`: rank 0's own."""
