"""What the training loop tells and asks after each epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tasks.train.loop.loop import TrainingState


class Callback:
    """Base of the callbacks; does nothing."""

    def after_epoch(self, state: TrainingState) -> None:
        """Called on every rank when an epoch is finished and its metrics stand in the history."""

    def reason_to_end(self, state: TrainingState) -> str | None:
        """Asked before each epoch, also the first after a resumption; rank 0's answer counts.

        The answer must follow from the state, or from the world outside, never from having seen
        earlier epochs: a resumed training has not.
        """
        return None
