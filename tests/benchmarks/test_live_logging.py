"""What following a training costs it: the same loop with and without logging, host charts and live view.

Measured as the CPU time of the whole process while the loop runs, on one thread of a small network whose
steps take a few ms, which is as often as anything is ever logged. It counts what the threads beside the loop
use as if the loop had to wait for all of it, and does not depend on what else the host does.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient

from tasks.train.algorithms.algorithm import Metrics
from tasks.train.live import Live, Standing
from tasks.train.live_curves import live_curves
from tasks.train.tracking import tracked_run
from tests.helpers.serving_stack import MlflowProcess

STEPS_AN_EPOCH, EPOCHS, LOGGING_STEPS, ROUNDS = 50, 40, 10, 3
ALLOWED = 0.02

Hear = Callable[[int, Metrics], None]


def _loop(epoch_done: Hear, steps_done: Hear) -> float:
    """Train a small network; returns the CPU seconds of this process meanwhile."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(256, 512), torch.nn.ReLU(), torch.nn.Linear(512, 10))
    optimiser = torch.optim.AdamW(network.parameters())
    inputs, labels = torch.randn(256, 256), torch.randint(0, 10, (256,))
    began = time.process_time()
    step = 0
    for epoch in range(1, EPOCHS + 1):
        for _ in range(STEPS_AN_EPOCH):
            loss = torch.nn.functional.cross_entropy(network(inputs), labels)
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
            step += 1
            if step % LOGGING_STEPS == 0:
                steps_done(step, {"step_train_loss": loss.item()})
        epoch_done(epoch, {"train_loss": 1 / epoch, "validation_loss": 1 / epoch, "train_accuracy": 0.5})
    return time.process_time() - began


@pytest.mark.benchmark
def test_following_a_training_does_not_slow_it(tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    server = MlflowProcess(tmp_path)
    server.start()
    client = MlflowClient(server.uri)

    def show(standing: Standing) -> None:
        (tmp_path / "live.svg").write_text(live_curves(standing.curves, standing.epochs))

    def nobody(step: int, metrics: Metrics) -> None:
        """Hear nothing."""

    def followed() -> float:
        with (
            tracked_run(client, "speed", name="followed", tags={}) as run,
            Live(show, every_s=1.0) as live,
        ):

            def epoch_done(epoch: int, metrics: Metrics) -> None:
                run.stream(metrics, epoch)
                live(epoch, EPOCHS, metrics)

            return _loop(epoch_done, run.stream_steps)

    alone_s, followed_s = [], []
    wall_alone_s, wall_followed_s = [], []
    try:
        _loop(nobody, nobody)
        for _ in range(ROUNDS):  # in turn, so that a busy minute of the host meets both
            began = time.monotonic()
            alone_s.append(_loop(nobody, nobody))
            wall_alone_s.append(time.monotonic() - began)
            began = time.monotonic()
            followed_s.append(followed())
            wall_followed_s.append(time.monotonic() - began)
    finally:
        server.stop()
        torch.set_num_threads(threads)
    cost = statistics.median(followed_s) / statistics.median(alone_s) - 1
    print(
        f"\nloop alone {statistics.median(alone_s):.2f} s, followed {statistics.median(followed_s):.2f} s of "
        f"CPU: {cost:+.1%}; wall {statistics.median(wall_alone_s):.2f} and "
        f"{statistics.median(wall_followed_s):.2f} s with opening and closing the run"
    )
    assert cost < ALLOWED
