"""One process: nothing to say."""

from __future__ import annotations

from torch import Tensor

from tasks.train.loop.world import World


class SingleProcess:
    """The communicator of a training without other ranks."""

    world = World()

    def average_(self, tensor: Tensor) -> None:
        """See `Communicator.average_`: the mean of one."""

    def broadcast_(self, tensor: Tensor, root: int = 0) -> None:
        """See `Communicator.broadcast_`: the root's own."""

    def barrier(self) -> None:
        """See `Communicator.barrier`: everyone is here."""
