"""The few words that ranks need: average and broadcast."""

from __future__ import annotations

from collections.abc import Iterable
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


def average_gradients(
    communicator: Communicator,
    parameters: Iterable[torch.nn.Parameter],
    vote: bool,
    sent_as: torch.dtype | None = None,
) -> bool:
    """Average gradients over the ranks, all in one message, and count a vote on the way.

    Args:
        communicator: The ranks.
        parameters: Parameters that have gradients.
        vote: This rank's vote to end.
        sent_as: Number format of the message; None is that of the gradients.

    Returns:
        Whether any rank voted to end: the same answer on every rank.
    """
    if communicator.world.size == 1:
        return vote
    gradients = [p.grad for p in parameters if p.grad is not None]
    parts = [g.reshape(-1) for g in gradients]
    message = torch.cat([*parts, gradients[0].new_tensor([float(vote)])])
    if sent_as is not None:
        message = message.to(sent_as)
    communicator.average_(message)
    start = 0
    for gradient in gradients:
        gradient.copy_(message[start : start + gradient.numel()].view_as(gradient))
        start += gradient.numel()
    return bool(message[-1] > 0)
