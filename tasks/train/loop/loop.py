"""The one training loop. A single process, a rank among many and a trial of a study all run it.

Every random choice is a function of (seed, epoch, rank), and the learning rate one of the step, so a
training that was killed and taken up again from the checkpoint of an epoch ends with the same weights
as one that was not.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from tasks.errors import InvalidSettings
from tasks.train.algorithms.algorithm import Metrics
from tasks.train.loop.augmentation import Augmentation
from tasks.train.loop.callbacks.callback import Callback
from tasks.train.loop.communicators.communicator import Communicator, average_gradients
from tasks.train.loop.objective import Objective
from tasks.train.models.network import Scale


@dataclass(frozen=True)
class LoopSettings:
    """How the loop optimises; see `NetworkHyperparameters` for the meaning of each."""

    epochs: int
    batch_size_per_rank: int
    learning_rate: float
    weight_decay: float
    warmup: float
    seed: int
    autocast: torch.dtype | None
    device: torch.device
    max_time_s: float | None = None


@dataclass(frozen=True)
class TensorRows:
    """Rows of a split in memory.

    Attributes:
        inputs: uint8 `[n, h, w, c]` or float32 `[n, features]`.
        labels: int64 `[n]`, or float32 `[n]` scaled to mean 0 and deviation 1.
    """

    inputs: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass
class TrainingState:
    """Everything that changes while the loop runs: what a checkpoint holds.

    Attributes:
        network: The network in training.
        optimiser: Its AdamW.
        epoch: Finished epochs.
        history: Metrics of the finished epochs.
        best_epoch: Epoch with the lowest watched loss, from 1; 0 before the first.
        best_weights: A copy of the network's state at that epoch.
        elapsed_s: Time spent in the loop, in this process and in those before it.
    """

    network: nn.Module
    optimiser: torch.optim.AdamW
    epoch: int = 0
    history: list[Metrics] = field(default_factory=list)
    best_epoch: int = 0
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    elapsed_s: float = 0.0


def new_state(network: nn.Module, settings: LoopSettings) -> TrainingState:
    """The state before the first epoch."""
    decayed = [p for p in network.parameters() if p.ndim > 1]
    plain = [p for p in network.parameters() if p.ndim <= 1]  # biases and normalisation keep their size
    groups = [
        {"params": decayed, "weight_decay": settings.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    return TrainingState(network, torch.optim.AdamW(groups, lr=settings.learning_rate))


def run(
    state: TrainingState,
    train: TensorRows,
    validation: TensorRows | None,
    *,
    objective: Objective,
    scale: Scale,
    settings: LoopSettings,
    communicator: Communicator,
    augmentation: Augmentation | None = None,
    callbacks: Sequence[Callback] = (),
) -> str:
    """Train until the epochs are done or a callback ends it.

    Args:
        state: Where to start from; changed in place.
        train: Rows to fit, the same on every rank; each rank works on its share.
        validation: Rows to watch; None watches the training loss.
        objective: Loss and metrics.
        scale: Makes network inputs of raw ones.
        settings: How to optimise.
        communicator: The ranks.
        augmentation: Varies training inputs.
        callbacks: Called in this order after each epoch.

    Returns:
        Why it ended: `finished`, or what a callback said.

    Raises:
        InvalidSettings: The loss is no longer a finite number.
    """
    network = state.network
    for tensor in network.state_dict().values():
        communicator.broadcast_(tensor)
    started = time.monotonic() - state.elapsed_s
    watched = "train_loss" if validation is None else "validation_loss"

    while state.epoch < settings.epochs:
        reason = _first_reason(callbacks, state, communicator)
        if reason:
            return reason

        epoch_started = time.monotonic()
        seed_epoch(settings.seed, state.epoch, communicator.world.rank)
        sums = torch.zeros(3, dtype=torch.float64)  # loss, score, rows
        network.train()
        for step, (inputs, labels) in _batches(train, state.epoch, settings, communicator, augmentation):
            for group in state.optimiser.param_groups:
                group["lr"] = learning_rate(step, _steps(train, settings, communicator), settings)
            with _precision(settings):
                raw = network(scale.apply(inputs))
            raw = raw.float()
            loss = objective.loss(raw, labels)
            state.optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            out_of_time = (
                settings.max_time_s is not None and time.monotonic() - started >= settings.max_time_s
            )
            cut = average_gradients(communicator, network.parameters(), vote=out_of_time)
            state.optimiser.step()
            with torch.no_grad():
                sums += (
                    torch.stack(
                        [loss.detach() * len(labels), objective.score(raw, labels), torch.tensor(len(labels))]
                    )
                    .double()
                    .cpu()
                )
            if cut:
                break

        _average_statistics(network, communicator)
        metrics = _metrics("train", sums, objective, communicator)
        if not math.isfinite(metrics["train_loss"]):
            raise InvalidSettings(
                f"the training loss is {metrics['train_loss']} in epoch {state.epoch + 1}",
                where="hyperparameters",
                mend="lower learning_rate, or use precision float32",
            )
        trained_s = time.monotonic() - epoch_started
        if validation is not None:
            metrics |= _validate(network, validation, objective, scale, settings, communicator)
        metrics["learning_rate"] = float(state.optimiser.param_groups[0]["lr"])
        metrics["rows_per_s"] = float(sums[2]) * communicator.world.size / trained_s
        metrics["epoch_time_s"] = time.monotonic() - epoch_started

        state.epoch += 1
        state.history.append(metrics)
        if not state.best_epoch or metrics[watched] < state.history[state.best_epoch - 1][watched]:
            state.best_epoch = state.epoch
            state.best_weights = {k: v.detach().clone() for k, v in network.state_dict().items()}
        state.elapsed_s = time.monotonic() - started
        for callback in callbacks:
            callback.after_epoch(state)
    return "finished"


def learning_rate(step: int, steps_an_epoch: int, settings: LoopSettings) -> float:
    """One cycle: up along a cosine to the highest rate, then down along another to nearly nothing."""
    steps = steps_an_epoch * settings.epochs
    warmup = settings.warmup * steps
    if step < warmup:
        start, progress = 0.04, (step + 1) / (warmup + 1)
        return settings.learning_rate * (start + (1 - start) * (1 - math.cos(math.pi * progress)) / 2)
    progress = (step - warmup) / max(steps - warmup, 1)
    return settings.learning_rate * max(1e-4, (1 + math.cos(math.pi * progress)) / 2)


def seed_epoch(seed: int, epoch: int, rank: int) -> None:
    """Start the global random numbers (dropout) of one epoch on one rank."""
    torch.manual_seed(_mixed(seed, epoch, rank))


def _mixed(*numbers: int) -> int:
    """One 63-bit seed of several numbers, different for different ones."""
    mixed = 0
    for number in numbers:
        mixed = (mixed * 6364136223846793005 + number + 1442695040888963407) % 2**63
    return mixed


def _steps(rows: TensorRows, settings: LoopSettings, communicator: Communicator) -> int:
    """Steps of an epoch: the same number of full batches on every rank, at least one."""
    return max(1, len(rows) // communicator.world.size // settings.batch_size_per_rank)


def _batches(
    rows: TensorRows,
    epoch: int,
    settings: LoopSettings,
    communicator: Communicator,
    augmentation: Augmentation | None,
) -> Iterator[tuple[int, tuple[Tensor, Tensor]]]:
    """This rank's batches of one epoch, each with the number of its step since the training began.

    All ranks shuffle alike and take every `size`-th row; rows that fill no batch wait for another epoch.
    """
    world = communicator.world
    shuffle = torch.Generator().manual_seed(_mixed(settings.seed, epoch))
    order = torch.randperm(len(rows), generator=shuffle)[world.rank :: world.size]
    variation = torch.Generator().manual_seed(_mixed(settings.seed, epoch, world.rank))
    steps = _steps(rows, settings, communicator)
    for number in range(steps):
        chosen = order[number * settings.batch_size_per_rank : (number + 1) * settings.batch_size_per_rank]
        inputs = rows.inputs[chosen]
        if augmentation is not None:
            inputs = augmentation(inputs, variation)
        yield (
            epoch * steps + number,
            (inputs.to(settings.device), rows.labels[chosen].to(settings.device)),
        )


def _validate(
    network: nn.Module,
    rows: TensorRows,
    objective: Objective,
    scale: Scale,
    settings: LoopSettings,
    communicator: Communicator,
) -> Metrics:
    """Metrics of the validation rows; each rank scores its share."""
    world = communicator.world
    mine = torch.arange(world.rank, len(rows), world.size)
    sums = torch.zeros(3, dtype=torch.float64)
    network.eval()
    with torch.inference_mode(), _precision(settings):
        for chosen in torch.split(mine, 512):
            labels = rows.labels[chosen].to(settings.device)
            raw = network(scale.apply(rows.inputs[chosen].to(settings.device))).float()
            loss = objective.loss(raw, labels) * len(labels)
            sums += (
                torch.stack([loss, objective.score(raw, labels), torch.tensor(len(labels))]).double().cpu()
            )
    return _metrics("validation", sums, objective, communicator)


def _metrics(split: str, sums: Tensor, objective: Objective, communicator: Communicator) -> Metrics:
    """Metrics of a split from this rank's sums of loss, score and rows, float64 `[3]`."""
    over_ranks = sums.clone()
    communicator.average_(over_ranks)
    loss, score, rows = over_ranks.tolist()
    return objective.metrics(split, loss / rows, score / rows)


def _average_statistics(network: nn.Module, communicator: Communicator) -> None:
    """Give every rank the mean of the running statistics, which each gathered on its own rows."""
    if communicator.world.size > 1:
        for buffer in network.buffers():
            if buffer.is_floating_point():
                communicator.average_(buffer)


def _precision(settings: LoopSettings) -> torch.autocast:
    return torch.autocast(
        settings.device.type, dtype=settings.autocast or torch.bfloat16, enabled=settings.autocast is not None
    )


def _first_reason(
    callbacks: Sequence[Callback], state: TrainingState, communicator: Communicator
) -> str | None:
    """Why to end before the next epoch: rank 0 decides, so that all ranks end together."""
    reasons = [callback.reason_to_end(state) for callback in callbacks]
    place = next((number for number, reason in enumerate(reasons) if reason), -1)
    agreed = torch.tensor([place])
    communicator.broadcast_(agreed)
    return None if agreed.item() < 0 else reasons[int(agreed.item())] or "stopped"
