"""Ranks of torch.distributed, with the variables that torchrun sets: gloo on processors, NCCL on GPUs."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, ClassVar
from uuid import uuid4

from tasks.train.ranks.launcher import Place

if TYPE_CHECKING:
    from tasks.train.loop.communicators.communicator import Communicator

LONGEST_WAIT_S = 300
"""How long a collective waits for the other ranks; that one stands still is noticed long before."""


class TorchLauncher:
    """See `Launcher`."""

    name: ClassVar[str] = "torch"
    packages: ClassVar[tuple[str, ...]] = ("torch",)

    @contextmanager
    def meeting(self, places: Sequence[Place], address: str) -> Iterator[list[dict[str, str]]]:
        """See `Launcher.meeting`: the store of torchrun's agent, so that no rank has to listen for it."""
        from torch.distributed import TCPStore  # type: ignore[attr-defined]

        listening = socket.create_server((address, 0))
        port = listening.getsockname()[1]
        # The store takes the socket as its own: by itself it would listen on every address.
        store = TCPStore(
            address, port, is_master=True, wait_for_workers=False, master_listen_fd=listening.detach()
        )
        run = uuid4().hex
        try:
            yield [
                {
                    "MASTER_ADDR": address,
                    "MASTER_PORT": str(port),
                    "RANK": str(place.rank),
                    "WORLD_SIZE": str(place.size),
                    "LOCAL_RANK": str(place.local_rank),
                    "LOCAL_WORLD_SIZE": str(place.local_size),
                    "GROUP_RANK": str(place.host_rank),
                    "GROUP_WORLD_SIZE": str(len(place.local_sizes)),
                    "ROLE_NAME": "default",
                    "ROLE_RANK": str(place.rank),
                    "ROLE_WORLD_SIZE": str(place.size),
                    "TORCHELASTIC_RUN_ID": run,
                    "TORCHELASTIC_RESTART_COUNT": "0",
                    "TORCHELASTIC_MAX_RESTARTS": "0",
                    "TORCHELASTIC_USE_AGENT_STORE": "True",
                    "GLOO_SOCKET_IFNAME": place.interface,
                    **({"NCCL_SOCKET_IFNAME": place.interface} if place.gpus else {}),
                }
                for place in places
            ]
        finally:
            del store

    @contextmanager
    def joined(self) -> Iterator[Communicator]:
        """See `Launcher.joined`."""
        import torch

        from tasks.train.loop.communicators.torch_distributed import TorchRanks

        gpu = torch.cuda.is_available()
        if gpu:
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        torch.distributed.init_process_group(
            "cpu:gloo,cuda:nccl" if gpu else "gloo", timeout=timedelta(seconds=LONGEST_WAIT_S)
        )
        yield TorchRanks()
        torch.distributed.destroy_process_group()  # not after an error: it may wait for ranks that are lost

    def is_loss(self, error: BaseException) -> bool:
        """See `Launcher.is_loss`; gloo raises a plain RuntimeError that names its own source file."""
        from torch.distributed import DistError

        return isinstance(error, DistError) or (isinstance(error, RuntimeError) and "gloo/" in str(error))
