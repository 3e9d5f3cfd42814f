"""What every communicator must do, and that the one loop trains on two ranks through it."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tasks.train.loop.communicators.communicator import Communicator, broadcast_bytes
from tasks.train.loop.communicators.gradients import Gradients
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
    total = torch.tensor([rank, 1.0])
    communicator.begin_sum_(total)()
    in_double = torch.tensor([rank / 3], dtype=torch.float64)
    communicator.average_(in_double)
    from_root = torch.full((3,), rank)
    communicator.broadcast_(from_root)
    layer = torch.nn.Linear(2, 1)
    layer(torch.full((1, 2), float(rank))).sum().backward()
    gradients = Gradients(communicator, layer.parameters())
    anyone = gradients.average_(vote=rank == communicator.world.size - 1)
    nobody = gradients.average_(vote=False)
    other_order = torch.full((2, 2, 2, 2), float(rank)).to(memory_format=torch.channels_last)
    communicator.broadcast_(other_order)
    assert layer.weight.grad is not None
    return {
        "size": communicator.world.size,
        "rank": rank,
        "mean": mean.tolist(),
        "total": total.tolist(),
        "double": in_double.item(),
        "from_root": from_root.tolist(),
        "other_order": other_order.sum().item(),
        "gradient": layer.weight.grad.tolist(),
        "votes": (anyone, nobody),
        "bytes": broadcast_bytes(communicator, b"from 0" if rank == 0 else None),
        "nothing": broadcast_bytes(communicator, None if rank == 0 else b"unheard"),
        "empty": broadcast_bytes(communicator, b""),
    }


def gradients_of(part_bytes: int, sent_as: torch.dtype | None, communicator: Communicator) -> dict[str, Any]:
    """Two steps of two batches; each rank's gradients before, and what they became."""
    images = torch.nn.Sequential(
        torch.nn.Conv2d(3, 2, 3), torch.nn.Conv2d(2, 2, 1), torch.nn.Flatten(), torch.nn.Linear(8, 3)
    ).to(memory_format=torch.channels_last)
    unused = torch.nn.Linear(2, 1)
    parameters = [*images.parameters(), *unused.parameters()]
    rank = communicator.world.rank
    with torch.no_grad():
        for number, parameter in enumerate(parameters):
            parameter.copy_(torch.linspace(-1, 1, parameter.numel()).view_as(parameter) + number)
    gradients = Gradients(communicator, parameters, sent_as, part_bytes)
    own, averaged = [], []
    for step in range(2):
        for parameter in parameters:
            parameter.grad = None
        for batch in range(2):
            inputs = torch.full((2, 3, 4, 4), rank + step + batch + 0.25)
            loss = images(inputs.to(memory_format=torch.channels_last)).square().mean() / 100
            if batch == 1:
                expected = torch.autograd.grad(loss, list(images.parameters()), retain_graph=True)
                before = [p.grad for p in images.parameters() if p.grad is not None]
                own.append([(a + b).tolist() for a, b in zip(before, expected, strict=True)])
                gradients.expect()
            loss.backward()
        gradients.average_(vote=False)
        averaged.append([p.grad.tolist() for p in images.parameters() if p.grad is not None])
    gradients.close()
    first = next(images.parameters())
    assert first.grad is not None
    assert first.grad.is_contiguous(memory_format=torch.channels_last)
    assert all(parameter.grad is None for parameter in unused.parameters())
    images(torch.ones(1, 3, 4, 4)).sum().backward()  # alone again: nothing is sent
    return {"own": own, "averaged": averaged}


def _digest(fit: Any) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(fit.model.network.state_dict().items()):
        digest.update(name.encode() + value.numpy().tobytes())
    return digest.hexdigest()


def train(communicator: Communicator) -> tuple[str, list[float], list[float]]:
    """Train the loop's tiny network on this rank's share; digest of its weights, and its losses."""
    from tasks.train.algorithms.fit import FitContext
    from tests.helpers.striped import fit_striped

    fit = fit_striped(context=FitContext(seed=1, communicator=communicator))
    return (
        _digest(fit),
        [metrics["train_loss"] for metrics in fit.history],
        [metrics["validation_accuracy"] for metrics in fit.history],
    )


