"""Ranks that Horovod started."""

from __future__ import annotations

import horovod.torch as hvd
from torch import Tensor

from tasks.train.loop.world import World


class HorovodRanks:
    """Collectives of Horovod. `horovod.torch.init()` must have been called by the launcher."""

    def __init__(self) -> None:
        self.world = World(hvd.rank(), hvd.local_rank(), hvd.size(), hvd.local_size())

    def sum_(self, tensor: Tensor) -> None:
        """See `Communicator.sum_`."""
        message = tensor.contiguous()  # Horovod takes no other memory order; a copy only where it is another
        hvd.allreduce_(message, op=hvd.Sum, name=_name("sum", message))
        if message is not tensor:
            tensor.copy_(message)

    def average_(self, tensor: Tensor) -> None:
        """See `Communicator.average_`."""
        self.sum_(tensor)
        tensor.div_(self.world.size)

    def broadcast_(self, tensor: Tensor) -> None:
        """See `Communicator.broadcast_`."""
        message = tensor.contiguous()
        hvd.broadcast_(message, root_rank=0, name=_name("broadcast", message))
        if message is not tensor:
            tensor.copy_(message)


def _name(operation: str, message: Tensor) -> str:
    """Horovod matches messages by name, and may send those of one name without asking again."""
    return f"{operation}-{tuple(message.shape)}-{message.dtype}"
