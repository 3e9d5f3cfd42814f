"""The sides of the training benchmarks, each run in a process of its own.

    python -m tests.helpers.training_sides ours-store order.json

Every side builds the same network from the same seed and trains it on the same rows, in batches of the
same size, for as many epochs, with the same highest learning rate and no augmentation. What else a side
does is its own default. It prints one line of JSON: see `Outcome`.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sized
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Order:
    """What every side does.

    Attributes:
        arrays: File of `np.savez` with train, train_labels, test and test_labels.
        store: Store of the dataset version.
        dataset: The version with the same rows, as JSON of its reference.
        classes: How many.
        algorithm: Whose network.
        hyperparameters: Of the network; epochs, batch size and learning rate are set beside it.
    """

    arrays: str
    store: str
    dataset: str
    classes: int
    algorithm: str
    hyperparameters: dict[str, Any]
    epochs: int
    batch_size: int
    learning_rate: float = 4e-3
    seed: int = 0


@dataclass(frozen=True)
class Outcome:
    """How a side did.

    Attributes:
        rows_per_s: Training rows a second, median over the epochs after the first, or that of the only one.
        fit_rows_per_s: Training rows of all epochs over the time of the whole fit, reading included.
        accuracy: On the test rows, after the last epoch (ours: of the best epoch).
        wall_s: From the rows in memory (or in the store) to the trained network; imports not counted.
        cpu_s: Processor time in that time: tells more than `wall_s` where others compute as well.
        threads: Of torch.
    """

    rows_per_s: float
    fit_rows_per_s: float
    accuracy: float
    wall_s: float
    cpu_s: float
    threads: int


class _Stopwatch:
    """Runs from when it is made."""

    def __init__(self) -> None:
        self._began = time.perf_counter(), time.process_time()

    def taken(self) -> tuple[float, float]:
        """Wall and processor time since then, in seconds."""
        return time.perf_counter() - self._began[0], time.process_time() - self._began[1]


def outcome_of(side: str, order: Order) -> Outcome:
    """Run a side in a fresh process."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        file.write(json.dumps(asdict(order)))
        file.flush()
        done = subprocess.run(
            [sys.executable, "-m", "tests.helpers.training_sides", side, file.name],
            cwd=REPOSITORY, capture_output=True, text=True,
        )  # fmt: skip
    if done.returncode:
        raise AssertionError(f"{side} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return Outcome(**json.loads(done.stdout.splitlines()[-1]))


def settings_of(order: Order) -> dict[str, Any]:
    """The hyperparameters as our loop is given them."""
    return {
        **order.hyperparameters,
        "epochs": order.epochs,
        "batch_size_per_rank": order.batch_size,
        "learning_rate": order.learning_rate,
        "patience_epochs": order.epochs,
    }


def ours(order: Order, arrays: dict[str, np.ndarray], from_store: bool) -> Outcome:
    """Our loop with its defaults: bfloat16 where it is fast, channels last, linear schedule, checkpoints."""
    # What is imported at the first read and fit is imported before the clock starts.
    import pandas  # noqa: F401
    import pyarrow.dataset  # noqa: F401
    import torch

    from tasks.data.storage.store import DatasetStore
    from tasks.refs import DatasetRef, Problem
    from tasks.train import algorithms
    from tasks.train.algorithms.fit import FitContext, Rows, TrainingData
    from tasks.train.loop.fit import fit_network  # noqa: F401
    from tasks.train.training_data import read_training_data

    algorithm = algorithms.get(order.algorithm)
    settings = algorithms.settings(algorithm, settings_of(order))
    threads = torch.get_num_threads()
    began = _Stopwatch()
    if from_store:
        ref = DatasetRef.model_validate_json(order.dataset)
        data = read_training_data(DatasetStore(order.store), ref)
    else:
        data = TrainingData(
            Problem.IMAGE_CLASSIFICATION,
            Rows(arrays["train"], arrays["train_labels"]),
            None,
            tuple(f"c{number}" for number in range(order.classes)),
        )
    assert data.validation is None
    with tempfile.TemporaryDirectory() as folder:
        fit = algorithm.fit(data, settings, FitContext(seed=order.seed, work_folder=Path(folder)))
    took = began.taken()
    right = fit.model.predict(arrays["test"]).argmax(axis=1) == arrays["test_labels"]
    rates = [metrics["rows_per_s"] for metrics in fit.history]
    return _outcome(rates, order, data.train, took, float(right.mean()), threads)


def plain(order: Order, arrays: dict[str, np.ndarray]) -> Outcome:
    """The loop that everyone writes: a `DataLoader` with its defaults, float32, AdamW, one cycle."""
    import torch
    from torch.nn import functional
    from torch.utils.data import DataLoader

    network, data = _network(order, arrays), _dataset(arrays)
    loader = DataLoader(data, batch_size=order.batch_size, shuffle=True)
    optimiser = torch.optim.AdamW(network.parameters(), lr=order.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, order.learning_rate, total_steps=order.epochs * len(loader)
    )
    rates = []
    began = _Stopwatch()
    network.train()
    for _ in range(order.epochs):
        epoch_began = time.perf_counter()
        for images, labels in loader:
            loss = functional.cross_entropy(network(images), labels)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
        rates.append(len(data) / (time.perf_counter() - epoch_began))
    took = began.taken()
    return _outcome(rates, order, data, took, _accuracy(network, arrays), torch.get_num_threads())


def trainer(order: Order, arrays: dict[str, np.ndarray]) -> Outcome:
    """Hugging Face `Trainer` with its defaults, but for epochs, batch size and learning rate."""
    import torch
    import transformers
    from torch import nn
    from torch.nn import functional
    from torch.utils.data import Dataset

    transformers.utils.logging.set_verbosity_error()
    network, plain_rows = _network(order, arrays), _dataset(arrays)

    class Named(Dataset):
        def __len__(self) -> int:
            return len(plain_rows)

        def __getitem__(self, row: int) -> dict[str, Any]:
            image, label = plain_rows[row]
            return {"pixel_values": image, "labels": label}

    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, pixel_values: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
            logits = self.network(pixel_values)
            return {"loss": functional.cross_entropy(logits, labels), "logits": logits}

    rates: list[float] = []

    class Clock(transformers.TrainerCallback):
        def on_epoch_begin(self, *_: Any, **__: Any) -> None:
            self.began = time.perf_counter()

        def on_epoch_end(self, *_: Any, **__: Any) -> None:
            rates.append(len(plain_rows) / (time.perf_counter() - self.began))

    with tempfile.TemporaryDirectory() as folder:
        arguments = transformers.TrainingArguments(
            output_dir=folder,
            num_train_epochs=order.epochs,
            per_device_train_batch_size=order.batch_size,
            learning_rate=order.learning_rate,
            seed=order.seed,
            disable_tqdm=True,
        )
        side = transformers.Trainer(Wrapped(), arguments, train_dataset=Named(), callbacks=[Clock()])
        began = _Stopwatch()
        side.train()
        took = began.taken()
    return _outcome(rates, order, plain_rows, took, _accuracy(network, arrays), torch.get_num_threads())


def _network(order: Order, arrays: dict[str, np.ndarray]) -> Any:
    import torch

    from tasks.train import algorithms
    from tasks.train.algorithms.network_algorithm import NetworkAlgorithm

    algorithm = algorithms.get(order.algorithm)
    assert isinstance(algorithm, NetworkAlgorithm)
    settings = algorithms.settings(algorithm, settings_of(order))
    torch.manual_seed(order.seed)
    return algorithm.network(arrays["train"].shape[1:], order.classes, settings)


def _dataset(arrays: dict[str, np.ndarray]) -> Any:
    """Rows as a plain `Dataset` gives them: each image scaled to floats when it is asked for."""
    import torch
    from torch.utils.data import Dataset

    images, labels = torch.from_numpy(arrays["train"]), torch.from_numpy(arrays["train_labels"])
    mean, deviation = _statistics(arrays)

    class Plain(Dataset):
        def __len__(self) -> int:
            return len(labels)

        def __getitem__(self, row: int) -> tuple[torch.Tensor, torch.Tensor]:
            return (images[row].permute(2, 0, 1).float() - mean) / deviation, labels[row]

    return Plain()


def _statistics(arrays: dict[str, np.ndarray]) -> tuple[Any, Any]:
    import torch

    some = arrays["train"][:2_000]
    mean, deviation = some.mean(axis=(0, 1, 2)), some.std(axis=(0, 1, 2))
    return (torch.tensor(of, dtype=torch.float32)[:, None, None] for of in (mean, deviation))  # type: ignore[return-value]


def _accuracy(network: Any, arrays: dict[str, np.ndarray]) -> float:
    import torch

    mean, deviation = _statistics(arrays)
    images, labels = torch.from_numpy(arrays["test"]), torch.from_numpy(arrays["test_labels"])
    network.eval()
    with torch.inference_mode():
        right = [
            (network((part.permute(0, 3, 1, 2).float() - mean) / deviation).argmax(dim=1) == truth).sum()
            for part, truth in zip(images.split(200), labels.split(200), strict=True)
        ]
    return float(sum(right)) / len(labels)


def _outcome(
    rates: list[float], order: Order, rows: Sized, took: tuple[float, float], accuracy: float, threads: int
) -> Outcome:
    return Outcome(
        rows_per_s=statistics.median(rates[1:] or rates),
        fit_rows_per_s=len(rows) * order.epochs / took[0],
        accuracy=accuracy,
        wall_s=took[0],
        cpu_s=took[1],
        threads=threads,
    )


def main() -> None:
    """Run one side."""
    side, path = sys.argv[1:]
    order = Order(**json.loads(Path(path).read_text()))
    with np.load(order.arrays) as file:
        arrays = dict(file)
    sides = {
        "ours-store": lambda: ours(order, arrays, from_store=True),
        "ours-memory": lambda: ours(order, arrays, from_store=False),
        "plain": lambda: plain(order, arrays),
        "trainer": lambda: trainer(order, arrays),
    }
    print(json.dumps(asdict(sides[side]())))


if __name__ == "__main__":
    main()
