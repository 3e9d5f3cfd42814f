"""Settings of a training."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import (
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)

from tasks.errors import InvalidSettings, TrainyardError, noted, raise_all
from tasks.refs import Problem
from tasks.settings import Settings
from tasks.train import algorithms
from tasks.train.algorithms.algorithm import Algorithm, AlgorithmSettings, Given, without_nulls
from tasks.train.algorithms.network_algorithm import NetworkAlgorithm
from tasks.train.catalogue import algorithm_help
from tasks.train.own_code.config import OwnCode, require_hyperparameters
from tasks.train.own_tags import Tags
from tasks.train.ranks.numbers import require_possible


class TrainConfig(Settings):
    """What to train and for how long."""

    model_config = ConfigDict(allow_inf_nan=True)  # of hyperparameters the algorithm says it, all at once

    algorithm: str = Field(
        default="auto",
        description=algorithm_help(),
        json_schema_extra={"enum": ["auto", *algorithms.names()]},
    )
    own_code: OwnCode | None = Field(
        default=None, description="Train with code of your own; empty takes an algorithm of the catalogue."
    )
    hyperparameters: Given = Field(
        default_factory=dict,
        description="Settings of the algorithm by name; those left out, or null, keep their defaults. "
        f"{algorithms.hyperparameter_help()}.",
    )
    seed: int = Field(
        default=0,
        ge=0,
        le=2**31 - 1,
        description="Start of the random numbers; the same seed gives the same model.",
    )
    experiment: str = Field(
        default="default",
        min_length=1,
        max_length=200,
        pattern=r"^[^/\\]+$",
        description="MLflow experiment that the training is filed under.",
    )
    max_time_s: int | None = Field(
        default=None,
        ge=1,
        le=30 * 24 * 3600,
        description="Longest fitting time in seconds; the best model so far is kept. Empty is no limit. "
        "Networks finish the step and the pass over the validation rows that are under way. "
        "Fits that are one call of scikit-learn, such as linear models, have none before their end and fail.",
    )
    resources: str = Field(
        default="auto",
        min_length=1,
        max_length=100,
        description="Preset of processors, memory and GPUs, such as cpu-2 or gpu-1; auto takes what there "
        "is. The block Resource Presets holds them.",
    )
    num_ranks: int = Field(
        default=1,
        ge=1,
        le=4096,
        description="Processes that train together, one on each Dask worker: on a GPU of its own, or a "
        "processor slot. For networks and own code; the block Dask Cluster says what workers there are.",
    )
    min_ranks: int | None = Field(
        default=None,
        ge=1,
        le=4096,
        description="Ranks that are enough for a network to go on, from the last checkpoint, when others are "
        "lost. Empty ends the run then; its retry goes on from there.",
    )
    ranks_per_host: int | None = Field(
        default=None,
        ge=1,
        le=64,
        description="Ranks on each host; empty fills the host with the most free workers first.",
    )
    launcher: Literal["torch", "horovod"] = Field(
        default="torch",
        description="How ranks talk: torch.distributed, or Horovod; on processors the former is quicker.",
    )
    start_from: str = Field(
        default="",
        max_length=1000,
        description="What to start from: an MLflow run id, a model such as models:/digits@champion, or a "
        "local path. For a network the path is a .safetensors file, a folder of our checkpoints, or one of "
        "pretrained weights with config.json; own code is given any file or folder. Empty starts anew.",
    )
    checkpoint_folder: str = Field(
        default="",
        max_length=1000,
        description="A folder, such as one on a mounted share, that checkpoints are kept in, also after the "
        "end. Empty keeps them in the data folder, until the end.",
    )
    output: str = Field(
        default="",
        max_length=1000,
        description="A new zip file, by its path or s3:// URL, that the finished model is written to as "
        "well. Empty keeps it in MLflow alone.",
    )
    tags: Tags = Field(default_factory=dict, description="Up to ten tags of your own on the MLflow run.")

    @property
    def what(self) -> str:
        """What trains, in the words of names and headings."""
        return self.algorithm if self.own_code is None else "own code"

    @model_validator(mode="wrap")
    @classmethod
    def _tell_all_at_once(cls, values: Any, check: ModelWrapValidatorHandler[Self]) -> Self:
        """Tell all faults in one error whose first line says them, those that the algorithm knows as well.

        Prefect puts a ValidationError below a first line of its own, which lists and mails show alone.
        """
        try:
            return check(values)
        except ValidationError as error:
            if not isinstance(values, dict):
                raise
            told = {".".join(map(str, one["loc"])): _plain(one["msg"]) for one in error.errors()}
            allowed = ""
            name, own = values.get("algorithm"), values.get("hyperparameters")
            if name in algorithms.CATALOGUE and isinstance(own, dict):
                try:
                    algorithms.settings(algorithms.get(name), without_nulls(own))
                except InvalidSettings as fault:
                    told = {where: text for where, text in told.items() if not where.startswith("hyperp")}
                    told["hyperparameters"], allowed = fault.what, fault.allowed
            raise InvalidSettings(
                "the training cannot have these settings: "
                + "; ".join(f"{where}: {text}" for where, text in told.items()),
                where=", ".join(f"training.{where}" for where in told),
                allowed=f"hyperparameters: {allowed}" if allowed else "",
                mend="change them, or leave them out for their defaults",
            ) from error

    @model_validator(mode="after")
    def _refuse_what_the_algorithm_cannot_take(self) -> Self:
        """Check what can be checked before the dataset is known."""
        require_possible(self.num_ranks, self.min_ranks, self.ranks_per_host)
        if self.own_code is not None:
            if self.algorithm != "auto":
                raise InvalidSettings(
                    f"there is own code, and the algorithm {self.algorithm} as well",
                    where="algorithm, own_code",
                    allowed="one of them",
                    mend="set algorithm to auto, or leave own_code empty",
                )
            require_hyperparameters(self.hyperparameters)
            if self.min_ranks is not None:
                raise InvalidSettings(
                    "own code cannot go on with fewer ranks by itself",
                    where="min_ranks, own_code",
                    allowed="min_ranks for networks of the catalogue",
                    mend="leave min_ranks empty: a retry of the run gives the code its checkpoints",
                )
        elif self.algorithm != "auto":
            algorithms.settings(algorithms.get(self.algorithm), dict(self.hyperparameters))
        return self

    def resolve(self, problem: Problem, rows: int) -> tuple[Algorithm, AlgorithmSettings]:
        """The algorithm and its full settings for a problem.

        Args:
            problem: What is to be learned.
            rows: Rows of the dataset version, which `auto` goes by.

        Raises:
            InvalidSettings: The algorithm cannot learn it, a hyperparameter is not one of its own, or it has
                no weights to start from.
        """
        algorithm = algorithms.choose(self.algorithm, problem, rows)
        faults: list[TrainyardError] = []
        settings = algorithm.Hyperparameters()
        with noted(faults):
            settings = algorithms.settings(algorithm, dict(self.hyperparameters))
        if self.start_from and not isinstance(algorithm, NetworkAlgorithm):
            faults.append(
                InvalidSettings(
                    f"{algorithm.title} has no weights to start from",
                    where="start_from",
                    allowed="networks",
                    mend="choose a network, or leave start_from empty",
                )
            )
        if self.num_ranks > 1 and not isinstance(algorithm, NetworkAlgorithm):
            faults.append(
                InvalidSettings(
                    f"{algorithm.title} is fitted by one process",
                    where="num_ranks",
                    allowed="1; more for networks and own code",
                    mend="choose a network, or leave num_ranks at 1",
                )
            )
        raise_all(faults)
        return algorithm, settings


def _plain(message: str) -> str:
    """What pydantic says of a fault, without its word for whose fault it is."""
    said = message.removeprefix("Value error, ")
    return said[:1].lower() + said[1:]
