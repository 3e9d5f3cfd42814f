"""What an evaluation says: the content of evaluation.json, small whatever the number of rows and classes."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from tasks.evaluate.calibration import Calibration
from tasks.evaluate.curves import ClassCurves
from tasks.evaluate.importance import Importance
from tasks.evaluate.mistakes import Mistake
from tasks.evaluate.scores import ClassScores
from tasks.evaluate.unlabelled import Clusters, Components
from tasks.refs import DatasetRef, Problem


class Costs(BaseModel):
    """What the model costs to make, keep and ask."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    parameters: int = Field(description="Learned numbers.")
    bundle_size_bytes: int
    fit_time_s: float | None = Field(description="None where the run does not tell.")
    latency_p50_ms: float = Field(description="Median time for one row, preprocessing included.")


class OtherSplit(BaseModel):
    """How the model did on rows that it was made with, to be held against the evaluated split."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    split: str
    rows: int = Field(description="Rows measured: a sample, evenly spread, where the split is large.")
    of: int = Field(description="Rows of the split.")
    metrics: dict[str, float]


class Evaluation(BaseModel):
    """Everything measured on one split: the content of evaluation.json."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    problem: Problem
    algorithm: str
    bundle_digest: str
    dataset: DatasetRef
    split: str
    rows: int
    label: str | None
    classes: tuple[str, ...]
    metrics: dict[str, float]
    headline: str
    higher_is_better: bool
    interval: tuple[float, float] = Field(description="95 % interval of the headline metric.")
    confusion: list[list[int]] = Field(description="Rows by true and predicted class; empty for regression.")
    per_class: list[ClassScores]
    true_values: list[float] = Field(description="Regression: up to 2,000 rows' labels.")
    predicted_values: list[float] = Field(description="Regression: the predictions for the same rows.")
    costs: Costs
    # What earlier evaluations do not have:
    other_splits: list[OtherSplit] = Field(default=[], description="The other splits of the same version.")
    curves: list[ClassCurves] = Field(
        default=[], description="Classification: of the classes, or of the worst of many, and their averages."
    )
    calibration: Calibration | None = None
    mistakes: list[Mistake] = Field(default=[], description="The rows that were most wrong, worst first.")
    clusters: Clusters | None = Field(default=None, description="Clustering: what it makes of the rows.")
    components: Components | None = Field(
        default=None, description="Dimension reduction: what the components are, and the rows on them."
    )
    importance: Importance | None = Field(default=None, description="Tables: what each column is worth.")
