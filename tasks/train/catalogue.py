"""What the catalogue of algorithms shows: what each is for, what it costs and what it can be told.

The costs were measured by `python -m tasks.train.measure_catalogue` and lie in catalogue.json beside this
file, so that showing them loads no library of any algorithm. An algorithm that was not measured yet is
shown all the same.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import PydanticUndefined

from tasks.markdown import cell, table
from tasks.refs import Problem
from tasks.train import algorithms
from tasks.train.algorithms.algorithm import Algorithm

MEASUREMENTS = Path(__file__).with_name("catalogue.json")

IMAGE_SIDES_PX = (28, 150, 224)
IMAGE_CHANNELS = 3
IMAGE_CLASSES = 10
BATCH = 32
TABLE_ROWS = 10_000
TABLE_COLUMNS = 30
TABLE_CLASSES = 3

SIDES = " / ".join(map(str, IMAGE_SIDES_PX)) + " px"

NOT_MEASURED = "not measured"
HELP = (
    "GFLOPs are billions of operations (a multiply-add counts as 2) of convolutions, products of matrices "
    f"and attention, to score one image of {IMAGE_CHANNELS} channels; training takes about three times that. "
    f"Memory of networks is what a training step on {BATCH} images holds in float32: weights, gradients, "
    "AdamW's two means, and what the backward pass keeps; by count. Measured steps took up to 13 % more; "
    f"bfloat16 takes less. Tables: a table of {TABLE_ROWS:,} rows and {TABLE_COLUMNS} columns was fitted on "
    "one processor; parameters, memory and processor time (both measured) grow with the data. "
    "Resources are the smallest of the usual presets with which ten epochs over 10,000 images take at most "
    "about an hour: cpu-1 (1 processor, 2 GiB), cpu-2 (2, 4 GiB), cpu-4 (4, 16 GiB) or gpu-1 (a GPU besides)."
)
"""How the numbers are to be read."""

PROCESSORS_GFLOPS_PER_S = 100
"""What two processors do in training, roughly: see docs/benchmarks.md."""


class ImageCost(BaseModel):
    """What a network costs on images of one size."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    gflops: float = Field(description="10^9 operations of a forward pass on one image.")
    parameters: int
    training_memory_gib: float = Field(description="Held by a training step, by count.")


class TableCost(BaseModel):
    """What an algorithm costs on the table that is measured on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    parameters: int
    memory_gib: float = Field(description="Highest resident memory beyond that of the loaded libraries.")
    cpu_time_s: float = Field(description="Processor seconds of the fit.")


class Measurements(BaseModel):
    """All that was measured, by the algorithm's name; images by the side, tables by the problem."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    images: dict[str, dict[int, ImageCost]] = Field(default_factory=dict)
    tables: dict[str, dict[str, TableCost]] = Field(default_factory=dict)


@cache
def measurements() -> Measurements:
    """What lies beside this file; nothing where it was never measured."""
    if not MEASUREMENTS.is_file():
        return Measurements()
    return Measurements.model_validate_json(MEASUREMENTS.read_bytes())


def rows(problem: Problem | None = None) -> list[dict[str, str]]:
    """The catalogue as a table: one row an algorithm.

    Args:
        problem: Only those that can learn it; None for all.
    """
    found = [a for a in algorithms.CATALOGUE.values() if problem is None or problem in a.problems]
    found.sort(key=lambda algorithm: (min(algorithm.problems), algorithm.name))
    return [
        {
            "algorithm": algorithm.name,
            f"GFLOPs at {SIDES}": _gflops(algorithm),
            "parameters": _parameters(algorithm, problem),
            f"training memory at {SIDES}": _memory(algorithm, problem),
            f"resources at {SIDES}": _recommended(algorithm, problem),
            "problem": ", ".join(sorted(algorithm.problems)),
            "what for": f"{algorithm.title}. {algorithm.summary}",
            "hyperparameters and defaults": ", ".join(
                f"{name} {default}" for name, default in defaults(algorithm)
            ),
        }
        for algorithm in found
    ]


def defaults(algorithm: Algorithm) -> list[tuple[str, str]]:
    """The hyperparameters of an algorithm, its own before those of the training loop, with their defaults."""
    from tasks.train.algorithms.network_algorithm import ImageHyperparameters

    fields = algorithm.Hyperparameters.model_fields
    shared = ImageHyperparameters.model_fields
    ordered = [name for name in fields if name not in shared] + [name for name in fields if name in shared]
    return [(name, _value(fields[name].default)) for name in ordered]


def algorithm_help() -> str:
    """One line an algorithm with its cost: for the help of a form."""
    lines = []
    for algorithm in algorithms.CATALOGUE.values():
        cost = measurements().images.get(algorithm.name)
        size = ""
        if cost:
            small, large = cost[IMAGE_SIDES_PX[0]], cost[IMAGE_SIDES_PX[-1]]
            size = (
                f" ({small.parameters / 1e6:.3g} million parameters, {small.gflops:.2g} GFLOPs at "
                f"{IMAGE_SIDES_PX[0]} px, {large.gflops:.2g} at {IMAGE_SIDES_PX[-1]})"
            )
        lines.append(f"{algorithm.name}{size}")
    return (
        "The way to learn; auto takes a sound one for the problem. The flow list-algorithms shows what each "
        f"is for and what it needs. There are: {'; '.join(lines)}."
    )


