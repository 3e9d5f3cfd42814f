"""The sides of the benchmark of ranks: our training loop, by whichever way its ranks are started.

    torchrun --nproc-per-node 2 -m tests.helpers.rank_sides torch ORDER
    horovodrun -np 2 -H localhost:2 --gloo python -m tests.helpers.rank_sides horovod ORDER
    python -m tests.helpers.rank_sides alone ORDER

All of them fit the same network with the same settings on the same made-up images, one thread a rank.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.train.ranks.rank import Rank
from tests.helpers.ranks_started import ENVIRONMENT, REPOSITORY, STARTERS, two_workers

if TYPE_CHECKING:
    from tasks.train.loop.communicators.communicator import Communicator


@dataclass(frozen=True)
class Order:
    """What every side does.

    Attributes:
        outcome: File for the rates of the epochs, as JSON: see `fit`.
        algorithm: Whose network.
        changes: Hyperparameters beside those that are set here.
        steps: Of an epoch.
        part_mib: Size in which gradients are sent; None is the default.
    """

    outcome: str
    algorithm: str = "resnet_18"
    changes: dict[str, Any] = field(default_factory=dict)
    side_px: int = 150
    batch_size: int = 16
    steps: int = 10
    epochs: int = 4
    part_mib: float | None = None


@dataclass(frozen=True)
class Speed:
    """Rows a second of all ranks together.

    Attributes:
        rows_per_s: What counts.
        rows_per_cpu_s: A second of a processor that each rank has: what is left of it on a busy machine.
    """

    rows_per_s: float
    rows_per_cpu_s: float


def fit(order: Order, ranks: int, communicator: Communicator | None) -> list[tuple[float, float]]:
    """Fit by our loop; for each epoch rows of all ranks a second, and a second of this rank's processor."""
    import time

    import numpy as np

    from tasks.refs import Problem
    from tasks.train import algorithms
    from tasks.train.algorithms.fit import FitContext, Rows, TrainingData
    from tasks.train.loop.communicators import gradients

    if order.part_mib is not None:
        gradients.PART_BYTES["cpu"] = int(order.part_mib * 2**20)
    random = np.random.default_rng(0)
    count = order.steps * order.batch_size * ranks
    images = random.integers(0, 256, (count, order.side_px, order.side_px, 3), dtype=np.uint8)
    rows = Rows(images, random.integers(0, 6, count))
    data = TrainingData(Problem.IMAGE_CLASSIFICATION, rows, None, tuple("abcdef"))
    algorithm = algorithms.get(order.algorithm)
    settings = algorithms.settings(
        algorithm,
        {
            "epochs": order.epochs,
            "batch_size_per_rank": order.batch_size,
            "patience_epochs": order.epochs,
            **order.changes,
        },
    )
    used_s = [time.process_time()]
    context = FitContext(
        threads=1, communicator=communicator, report=lambda *_: used_s.append(time.process_time())
    )
    done = algorithm.fit(data, settings, context)
    return [
        (metrics["rows_per_s"], count / (after - before))
        for metrics, before, after in zip(
            done.history, used_s[:-1], used_s[1:], strict=False
        )  # root alone is told
    ]


def speed(rates: Sequence[Sequence[float]]) -> Speed:
    """Of the epochs after the first, in which memory is asked for and code is chosen."""
    return Speed(*(statistics.median(column) for column in zip(*rates[1:], strict=True)))


def launched(order: Order, name: str) -> Speed:
    """Rows a second of two ranks that we launch."""
    from tasks.train.ranks import launcher
    from tasks.train.ranks.gang import Gang, launch

    with two_workers() as client:  # they are not there while other sides run
        return speed(launch(partial(_on_rank, order), Gang(2, launcher.get(name), threads=1), client))


def _on_rank(order: Order, rank: Rank) -> list[tuple[float, float]]:
    return fit(order, rank.place.size, rank.communicator)


def started(order: Order, name: str, variables: dict[str, str] | None = None) -> Speed:
    """Rows a second of two ranks that the library's own program starts, with its defaults."""
    module = ["-m", "tests.helpers.rank_sides", name, json.dumps(asdict(order))]
    subprocess.run(
        [*STARTERS[name], *module],
        cwd=REPOSITORY, env={**ENVIRONMENT, **(variables or {})}, check=True, capture_output=True,
    )  # fmt: skip
    return speed(json.loads(Path(order.outcome).read_text()))


def alone(order: Order, processes: int = 2) -> Speed:
    """Rows a second of processes that do not talk to each other, together."""
    orders = [{**asdict(order), "outcome": f"{order.outcome}-{number}"} for number in range(processes)]
    command = [sys.executable, "-m", "tests.helpers.rank_sides", "alone"]
    running = [
        subprocess.Popen([*command, json.dumps(one)], cwd=REPOSITORY, env=ENVIRONMENT) for one in orders
    ]
    assert [one.wait() for one in running] == [0] * processes
    each = [speed(json.loads(Path(str(one["outcome"])).read_text())) for one in orders]
    return Speed(sum(one.rows_per_s for one in each), sum(one.rows_per_cpu_s for one in each))


@contextmanager
def _joined(side: str) -> Iterator[Communicator | None]:
    """The communicator of a rank that another program than ours has started."""
    if side == "torch":
        import torch

        from tasks.train.loop.communicators.torch_distributed import TorchRanks

        torch.distributed.init_process_group("gloo")
        yield TorchRanks()
        torch.distributed.destroy_process_group()
    elif side == "horovod":
        import horovod.torch as hvd

        from tasks.train.loop.communicators.horovod import HorovodRanks

        hvd.init()
        yield HorovodRanks()
        hvd.shutdown()
    else:
        yield None


def main() -> None:
    """Run one rank of a side."""
    side, order = sys.argv[1], Order(**json.loads(sys.argv[2]))
    with _joined(side) as communicator:
        world = communicator.world if communicator else None
        rates = fit(order, world.size if world else 1, communicator)
        if world is None or world.is_root:
            Path(order.outcome).write_text(json.dumps(rates))


if __name__ == "__main__":
    main()
