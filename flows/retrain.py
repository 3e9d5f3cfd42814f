"""The main job: from data to a served model that is no worse than the one before."""

from __future__ import annotations

from typing import Literal

from prefect import flow

from tasks.data import task as data_stage
from tasks.data.config import IngestConfig, PreprocessConfig, ValidateConfig
from tasks.evaluate import task as evaluate_stage
from tasks.refs import EndpointRef
from tasks.register import task as register_stage
from tasks.register.config import GateConfig, RegisterConfig
from tasks.report import task as report_stage
from tasks.serve import task as serve_stage
from tasks.serve.config import ServeConfig
from tasks.sweep import task as sweep_stage
from tasks.sweep.config import SweepConfig
from tasks.train import task as train_stage
from tasks.train.config import TrainConfig
from tasks.tune import task as tune_stage
from tasks.tune.config import TuneConfig
from tasks.workspace.queue import take_slots


@flow(name="retrain", flow_run_name="retrain {data.name}")
def retrain(
    data: IngestConfig,
    validation: ValidateConfig = ValidateConfig(),
    preprocessing: PreprocessConfig = PreprocessConfig(),
    method: Literal["train", "tune", "sweep"] = "train",
    training: TrainConfig = TrainConfig(),
    tuning: TuneConfig = TuneConfig(),
    sweeping: SweepConfig = SweepConfig(),
    registration: RegisterConfig = RegisterConfig(),
    gate: GateConfig = GateConfig(),
    serve: bool = True,
    serving: ServeConfig = ServeConfig(),
    site: str = "local",
) -> EndpointRef | None:
    """Ingest, validate, preprocess, train, evaluate, register, gate, promote, serve and try a model.

    Steps whose data, settings and code are unchanged are reused, so running it on nothing new costs
    seconds. A model that fails its gate is kept in the registry and is not served.

    Args:
        data: Where the data is and what kind of problem it poses.
        validation: What the data must satisfy before anything is trained on it.
        preprocessing: The split and the preprocessing steps.
        method: train one algorithm as set below, tune its hyperparameters, or sweep algorithms.
        training: The algorithm and its hyperparameters, for train.
        tuning: The search space and its limits, for tune.
        sweeping: The algorithms and the time budget, for sweep.
        registration: Which registered model the result becomes a version of.
        gate: What the result must reach to be promoted.
        serve: Serve the promoted version and try it; switch off to end the job without an endpoint.
        serving: The endpoint that serves the promoted version.
        site: Which set of blocks to run on.
    """
    work = {"train": training, "tune": tuning, "sweep": sweeping}[method]
    model = registration.model or data.name
    if method == "train":
        train_stage.require_trainable(training, site)
    take_slots(work, site, model=model, serving=serving if serve else None)

    raw = data_stage.ingest_dataset(data, site)
    checks = data_stage.validate_dataset(raw, validation, site, preprocessing)
    report_stage.report_validation(checks, site)
    dataset = data_stage.preprocess_dataset(raw, preprocessing, site)
    report_stage.report_dataset(dataset, site)

    if method == "tune":
        study = tune_stage.tune_model(dataset, tuning, site)
        report_stage.report_study(study, site)
        run = study.best
    elif method == "sweep":
        study = sweep_stage.sweep_algorithms(dataset, sweeping, site)
        report_stage.report_study(study, site)
        run = study.best
    else:
        run = train_stage.train_model(dataset, training, site)
    report_stage.report_training(run, site)

    evaluation = evaluate_stage.evaluate_model(run, dataset, site=site)
    report_stage.report_evaluation(evaluation, site)

    version = register_stage.register_model(run, evaluation, registration, site)
    decision = register_stage.gate_model(version, evaluation, gate, dataset, site)
    champion = register_stage.promote_model(version, decision, site)

    endpoint = None
    if serve:
        endpoint = serve_stage.serve_model(champion, serving, site)
        serve_stage.smoke_test(endpoint, dataset, evaluation, site)
    report_stage.report_summary(dataset, run, evaluation, version, decision, endpoint, site)
    return endpoint
