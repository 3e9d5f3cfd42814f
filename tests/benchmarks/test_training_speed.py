"""How fast the loop trains: against Hugging Face `Trainer`, a plain `DataLoader` loop and itself from memory.

    pytest -m benchmark tests/benchmarks/test_training_speed.py -s

Same network from the same seed, same rows, batches, epochs and highest learning rate, no augmentation; all
else is each side's default. Each side is a process of its own, and they take turns, `ROUNDS` times, each
with a seed of its own; what is reported is the median ratio with its spread, and the accuracies. For a
trial, TRAINYARD_BENCHMARK_SHARE=0.1 takes a tenth of the rows, and TRAINYARD_BENCHMARK_ROUNDS=1 one round.
"""

from __future__ import annotations

import os
import statistics
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tasks.data.storage.store import DatasetStore
from tests.helpers.scenes import KINDS, scenes, store_pictures
from tests.helpers.training_sides import Order, Outcome, outcome_of

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(7200)]

ROUNDS = int(os.environ.get("TRAINYARD_BENCHMARK_ROUNDS", "3"))
SHARE = float(os.environ.get("TRAINYARD_BENCHMARK_SHARE", "1"))
TEST_ROWS = 1_500
EQUAL_ACCURACY = 0.02
"""About two standard errors of a difference at this many test rows, beside those of the seeds."""


def order_of(folder: Path, rows: int, side_px: int, epochs: int, batch_size: int) -> Order:
    """The same rows as arrays in a file and as a version in a store."""
    train, train_labels = scenes(max(batch_size, int(rows * SHARE) // batch_size * batch_size), side_px)
    test, test_labels = scenes(TEST_ROWS, side_px, first=1_000_000)
    np.savez(
        folder / "arrays.npz", train=train, train_labels=train_labels, test=test, test_labels=test_labels
    )
    store = DatasetStore(str(folder / "store"))
    ref = store_pictures(store, f"scenes-{side_px}", {"train": (train, train_labels)})
    return Order(
        arrays=str(folder / "arrays.npz"),
        store=str(folder / "store"),
        dataset=ref.model_dump_json(),
        classes=len(KINDS),
        algorithm="six_layer_cnn",
        hyperparameters={"shift_px": 0},
        epochs=epochs,
        batch_size=batch_size,
    )


def in_turn(order: Order, sides: tuple[str, ...]) -> dict[str, list[Outcome]]:
    """Each side's outcomes, a round at a time."""
    outcomes: dict[str, list[Outcome]] = {side: [] for side in sides}
    for seed in range(ROUNDS):
        for side in sides:
            outcomes[side].append(outcome_of(side, replace(order, seed=seed)))
    for side, of_side in outcomes.items():
        rate = statistics.median(one.rows_per_s for one in of_side)
        accuracy = " ".join(f"{one.accuracy:.3f}" for one in of_side)
        cpu = statistics.median(one.fit_rows_per_s * one.wall_s / one.cpu_s for one in of_side)
        print(
            f"\n{side}: {rate:,.0f} images/s, {cpu:,.0f} a processor second, accuracies {accuracy}, "
            f"{of_side[0].threads} threads"
        )
    return outcomes


def show(what: str, ratios: list[float], least: float) -> float:
    """Print the line of the table; returns the median."""
    middle = statistics.median(ratios)
    print(f"\n| {what} | {middle:.2f} × | {min(ratios):.2f} to {max(ratios):.2f} | at least {least:g} × |")
    return middle


@pytest.mark.parametrize(
    ("side_px", "rows", "epochs", "batch_size", "least"),
    [
        # Full batches: ours leaves an incomplete one for another epoch, the others take it as a step.
        pytest.param(150, 1_536, 4, 64, 2.0, id="150px"),
        pytest.param(28, 12_032, 4, 64, 2.0, id="28px"),
        # Trainer's own default, a size at which steps are mostly overhead on every side: for information.
        pytest.param(28, 12_032, 4, 8, 1.0, id="28px-in-eights"),
    ],
)
def test_images_a_second(
    side_px: int, rows: int, epochs: int, batch_size: int, least: float, tmp_path: Path
) -> None:
    order = order_of(tmp_path, rows, side_px, epochs, batch_size)
    outcomes = in_turn(order, ("ours-store", "trainer", "plain"))
    own = outcomes.pop("ours-store")
    medians = {}
    for side, others in outcomes.items():
        ratios = [a.rows_per_s / b.rows_per_s for a, b in zip(own, others, strict=True)]
        what = f"images/s at {side_px} px in batches of {batch_size}, against {side}"
        medians[side] = show(what, ratios, least)
        lost = [b.accuracy - a.accuracy for a, b in zip(own, others, strict=True)]
        noise = statistics.stdev(lost) / len(lost) ** 0.5 if len(lost) > 1 else 0.0
        print(f"\naccuracy lost against {side}: {statistics.mean(lost):.3f}, standard error {noise:.3f}")
        assert statistics.mean(lost) <= max(EQUAL_ACCURACY, 2 * noise), f"against {side}: {lost}"
    assert min(medians.values()) >= least, medians


@pytest.mark.parametrize(("side_px", "rows", "epochs"), [(150, 1_536, 3), (28, 12_032, 4)])
def test_the_store_is_as_fast_as_memory(side_px: int, rows: int, epochs: int, tmp_path: Path) -> None:
    order = order_of(tmp_path, rows, side_px, epochs, batch_size=64)
    outcomes = in_turn(order, ("ours-store", "ours-memory"))
    pairs = list(zip(outcomes["ours-store"], outcomes["ours-memory"], strict=True))
    ratios = [stored.fit_rows_per_s / memory.fit_rows_per_s for stored, memory in pairs]
    assert show(f"whole fit at {side_px} px, reading included, store against memory", ratios, 0.9) >= 0.9
    assert all(stored.accuracy == memory.accuracy for stored, memory in pairs)
