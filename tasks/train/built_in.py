"""An algorithm of the catalogue on a dataset version."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from tasks.data.read import preprocessing_of
from tasks.data.storage.store import DatasetStore
from tasks.refs import DatasetRef
from tasks.train.algorithms.algorithm import Algorithm, AlgorithmSettings
from tasks.train.algorithms.fit import Fit, FitContext, Metrics, TrainingData
from tasks.train.algorithms.one_call import FitStopped
from tasks.train.bundle import Bundle, TrainedOn
from tasks.train.config import TrainConfig
from tasks.train.cross_validation import cross_validate, share
from tasks.train.tracking import TrackedRun
from tasks.train.trainer import Fitted
from tasks.train.training_data import folds_of, read_training_data


@dataclass(frozen=True)
class BuiltIn:
    """An algorithm, its settings and its rows: see `tasks.train.trainer.Trainer`.

    Attributes:
        ref: The dataset version.
        store: Where it is.
        algorithm: What to fit.
        settings: Its hyperparameters.
        seed: Start of its random numbers.
        data: The rows; all of them to train on, where the version is divided into folds.
        folds: Folds of the version; 0 for no cross-validation.
    """

    ref: DatasetRef
    store: DatasetStore
    algorithm: Algorithm
    settings: AlgorithmSettings
    seed: int
    data: TrainingData
    folds: int

    @classmethod
    def of(cls, ref: DatasetRef, config: TrainConfig, store: DatasetStore) -> BuiltIn:
        """What a configuration means for a dataset version.

        Raises:
            InvalidSettings: The algorithm cannot take these settings.
            InvalidData: Nothing can be learned from the data.
        """
        algorithm, settings = config.resolve(ref.problem, ref.rows)
        folds = folds_of(store, ref)
        data = read_training_data(store, ref, fold=None)
        algorithm.refuse(data, settings)
        return cls(ref, store, algorithm, settings, config.seed, data, folds)

    @property
    def name(self) -> str:
        return self.algorithm.name

    @property
    def params(self) -> dict[str, Any]:
        return {
            "train_rows": len(self.data.train),
            "validation_rows": len(self.data.validation) if self.data.validation else 0,
            **({"folds": self.folds} if self.folds else {}),
            **self.settings.model_dump(mode="json"),
        }

    def fit(self, run: TrackedRun, context: FitContext, folder: Path) -> Fitted:
        """See `Trainer.fit`; with folds, once a fold and once on all rows."""
        try:
            fit, settings = self._fitted(run, context)
        except FitStopped:
            run.ended_as = "aborted"
            raise
        bundle = self.bundle(folder, fit, settings)
        return Fitted(fit, bundle, bundle.digest)

    def _fitted(self, run: TrackedRun, context: FitContext) -> tuple[Fit, AlgorithmSettings]:
        """The model, and the hyperparameters that it was fitted with."""
        settings = self.settings
        if self.folds:
            scores = cross_validate(
                self.algorithm,
                settings,
                self.folds,
                partial(read_training_data, self.store, self.ref),
                context,
                lambda fold, metrics: run.stream(fold, {f"fold_{k}": v for k, v in metrics.items()}),
            )
            run.metrics(scores.summary())
            settings = self.algorithm.refit_settings(settings, scores.best_epochs or [1])
            if scores.stopped:
                return scores.stopped, settings
            context = share(context, self.folds, self.folds + 1, scores.fit_time_s)

        def log_and_report(epoch: int, epochs: int, metrics: Metrics) -> None:
            run.stream(epoch, metrics)
            context.report(epoch, epochs, metrics)

        fit = self.algorithm.fit(self.data, settings, replace(context, report=log_and_report))
        run.complete(fit.history)
        return fit, settings

    def bundle(self, folder: Path, fit: Fit, settings: AlgorithmSettings) -> Bundle:
        """Put a fitted model together with what it needs to answer raw rows.

        Args:
            folder: Where the bundle is written, replacing an earlier one.
            fit: The fitted model.
            settings: The hyperparameters that it was fitted with.
        """
        shutil.rmtree(folder, ignore_errors=True)
        return Bundle.write(
            folder,
            model=fit.model,
            preprocessing=preprocessing_of(self.store, self.ref),
            problem=self.ref.problem,
            algorithm=self.algorithm.name,
            hyperparameters=settings.model_dump(mode="json"),
            seed=self.seed,
            classes=fit.outputs or self.data.classes,
            label=self.store.open(self.ref).label or None,
            inputs=self.data.inputs,
            dataset=TrainedOn(name=self.ref.name, version=self.ref.version, digest=self.ref.digest),
        )
