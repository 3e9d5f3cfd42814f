"""Small trained bundles, for tests of what comes after training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from tasks.data.manifest import Feature, FittedStep
from tasks.data.preparation.preprocessing import Preprocessing
from tasks.refs import Problem
from tasks.train import algorithms
from tasks.train.algorithms.fit import FitContext, Rows, TrainingData
from tasks.train.bundle import Bundle, TrainedOn
from tasks.train.model_inputs import stack_images, stack_table

TRAINED_ON = TrainedOn(name="test", version="20260101-000000-abcdef", digest="0" * 64)
SPECIES = ("setosa", "versicolor", "virginica")


def iris_rows() -> tuple[pd.DataFrame, np.ndarray]:
    """The 150 flowers: four measures in cm, and the species as 0 to 2."""
    from sklearn.datasets import load_iris

    data = load_iris(as_frame=True)
    frame = data.data.rename(columns=lambda name: name.removesuffix(" (cm)").replace(" ", "_"))
    return frame, data.target.to_numpy(dtype=np.int64)


def table_bundle(
    folder: Path,
    frame: pd.DataFrame,
    labels: np.ndarray,
    *,
    algorithm: str = "logistic_regression",
    problem: Problem = Problem.TABLE_CLASSIFICATION,
    classes: tuple[str, ...] = SPECIES,
    seed: int = 0,
    settings: dict[str, Any] | None = None,
) -> Bundle:
    """Train on numeric columns as they are, and write the bundle to a new folder."""
    features = tuple(Feature(name=str(name), type="numeric") for name in frame.columns)
    preprocessing = Preprocessing(problem=problem, features=features)
    names = tuple(str(name) for name in frame.columns)
    rows = Rows(stack_table(preprocessing.table(frame), names), labels)
    chosen = algorithms.get(algorithm, problem)
    values = algorithms.settings(chosen, settings or {})
    fit = chosen.fit(TrainingData(problem, rows, None, classes, names), values, FitContext(seed=seed))
    return Bundle.write(
        folder, model=fit.model, preprocessing=preprocessing, problem=problem, algorithm=algorithm,
        hyperparameters=values.model_dump(), seed=seed, classes=classes, label="species", inputs=names,
        dataset=TRAINED_ON,
    )  # fmt: skip


def iris_bundle(folder: Path, *, algorithm: str = "logistic_regression", **settings: Any) -> Bundle:
    """A classifier of iris flowers."""
    frame, labels = iris_rows()
    return table_bundle(folder, frame, labels, algorithm=algorithm, settings=settings)


def digit_images(count: int = 200) -> tuple[list[Image.Image], np.ndarray]:
    """Grey pictures of 8 x 8 pixels with handwritten digits, and the digits."""
    from sklearn.datasets import load_digits

    data = load_digits()
    pixels = (data.images[:count] * 255 / 16).astype(np.uint8)
    return [Image.fromarray(picture) for picture in pixels], data.target[:count].astype(np.int64)


def digits_bundle(folder: Path, *, epochs: int = 1, classes: tuple[str, ...] | None = None) -> Bundle:
    """A small network that has seen 200 digits; its accuracy is of no interest."""
    problem = Problem.IMAGE_CLASSIFICATION
    classes = classes or tuple(str(digit) for digit in range(10))
    images, labels = digit_images()
    preprocessing = Preprocessing(
        problem=problem,
        features=(Feature(name="image", type="image"),),
        steps=(
            FittedStep(method="greyscale"),
            FittedStep(method="resize", parameters={"width_px": 16, "height_px": 16}),
        ),
    )
    rows = Rows(stack_images(preprocessing.images(images)), labels)
    chosen = algorithms.get("six_layer_cnn", problem)
    values = algorithms.settings(chosen, {"width": 8, "epochs": epochs})
    fit = chosen.fit(TrainingData(problem, rows, None, classes), values, FitContext(seed=0))
    return Bundle.write(
        folder, model=fit.model, preprocessing=preprocessing, problem=problem, algorithm="six_layer_cnn",
        hyperparameters=values.model_dump(), seed=0, classes=classes, label="label", inputs=(),
        dataset=TRAINED_ON,
    )  # fmt: skip
