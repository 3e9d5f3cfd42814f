"""How ranks find and hear each other: one way a file, behind one interface."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from tasks.errors import InvalidSettings

if TYPE_CHECKING:
    from tasks.train.loop.communicators.communicator import Communicator


@dataclass(frozen=True)
class Place:
    """Where one rank runs.

    Attributes:
        rank: From 0; the ranks of a host follow each other.
        local_rank: Its number on its host.
        host_rank: Number of its host.
        local_sizes: Ranks of each host, by its number.
        worker: Address of the Dask worker that hosts it.
        host: Address of its host.
        interface: The network interface that has this address, such as `lo`.
        port: One that was free on its host a moment ago.
        gpus: Indices of the GPUs of the host's ranks, by local rank; empty on processors.
    """

    rank: int
    local_rank: int
    host_rank: int
    local_sizes: tuple[int, ...]
    worker: str
    host: str
    interface: str
    port: int
    gpus: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Ranks of all hosts."""
        return sum(self.local_sizes)

    @property
    def local_size(self) -> int:
        """Ranks of its host."""
        return self.local_sizes[self.host_rank]


class Launcher(Protocol):
    """What makes ranks of processes.

    Attributes:
        name: Its name in settings.
        packages: Packages whose versions must be the same for all ranks.
    """

    @property
    def name(self) -> str: ...

    @property
    def packages(self) -> tuple[str, ...]: ...

    def meeting(self, places: Sequence[Place], address: str) -> AbstractContextManager[list[dict[str, str]]]:
        """Keep open what the ranks meet at, listening on one address alone.

        Args:
            places: Of all ranks, in their order.
            address: Of this host, as the ranks reach it.

        Returns:
            The variables of each rank's process.
        """
        ...

    def joined(self) -> AbstractContextManager[Communicator]:
        """Join the other ranks; called in a rank's process, with its variables set."""
        ...

    def is_loss(self, error: BaseException) -> bool:
        """Whether an error says that another rank is gone, not that this one is at fault."""
        ...


def launchers() -> Mapping[str, Launcher]:
    """All launchers by name."""
    from tasks.train.ranks.horovod import HorovodLauncher
    from tasks.train.ranks.torch_distributed import TorchLauncher

    every: tuple[Launcher, ...] = (TorchLauncher(), HorovodLauncher())
    return {one.name: one for one in every}


def get(name: str) -> Launcher:
    """A launcher by name.

    Raises:
        InvalidSettings: There is none of that name.
    """
    known = launchers()
    if name not in known:
        raise InvalidSettings(
            f"there is no launcher '{name}'",
            where="launcher",
            allowed=", ".join(known),
            mend="take one of these",
        )
    return known[name]
