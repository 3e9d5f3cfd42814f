"""The one training loop. A single process, a rank among many and a trial of a study all run it.

Every random choice is a function of (seed, epoch, step, rank), and the learning rate one of the step, so
a training that was killed and taken up again from the checkpoint of any step ends with the same weights
as one that was not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tasks.train.algorithms.fit import Metrics
from tasks.train.loop.batches import Batches
from tasks.train.loop.callbacks.callback import Callback
from tasks.train.loop.communicators.communicator import Communicator
from tasks.train.loop.communicators.gradients import Gradients
from tasks.train.loop.objective import Objective
from tasks.train.loop.precision import autocast, compiled
from tasks.train.loop.refusals import refuse_diverged
from tasks.train.loop.schedules import share_of_highest
from tasks.train.loop.seeds import seed_step
from tasks.train.loop.state import TrainingState
from tasks.train.loop.weight_averaging import average_in_

CHECKED_EVERY_STEPS = 50
"""Steps between two looks at whether the loss is still a number; each waits for a GPU once."""


@dataclass(frozen=True)
class LoopSettings:
    """How the loop optimises; see `NetworkHyperparameters` for the meaning of each.

    Attributes:
        warmup: Share of the steps, 0 to 1.
        autocast: Number format of the heavy operations; None is float32.
        sent_as: Number format in which ranks send gradients; None leaves them as they are.
    """

    epochs: int
    learning_rate: float
    schedule: str
    warmup: float
    gradient_clip_norm: float | None
    weight_averaging: float
    compile: bool
    seed: int
    autocast: torch.dtype | None
    device: torch.device
    sent_as: torch.dtype | None = None


def run(
    state: TrainingState,
    train: Batches,
    validation: Batches | None,
    *,
    objective: Objective,
    settings: LoopSettings,
    communicator: Communicator,
    callbacks: Sequence[Callback] = (),
) -> str:
    """Train until the epochs are done or a callback ends it.

    Ended within an epoch, the epochs before it count and the weights since are left; ended within the
    first, that short epoch is the model.

    Args:
        state: Where to start from; changed in place.
        train: Rows to fit; each rank works on its share.
        validation: Rows to watch; None watches the training loss.
        objective: Loss and metrics.
        settings: How to optimise.
        communicator: The ranks.
        callbacks: Told and asked in this order.

    Returns:
        Why it ended: `finished`, or what a callback said.

    Raises:
        Diverged: The loss is no longer a finite number.
    """
    clock = _Clock()
    state.start_alike_(communicator)
    forward = compiled(state.network, settings.device) if settings.compile else state.network
    watched = "train_loss" if validation is None else "validation_loss"

    while state.epoch < settings.epochs:
        state.elapsed_s += clock.lap_s()
        cut = _agreed_end(state, callbacks, communicator)
        if not cut:
            cut = _train_epoch(state, forward, train, objective, settings, communicator, callbacks, clock)
        if cut and state.epoch:
            return cut

        state.spend(clock.lap_s())
        state.bring_together_(communicator)
        metrics = _metrics("train", state.sums, objective)
        refuse_diverged(metrics["train_loss"], "training", state.epoch)
        metrics["learning_rate"] = learning_rate(steps_before(state, train) - 1, train.steps, settings)
        metrics["rows_per_s"] = float(state.sums[2]) * communicator.world.size / state.epoch_elapsed_s
        if validation is not None:
            metrics |= _validate(state.kept, validation, objective, settings, communicator)
            refuse_diverged(metrics["validation_loss"], "validation", state.epoch)
        state.spend(clock.lap_s())
        metrics["epoch_time_s"] = state.epoch_elapsed_s

        state.epoch += 1
        state.history.append(metrics)
        if not state.best_epoch or metrics[watched] < state.history[state.best_epoch - 1][watched]:
            state.best_epoch = state.epoch
            state.best_weights = {k: v.detach().clone() for k, v in state.kept.state_dict().items()}
        state.begin_epoch()
        for callback in callbacks:
            callback.after_epoch(state)
        if cut:
            return cut
    return "finished"


def _train_epoch(
    state: TrainingState,
    forward: Callable[[Tensor], Tensor],
    train: Batches,
    objective: Objective,
    settings: LoopSettings,
    communicator: Communicator,
    callbacks: Sequence[Callback],
    clock: _Clock,
) -> str | None:
    """The steps of one epoch that are not done yet; returns why it was ended before the last of them."""
    network, rank = state.network, communicator.world.rank
    parameters = [p for p in network.parameters() if p.requires_grad]
    network.train()
    with (
        closing(Gradients(communicator, parameters, settings.sent_as)) as gradients,
        closing(train.of_epoch(state.epoch, state.step, state.rows_taken)) as batches,
    ):
        for number, (inputs, targets) in enumerate(batches, 1):
            if (number - 1) % train.accumulation_steps == 0:
                seed_step(settings.device, settings.seed, state.epoch, state.step, rank)
                state.optimiser.zero_grad(set_to_none=True)

            with autocast(settings.device, settings.autocast):
                raw = forward(inputs)
            raw = raw.float()
            loss = objective.loss(raw, targets)
            if number % train.accumulation_steps == 0:
                gradients.expect()
            torch.autograd.backward(loss / train.accumulation_steps)
            with torch.no_grad():
                state.sums[:2] += objective.counts(raw, targets.plain)
                state.sums[2] += len(inputs)
            if number % train.accumulation_steps:
                continue

            for group in state.optimiser.param_groups:
                group["lr"] = learning_rate(steps_before(state, train), train.steps, settings)
            state.step += 1
            state.rows_taken += train.rows_a_step
            state.steps_done += 1
            state.spend(clock.lap_s())

            # Asked before the optimiser's step, so that the answers travel with the last gradients.
            wanted = any(c.wants_to_end(state) or c.wants_to_pause(state) for c in callbacks)
            wanted = gradients.average_(vote=wanted)
            if settings.gradient_clip_norm is not None:
                nn.utils.clip_grad_norm_(parameters, settings.gradient_clip_norm)
            state.optimiser.step()
            if state.averaged is not None:
                average_in_(state.averaged, network, settings.weight_averaging, state.steps_done)

            if wanted or state.steps_done % CHECKED_EVERY_STEPS == 0:
                loss_sum = state.sums[0].clone()
                communicator.average_(loss_sum)  # so that all ranks find out together
                refuse_diverged(loss_sum.item(), "training", state.epoch)
            for callback in callbacks:
                callback.after_step(state)
            if wanted:
                _pause(state, callbacks, communicator)
                reason = _agreed_end(state, callbacks, communicator)
                if reason and train.steps_from(state.rows_taken):
                    return reason
    return None


def steps_before(state: TrainingState, train: Batches) -> int:
    """Steps up to here, had there been as many ranks as now from the start."""
    return state.epoch * train.steps + state.rows_taken // train.rows_a_step


def learning_rate(step: int, steps_an_epoch: int, settings: LoopSettings) -> float:
    """The learning rate of a step, counted over all epochs."""
    return settings.learning_rate * share_of_highest(
        settings.schedule, step, steps_an_epoch * settings.epochs, settings.warmup
    )


class _Clock:
    """Measures laps."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def lap_s(self) -> float:
        """Time since the last lap."""
        before, self._last = self._last, time.monotonic()
        return self._last - before