def stop_and_go_on(folder: str, communicator: Communicator) -> dict[str, Any]:
    """Train with every feature; stop within an epoch, since the last rank alone wants it; go on."""
    from tasks.train.algorithms.fit import FitContext
    from tasks.train.loop.callbacks import checkpoints
    from tests.helpers.striped import EVERYTHING, fit_striped

    checkpoints.EVERY_S, checkpoints.LARGEST_SHARE = 0.0, float("inf")
    world, asked, heard = communicator.world, 0, []

    def should_stop() -> bool:
        nonlocal asked
        asked += 1
        return world.rank == world.size - 1 and asked > 10

    def fit(**context: Any) -> Any:
        about = FitContext(seed=1, communicator=communicator, **context)
        return fit_striped(context=about, **EVERYTHING, logging_steps=1, epochs=3)

    unbroken = fit()
    stopped = fit(work_folder=Path(folder), should_stop=should_stop)
    resumed = fit(work_folder=Path(folder), report_steps=lambda step, _: heard.append(step))
    return {
        "ended": (unbroken.ended, stopped.ended, resumed.ended),
        "epochs": [len(each.history) for each in (unbroken, stopped, resumed)],
        "weights": {name: v.tolist() for name, v in resumed.model.network.state_dict().items()},
        "expected": {name: v.tolist() for name, v in unbroken.model.network.state_dict().items()},
        "digest": _digest(resumed),
        "heard": heard,
    }


@pytest.mark.parametrize("run", BACK_ENDS)
def test_says_its_words(run: Run) -> None:
    answers = run(words)
    size = len(answers)
    assert [answer.pop("rank") for answer in answers] == list(range(size))
    middle = (size - 1) / 2
    for answer in answers:
        assert answer["size"] == size
        assert answer["mean"] == [middle, 10 * middle]
        assert answer["total"] == [size * middle, size]
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
@pytest.mark.parametrize(
    ("part_bytes", "sent_as", "exact"),
    [(1, None, 1e-5), (64, None, 1e-5), (2**20, None, 1e-5), (64, torch.float16, 1e-2)],
)
def test_gradients_are_averaged_in_parts_of_any_size(
    run: Run, part_bytes: int, sent_as: torch.dtype | None, exact: float
) -> None:
    answers = run(partial(gradients_of, part_bytes, sent_as))
    for step in range(2):
        every = [answer["own"][step] for answer in answers]
        for answer in answers:
            assert answer["averaged"] == answers[0]["averaged"]
            for number, averaged in enumerate(answer["averaged"][step]):
                mean = np.mean([own[number] for own in every], axis=0)
                np.testing.assert_allclose(averaged, mean, rtol=exact, atol=exact * np.abs(mean).max())


@pytest.mark.parametrize("run", BACK_ENDS)
def test_the_loop_ends_with_the_same_weights_on_every_rank(run: Run) -> None:
    answers = run(train)
    digests = {digest for digest, _, _ in answers}
    assert len(digests) == 1
    _, losses, accuracies = answers[0]
    assert losses[-1] < 0.7 * losses[0]
    assert all(answer[1:] == (losses, accuracies) for answer in answers)


@pytest.mark.parametrize("run", BACK_ENDS)
def test_one_rank_stops_all_and_all_go_on_from_the_same_step(run: Run, tmp_path: Path) -> None:
    answers = run(partial(stop_and_go_on, str(tmp_path)))
    assert len({answer["digest"] for answer in answers}) == 1
    for answer in answers:
        assert answer["ended"] == ("finished", "stopped", "finished")
        unbroken, stopped, resumed = answer["epochs"]
        assert unbroken == resumed > stopped >= 1
        for name, values in answer["expected"].items():
            np.testing.assert_allclose(answer["weights"][name], values, atol=1e-6)
    # Only rank 0 tells, and it begins within an epoch, not where one ended.
    steps_an_epoch = 6 // len(answers)
    first, *_, last = answers[0]["heard"]
    assert (first - 1) % steps_an_epoch
    assert last == 3 * steps_an_epoch
    assert all(not answer["heard"] for answer in answers[1:])
