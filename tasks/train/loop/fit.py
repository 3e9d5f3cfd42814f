"""Run the training loop for an algorithm: from arrays and settings to a fitted network."""

from __future__ import annotations

from typing import Any

import torch

from tasks.train.algorithms.algorithm import AlgorithmSettings
from tasks.train.algorithms.fit import Fit, FitContext, TrainingData
from tasks.train.algorithms.network_algorithm import (
    ImageHyperparameters,
    NetworkAlgorithm,
    NetworkHyperparameters,
)
from tasks.train.loop import loop
from tasks.train.loop.batches import Batches
from tasks.train.loop.callbacks.callback import Callback
from tasks.train.loop.callbacks.checkpoints import KeepCheckpoints
from tasks.train.loop.callbacks.early_stopping import EarlyStopping
from tasks.train.loop.callbacks.report import ReportMetrics
from tasks.train.loop.callbacks.report_steps import ReportSteps
from tasks.train.loop.callbacks.resize import Resize
from tasks.train.loop.callbacks.stop_request import StopRequest
from tasks.train.loop.callbacks.time_limit import TimeLimit
from tasks.train.loop.checkpoint import CheckpointFolder, restore
from tasks.train.loop.communicators.communicator import Communicator, broadcast_bytes
from tasks.train.loop.communicators.single import SingleProcess
from tasks.train.loop.inputs import data_digest, scale_of, tensor_rows
from tasks.train.loop.memory import reused_memory
from tasks.train.loop.mixing import Mixing
from tasks.train.loop.objective import CrossEntropy, Objective, SquaredError, balanced_weights
from tasks.train.loop.optimisers import optimiser
from tasks.train.loop.precision import autocast_type, repeatable, threads_for
from tasks.train.loop.refusals import fitted_batch_size, refuse_unfit
from tasks.train.loop.start import load_start, weights_digest
from tasks.train.loop.state import TrainingState
from tasks.train.loop.weight_averaging import averaged_copy
from tasks.train.loop.world import World
from tasks.train.models.network import NetworkModel, Scale, channels_last_


def fit_network(
    algorithm: NetworkAlgorithm, data: TrainingData, settings: AlgorithmSettings, context: FitContext
) -> Fit:
    """Train a network: see `Algorithm.fit`.

    With a work folder, the state is kept there after each epoch, and from time to time within epochs,
    and taken up again from there.

    Raises:
        InvalidSettings: The settings do not go with the rows.
        Diverged: The loss is no longer a finite number.
    """
    assert isinstance(settings, NetworkHyperparameters)
    communicator: Communicator = context.communicator or SingleProcess()
    world = communicator.world
    refuse_unfit(settings, data, world.size)
    device = device_for(context.gpus, world, torch.cuda.is_available())
    shape = tuple(data.train.inputs.shape[1:])
    batch_size = fitted_batch_size(settings, len(data.train), world.size)
    loop_settings = loop.LoopSettings(
        epochs=settings.epochs_for(len(data.train), world.size),
        learning_rate=settings.learning_rate_for(world.size),
        schedule=settings.schedule,
        warmup=settings.warmup_percent / 100,
        gradient_clip_norm=settings.gradient_clip_norm,
        weight_averaging=settings.weight_averaging,
        compile=settings.compile,
        seed=context.seed,
        autocast=autocast_type(settings.precision, data.problem, device),
        device=device,
        sent_as=torch.float16 if settings.gradient_compression == "float16" else None,
    )
    with reused_memory(), repeatable(threads_for(shape, batch_size, world, context.threads), device):
        scale = scale_of(data)
        objective = _objective(data, settings, scale, device)
        state = _new_state(algorithm, data, settings, context, shape, device)
        train, validation = _batches(
            algorithm, data, settings, scale, loop_settings, communicator, batch_size=batch_size
        )
        callbacks: list[Callback] = []
        if context.work_folder is not None:
            identity = _identity(algorithm, data, settings, context, state)
            folder = CheckpointFolder(context.work_folder / "checkpoints", identity, world.size)
            kept = broadcast_bytes(communicator, folder.newest() if world.is_root else None)
            if kept is not None:
                restore(state, kept, world.size)
            keep = KeepCheckpoints(folder, world)
            callbacks += [keep, Resize(context.should_resize, keep)]  # first: reports may count on it
        callbacks += _callbacks(settings, context, loop_settings.epochs, objective, communicator)
        ended = loop.run(
            state,
            train,
            validation,
            objective=objective,
            settings=loop_settings,
            communicator=communicator,
            callbacks=callbacks,
        )
    state.network.load_state_dict(state.best_weights)
    model = NetworkModel(
        state.network.cpu(),
        scale,
        shape,
        len(data.classes),
        {"algorithm": algorithm.name, "hyperparameters": settings.model_dump(mode="json")},
    )
    return Fit(model, tuple(state.history), state.best_epoch, ended, state.elapsed_s)


