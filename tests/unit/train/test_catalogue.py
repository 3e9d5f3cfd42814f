"""What the catalogue shows is so: counted again, compared with what is published, and complete."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.refs import Problem
from tasks.train import algorithms, catalogue
from tasks.train.algorithms.network_algorithm import NetworkAlgorithm
from tasks.train.measure_catalogue import PAGE, image_cost, table_cost

RENEW = "run python -m tasks.train.measure_catalogue --page, or without --page to measure"


@pytest.mark.parametrize(
    ("name", "side_px"), [("six_layer_cnn", 150), ("mobilenet_v2", 28), ("vit_tiny", 28)]
)
def test_networks_cost_what_the_catalogue_says(name: str, side_px: int) -> None:
    algorithm = algorithms.get(name)
    assert isinstance(algorithm, NetworkAlgorithm)
    counted, told = image_cost(algorithm, side_px), catalogue.measurements().images[name][side_px]
    assert (counted.gflops, counted.parameters) == (told.gflops, told.parameters), RENEW
    assert counted.training_memory_gib == pytest.approx(told.training_memory_gib, rel=0.02), RENEW


def test_a_table_costs_what_the_catalogue_says() -> None:
    problem = Problem.TABLE_CLASSIFICATION
    counted = table_cost(algorithms.get("logistic_regression"), problem)
    told = catalogue.measurements().tables["logistic_regression"][problem]
    assert counted.parameters == told.parameters, RENEW
    assert counted.memory_gib < 0.5
    assert counted.cpu_time_s < 60


@pytest.mark.parametrize(
    ("name", "multiply_adds"),
    [
        ("resnet_18", 1.82e9), ("resnet_34", 3.67e9), ("resnet_50", 4.11e9), ("resnet_101", 7.83e9),
        ("efficientnet_b0", 0.39e9), ("mobilenet_v2", 0.30e9), ("convnext_tiny", 4.5e9),
        ("vit_tiny", 1.26e9), ("vit_small", 4.6e9),
    ],
)  # fmt: skip
def test_operations_at_224_pixels_are_those_of_the_papers(name: str, multiply_adds: float) -> None:
    counted = catalogue.measurements().images[name][224].gflops * 1e9
    assert counted == pytest.approx(2 * multiply_adds, rel=0.02)


def test_every_algorithm_is_shown_and_problems_can_be_chosen() -> None:
    rows = catalogue.rows()
    assert sorted(row["algorithm"] for row in rows) == sorted(algorithms.names())
    assert all(all(value for value in row.values()) for row in rows)
    images = catalogue.rows(Problem.IMAGE_CLASSIFICATION)
    assert sorted(row["algorithm"] for row in images) == sorted(
        algorithms.names(Problem.IMAGE_CLASSIFICATION)
    )
    (resnet,) = (row for row in images if row["algorithm"] == "resnet_50")
    shown = resnet["hyperparameters and defaults"].split(", ")
    assert {"input_size 28", "epochs 3", "batch_size_per_rank 16", "learning_rate 0.1"} <= {*shown}
    assert resnet["GFLOPs at 28 / 150 / 224 px"] == "2.1 / 4 / 8.2"
    assert not catalogue.rows(Problem.OBJECT_DETECTION)


def test_an_algorithm_that_was_not_measured_is_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(catalogue, "MEASUREMENTS", tmp_path / "none.json")
    catalogue.measurements.cache_clear()
    try:
        rows = {row["algorithm"]: row for row in catalogue.rows()}
        assert rows["resnet_18"]["GFLOPs at 28 / 150 / 224 px"] == rows["mlp"]["parameters"] == "not measured"
        assert "resnet_18" in catalogue.algorithm_help()
    finally:
        catalogue.measurements.cache_clear()


def test_recommendations_grow_with_the_cost() -> None:
    assert catalogue.recommended(0.1, 0.5).startswith("cpu-2")
    assert catalogue.recommended(0.1, 5).startswith("cpu-4")
    assert catalogue.recommended(1.0, 0.5).startswith("cpu-4")
    assert catalogue.recommended(2.0, 0.5).startswith("gpu-1")


def test_the_page_says_what_the_catalogue_says() -> None:
    """Of all that was measured; a new algorithm joins when it is measured."""
    lines = set(PAGE.read_text().splitlines())
    measured = catalogue.measurements().images.keys() | catalogue.measurements().tables.keys()
    assert measured <= set(algorithms.names()), RENEW
    for line in catalogue.page().splitlines():
        if any(line.startswith((f"| `{name}` ", f"- **{name}**")) for name in measured):
            assert line in lines, RENEW
