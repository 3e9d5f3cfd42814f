"""What the training loop tells and asks at each step and after each epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from tasks.train.loop.state import TrainingState


class Callback:
    """Base of the callbacks; does nothing.

    The loop asks `wants_to_end` and `wants_to_pause` on every rank at each step, and the former before
    each epoch too. Where any rank answers yes, all ranks speak about it, and do it together.

    Attributes:
        reason: Why a training ended that this one wanted to end.
    """

    reason: ClassVar[str] = "stopped"

    def after_step(self, state: TrainingState) -> None:
        """Called on every rank when an optimiser step is done."""

    def after_epoch(self, state: TrainingState) -> None:
        """Called on every rank when an epoch is finished and its metrics stand in the history."""

    def wants_to_end(self, state: TrainingState) -> bool:
        """Whether the training should end here.

        The answer must follow from the state, or from the world outside, never from having seen
        earlier epochs: a resumed training has not.
        """
        return False

    def wants_to_pause(self, state: TrainingState) -> bool:
        """Whether `at_pause` should be called after this step."""
        return False

    def at_pause(self, state: TrainingState) -> None:
        """Called on every rank after a step, when the state is the same on all of them."""