def device_for(gpus: int | None, world: World, has_gpu: bool) -> torch.device:
    """Where a rank computes: on its own GPU, or on the processor.

    Args:
        gpus: GPUs that the fit may use; 0 stays on the processor, None takes one where there is one.
        world: This rank's place.
        has_gpu: Whether PyTorch finds a GPU here.
    """
    return torch.device("cuda", world.local_rank) if has_gpu and gpus != 0 else torch.device("cpu")


def _identity(
    algorithm: NetworkAlgorithm,
    data: TrainingData,
    settings: NetworkHyperparameters,
    context: FitContext,
    state: TrainingState,
) -> dict[str, Any]:
    """What makes a fit this one: it is taken up from its own checkpoints alone."""
    return {
        "algorithm": algorithm.name,
        "hyperparameters": settings.model_dump(mode="json"),
        "seed": context.seed,
        "data": data_digest(data),
        "start": weights_digest(state.network) if context.start_from else None,
    }


def _callbacks(
    settings: NetworkHyperparameters,
    context: FitContext,
    epochs: int,
    objective: Objective,
    communicator: Communicator,
) -> list[Callback]:
    """Who is told of the epochs, and who may end them; of those, the first one that wants to says why."""
    callbacks: list[Callback] = [
        ReportMetrics(context.report, epochs, communicator.world),
        EarlyStopping(settings.patience_for(epochs)),
        StopRequest(context.should_stop),
    ]
    if context.max_time_s is not None:
        callbacks.append(TimeLimit(context.max_time_s))
    if settings.logging_steps is not None:
        steps = ReportSteps(context.report_steps, settings.logging_steps, objective, communicator)
        callbacks.append(steps)
    return callbacks


def _new_state(
    algorithm: NetworkAlgorithm,
    data: TrainingData,
    settings: NetworkHyperparameters,
    context: FitContext,
    shape: tuple[int, ...],
    device: torch.device,
) -> TrainingState:
    """The state before the first epoch."""
    torch.manual_seed(context.seed)
    network = algorithm.network(shape, data.outputs, settings)
    if context.start_from is not None:
        load_start(algorithm, network, context.start_from, shape)
    network.to(device)
    if len(shape) == 3:
        channels_last_(network)
    return TrainingState(
        network,
        optimiser(
            settings.optimizer, network, settings.learning_rate, settings.weight_decay, settings.momentum
        ),
        averaged_copy(network) if settings.weight_averaging else None,
        sums=torch.zeros(3, dtype=torch.float64, device=device),
    )


def _batches(
    algorithm: NetworkAlgorithm,
    data: TrainingData,
    settings: NetworkHyperparameters,
    scale: Scale,
    loop_settings: loop.LoopSettings,
    communicator: Communicator,
    batch_size: int,
) -> tuple[Batches, Batches | None]:
    """How the batches of the training and the validation rows are made."""
    mixing = None
    if isinstance(settings, ImageHyperparameters) and (settings.mixup or settings.cutmix):
        mixing = Mixing(settings.mixup, settings.cutmix)
    around = scale, loop_settings.device, loop_settings.seed, communicator.world
    train = Batches(
        tensor_rows(data.train, scale, data),
        batch_size,
        *around,
        settings.accumulation_steps,
        algorithm.augmentation(settings),
        mixing,
    )
    if data.validation is None:
        return train, None
    watched = tensor_rows(data.validation, scale, data)
    return train, Batches(watched, settings.eval_batch_size_per_rank, *around)


def _objective(
    data: TrainingData, settings: NetworkHyperparameters, scale: Scale, device: torch.device
) -> Objective:
    if not data.problem.is_classification:
        return SquaredError(scale.label_deviation)
    weights = None
    if settings.class_weights == "balanced":
        labels = torch.from_numpy(data.train.labels.astype("int64"))
        weights = balanced_weights(labels, data.outputs).to(device)
    return CrossEntropy(settings.label_smoothing, weights)