def page() -> str:
    """The catalogue as a page of documentation, in Markdown."""
    parts = [
        "# Algorithms",
        "<!-- Written by `python -m tasks.train.measure_catalogue`; edit the algorithms instead. -->",
        "The flow `list-algorithms` shows this table in the Prefect pages, of all problems or of one; the "
        "help of the training form names the costs.",
        HELP,
        "How networks are laid out for small images is said in "
        "`tasks/train/algorithms/transformers_algorithm.py`.",
    ]
    for problem in sorted(
        {known for algorithm in algorithms.CATALOGUE.values() for known in algorithm.problems}
    ):
        of_problem = rows(problem)
        header = [name for name in of_problem[0] if name not in ("problem", "hyperparameters and defaults")]
        parts.append(f"## {problem.value.replace('-', ' ').capitalize()}")
        parts.append(
            table(
                header, [[f"`{row['algorithm']}`", *(cell(row[n]) for n in header[1:])] for row in of_problem]
            )
        )
    parts.append("## Hyperparameters")
    parts.append(
        "An algorithm's own come first, then those of the training loop, where it has one. Their bounds "
        "are refused in words; names of transformers' `TrainingArguments`, such as "
        "`per_device_train_batch_size`, are understood as well."
    )
    parts.append(
        "\n".join(f"- **{row['algorithm']}**: {row['hyperparameters and defaults']}" for row in rows())
    )
    return "\n\n".join(parts) + "\n"


def recommended(gflops: float, memory_gib: float) -> str:
    """The smallest of the usual presets for ten epochs over 10,000 images in at most about an hour.

    Args:
        gflops: Of a forward pass on one image; a training step takes three times that.
        memory_gib: That a training step holds; libraries and data get 2 GiB besides.
    """
    hours = 3 * gflops * 10 * 10_000 / PROCESSORS_GFLOPS_PER_S / 3600
    if hours <= 0.5 and memory_gib + 2 <= 4:
        return "cpu-2"
    if hours <= 1 and memory_gib + 2 <= 16:
        return "cpu-4"
    return "gpu-1"


def _gflops(algorithm: Algorithm) -> str:
    cost = measurements().images.get(algorithm.name)
    if cost:
        return " / ".join(f"{cost[side].gflops:.2g}" for side in IMAGE_SIDES_PX)
    return "by data" if all(p.is_table for p in algorithm.problems) else NOT_MEASURED


def _parameters(algorithm: Algorithm, problem: Problem | None) -> str:
    cost = measurements().images.get(algorithm.name)
    if cost:
        counts = dict.fromkeys(f"{cost[side].parameters / 1e6:.3g} million" for side in IMAGE_SIDES_PX)
        return " to ".join((*counts,)[:: max(1, len(counts) - 1)])
    tables = _tables(algorithm, problem)
    if tables:
        return "by data: " + " to ".join(f"{count:,}" for count in sorted({one.parameters for one in tables}))
    return NOT_MEASURED


def _memory(algorithm: Algorithm, problem: Problem | None) -> str:
    cost = measurements().images.get(algorithm.name)
    if cost:
        return " / ".join(_size(cost[side].training_memory_gib) for side in IMAGE_SIDES_PX)
    tables = _tables(algorithm, problem)
    if tables:
        return f"by data: {_size(max(one.memory_gib for one in tables))}"
    return NOT_MEASURED


def _recommended(algorithm: Algorithm, problem: Problem | None) -> str:
    cost = measurements().images.get(algorithm.name)
    if cost:
        costs = [cost[side] for side in IMAGE_SIDES_PX]
        return " / ".join(recommended(one.gflops, one.training_memory_gib) for one in costs)
    tables = _tables(algorithm, problem)
    if tables:
        slowest = max(one.cpu_time_s for one in tables)
        seconds = "under 1" if slowest < 1 else f"{slowest:.0f}"
        return f"cpu-1: {seconds} s for {TABLE_ROWS:,} rows"
    return NOT_MEASURED


def _tables(algorithm: Algorithm, problem: Problem | None) -> list[TableCost]:
    """What it costs on tables, for one problem or for all."""
    costs = measurements().tables.get(algorithm.name, {})
    return [cost for known, cost in costs.items() if problem is None or known == problem]


def _size(gib: float) -> str:
    return f"{gib:.2g} GiB" if gib >= 1 else f"{max(1, round(gib * 1024))} MiB"


def _value(default: object) -> str:
    if default is None or default is PydanticUndefined:
        return "(empty)"
    return json.dumps(default) if isinstance(default, bool) else f"{default}"
