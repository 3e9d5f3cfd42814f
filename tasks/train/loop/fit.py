"""Run the training loop for an algorithm: from arrays and settings to a fitted network."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch

from tasks.train.algorithms.algorithm import AlgorithmSettings, Fit, FitContext, Rows, TrainingData
from tasks.train.algorithms.network_algorithm import NetworkAlgorithm, NetworkHyperparameters
from tasks.train.loop import loop
from tasks.train.loop.callbacks.callback import Callback
from tasks.train.loop.callbacks.checkpoints import KeepCheckpoints
from tasks.train.loop.callbacks.early_stopping import EarlyStopping
from tasks.train.loop.callbacks.limits import Limits
from tasks.train.loop.callbacks.report import ReportMetrics
from tasks.train.loop.checkpoint import CheckpointFolder, restore
from tasks.train.loop.communicators.communicator import Communicator, broadcast_bytes
from tasks.train.loop.communicators.single import SingleProcess
from tasks.train.loop.objective import CrossEntropy, Objective, SquaredError
from tasks.train.loop.world import World
from tasks.train.models.network import NetworkModel, Scale, channels_last_

if TYPE_CHECKING:
    from numpy.typing import NDArray


PIXELS_A_THREAD = 16_384


def fit_network(
    algorithm: NetworkAlgorithm, data: TrainingData, settings: AlgorithmSettings, context: FitContext
) -> Fit:
    """Train a network: see `Algorithm.fit`.

    With a work folder, the state is kept there after each epoch and taken up again from there.
    """
    assert isinstance(settings, NetworkHyperparameters)
    communicator: Communicator = context.communicator or SingleProcess()
    world = communicator.world
    device = _device(context.gpus, world)
    epochs = settings.epochs_for(len(data.train), world.size)
    loop_settings = loop.LoopSettings(
        epochs=epochs,
        batch_size_per_rank=min(settings.batch_size_per_rank, max(1, len(data.train) // world.size)),
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        warmup=settings.warmup_percent / 100,
        seed=context.seed,
        autocast=_autocast(settings.precision, data, device),
        device=device,
        max_time_s=context.max_time_s,
    )
    scale = _scale(data)
    shape = tuple(data.train.inputs.shape[1:])
    with _repeatable(_threads(data, loop_settings.batch_size_per_rank, world), device):
        torch.manual_seed(context.seed)
        network = algorithm.network(shape, data.outputs, settings).to(device)
        if len(shape) == 3:
            channels_last_(network)
        state = loop.new_state(network, loop_settings)
        callbacks: list[Callback] = [
            ReportMetrics(context.report, epochs, world),
            EarlyStopping(settings.patience_epochs),
            Limits(context.max_time_s, context.should_stop),
        ]
        if context.work_folder is not None:
            identity = {
                "algorithm": algorithm.name,
                "hyperparameters": settings.model_dump(mode="json"),
                "seed": context.seed,
                "data": _data_digest(data),
            }
            folder = CheckpointFolder(context.work_folder / "checkpoints", identity)
            kept = broadcast_bytes(communicator, folder.newest() if world.is_root else None)
            if kept is not None:
                restore(state, kept)
            callbacks.insert(0, KeepCheckpoints(folder, world))
        ended = loop.run(
            state,
            _tensors(data.train, scale, data),
            None if data.validation is None else _tensors(data.validation, scale, data),
            objective=_objective(data, scale),
            scale=scale,
            settings=loop_settings,
            communicator=communicator,
            augmentation=algorithm.augmentation(settings),
            callbacks=callbacks,
        )
    network.load_state_dict(state.best_weights)
    model = NetworkModel(
        network.cpu(),
        scale,
        shape,
        len(data.classes),
        {"algorithm": algorithm.name, "hyperparameters": settings.model_dump(mode="json")},
    )
    return Fit(model, tuple(state.history), state.best_epoch, ended, state.elapsed_s)


def _device(gpus: int | None, world: World) -> torch.device:
    """This rank's GPU, unless there is none or none is to be used."""
    if gpus == 0 or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", world.local_rank)


def _scale(data: TrainingData) -> Scale:
    """Means and deviations of the training rows."""
    inputs = data.train.inputs
    if inputs.dtype == np.uint8:
        mean, deviation = _image_scale(inputs)
    else:
        mean, deviation = inputs.mean(axis=0), inputs.std(axis=0)
    deviation = np.where(deviation > 1e-8, deviation, 1.0)
    columns = tuple(map(float, mean)), tuple(map(float, deviation))
    if data.problem.is_classification:
        return Scale(*columns)
    spread = float(data.train.labels.std())
    return Scale(*columns, float(data.train.labels.mean()), spread if spread > 1e-8 else 1.0)


def _image_scale(images: NDArray[np.generic]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and deviation of each channel, exact, from counts of the 256 values: no large copies."""
    values = np.arange(256, dtype=np.float64)
    means, deviations = [], []
    for channel in range(images.shape[3]):
        counts = np.bincount(images[..., channel].reshape(-1), minlength=256)
        mean = (counts * values).sum() / counts.sum()
        means.append(mean)
        deviations.append(((counts * np.square(values - mean)).sum() / counts.sum()) ** 0.5)
    return np.array(means), np.array(deviations)


def _tensors(rows: Rows, scale: Scale, data: TrainingData) -> loop.TensorRows:
    inputs = torch.from_numpy(np.ascontiguousarray(rows.inputs))
    if inputs.dtype != torch.uint8:
        inputs = inputs.to(torch.float64)
    if data.problem.is_classification:
        return loop.TensorRows(inputs, torch.from_numpy(rows.labels.astype(np.int64)))
    scaled = (rows.labels - scale.label_mean) / scale.label_deviation
    return loop.TensorRows(inputs, torch.from_numpy(scaled.astype(np.float32)))


def _objective(data: TrainingData, scale: Scale) -> Objective:
    return CrossEntropy() if data.problem.is_classification else SquaredError(scale.label_deviation)


def _autocast(precision: str, data: TrainingData, device: torch.device) -> torch.dtype | None:
    """The number format of the heavy operations; None is float32."""
    if precision == "bfloat16":
        return torch.bfloat16
    if precision == "float32" or data.problem.is_table:
        return None
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else None
    fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if fast else None


def _data_digest(data: TrainingData) -> str:
    """SHA-256 over the rows that are trained on and watched."""
    digest = hashlib.sha256()
    for rows in (data.train, data.validation):
        if rows is not None:
            for array in (rows.inputs, rows.labels):
                digest.update(f"{array.dtype}{array.shape}".encode())
                digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _threads(data: TrainingData, batch_size: int, world: World) -> int:
    """Threads of each rank: its share of the processors, or fewer where steps are too small to share.

    Args:
        data: The rows; a step on a table keeps no second thread busy, nor does one on tiny images.
        batch_size: Rows of a step.
        world: The ranks.
    """
    pixels = 0 if data.problem.is_table else batch_size * math.prod(data.train.inputs.shape[1:3])
    return max(1, min(len(os.sched_getaffinity(0)) // world.size, pixels // PIXELS_A_THREAD))


@contextmanager
def _repeatable(threads: int, device: torch.device) -> Iterator[None]:
    """Fix what sums depend on: the number of threads and the choice of operations."""
    before = torch.get_num_threads()
    strict = torch.are_deterministic_algorithms_enabled()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_num_threads(threads)
    # On GPUs a few operations have no deterministic form: those are named in a warning there.
    torch.use_deterministic_algorithms(True, warn_only=device.type == "cuda")
    try:
        yield
    finally:
        torch.set_num_threads(before)
        torch.use_deterministic_algorithms(strict)
