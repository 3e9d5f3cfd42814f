"""Settings of a training by code of the user's own."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Annotated, Self

from pydantic import Field, StringConstraints, field_validator, model_validator

from tasks.data.config import DatasetChoice
from tasks.errors import InvalidSettings
from tasks.settings import Settings
from tasks.train.algorithms.algorithm import Value
from tasks.train.metric_names import metric_name
from tasks.train.own_code.patterns import MetricPattern

MOST_HYPERPARAMETERS = 100
_KEY = re.compile(r"^[A-Za-z_][A-Za-z0-9_.-]{0,99}$")
_VARIABLE = re.compile(r"^[A-Z_][A-Z0-9_]{0,99}$")
_OURS = ("EM_", "LD_", "PYTHON", "MLFLOW_")

Argument = Annotated[str, StringConstraints(max_length=10_000, pattern=r"^[^\x00]*$")]
DatasetName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,62}$")]


class ImageInput(Settings):
    """How pixels become the numbers of a model that says nothing of it: ONNX and scikit-learn on images."""

    scale: float = Field(
        default=1 / 255,
        gt=0,
        le=1,
        description="Pixels from 0 to 255 are multiplied by this; 1/255 as ToTensor does, 1 leaves them.",
    )
    mean: tuple[float, ...] = Field(
        default=(),
        max_length=4,
        description="Subtracted from each channel after scaling; empty subtracts nothing.",
    )
    std: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        default=(),
        max_length=4,
        description="Each channel is divided by it after scaling; empty divides by nothing.",
    )


class Limits(Settings):
    """What the code may use; past a limit it is ended, with all processes that it started."""

    memory_gib: float | None = Field(
        default=None,
        gt=0,
        le=100_000,
        description="Largest memory of all its processes together. The preset's memory holds as well, where "
        "it is smaller; with neither it is four fifths of the machine's.",
    )
    processes: int = Field(
        default=256, ge=1, le=100_000, description="Most processes at one time, those of workers included."
    )
    output_mib: float = Field(
        default=256, gt=0, le=100_000, description="Largest output, in MiB; endless output ends the code."
    )
    disk_gib: float = Field(
        default=50, gt=0, le=100_000, description="Largest size of all files that it writes, in GiB."
    )
    stop_grace_s: float = Field(
        default=10,
        ge=0,
        le=15,
        description="Time to save its model after it was asked to end by SIGTERM; then it is killed. Of the "
        "30 s that a stop may take the rest is for trying and recording the model.",
    )
    install_time_s: int = Field(
        default=1_800, ge=10, le=24 * 3600, description="Longest time to install requirements.txt."
    )
    trial_time_s: int = Field(
        default=1_800,
        ge=1,
        le=24 * 3600,
        description="Longest time for the saved model to answer the rows that it is tried on.",
    )


class OwnCode(Settings):
    """Code of your own that trains the model, in a process of its own."""

    source: str = Field(
        min_length=1,
        max_length=2_048,
        description="The code: a folder, a zip or tar archive, or one file; a path or s3:// URL.",
        examples=["/data/code/my-training", "s3://ml/code/my-training.zip"],
    )
    entry_point: str = Field(
        default="train.py",
        min_length=4,
        max_length=1_024,
        description="The script to run, relative to the source: a .py file, or a notebook (.ipynb).",
    )
    dataset_name: DatasetName = Field(
        default="train",
        description="Name of the main dataset for the code: train gives its folder as EM_DATASET_TRAIN.",
    )
    give_test_split: bool = Field(
        default=True,
        description="Give the test rows of the main dataset as well; without, the evaluation is on rows that "
        "the code cannot have seen.",
    )
    datasets: dict[DatasetName, DatasetChoice] = Field(
        default_factory=dict,
        max_length=10,
        description="Up to ten more datasets by name; the name NEWS gives the folder as EM_DATASET_NEWS: "
        '{"NEWS": {"name": "news-texts"}}.',
    )
    metrics: dict[str, MetricPattern] = Field(
        default_factory=dict,
        max_length=50,
        description="Metrics that are read from the output, by name. MLflow and TensorBoard need none of "
        "this. The name * takes the names from the output: the first group is the name. Such as: "
        '{"loss": {"pattern": "loss ([0-9.]+)", "sample_line": "epoch 1 loss 0.52"}}.',
    )
    required_metrics: tuple[Annotated[str, StringConstraints(min_length=1, max_length=250)], ...] = Field(
        default=(),
        max_length=50,
        description="Metrics that the code must have reported, by whichever way; the training fails without.",
    )
    arguments: tuple[Annotated[str, StringConstraints(max_length=10_000, pattern=r"^[^\x00]*$")], ...] = (
        Field(
            default=(),
            max_length=100,
            description="Words of the command line in front of the hyperparameters, as they are: positional "
            'arguments, and switches that take no value. Such as: ["resnet18", "--no-cuda"].',
        )
    )
    variables: dict[str, str] = Field(
        default_factory=dict,
        max_length=100,
        description="More environment variables for the code. Not for secrets: they stand in the records.",
    )
    image_input: ImageInput = Field(
        default=ImageInput(),
        description="How pixels become numbers for ONNX and scikit-learn models of images.",
    )
    limits: Limits = Field(default=Limits(), description="What the code may use.")

    @field_validator("entry_point")
    @classmethod
    def _is_a_script(cls, path: str) -> str:
        parts = path.removeprefix("./").split("/")
        if not path.endswith((".py", ".ipynb")) or any(part in ("", ".", "..") for part in parts):
            raise ValueError(f"{path!r} is not a .py or .ipynb file below the source, such as src/train.py")
        if any(not part.isprintable() or "\\" in part for part in parts):
            raise ValueError(f"{path!r} has characters that a path must not have")
        return "/".join(parts)

    @field_validator("metrics")
    @classmethod
    def _has_names(cls, metrics: dict[str, MetricPattern]) -> dict[str, MetricPattern]:
        for name, pattern in metrics.items():
            pattern.require(name)
        names = [metric_name(name) for name in metrics]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two metrics would be {twice[0]!r} in MLflow: rename one of them")
        return metrics

    @model_validator(mode="after")
    def _has_no_name_twice(self) -> Self:
        names = [variable_name(name) for name in (self.dataset_name, *self.datasets)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"datasets would share the variable EM_DATASET_{twice[0]}: rename one of them")
        for name in self.variables:
            if not _VARIABLE.match(name):
                raise ValueError(f"variables: {name!r} is not a name of capitals, digits and underscores")
            if name.startswith(_OURS) and name not in ("EM_REGION", "EM_APPKEY", "PYTHONHASHSEED"):
                raise ValueError(f"variables: {name} is set by Trainyard; leave it out")
        return self


def variable_name(name: str) -> str:
    """A dataset's or hyperparameter's name as the end of a variable's: capitals, and _ for the rest."""
    return re.sub(r"[^A-Z0-9_]", "_", name.upper())


