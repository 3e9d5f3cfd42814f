"""Ranks of torch.distributed: gloo between processors, NCCL between GPUs."""

from __future__ import annotations

import os
from collections.abc import Callable

import torch.distributed
from torch import Tensor

from tasks.train.loop.world import World


class TorchRanks:
    """Collectives of torch.distributed. The launcher must have called `init_process_group`.

    The rank on the host comes from `LOCAL_RANK`, as torchrun sets it; without it all ranks are taken
    to be on one host.
    """

    def __init__(self) -> None:
        rank = torch.distributed.get_rank()
        local_rank, local_size = os.environ.get("LOCAL_RANK", rank), os.environ.get("LOCAL_WORLD_SIZE", 0)
        self.world = World(rank, int(local_rank), torch.distributed.get_world_size(), int(local_size))

    def begin_sum_(self, tensor: Tensor) -> Callable[[], None]:
        """See `Communicator.begin_sum_`."""
        work = torch.distributed.all_reduce(tensor, async_op=True)
        assert work is not None

        def finish() -> None:
            work.wait()

        return finish

    def average_(self, tensor: Tensor) -> None:
        """See `Communicator.average_`."""
        torch.distributed.all_reduce(tensor)  # gloo has no mean of its own
        tensor.div_(self.world.size)

    def broadcast_(self, tensor: Tensor) -> None:
        """See `Communicator.broadcast_`."""
        torch.distributed.broadcast(tensor, src=0)
