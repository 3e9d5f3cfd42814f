"""A finished training as a template: its preprocessing and its settings, without its data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

from tasks.data.config import IngestConfig, PreprocessConfig, SplitConfig, StepConfig
from tasks.data.manifest import Manifest
from tasks.data.read import raw_manifest
from tasks.data.storage.store import DatasetStore
from tasks.errors import InvalidSettings
from tasks.refs import DatasetRef, Problem
from tasks.templates.config import TemplateData
from tasks.train.config import TrainConfig
from tasks.train.tags import ALGORITHM_TAG, MODEL_URI_TAG
from tasks.trainings.records import RunFacts

PREPROCESS = "preprocess"


class Template(BaseModel):
    """What a template fixes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    problem: Problem
    preprocessing: PreprocessConfig
    training: TrainConfig


def made_from(run: RunFacts, settings: Mapping[str, Any], store: DatasetStore) -> Template:
    """What a training learned with, to be run on other data.

    Args:
        run: A finished training.
        settings: What it was started with.
        store: Where its dataset version is, for the preprocessing.

    Raises:
        NotFound: The run names no dataset, or the dataset is gone or somebody else's private one.
        InvalidSettings: It has no model, or its data was made ready by something that a template cannot
            repeat.
    """
    _require_finished(run)
    ref = run.dataset_ref()
    manifest = store.open(ref)
    fixed = {**settings, "output": "", "checkpoint_folder": ""}
    if not fixed.get("own_code") and fixed.get("algorithm", "auto") == "auto":
        # What it chose for this data; the template stands for this training.
        fixed["algorithm"] = run.tags[ALGORITHM_TAG]
    training = TrainConfig.model_validate(fixed)
    return Template(problem=ref.problem, preprocessing=preprocessing_of(store, manifest), training=training)


def _require_finished(run: RunFacts) -> None:
    """Check that a training went well; one that was stopped may have kept a model that can be served."""
    succeeded = run.status == "FINISHED" and run.status_tag != "running"  # own code may close its run itself
    if succeeded or (run.status == "KILLED" and run.tags.get(MODEL_URI_TAG)):
        return
    raise InvalidSettings(
        f"The training {run.name} is {run.status_tag or run.status.lower()} and has no model",
        where=f"run {run.run_id}",
        allowed="a training that succeeded, or one that was stopped and kept its best model",
        mend="wait for its end, or take another from the list of trainings",
    )


def preprocessing_of(store: DatasetStore, manifest: Manifest) -> PreprocessConfig:
    """The preprocessing from the raw version to this one, as settings.

    Where several preprocessings followed each other, their steps do so here; the first divided the rows.

    Raises:
        InvalidSettings: A version on the way was not made by preprocessing, or the version is raw: no
            steps at all is what settings of preprocessing cannot say.
    """
    raw = raw_manifest(store, manifest)
    if manifest.version == raw.version:
        raise InvalidSettings(
            f"The training learned from {manifest.name}@{manifest.version} as it came in, and a template "
            "always preprocesses: it would be another training",
            where="training",
            allowed="trainings on data that was preprocessed",
            mend="preprocess the data, train on the result, and save that; or copy this training with the "
            "flow copy-training",
        )
    steps: list[StepConfig] = []
    split: SplitConfig | None = None
    while manifest.version != raw.version:
        if manifest.method != PREPROCESS or manifest.parent is None:
            raise InvalidSettings(
                f"The version {manifest.name}@{manifest.version} was made by {manifest.method}, which a "
                "template cannot repeat",
                allowed="data that was ingested and preprocessed",
                mend="preprocess the raw version again, train on the result, and save that",
            )
        steps = [*(StepConfig.model_validate(step) for step in manifest.parameters["steps"]), *steps]
        split = SplitConfig.model_validate(manifest.parameters["split"])
        manifest = store.get(manifest.name, manifest.parent)
    return PreprocessConfig(steps=tuple(steps), split=split or SplitConfig())


def trained_by(training: Mapping[str, Any]) -> str:
    """The algorithm of a template's training, or where its own code is."""
    own = training.get("own_code")
    return f"own code, {own['source']}" if own else str(training["algorithm"])


def ingestion(data: TemplateData, problem: Problem) -> IngestConfig:
    """How new data for a template is read."""
    return IngestConfig(source=data.source, name=data.name, problem=problem)


def require_fits(ref: DatasetRef, problem: Problem) -> None:
    """Check that a dataset poses the problem that a template solves.

    Raises:
        InvalidSettings: It is another.
    """
    if ref.problem is not problem:
        raise InvalidSettings(
            f"The dataset {ref} is for {ref.problem.value}; the template is for {problem.value}",
            where="dataset",
            allowed=f"data for {problem.value}",
            mend="choose another dataset, or another template",
        )


def described(run: RunFacts, template: Template, page: str) -> str:
    """Where a template came from and what it fixes, as Markdown."""
    steps = " → ".join(step.method for step in template.preprocessing.steps) or "the usual steps"
    algorithm = trained_by(template.training.model_dump(mode="json"))
    changed = ", ".join(f"{k} {v}" for k, v in sorted(template.training.hyperparameters.items()))
    scores = ", ".join(
        f"{name.replace('_', ' ')} {value:.4g}"
        for name, value in sorted(run.metrics.items())
        if name in ("test_accuracy", "test_rmse", "best_validation_accuracy", "best_validation_rmse")
    )
    lines = [
        f"- from: {f'[{run.name}]({page})' if page else run.name}, run `{run.run_id}`",
        f"- problem: {template.problem.value}",
        f"- it learned from: {run.dataset}" + (f"; {scores}" if scores else ""),
        f"- algorithm: {algorithm}" + (f" ({changed})" if changed else ""),
        f"- preprocessing: {steps}",
    ]
    return "\n".join(lines)
