"""What every communicator must do, and that the one loop trains on two ranks through it."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import socket
from collections.abc import Callable
from typing import Any

import pytest
import torch

from tasks.train.loop.communicators.communicator import Communicator, average_gradients, broadcast_bytes
from tasks.train.loop.communicators.single import SingleProcess

Work = Callable[[Communicator], Any]
Run = Callable[[Work], list[Any]]


def _single(work: Work) -> list[Any]:
    return [work(SingleProcess())]


def _horovod_rank(work: Work) -> Any:
    import horovod.torch as hvd

    from tasks.train.loop.communicators.horovod import HorovodRanks

    torch.set_num_threads(1)
    hvd.init()
    try:
        return work(HorovodRanks())
    finally:
        hvd.shutdown()


def _horovod(work: Work) -> list[Any]:
    import horovod

    return list(horovod.run(_horovod_rank, args=(work,), num_proc=2, use_gloo=True))


def _torch_rank(work: Work, rank: int, port: int, answers: Any) -> None:
    from tasks.train.loop.communicators.torch_distributed import TorchRanks

    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    address = f"tcp://127.0.0.1:{port}"
    torch.distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    try:
        answers.put((rank, work(TorchRanks())))
    finally:
        torch.distributed.destroy_process_group()


def _torch_distributed(work: Work) -> list[Any]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    spawn = multiprocessing.get_context("spawn")
    answers = spawn.Queue()
    ranks = [spawn.Process(target=_torch_rank, args=(work, rank, port, answers)) for rank in range(2)]
    for rank in ranks:
        rank.start()
    found = dict(answers.get(timeout=120) for _ in ranks)
    for rank in ranks:
        rank.join()
        assert rank.exitcode == 0
    return [found[rank] for rank in sorted(found)]


BACK_ENDS = [
    pytest.param(_single, id="single"),
    pytest.param(_horovod, id="horovod"),
    pytest.param(_torch_distributed, id="torch-distributed"),
]


def words(communicator: Communicator) -> dict[str, Any]:
    """Say each word once; what this rank heard."""
    rank = communicator.world.rank
    mean = torch.tensor([rank, 10.0 * rank])
    communicator.average_(mean)
    in_double = torch.tensor([rank / 3], dtype=torch.float64)
    communicator.average_(in_double)
    from_root = torch.full((3,), rank)
    communicator.broadcast_(from_root)
    layer = torch.nn.Linear(2, 1)
    layer(torch.full((1, 2), float(rank))).sum().backward()
    anyone = average_gradients(communicator, layer.parameters(), vote=rank == communicator.world.size - 1)
    nobody = average_gradients(communicator, layer.parameters(), vote=False)
    other_order = torch.full((2, 2, 2, 2), float(rank)).to(memory_format=torch.channels_last)
    communicator.broadcast_(other_order)
    communicator.barrier()
    assert layer.weight.grad is not None
    return {
        "size": communicator.world.size,
        "rank": rank,
        "mean": mean.tolist(),
        "double": in_double.item(),
        "from_root": from_root.tolist(),
        "other_order": other_order.sum().item(),
        "gradient": layer.weight.grad.tolist(),
        "votes": (anyone, nobody),
        "bytes": broadcast_bytes(communicator, b"from 0" if rank == 0 else None),
        "nothing": broadcast_bytes(communicator, None if rank == 0 else b"unheard"),
        "empty": broadcast_bytes(communicator, b""),
    }


def train(communicator: Communicator) -> tuple[str, list[float], list[float]]:
    """Train the loop's tiny network on this rank's share; digest of its weights, and its losses."""
    from tasks.train.algorithms.algorithm import FitContext
    from tests.helpers.striped import fit_striped

    fit = fit_striped(context=FitContext(seed=1, world=communicator.world, communicator=communicator))
    digest = hashlib.sha256()
    for name, value in sorted(fit.model.network.state_dict().items()):  # type: ignore[attr-defined]
        digest.update(name.encode() + value.numpy().tobytes())
    return (
        digest.hexdigest(),
        [metrics["train_loss"] for metrics in fit.history],
        [metrics["validation_accuracy"] for metrics in fit.history],
    )


@pytest.mark.parametrize("run", BACK_ENDS)
def test_says_its_words(run: Run) -> None:
    answers = run(words)
    size = len(answers)
    assert [answer.pop("rank") for answer in answers] == list(range(size))
    middle = (size - 1) / 2
    for answer in answers:
        assert answer["size"] == size
        assert answer["mean"] == [middle, 10 * middle]
        assert answer["double"] == pytest.approx(middle / 3, abs=1e-15)
        assert answer["from_root"] == [0, 0, 0]
        assert answer["other_order"] == 0
        assert answer["gradient"] == [[middle, middle]]
        assert answer["votes"] == (True, False)
        assert answer["bytes"] == b"from 0"
        assert answer["nothing"] is None
        assert answer["empty"] == b""
        assert answer == answers[0]


@pytest.mark.parametrize("run", BACK_ENDS)
def test_the_loop_ends_with_the_same_weights_on_every_rank(run: Run) -> None:
    answers = run(train)
    digests = {digest for digest, _, _ in answers}
    assert len(digests) == 1
    _, losses, accuracies = answers[0]
    assert losses[-1] < 0.7 * losses[0]
    assert all(answer[1:] == (losses, accuracies) for answer in answers)
