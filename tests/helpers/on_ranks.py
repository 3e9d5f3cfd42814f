"""What ranks do in tests: functions that their processes can import."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tasks.errors import InvalidSettings
from tasks.train.ranks.rank import Rank


def meet(rank: Rank) -> dict[str, Any]:
    """Speak once with the others."""
    assert rank.communicator is not None
    world = rank.communicator.world
    mean = torch.tensor([float(world.rank)])
    rank.communicator.average_(mean)
    rank.tell({"rank": world.rank})
    return {
        "world": (world.rank, world.local_rank, world.size, world.local_size),
        "place": (rank.place.rank, rank.place.local_rank, rank.place.size, rank.place.local_size),
        "mean": mean.item(),
        "pid": os.getpid(),
    }


def variables(rank: Rank) -> dict[str, str]:
    """The variables that user code finds."""
    assert rank.communicator is None
    assert rank.variables.items() <= os.environ.items()
    assert "MALLOC_TRIM_THRESHOLD_" not in os.environ  # Dask's, for its workers
    return dict(rank.variables)


def fail_on(number: int, rank: Rank) -> None:
    """Raise on one rank while the others wait for it."""
    assert rank.communicator is not None
    if rank.place.rank == number:
        raise InvalidSettings("this one did not want to", where=f"rank {number}")
    rank.communicator.average_(torch.zeros(1))


def abort_on(number: int, rank: Rank) -> None:
    """Abort on one rank, as libraries in C++ do, while the others wait for it."""
    assert rank.communicator is not None
    if rank.place.rank == number:
        os.abort()
    rank.communicator.average_(torch.zeros(1))


def die_on(number: int, how: int, folder: str, steps: int, rank: Rank) -> dict[str, Any]:
    """Step by step; one rank gets a signal at the third step, once, and whoever goes on counts from there."""
    assert rank.communicator is not None
    world, place = rank.communicator.world, Path(folder)
    committed = place / "committed"
    begin = int(committed.read_text()) if committed.exists() else 0
    sizes = []
    for step in range(begin, steps):
        marked = place / f"died-{number}"
        if world.rank == number and step == 3 and not marked.exists():
            marked.touch()
            os.kill(os.getpid(), how)
        total = torch.ones(1)
        rank.communicator.average_(total)
        sizes.append(world.size)
        if world.is_root:
            committed.write_text(str(step + 1))
            rank.tell(step)
        time.sleep(0.02)
    return {"began": begin, "sizes": sizes}


def wait_to_be_stopped(rank: Rank) -> str:
    """Do nothing until it is asked to end."""
    rank.tell("waits")
    assert rank.wishes.stop.wait(60)
    return "stopped"


def hold(path: str, rank: Rank) -> float:
    """Say when it began; end when a file is there."""
    began = time.time()
    rank.tell("began")
    while not Path(path).exists():
        time.sleep(0.05)
    return began


def occupy(folder: str, job: str, hold_s: float, rank: Rank) -> None:
    """Keep the worker for a while, and note from when until when."""
    assert rank.communicator is not None
    began = time.time()
    rank.communicator.average_(torch.zeros(1))
    time.sleep(hold_s)
    note = {"job": job, "from": began, "until": time.time()}
    (Path(folder) / f"{job}-{rank.place.rank}.json").write_text(json.dumps(note))


def ignore_everything(rank: Rank) -> None:
    """Stand still in a way that no word reaches."""
    rank.tell(os.getpid())
    os.kill(os.getpid(), signal.SIGSTOP)


def fit_rows(rows: int, batch: int, steps: int, changes: dict[str, Any], rank: Rank) -> dict[str, np.ndarray]:
    """Fit a perceptron on the same rows in the same order, and give its weights."""
    from tasks.train.algorithms.fit import FitContext

    return weights_of(rows, batch, steps, changes, FitContext(seed=7, communicator=rank.communicator))


def weights_of(
    rows: int, batch: int, steps: int, changes: dict[str, Any], context: Any
) -> dict[str, np.ndarray]:
    """The same in this process."""
    from tasks.refs import Problem
    from tasks.train import algorithms
    from tasks.train.algorithms.fit import Rows, TrainingData

    random = np.random.default_rng(0)
    inputs = random.normal(size=(rows, 6))
    labels = (inputs[:, 0] + inputs[:, 1] ** 2 > 1).astype(np.int64)
    data = TrainingData(
        Problem.TABLE_CLASSIFICATION, Rows(inputs, labels), None, ("no", "yes"), tuple("abcdef")
    )
    algorithm = algorithms.get("mlp")
    epochs = steps // (rows // (batch * (context.communicator.world.size if context.communicator else 1)))
    settings = algorithms.settings(
        algorithm, {"batch_size_per_rank": batch, "epochs": epochs, "precision": "float32", **changes}
    )
    network = algorithm.fit(data, settings, context).model.network  # type: ignore[attr-defined]
    return {name: value.numpy() for name, value in network.state_dict().items()}


def devices(rank: Rank) -> list[str]:
    """The GPU of every rank, by its own words."""
    assert rank.communicator is not None
    world = rank.communicator.world
    mine = torch.cuda.current_device()
    every = torch.zeros(world.size, device="cuda")
    every[world.rank] = mine
    rank.communicator.average_(every)
    return [f"cuda:{round(value)}" for value in (every * world.size).tolist()]


def backends(rank: Rank) -> str:
    """What torch.distributed takes between which devices."""
    assert rank.communicator is not None
    return str(torch.distributed.get_backend_config())


def fit_history(rows: int, side_px: int, changes: dict[str, Any], rank: Rank) -> list[dict[str, float]]:
    """Fit the tiny network on stripes, and give the metrics of its epochs."""
    from tasks.train.algorithms.fit import FitContext
    from tests.helpers.striped import fit_striped, striped

    context = FitContext(seed=3, communicator=rank.communicator)
    return list(fit_striped(striped(rows, side_px), context, **changes).history)


def mean_on_gpu(rank: Rank) -> float:
    """The mean of the ranks' numbers, over NCCL."""
    assert rank.communicator is not None
    mean = torch.full((1 << 20,), float(rank.place.rank), device="cuda")
    rank.communicator.average_(mean)
    assert bool((mean == mean[0]).all())
    return float(mean[0])


def fit_striped_on(folder: str, changes: dict[str, Any], rank: Rank) -> dict[str, np.ndarray] | None:
    """Fit the tiny network on stripes, with a checkpoint of each step, and give its weights."""
    from tasks.train.algorithms.fit import FitContext
    from tasks.train.loop.callbacks import checkpoints
    from tests.helpers.striped import fit_striped

    checkpoints.EVERY_S, checkpoints.LARGEST_SHARE = 0.0, float("inf")
    assert rank.communicator is not None
    size = rank.communicator.world.size
    context = FitContext(
        seed=3,
        work_folder=Path(folder),
        report=lambda epoch, *_: rank.tell(["epoch", epoch, size]),
        report_steps=lambda step, _: rank.tell(["step", step, size]),
        should_resize=rank.wishes.resize.is_set,
        communicator=rank.communicator,
    )
    network = fit_striped(context=context, **changes, logging_steps=1).model.network  # type: ignore[attr-defined]
    return {name: value.numpy() for name, value in network.state_dict().items()}