def _agreed_end(
    state: TrainingState, callbacks: Sequence[Callback], communicator: Communicator
) -> str | None:
    """Why to end here: the first reason that any rank has, the same on all of them."""
    wishes = torch.tensor([float(callback.wants_to_end(state)) for callback in callbacks])
    if len(callbacks):
        communicator.average_(wishes)
    return next((c.reason for c, wish in zip(callbacks, wishes.tolist(), strict=True) if wish), None)


def _pause(state: TrainingState, callbacks: Sequence[Callback], communicator: Communicator) -> None:
    """Call those callbacks that any rank wants a pause for, with a state that is the same on all ranks."""
    wishes = torch.tensor([float(callback.wants_to_pause(state)) for callback in callbacks])
    communicator.average_(wishes)
    if wishes.any():
        state.bring_together_(communicator)
    for callback, wish in zip(callbacks, wishes.tolist(), strict=True):
        if wish:
            callback.at_pause(state)


def _validate(
    network: nn.Module,
    rows: Batches,
    objective: Objective,
    settings: LoopSettings,
    communicator: Communicator,
) -> Metrics:
    """Metrics of the validation rows; each rank scores its share."""
    sums = torch.zeros(3, dtype=torch.float64, device=settings.device)
    network.eval()
    with (
        torch.inference_mode(),
        autocast(settings.device, settings.autocast),
        closing(rows.in_order()) as each,
    ):
        for inputs, targets in each:
            sums[:2] += objective.counts(network(inputs).float(), targets.labels)
            sums[2] += len(inputs)
    communicator.average_(sums)
    return _metrics("validation", sums, objective)


def _metrics(split: str, sums: Tensor, objective: Objective) -> Metrics:
    """Metrics of a split from sums of loss, score and rows, float64 `[3]`."""
    loss, score, rows = sums.tolist()
    return objective.metrics(split, loss / rows, score / rows)