def require_hyperparameters(hyperparameters: Mapping[str, Value]) -> None:
    """Refuse what cannot be passed as `--key value`, all of it at once.

    Raises:
        InvalidSettings: There are more than a hundred, a name cannot be one of an option, a value is not
            finite or holds a NUL, or two share a variable.
    """
    faults = []
    if len(hyperparameters) > MOST_HYPERPARAMETERS:
        faults.append(f"there are {len(hyperparameters)} hyperparameters, {MOST_HYPERPARAMETERS} are allowed")
    seen: dict[str, str] = {}
    for key, value in hyperparameters.items():
        if not _KEY.match(key):
            faults.append(f"{key!r} is not a name such as learning_rate")
        if isinstance(value, float) and not math.isfinite(value):
            faults.append(f"{key} is {value}, which is not finite")
        if isinstance(value, str) and ("\0" in value or len(value) > 10_000):
            faults.append(f"the value of {key} holds a NUL or is longer than 10,000 characters")
        other = seen.setdefault(variable_name(key), key)
        if other != key:
            faults.append(f"{other} and {key} would share the variable EM_HP_{variable_name(key)}")
    if faults:
        raise InvalidSettings(
            "; ".join(faults),
            where="hyperparameters",
            allowed="names of letters, digits, _, - and dots; finite numbers, words, true and false",
            mend="correct them; nothing was started",
        )
