"""What following a training costs it: the same loop with and without logging, host charts and live view.

Measured as the CPU time that the process uses beyond the loop's own, a second that the loop lasts: as if
the loop, on one thread, had to wait for all that the threads beside it do. What else the host does hardly
matters to it. The network is small and its steps take a few ms, which is as often as anything is logged.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tasks.train.algorithms.fit import Metrics
from tasks.train.live import Live, Standing
from tasks.train.live_curves import live_curves
from tasks.train.tracking import tracked_run
from tests.helpers.serving_stack import MlflowProcess

STEPS_AN_EPOCH, EPOCHS, LOGGING_STEPS, ROUNDS = 50, 20, 10, 3
ALLOWED = 0.02

Hear = Callable[[int, Metrics], None]


def _loop(epoch_done: Hear, steps_done: Hear) -> tuple[float, float]:
    """Train a small network; returns the CPU seconds of this process meanwhile, and the seconds."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(256, 512), torch.nn.ReLU(), torch.nn.Linear(512, 10))
    optimiser = torch.optim.AdamW(network.parameters())
    inputs, labels = torch.randn(256, 256), torch.randint(0, 10, (256,))
    began, began_cpu = time.monotonic(), time.process_time()
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
    return time.process_time() - began_cpu, time.monotonic() - began


@pytest.mark.benchmark
def test_following_a_training_does_not_slow_it(tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    server = MlflowProcess(tmp_path)
    server.start()
    client = server.client()

    def show(standing: Standing) -> None:
        (tmp_path / "live.svg").write_text(live_curves(standing.curves, standing.epochs))

    def nobody(step: int, metrics: Metrics) -> None:
        """Hear nothing."""

    def followed() -> tuple[float, float]:
        with (
            tracked_run(client, "speed", name="followed", tags={}) as run,
            Live(show, every_s=1.0) as live,
        ):

            def epoch_done(epoch: int, metrics: Metrics) -> None:
                run.stream(epoch, metrics)
                live(epoch, EPOCHS, metrics)

            return _loop(epoch_done, run.stream)

    alone, beside = [], []
    try:
        _loop(nobody, nobody)
        followed()  # imports what samples the host
        for _ in range(ROUNDS):  # in turn, so that a busy minute of the host meets both
            alone.append(_loop(nobody, nobody))
            beside.append(followed())
    finally:
        server.stop()
        torch.set_num_threads(threads)
    alone_cpu_s = statistics.median(cpu_s for cpu_s, _ in alone)
    followed_cpu_s, followed_s = (statistics.median(each) for each in zip(*beside, strict=True))
    cost = (followed_cpu_s - alone_cpu_s) / followed_s
    print(
        f"\nloop alone {alone_cpu_s:.2f} s of CPU, followed {followed_cpu_s:.2f} s in {followed_s:.1f} s: "
        f"{cost:+.2%} of the time"
    )
    assert cost < ALLOWED
