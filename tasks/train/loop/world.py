"""Which of the training processes this one is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class World:
    """The place of one rank among all ranks of a training.

    Attributes:
        rank: Number of this process, from 0; rank 0 writes checkpoints and reports.
        local_rank: Number of this process on its host: the GPU that it uses.
        size: Number of ranks.
        local_size: Number of ranks on its host; 0 for all of them.
    """

    rank: int = 0
    local_rank: int = 0
    size: int = 1
    local_size: int = 0

    def __post_init__(self) -> None:
        if not (0 <= self.rank < self.size and 0 <= self.local_rank <= self.rank):
            raise ValueError(f"not a place among ranks: {self}")

    @property
    def is_root(self) -> bool:
        return self.rank == 0
