"""Dataset versions and scripts for trainings by own code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tasks.data.config import IngestConfig
from tasks.data.ingest import ingest
from tasks.data.storage.store import DatasetStore
from tasks.refs import DatasetRef, Problem
from tasks.train.algorithms.fit import FitContext
from tasks.train.own_code.config import OwnCode
from tasks.train.own_code.own_code import OwnCodeFit, check_own_code, fit_own_code
from tasks.train.own_code.source import SourceAccess

ASSETS = Path(__file__).parents[2] / "assets" / "own_code"
Train = Callable[..., OwnCodeFit]


@pytest.fixture
def store(tmp_path: Path) -> DatasetStore:
    return DatasetStore(str(tmp_path / "store"))


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINYARD_HOME", str(tmp_path / "home"))


@pytest.fixture
def flowers(tmp_path: Path, store: DatasetStore) -> DatasetRef:
    """Iris with a column of words, in two splits, as it came in: a raw version."""
    from sklearn.datasets import load_iris

    data = load_iris(as_frame=True)
    frame = data.data.rename(columns=lambda name: name.removesuffix(" (cm)").replace(" ", "_"))
    frame["colour"] = np.where(data.target == 0, "white", np.where(np.arange(150) % 2, "blue", "violet"))
    frame["species"] = data.target_names[data.target]
    shuffled = frame.sample(frac=1, random_state=0)
    return _table(tmp_path, store, "flowers", shuffled, Problem.TABLE_CLASSIFICATION)


@pytest.fixture
def measures(tmp_path: Path, store: DatasetStore) -> DatasetRef:
    """Iris with numbers only."""
    from sklearn.datasets import load_iris

    data = load_iris(as_frame=True)
    frame = data.data.rename(columns=lambda name: name.removesuffix(" (cm)").replace(" ", "_"))
    frame["species"] = data.target_names[data.target]
    return _table(
        tmp_path, store, "measures", frame.sample(frac=1, random_state=0), Problem.TABLE_CLASSIFICATION
    )


def _table(
    tmp_path: Path, store: DatasetStore, name: str, frame: pd.DataFrame, problem: Problem
) -> DatasetRef:
    folder = tmp_path / name
    folder.mkdir()
    frame.iloc[:110].to_csv(folder / "train.csv", index=False)
    frame.iloc[110:].to_csv(folder / "validation.csv", index=False)
    return ingest(IngestConfig(source=str(folder), name=name, problem=problem), store)


@pytest.fixture
def squares(tmp_path: Path, store: DatasetStore) -> DatasetRef:
    """Pictures of 16 x 16 pixels, red or blue or dark ones, as folders of files."""
    random = np.random.default_rng(0)
    colours = {"red": (200, 40, 40), "blue": (40, 40, 200), "dark": (20, 20, 20)}
    for split, count in (("train", 12), ("validation", 6)):
        for name, colour in colours.items():
            folder = tmp_path / "squares" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                noise = random.integers(-20, 20, (16, 16, 3))
                pixels = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    source = str(tmp_path / "squares")
    return ingest(IngestConfig(source=source, name="squares", problem=Problem.IMAGE_CLASSIFICATION), store)


@pytest.fixture
def script(tmp_path: Path) -> Callable[..., OwnCode]:
    """Own code with one file of this content."""

    def write(content: str, *, files: dict[str, str] | None = None, **settings: Any) -> OwnCode:
        folder = tmp_path / "code"
        folder.mkdir(exist_ok=True)
        for name, text in {"train.py": content, **(files or {})}.items():
            (folder / name).write_text(text)
        return OwnCode(source=str(folder), **settings)

    return write


@pytest.fixture
def train(tmp_path: Path, store: DatasetStore) -> Train:
    """Checks and trains, with everything that a run would give."""

    def run(
        own: OwnCode,
        ref: DatasetRef,
        hyperparameters: dict[str, Any] | None = None,
        *,
        log: Callable[[str], None] = print,
        context: FitContext | None = None,
        access: SourceAccess = SourceAccess(),
        **more: Any,
    ) -> OwnCodeFit:
        check_own_code(own, hyperparameters or {}, ref, store, access)
        context = context or FitContext()
        if context.work_folder is None:
            context = replace(context, work_folder=tmp_path / "work")
        given = (own, hyperparameters or {}, ref, store, access, context, tmp_path / "bundle")
        return fit_own_code(*given, log=log, **more)

    return run
