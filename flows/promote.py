"""Hold a registered version against the champion, and promote it if it passes."""

from __future__ import annotations

from prefect import flow

from tasks.evaluate import task as evaluate_stage
from tasks.refs import ModelVersionRef
from tasks.register import task as register_stage
from tasks.register.config import GateConfig
from tasks.train import task as train_stage


@flow(name="promote", flow_run_name="promote {model} v{version}")
def promote_model(
    model: str, version: int, gate: GateConfig = GateConfig(), site: str = "local"
) -> ModelVersionRef:
    """Gate a version on its held-out rows and move the champion alias when it passes.

    Args:
        model: The registered model.
        version: The version to promote.
        gate: What it must reach.
        site: Which set of blocks to run on.
    """
    candidate = register_stage.find_version(model, version, site)
    run = train_stage.find_run(candidate.run_id, site)
    evaluation = evaluate_stage.evaluate_model(run, run.dataset, site=site)
    decision = register_stage.gate_model(candidate, evaluation, gate, run.dataset, site)
    return register_stage.promote_model(candidate, decision, site)
