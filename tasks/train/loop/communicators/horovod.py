"""Ranks that Horovod started."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import horovod.torch as hvd
from torch import Tensor

from tasks.train.loop.world import World

LOOK_AGAIN_S = 0.0005


class HorovodRanks:
    """Collectives of Horovod. `horovod.torch.init()` must have been called by the launcher."""

    def __init__(self) -> None:
        self.world = World(hvd.rank(), hvd.local_rank(), hvd.size(), hvd.local_size())

    def begin_sum_(self, tensor: Tensor) -> Callable[[], None]:
        """See `Communicator.begin_sum_`."""
        handle = hvd.allreduce_async_(tensor, op=hvd.Sum, name=_name("sum", tensor))
        return partial(_finish, handle, tensor.is_cpu)

    def average_(self, tensor: Tensor) -> None:
        """See `Communicator.average_`."""
        message = tensor.contiguous()  # Horovod takes no other memory order; a copy only where it is another
        self.begin_sum_(message)()
        message.div_(self.world.size)
        if message is not tensor:
            tensor.copy_(message)

    def broadcast_(self, tensor: Tensor) -> None:
        """See `Communicator.broadcast_`."""
        message = tensor.contiguous()
        handle = hvd.broadcast_async_(message, root_rank=0, name=_name("broadcast", message))
        _finish(handle, message.is_cpu)
        if message is not tensor:
            tensor.copy_(message)


def _finish(handle: int, on_processor: bool) -> None:
    """Wait for an operation. Horovod itself waits in a busy loop, which takes the processor that sends."""
    while on_processor and not hvd.poll(handle):
        time.sleep(LOOK_AGAIN_S)
    hvd.synchronize(handle)


def _name(operation: str, message: Tensor) -> str:
    """Horovod matches messages by name, and may send those of one name without asking again.

    Two that are on their way at once are parts of one tensor.
    """
    return f"{operation}-{tuple(message.shape)}-{message.dtype}-{message.storage_offset()}"
