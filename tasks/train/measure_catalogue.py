"""Measure what each algorithm costs, and write catalogue.json and docs/algorithms.md.

    python -m tasks.train.measure_catalogue [--page] [NAME ...]

Without names, all are measured (some minutes); with `--page`, none is. Counts of operations and parameters
are the same on every machine; memory and time of tables are those of this one.
"""

from __future__ import annotations

import argparse
import math
import time
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tasks.refs import Problem
from tasks.train import algorithms, catalogue
from tasks.train.algorithms.algorithm import Algorithm
from tasks.train.algorithms.fit import FitContext, Rows, TrainingData
from tasks.train.algorithms.network_algorithm import NetworkAlgorithm
from tasks.train.catalogue import ImageCost, Measurements, TableCost

if TYPE_CHECKING:
    from torch import Tensor, nn

PAGE = Path(__file__).parents[2] / "docs" / "algorithms.md"
GIB = 2**30
ADAMW_BYTES_A_PARAMETER = 16
"""float32 weight, gradient and two means."""
COUNTED_BATCH = 2


def image_cost(algorithm: NetworkAlgorithm, side_px: int) -> ImageCost:
    """Count what a network does and holds for square images of three channels.

    Operations are those that `torch.utils.flop_counter` counts, in which a multiply-add is 2. Memory is
    what autograd keeps for the backward pass (each storage once), for a batch of `catalogue.BATCH`, and
    `ADAMW_BYTES_A_PARAMETER`.
    """
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    whole = {"input_size": None} if "input_size" in algorithm.Hyperparameters.model_fields else {}
    settings = algorithms.settings(algorithm, whole)
    shape = (side_px, side_px, catalogue.IMAGE_CHANNELS)
    torch.manual_seed(0)
    network = algorithm.network(shape, catalogue.IMAGE_CLASSES, settings)
    images = torch.randn(COUNTED_BATCH, catalogue.IMAGE_CHANNELS, side_px, side_px)
    network.eval()
    # Attention as plain products of matrices, which are counted; fused kernels of processors are not.
    counter = FlopCounterMode(display=False)
    with torch.inference_mode(), sdpa_kernel(SDPBackend.MATH), counter:
        network(images)
    kept = _kept_bytes(network.train(), images) / COUNTED_BATCH * catalogue.BATCH
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return ImageCost(
        gflops=_digits(counter.get_total_flops() / COUNTED_BATCH / 1e9),
        parameters=parameters,
        training_memory_gib=_digits((parameters * ADAMW_BYTES_A_PARAMETER + kept) / GIB),
    )


def _kept_bytes(network: nn.Module, images: Tensor) -> int:
    """Bytes that the backward pass of one batch needs besides the weights."""
    import torch

    weights = {tensor.untyped_storage().data_ptr() for tensor in network.state_dict().values()}
    kept: dict[int, int] = {}
    alive = []  # a storage that is freed may lend its address to another

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor.detach())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network(images)
    return sum(kept.values())


def table_cost(algorithm: Algorithm, problem: Problem) -> TableCost:
    """Fit the measured table in a process of its own, with one thread where the algorithm can be told."""
    with get_context("spawn").Pool(1) as pool:
        parameters, memory, cpu_time_s = pool.apply(_fit_table, (algorithm.name, problem))
    return TableCost(parameters=parameters, memory_gib=_digits(memory / GIB), cpu_time_s=_digits(cpu_time_s))


def _fit_table(name: str, problem: Problem) -> tuple[int, int, float]:
    """Parameters, bytes of highest memory beyond the libraries', and processor seconds of a fit."""
    algorithm = algorithms.get(name)
    settings = algorithms.settings(algorithm, {})
    context = FitContext(threads=1)
    algorithm.fit(_table(problem, 200), settings, context)  # loads the libraries
    data = _table(problem, catalogue.TABLE_ROWS)
    Path("/proc/self/clear_refs").write_text("5")  # forget the highest memory so far
    before = _status_bytes("VmRSS")
    started = time.process_time()
    fit = algorithm.fit(data, settings, context)
    return fit.model.parameters, max(0, _status_bytes("VmHWM") - before), time.process_time() - started


def _status_bytes(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise LookupError(name)


def _table(problem: Problem, rows: int) -> TrainingData:
    """Rows of random numbers whose labels go by three of the columns, with some noise."""
    random = np.random.default_rng(0)

    def part(n: int) -> Rows:
        inputs = random.normal(size=(n, catalogue.TABLE_COLUMNS))
        value = inputs[:, 0] + inputs[:, 1] * inputs[:, 2] + 0.5 * random.normal(size=n)
        if problem is Problem.TABLE_REGRESSION:
            return Rows(inputs, value)
        if not problem.has_label:
            return Rows(inputs, np.full(n, np.nan))
        return Rows(inputs, np.digitize(value, (-0.6, 0.6)).astype(np.int64))

    classes = tuple("abc"[: catalogue.TABLE_CLASSES]) if problem.is_classification else ()
    names = tuple(f"column {number}" for number in range(catalogue.TABLE_COLUMNS))
    return TrainingData(problem, part(rows), part(rows // 4), classes, names)


def _digits(value: float, digits: int = 3) -> float:
    """A number rounded to its first digits."""
    return round(value, digits - 1 - math.floor(math.log10(value))) if value > 0 else 0.0


def measure(name: str, known: Measurements) -> Measurements:
    """What is known, with one algorithm measured anew."""
    algorithm = algorithms.get(name)
    images, tables = dict(known.images), dict(known.tables)
    if Problem.IMAGE_CLASSIFICATION in algorithm.problems and isinstance(algorithm, NetworkAlgorithm):
        images[name] = {side: image_cost(algorithm, side) for side in catalogue.IMAGE_SIDES_PX}
    of_tables = {
        problem.value: table_cost(algorithm, problem)
        for problem in sorted(algorithm.problems)
        if problem.is_table
    }
    if of_tables:
        tables[name] = of_tables
    return Measurements(images=dict(sorted(images.items())), tables=dict(sorted(tables.items())))


def main() -> None:
    """Measure, and write what the catalogue shows."""
    parser = argparse.ArgumentParser(description="Measure what algorithms cost.")
    parser.add_argument("names", nargs="*", help="algorithms; all where none is named")
    parser.add_argument("--page", action="store_true", help="measure nothing, write the page anew")
    asked = parser.parse_args()
    names = [] if asked.page else asked.names or algorithms.names()
    known = catalogue.measurements()
    kept = set(algorithms.names())
    known = Measurements(
        images={name: cost for name, cost in known.images.items() if name in kept},
        tables={name: cost for name, cost in known.tables.items() if name in kept},
    )
    for name in names:
        known = measure(name, known)
        catalogue.MEASUREMENTS.write_text(known.model_dump_json(indent=1) + "\n")
        print(name)
    catalogue.measurements.cache_clear()
    PAGE.write_text(catalogue.page())


if __name__ == "__main__":
    main()
