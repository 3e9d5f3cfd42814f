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

    def sum_(self, tensor: Tensor) -> None:
        """Replace a tensor by its sum over the ranks; bit for bit the same on each."""
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


def average_gradients(
    communicator: Communicator,
    parameters: Iterable[torch.nn.Parameter],
    vote: bool,
    sent_as: torch.dtype | None = None,
) -> bool:
    """Average gradients over the ranks, all in one message, and count a vote on the way.

    Gradients are gone through once: divided while they are copied into the message, in the order that
    they have in memory, and afterwards they are parts of it.

    Args:
        communicator: The ranks.
        parameters: Parameters that have gradients.
        vote: This rank's vote to end.
        sent_as: Number format of the message; None is that of the gradients.

    Returns:
        Whether any rank voted to end: the same answer on every rank.
    """
    size = communicator.world.size
    if size == 1:
        return vote
    graded = [(p, p.grad) for p in parameters if p.grad is not None]
    kind = graded[0][1].dtype if sent_as is None else sent_as
    message = graded[0][1].new_empty(sum(g.numel() for _, g in graded) + 1, dtype=kind)
    message[-1] = float(vote)
    parts, start = [], 0
    for _, gradient in graded:
        # Of the memory format that the gradient has, and without its gaps if there are any.
        strides = torch.empty_like(gradient, device="meta").stride()
        part = message.as_strided(gradient.shape, strides, start)
        torch.mul(gradient, 1 / size, out=part)
        parts.append(part)
        start += gradient.numel()
    communicator.sum_(message)
    for (parameter, gradient), part in zip(graded, parts, strict=True):
        parameter.grad = part.to(gradient.dtype)
    return bool(message[-1] > 0)
