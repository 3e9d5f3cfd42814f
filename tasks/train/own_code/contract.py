"""The environment of the code: the `EM_*` contract, and nothing of the flow process's own variables."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tasks.train.algorithms.algorithm import Value
from tasks.train.own_code.config import OwnCode, variable_name

_KEPT = re.compile(
    r"^(PATH|LANG|LANGUAGE|LC_[A-Z]+|TZ|LD_LIBRARY_PATH|CUDA_[A-Z_]+|NVIDIA_[A-Z_]+|NCCL_[A-Z_]+|"
    r"SSL_CERT_(FILE|DIR)|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE|(HTTP|HTTPS|NO|http|https|no)_(PROXY|proxy)|"
    r"HF_HUB_OFFLINE|HF_ENDPOINT)$"
)
_WITH_PASSWORD = re.compile(r"//[^/]*@")


@dataclass(frozen=True)
class Folders:
    """Where one run of the code has its files, all below one folder.

    Attributes:
        root: The folder; gone when the run is over.
        checkpoints: Outside of `root`: it is there again when the training is tried again.
    """

    root: Path
    checkpoints: Path

    @property
    def source(self) -> Path:
        return self.root / "source"

    @property
    def datasets(self) -> Path:
        return self.root / "datasets"

    @property
    def model(self) -> Path:
        return self.root / "model"

    @property
    def tensorboard(self) -> Path:
        return self.root / "tensorboard"

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def temporary(self) -> Path:
        return self.root / "tmp"

    @property
    def start(self) -> Path:
        """A copy of the checkpoint to start from."""
        return self.root / "start"

    def make(self) -> None:
        """Make them, for this user alone."""
        self.root.mkdir(parents=True, mode=0o700)
        for folder in (self.source, self.datasets, self.model, self.tensorboard, self.home, self.temporary):
            folder.mkdir()
        self.checkpoints.mkdir(parents=True, exist_ok=True, mode=0o700)


def is_special(path: Path) -> bool:
    """Whether this is a pipe, a socket or a device, or leads to one: whoever opens it may wait for ever."""
    return path.exists() and not path.is_file() and not path.is_dir()


def specials(folder: str, names: list[str]) -> list[str]:
    """Of the names in a folder those that are special, as `ignore` of `shutil.copytree`."""
    return [name for name in names if is_special(Path(folder, name))]


def plain_environment() -> dict[str, str]:
    """The variables of this process that any program may know: no secrets, no tokens."""
    kept = {name: value for name, value in os.environ.items() if _KEPT.match(name)}
    without = {name: value for name, value in kept.items() if not _WITH_PASSWORD.search(value)}
    return {"PATH": os.defpath, "LANG": "C.UTF-8", **without}


def arguments(hyperparameters: Mapping[str, Value]) -> list[str]:
    """`--key value` for each, in order."""
    return [part for key, value in hyperparameters.items() for part in (f"--{key}", text_of(value))]


def text_of(value: Value) -> str:
    """A value as it stands on a command line: true and false as Python writes them."""
    return str(value)


def environment(
    own: OwnCode,
    hyperparameters: Mapping[str, Value],
    folders: Folders,
    datasets: Mapping[str, Path],
    entry_point: str,
    python: Path,
    seed: int,
    threads: int | None,
    gpus: int | None,
    start: str,
    mlflow: Mapping[str, str],
) -> dict[str, str]:
    """All variables of the code.

    Args:
        own: The settings.
        hyperparameters: By name, as they are passed on the command line too.
        folders: Where its files are.
        datasets: Folders of the datasets by their names.
        entry_point: The script, relative to the source.
        python: The Python that runs it.
        seed: For Python's own hashes.
        threads: Processor threads to use at most; None says nothing of it.
        gpus: 0 hides all GPUs from the code; else it sees those that this process does.
        start: Folder with a checkpoint to start from; empty for none.
        mlflow: Variables by which MLflow finds the run.
    """
    plain = plain_environment()
    few = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")} if threads else {}
    no_gpu = {"CUDA_VISIBLE_DEVICES": ""} if gpus == 0 else {}
    return {
        **plain,
        "PATH": f"{python.parent}{os.pathsep}{plain['PATH']}",
        "HOME": str(folders.home),
        "TMPDIR": str(folders.temporary),
        "PYTHONPATH": str(folders.source),
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONHASHSEED": str(seed),
        "MPLBACKEND": "Agg",
        "EM_REGION": "local",
        "EM_APPKEY": "trainyard",
        **few,
        **mlflow,
        **own.variables,
        **no_gpu,
        "EM_SOURCE_DIR": str(folders.source),
        "EM_ENTRY_POINT": entry_point,
        "EM_DATASETS": json.dumps({name: str(folder) for name, folder in datasets.items()}),
        **{f"EM_DATASET_{variable_name(name)}": str(folder) for name, folder in datasets.items()},
        "EM_MODEL_DIR": str(folders.model),
        "EM_CHECKPOINT_INPUT_DIR": start,
        "EM_CHECKPOINT_DIR": str(folders.checkpoints),
        "EM_TENSORBOARD_LOG_DIR": str(folders.tensorboard),
        "EM_HPS": json.dumps(dict(hyperparameters)),
        **{f"EM_HP_{variable_name(key)}": text_of(value) for key, value in hyperparameters.items()},
    }
