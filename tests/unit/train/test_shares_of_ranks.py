"""How ranks share rows, steps and learning rates, however many they are."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.errors import InvalidSettings
from tasks.train import algorithms
from tasks.train.algorithms.fit import FitContext
from tasks.train.algorithms.network_algorithm import NetworkHyperparameters
from tasks.train.loop import checkpoint
from tasks.train.loop.batches import Batches, TensorRows
from tasks.train.loop.communicators.gradients import Gradients
from tasks.train.loop.refusals import refuse_unfit
from tasks.train.loop.state import TrainingState
from tasks.train.loop.world import World
from tasks.train.models.network import Scale
from tests.helpers.on_ranks import weights_of
from tests.helpers.striped import fit_striped, striped

CPU = torch.device("cpu")


def share(rows: int, batch: int, world: World, accumulation: int = 1) -> Batches:
    """Batches of rows whose only feature is their number."""
    numbers = torch.arange(rows, dtype=torch.float32)
    every = TensorRows(numbers[:, None], numbers.to(torch.int64))
    return Batches(every, batch, Scale((0.0,), (1.0,)), CPU, 3, world, accumulation)


def taken(batches: Batches, epoch: int, before: int = 0) -> list[list[int]]:
    """Numbers of the rows in each batch."""
    return [targets.labels.tolist() for _, targets in batches.of_epoch(epoch, 0, before)]


sizes = st.integers(1, 5)


@given(rows=st.integers(5, 200), batch=st.integers(1, 9), size=sizes, epoch=st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_no_row_is_taken_twice_and_as_few_as_can_be_wait(
    rows: int, batch: int, size: int, epoch: int
) -> None:
    batch = min(batch, rows // size)
    ranks = [share(rows, batch, World(rank, rank, size)) for rank in range(size)]
    seen = [row for one in ranks for each in taken(one, epoch) for row in each]
    assert len(seen) == len(set(seen))
    assert rows - len(seen) < batch * size or len(seen) == batch * size
    watched = [int(row) for one in ranks for _, targets in one.in_order() for row in targets.labels]
    assert sorted(watched) == list(range(rows))


@given(rows=st.integers(40, 200), before=sizes, after=sizes, steps=st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_other_ranks_go_on_behind_the_rows_that_are_taken(
    rows: int, before: int, after: int, steps: int
) -> None:
    batch = 2
    first = [share(rows, batch, World(rank, rank, before)) for rank in range(before)]
    done = [row for one in first for each in taken(one, 1)[:steps] for row in each]
    assert len(done) == steps * first[0].rows_a_step
    second = [share(rows, batch, World(rank, rank, after)) for rank in range(after)]
    rest = [row for one in second for each in taken(one, 1, len(done)) for row in each]
    assert not set(done) & set(rest)
    left = rows - len(done) - len(rest)
    assert 0 <= left < second[0].rows_a_step
    assert second[0].steps_from(len(done)) == len(rest) // second[0].rows_a_step


def test_batches_that_are_added_up_are_one_large_batch() -> None:
    whole = weights_of(320, 32, 40, {}, FitContext(seed=7))
    added = weights_of(320, 8, 160, {"accumulation_steps": 4, "epochs": 4}, FitContext(seed=7))
    for name, value in whole.items():
        np.testing.assert_allclose(added[name], value, rtol=0, atol=1e-5, err_msg=name)


def test_steps_of_several_batches_must_have_the_rows() -> None:
    fit = fit_striped(batch_size_per_rank=8, accumulation_steps=3, epochs=3)
    assert len(fit.history) == 3
    assert fit.history[-1]["train_loss"] < fit.history[0]["train_loss"]
    with pytest.raises(InvalidSettings, match="accumulation_steps 20 make steps of 160 of 96 rows"):
        fit_striped(batch_size_per_rank=8, accumulation_steps=20)


def test_more_ranks_than_rows_are_refused() -> None:
    settings, data = NetworkHyperparameters(), striped(rows=3)
    refuse_unfit(settings, data, 3)
    with pytest.raises(InvalidSettings, match="4 ranks are more than the 3 training rows"):
        refuse_unfit(settings, data, 4)


def test_names_of_transformers_are_understood() -> None:
    settings = NetworkHyperparameters.model_validate({"gradient_accumulation_steps": 4})
    assert settings.accumulation_steps == 4


@pytest.mark.parametrize(("scaling", "factor"), [("none", 1), ("linear", 4), ("sqrt", 2)])
def test_the_learning_rate_grows_with_the_ranks(scaling: str, factor: float) -> None:
    algorithm = algorithms.get("mlp")
    chosen = algorithms.settings(algorithm, {"learning_rate": 0.01, "learning_rate_scaling": scaling})
    assert isinstance(chosen, NetworkHyperparameters)
    assert chosen.learning_rate_for(4) == pytest.approx(0.01 * factor)


def test_sums_of_an_epoch_are_shared_by_other_ranks() -> None:
    network = torch.nn.Linear(2, 1)
    state = TrainingState(network, torch.optim.SGD(network.parameters(), 0.1))
    state.sums = torch.tensor([3.0, 2.0, 8.0], dtype=torch.float64)
    state.rows_taken = 16
    content = _written(state, ranks=2)
    other = TrainingState(network, torch.optim.SGD(network.parameters(), 0.1))
    checkpoint.restore(other, content, ranks=1)
    assert other.sums.tolist() == [6.0, 4.0, 16.0]
    assert other.rows_taken == 16


def _written(state: TrainingState, ranks: int) -> bytes:
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        return checkpoint.CheckpointFolder(Path(folder), {"seed": 0}, ranks).write(state).read_bytes()


def test_gradients_are_sent_in_the_format_that_was_asked_for() -> None:
    class Two:
        """Another rank that has the same gradients."""

        world = World(0, 0, 2)
        sent: torch.dtype | None = None

        def begin_sum_(self, tensor: torch.Tensor) -> Callable[[], None]:
            self.sent = tensor.dtype
            tensor.mul_(2)
            return lambda: None

        def average_(self, tensor: torch.Tensor) -> None: ...

        def broadcast_(self, tensor: torch.Tensor) -> None: ...

    layer, ranks = torch.nn.Linear(2, 1), Two()
    layer(torch.ones(1, 2) / 3).sum().backward()
    assert layer.weight.grad is not None
    exact = layer.weight.grad.clone()
    assert not Gradients(ranks, layer.parameters(), sent_as=torch.float16).average_(vote=False)
    assert ranks.sent is torch.float16
    assert layer.weight.grad.dtype is torch.float32
    assert torch.equal(layer.weight.grad, exact.half().float())
