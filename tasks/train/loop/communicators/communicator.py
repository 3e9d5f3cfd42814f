"""The few words that ranks need: sum, average and broadcast."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Protocol

import torch
from torch import Tensor

from tasks.train.loop.world import World


class Communicator(Protocol):
    """Collective operations over all ranks.

    Every rank must call the same operations in the same order with tensors of the same shape and
    type. An operation fails on all ranks when one is lost.
    """

    @property
    def world(self) -> World: ...

    def begin_sum_(self, tensor: Tensor) -> Callable[[], None]:
        """Begin to replace a contiguous tensor by its sum over the ranks; bit for bit the same on each.

        Returns:
            Ends it: the tensor is to be left alone before.
        """
        ...

    def average_(self, tensor: Tensor) -> None:
        """Replace a floating tensor by its mean over the ranks; bit for bit the same on each."""
        ...

    def broadcast_(self, tensor: Tensor) -> None:
        """Replace a tensor by that of rank 0."""
        ...


def broadcast_bytes(communicator: Communicator, content: bytes | None) -> bytes | None:
    """Give every rank the bytes of rank 0, or its None.

    Args:
        communicator: The ranks.
        content: What to send; read on rank 0 only.
    """
    is_root = communicator.world.is_root
    length = torch.tensor([-1 if content is None else len(content)] if is_root else [0])
    communicator.broadcast_(length)
    if length.item() < 0:
        return None
    buffer = torch.zeros(int(length.item()), dtype=torch.uint8)
    if is_root and content:
        buffer.copy_(torch.frombuffer(bytearray(content), dtype=torch.uint8))
    if len(buffer):
        communicator.broadcast_(buffer)
    return buffer.numpy().tobytes()


def in_one_message(say: Callable[[Tensor], None], tensors: Iterable[Tensor]) -> None:
    """Say one word on many tensors at once: each message has a price, however small it is.

    Args:
        say: `average_` or `broadcast_` of a communicator.
        tensors: Replaced by what is heard; those of one type and device travel together.
    """
    alike: dict[tuple[torch.dtype, torch.device], list[Tensor]] = defaultdict(list)
    for tensor in tensors:
        alike[tensor.dtype, tensor.device].append(tensor)
    with torch.no_grad():
        for group in alike.values():
            message = torch.cat([tensor.reshape(-1) for tensor in group])
            say(message)
            for tensor, heard in zip(group, torch.split(message, [t.numel() for t in group]), strict=True):
                tensor.copy_(heard.view(tensor.shape))
