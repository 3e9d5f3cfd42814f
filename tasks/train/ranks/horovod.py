"""Ranks of Horovod: its Gloo controller, with Gloo on processors and NCCL on GPUs."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar

from tasks.train.ranks.launcher import Place

if TYPE_CHECKING:
    from tasks.train.loop.communicators.communicator import Communicator

LONGEST_WAIT_S = 300
CYCLE_TIME_MS = 5
"""Pause between two looks for tensors to send, for our loop on processors: it sends one large message a step.
Code that is written for Horovod keeps its default of 1 ms, as under horovodrun."""


class HorovodLauncher:
    """See `Launcher`."""

    name: ClassVar[str] = "horovod"
    packages: ClassVar[tuple[str, ...]] = ("torch", "horovod")

    @contextmanager
    def meeting(self, places: Sequence[Place], address: str) -> Iterator[list[dict[str, str]]]:
        """See `Launcher.meeting`; Horovod's own server class would listen on every address."""
        from horovod.runner.common.util.hosts import HostInfo, get_host_assignments
        from horovod.runner.gloo_run import create_slot_env_vars
        from horovod.runner.http.http_server import RendezvousHandler, RendezvousHTTPServer

        # Hosts are told apart by name alone, and theirs may repeat: ours say which one it is.
        hosts = [HostInfo(f"host-{number}", size) for number, size in enumerate(places[0].local_sizes)]
        slots = get_host_assignments(hosts, len(places))
        server = RendezvousHTTPServer((address, 0), RendezvousHandler, 0)
        server.init(slots)
        thread = threading.Thread(target=server.serve_forever, name="horovod-rendezvous", daemon=True)
        thread.start()
        try:
            yield [
                {
                    **create_slot_env_vars(slot),
                    "HOROVOD_GLOO_RENDEZVOUS_ADDR": address,
                    "HOROVOD_GLOO_RENDEZVOUS_PORT": str(server.server_address[1]),
                    "HOROVOD_GLOO_IFACE": place.interface,
                    "HOROVOD_GLOO_TIMEOUT_SECONDS": str(LONGEST_WAIT_S),
                    "HOROVOD_CONTROLLER": "gloo",
                    "HOROVOD_CPU_OPERATIONS": "gloo",
                    "HOROVOD_ELASTIC": "0",
                    **({"NCCL_SOCKET_IFNAME": place.interface} if place.gpus else {}),
                }
                for slot, place in zip(slots, places, strict=True)
            ]
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    @contextmanager
    def joined(self) -> Iterator[Communicator]:
        """See `Launcher.joined`."""
        import horovod.torch as hvd
        import torch

        from tasks.train.loop.communicators.horovod import HorovodRanks

        if not torch.cuda.is_available():
            os.environ.setdefault("HOROVOD_CYCLE_TIME", str(CYCLE_TIME_MS))
        hvd.init()
        if torch.cuda.is_available():
            torch.cuda.set_device(hvd.local_rank())
        yield HorovodRanks()
        hvd.shutdown()  # not after an error: it may wait for ranks that are lost

    def is_loss(self, error: BaseException) -> bool:
        """See `Launcher.is_loss`."""
        from horovod.common.exceptions import HorovodInternalError

        return isinstance(error, HorovodInternalError)
