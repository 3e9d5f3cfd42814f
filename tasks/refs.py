"""References that travel between tasks: small frozen values with a URI and a digest, never data.

A reference says where a thing is and how to recognise it. Whoever needs the thing itself opens it
from the URI; a step whose reference no longer verifies is run again (see `tasks.cache`).
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Modality = Literal["image", "text", "audio", "table"]

NOUNS: dict[Modality, str] = {"image": "images", "text": "texts", "audio": "sounds", "table": "tables"}
"""What the data of a modality is called in messages."""

DATASET_TAG = "trainyard.dataset"
"""MLflow tag of every training, study and sweep: `<name>@<version>` of the data."""

USER_TAG = "user:"
"""Prefix of the flow run tag that says who runs it, as in `user:ada`."""

WORKSPACE_TAG = "workspace:"
"""Prefix of the flow run tag that says which workspace it is of."""

LOCAL_USER = "local"
"""Who runs what carries no such tag."""


def tagged(tags: Iterable[str], prefix: str) -> str:
    """What the first tag with a prefix says, such as the user in `user:ada`; empty without one."""
    return next((tag.removeprefix(prefix) for tag in tags if tag.startswith(prefix)), "")


class Problem(StrEnum):
    """What a model is to do; decides the layout of the data, the metrics and the wire format."""

    IMAGE_CLASSIFICATION = "image-classification"
    OBJECT_DETECTION = "object-detection"
    INSTANCE_SEGMENTATION = "instance-segmentation"
    SEMANTIC_SEGMENTATION = "semantic-segmentation"
    TEXT_CLASSIFICATION = "text-classification"
    AUDIO_CLASSIFICATION = "audio-classification"
    TABLE_CLASSIFICATION = "table-classification"
    TABLE_REGRESSION = "table-regression"
    TABLE_CLUSTERING = "table-clustering"
    TABLE_DIMENSION_REDUCTION = "table-dimension-reduction"

    @property
    def modality(self) -> Modality:
        """What one row is."""
        first = self.value.partition("-")[0]
        return first if first in ("text", "audio", "table") else "image"  # type: ignore[return-value]

    @property
    def is_table(self) -> bool:
        return self.modality == "table"

    @property
    def is_classification(self) -> bool:
        """Whether a row has one class."""
        return self.value.endswith("-classification")

    @property
    def has_label(self) -> bool:
        """Whether rows come with what a model is to find; without, it finds groups or axes by itself."""
        return self not in (Problem.TABLE_CLUSTERING, Problem.TABLE_DIMENSION_REDUCTION)

    @property
    def has_scores(self) -> bool:
        """Whether a model answers a row with a list of numbers: one a class, a cluster or a component."""
        return self.is_classification or not self.has_label

    @property
    def has_objects(self) -> bool:
        """Whether a row has any number of objects, each with a box and a class."""
        return self in (Problem.OBJECT_DETECTION, Problem.INSTANCE_SEGMENTATION)


class Ref(BaseModel):
    """Base of all references."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class DatasetRef(Ref):
    """One immutable dataset version in the dataset store."""

    name: str
    version: str
    url: str = Field(description="Folder of the version: Parquet shards beside manifest.json.")
    digest: str = Field(description="SHA-256 over the manifest's content, hex.")
    problem: Problem
    rows: int

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"


class RunRef(Ref):
    """One finished training: an MLflow run with a logged model."""

    run_id: str
    experiment: str
    model_uri: str = Field(description="`models:/m-…`: the MLflow logged model with the bundle in it.")
    digest: str = Field(description="SHA-256 over the bundle's files, hex.")
    algorithm: str
    dataset: DatasetRef


class EvaluationRef(Ref):
    """How a bundle did on one split: headline metrics here, the rest beside the MLflow run."""

    run_id: str
    dataset: DatasetRef
    split: str
    rows: int
    metrics: dict[str, float]
    uri: str = Field(description="`runs:/<run>/evaluation/<split>`: evaluation.json, predictions.parquet.")
    digest: str = Field(description="SHA-256 over evaluation.json, hex.")


class StudyRef(Ref):
    """One hyperparameter study: a parent MLflow run with its trials nested below."""

    run_id: str
    experiment: str
    trials: int
    best: RunRef
    end_reason: str


class ModelVersionRef(Ref):
    """One version of a registered model."""

    name: str
    version: int
    run_id: str
    model_uri: str
    digest: str

    def __str__(self) -> str:
        return f"{self.name} v{self.version}"


class EndpointRef(Ref):
    """A live address that answers predictions."""

    name: str
    url: str = Field(description="Where a client posts.")
    model: str
    alias: str
    version: int
    token_file: str
    curl: str = Field(default="", description="A command that asks it, ready to be pasted in a shell.")
