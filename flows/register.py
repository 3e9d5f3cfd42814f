"""Make a training's model a version of a registered model."""

from __future__ import annotations

from prefect import flow

from tasks.evaluate import task as evaluate_stage
from tasks.refs import ModelVersionRef
from tasks.register import task as register_stage
from tasks.register.config import RegisterConfig
from tasks.train import task as train_stage


@flow(name="register", flow_run_name="register {run_id}")
def register_model(
    run_id: str, registration: RegisterConfig = RegisterConfig(), site: str = "local"
) -> ModelVersionRef:
    """Register a run in MLflow with its evaluation; registering it again changes nothing.

    Args:
        run_id: The MLflow run of the training, as its page shows it.
        registration: The registered model and what is written beside the version.
        site: Which set of blocks to run on.
    """
    run = train_stage.find_run(run_id, site)
    evaluation = evaluate_stage.evaluate_model(run, run.dataset, site=site)
    return register_stage.register_model(run, evaluation, registration, site)
