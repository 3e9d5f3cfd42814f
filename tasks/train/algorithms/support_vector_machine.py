"""Support vector machines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from tasks.errors import InvalidData
from tasks.refs import Problem
from tasks.train.algorithms.algorithm import AlgorithmSettings, SearchRange
from tasks.train.algorithms.fields import ClassWeights
from tasks.train.algorithms.fit import FitContext, TrainingData
from tasks.train.algorithms.linear_regression import of_scaled_label
from tasks.train.algorithms.scikit_learn_algorithm import ScikitLearnAlgorithm, fitted_to_the_end
from tasks.train.algorithms.suitability import MANY_ROWS, Characteristics, Suitability, suitability

if TYPE_CHECKING:
    from sklearn.base import BaseEstimator

    from tasks.train.models.scikit_learn import ScikitLearnModel

MOST_ROWS = 50_000
"""Time grows with the square of the rows."""

FOLDS = 5


class SupportVectorMachineHyperparameters(AlgorithmSettings):
    """Settings of the machine."""

    inverse_penalty: float = Field(
        default=1.0, gt=0, le=1e6, description="Weight of the data against the width of the margin."
    )
    kernel: Literal["rbf", "linear", "polynomial"] = Field(
        default="rbf", description="How similar two rows are: rbf by distance, or by their product."
    )
    gamma: float | None = Field(
        default=None,
        gt=0,
        le=1e6,
        description="How soon similarity falls with distance; empty fits it to the spread of the columns.",
    )
    degree: int = Field(default=3, ge=1, le=10, description="Degree of the polynomial kernel.")
    tolerance: float = Field(
        default=0.1,
        ge=0,
        le=10,
        description="Values: errors up to so many standard deviations of the label cost nothing.",
    )
    class_weights: ClassWeights = "none"
    max_iterations: int = Field(default=200_000, ge=1, le=10_000_000, description="Most steps of the solver.")


class SupportVectorMachine(ScikitLearnAlgorithm):
    """The boundary with the widest margin, among rows compared by a kernel."""

    name = "support_vector_machine"
    title = "Support vector machine"
    summary = "Smooth, curved boundaries between some thousand scaled rows; too slow for many more."
    problems = frozenset({Problem.TABLE_CLASSIFICATION, Problem.TABLE_REGRESSION})
    Hyperparameters = SupportVectorMachineHyperparameters
    usual_search: ClassVar[dict[str, SearchRange]] = {
        "inverse_penalty": {"kind": "log", "low": 1e-2, "high": 1e3},
        "gamma": {"kind": "log", "low": 1e-4, "high": 1.0},
    }

    def suitability(self, data: Characteristics) -> Suitability:
        """See `Algorithm.suitability`."""
        if data.train_rows > MOST_ROWS:
            return suitability(0.1, f"takes at most {MOST_ROWS:,} rows, and there are {data.train_rows:,}")
        if data.train_rows > MANY_ROWS:
            return suitability(0.7, f"time grows with the square of {data.train_rows:,} rows")
        return suitability(2.1, f"draws smooth boundaries, and {data.train_rows:,} rows are few enough")

    def refuse(self, data: TrainingData, settings: SupportVectorMachineHyperparameters) -> None:
        """See `ScikitLearnAlgorithm.refuse`."""
        if len(data.train) > MOST_ROWS:
            raise InvalidData(
                f"a support vector machine compares all rows with each other, and there are "
                f"{len(data.train):,}",
                where="split train",
                allowed=f"at most {MOST_ROWS:,} rows",
                mend="take lightgbm or mlp, or train on fewer rows",
            )
        if data.problem.is_classification:
            counts = np.bincount(data.train.labels, minlength=len(data.classes))
            lone = [name for name, count in zip(data.classes, counts, strict=True) if count == 1]
            if lone:
                raise InvalidData(
                    f"only one training row is of class {', '.join(lone[:5])}",
                    where="split train",
                    allowed="two rows of each class, to learn from one how sure to be of the other",
                    mend="add rows of it, leave the class out, or take another algorithm",
                )

    def operations(self, data: TrainingData, settings: SupportVectorMachineHyperparameters) -> float:
        """See `ScikitLearnAlgorithm.operations`: each step compares a row with all others."""
        fits = FOLDS + 1 if data.problem.is_classification else 1
        return float(data.train.inputs.size) * settings.max_iterations * fits

    def learn(
        self, data: TrainingData, settings: SupportVectorMachineHyperparameters, context: FitContext
    ) -> tuple[ScikitLearnModel, bool]:
        """Fit, and learn from held-out folds how sure to be of a decision.

        Probabilities are the softmax of the decision values times one number, the inverse temperature
        that makes the folds' rows most likely (Guo et al., "On calibration of modern neural networks",
        2017). It leaves the decisions as they are.
        """
        if not data.problem.is_classification:
            return super().learn(data, settings, context)
        from sklearn.calibration import CalibratedClassifierCV
        from sklearn.model_selection import StratifiedKFold

        from tasks.train.models.scikit_learn import ScikitLearnModel

        counts = np.bincount(data.train.labels)
        folds = int(min(FOLDS, counts[counts > 0].min()))
        calibrated: Any = CalibratedClassifierCV(
            self.estimator(data.problem, settings, context.seed),
            method="temperature",
            ensemble=False,
            cv=StratifiedKFold(folds, shuffle=True, random_state=context.seed),
        )
        converged = fitted_to_the_end(calibrated, data, context)
        (whole,) = calibrated.calibrated_classifiers_
        sharpness = float(whole.calibrators[0].beta_)
        return ScikitLearnModel(whole.estimator, len(data.classes), sharpness=sharpness), converged

    def estimator(
        self, problem: Problem, settings: SupportVectorMachineHyperparameters, seed: int
    ) -> BaseEstimator:
        """See `ScikitLearnAlgorithm.estimator`."""
        from sklearn.svm import SVC, SVR

        shared: dict[str, Any] = {
            "C": settings.inverse_penalty,
            "kernel": "poly" if settings.kernel == "polynomial" else settings.kernel,
            "gamma": settings.gamma or "scale",
            "degree": settings.degree,
            "max_iter": settings.max_iterations,
        }
        if not problem.is_classification:
            return of_scaled_label(SVR(epsilon=settings.tolerance, **shared))
        weights = "balanced" if settings.class_weights == "balanced" else None
        return SVC(class_weight=weights, random_state=seed, **shared)


ALGORITHMS = (SupportVectorMachine(),)
