"""The gradients of a network on their way to their mean over the ranks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tasks.train.loop.communicators.communicator import Communicator

PART_BYTES = {"cpu": 4 * 2**20, "cuda": 25 * 2**20}
"""Size of what is sent at once, by the device: large enough that its price does not count, small enough to
leave early. What is left after the backward pass is waited for, and processors have it in their caches."""


@dataclass
class _Part:
    """A stretch of the message.

    Attributes:
        message: What is sent.
        awaited: Gradients that it has room for.
        missing: Those of them that are not in it yet.
    """

    message: Tensor
    awaited: int
    missing: int = 0


class Gradients:
    """The gradients of a network as one message, of which parts leave while others are still made.

    They lie in it as a backward pass makes them, last layers first. Each is divided by the number of ranks
    as it is copied there, while the processor still has it at hand, and is a view of the message from then
    on. Parts leave in their order, which is the same on all ranks.

    Args:
        communicator: The ranks.
        parameters: Whose gradients.
        sent_as: Number format of the message; None is that of the gradients.
        part_bytes: Size of a part; None is that of `PART_BYTES`.
    """

    def __init__(
        self,
        communicator: Communicator,
        parameters: Iterable[nn.Parameter],
        sent_as: torch.dtype | None = None,
        part_bytes: int | None = None,
    ) -> None:
        self._communicator = communicator
        self._size = communicator.world.size
        self._sending: list[Callable[[], None]] = []
        self._waited_for: dict[Tensor, None] = {}
        self._expected = False
        if self._size == 1:
            return
        trained = [p for p in reversed(list(parameters)) if p.requires_grad]
        kind = sent_as or trained[0].dtype
        part_bytes = part_bytes or PART_BYTES[trained[0].device.type]
        message = trained[0].new_zeros(sum(p.numel() for p in trained) + 1, dtype=kind)
        self._vote = message[-1]
        self._places: dict[Tensor, tuple[Tensor, int]] = {}
        self._parts: list[_Part] = []
        begin = end = awaited = 0
        for parameter in trained:
            # In the order that it has in memory, without gaps if there are any.
            strides = torch.empty_like(parameter, device="meta").stride()
            view = message.as_strided(parameter.shape, strides, end)
            self._places[parameter] = view, len(self._parts)
            end, awaited = end + parameter.numel(), awaited + 1
            if (end - begin) * message.element_size() >= part_bytes and parameter is not trained[-1]:
                self._parts.append(_Part(message[begin:end], awaited))
                begin, awaited = end, 0
        self._parts.append(_Part(message[begin:], awaited))  # with the vote: it leaves last
        self._hooks = [
            p.register_post_accumulate_grad_hook(self._made)  # type: ignore[no-untyped-call]
            for p in trained
        ]

    def close(self) -> None:
        """Let go of the network."""
        if self._size > 1:
            for hook in self._hooks:
                hook.remove()

    def expect(self) -> None:
        """The next backward pass completes the gradients: send them as it makes them."""
        if self._size > 1:
            self._begin()

    def average_(self, vote: bool) -> bool:
        """Replace the gradients by their means over the ranks, and count a vote on the way.

        Args:
            vote: This rank's vote to end.

        Returns:
            Whether any rank voted to end: the same answer on every rank.
        """
        if self._size == 1:
            return vote
        if not self._expected:
            self._begin()
        for parameter in list(self._waited_for):  # without a gradient, or not expected
            self._take(parameter)
        self._vote.fill_(float(vote))
        for part in self._parts[len(self._sending) :]:
            self._sending.append(self._communicator.begin_sum_(part.message))
        for finish in self._sending:
            finish()
        self._expected = False
        for parameter, (view, _) in self._places.items():
            if parameter.grad is not None and view.dtype != parameter.grad.dtype:
                parameter.grad.copy_(view)
        return bool(self._vote > 0)

    def _begin(self) -> None:
        self._expected = True
        self._sending = []
        self._waited_for = dict.fromkeys(self._places)
        for part in self._parts:
            part.missing = part.awaited

    def _made(self, parameter: Tensor) -> None:
        """The backward pass has made a gradient."""
        if not self._expected:
            return
        self._take(parameter)
        while (number := len(self._sending)) < len(self._parts) - 1 and not self._parts[number].missing:
            self._sending.append(self._communicator.begin_sum_(self._parts[number].message))

    def _take(self, parameter: Tensor) -> None:
        """Copy a gradient into the message."""
        view, number = self._places[parameter]
        if parameter.grad is None:
            view.zero_()
        else:
            torch.mul(parameter.grad, 1 / self._size, out=view)
            if view.dtype == parameter.grad.dtype:
                parameter.grad = view
        del self._waited_for[parameter]
        self._parts[number].missing -= 1
