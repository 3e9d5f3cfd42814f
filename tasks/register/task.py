"""The registry's steps: register a run, hold it against the champion, promote it."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from prefect import task
from prefect.events import emit_event
from prefect.logging import get_run_logger
from prefect.runtime import flow_run

from blocks.mlflow_server import MlflowServer
from tasks.data.task import open_store
from tasks.evaluate.task import evaluate_version
from tasks.home import home
from tasks.refs import DatasetRef, EvaluationRef, ModelVersionRef, RunRef
from tasks.register.config import GateConfig, RegisterConfig
from tasks.register.gate import Decision

FLOW_RUN_TAG = "trainyard.flow_run_id"


@task(name="register", task_run_name="register {run.algorithm} of {run.dataset.name}")
def register_model(
    run: RunRef, evaluation: EvaluationRef, config: RegisterConfig, site: str = "local"
) -> ModelVersionRef:
    """Make a run's model a version of a registered model; the same run gives the same version."""
    from tasks.register.register import register

    version = register(
        run,
        evaluation,
        config,
        open_store(site),
        cast(MlflowServer, MlflowServer.load(site)).client(),
        _lock_folder(),
        tags={FLOW_RUN_TAG: str(flow_run.id)} if flow_run.id else None,
    )
    get_run_logger().info("Run %s is %s.", run.run_id, version)
    return version


@task(name="find version", task_run_name="find {model} {which}")
def find_version(model: str, which: str | int, site: str = "local") -> ModelVersionRef:
    """The reference to a registered version, by its number or an alias."""
    from tasks.register.register import find_version as find

    return find(cast(MlflowServer, MlflowServer.load(site)).client(), model, which)


@task(name="gate", task_run_name="gate {version.name} v{version.version}")
def gate_model(
    version: ModelVersionRef,
    evaluation: EvaluationRef,
    config: GateConfig,
    dataset: DatasetRef,
    site: str = "local",
) -> Decision:
    """Hold a version against the champion, both measured on the same held-out rows."""
    from tasks.register.promote import hold_against_champion

    def measure(champion: ModelVersionRef, on: DatasetRef, split: str) -> EvaluationRef:
        return evaluate_version(champion, on, split, site)

    decision = hold_against_champion(
        version, evaluation, dataset, config, cast(MlflowServer, MlflowServer.load(site)).client(), measure
    )
    verdict = "passes" if decision.promote else "does not pass"
    get_run_logger().info("%s %s its gate. %s", version, verdict, " ".join(decision.reasons))
    return decision


@task(name="promote", task_run_name="promote {version.name} v{version.version}")
def promote_model(version: ModelVersionRef, decision: Decision, site: str = "local") -> ModelVersionRef:
    """Make a version that passed its gate the champion; returns the version that is champion now."""
    from tasks.register.promote import promote

    champion, moved = promote(
        version, decision, cast(MlflowServer, MlflowServer.load(site)).client(), _lock_folder()
    )
    log = get_run_logger()
    if moved:
        log.info("%s is champion now.", champion)
        emit_event(
            event="trainyard.model.promoted",
            resource={
                "prefect.resource.id": f"trainyard.model.{champion.name}",
                "prefect.resource.name": champion.name,
            },
            payload={"version": champion.version, "decision": decision.model_dump(mode="json")},
        )
    elif champion.version == version.version:
        log.info("%s is the champion already.", champion)
    else:
        log.warning("%s is not promoted; %s stays champion.", version, champion)
    return champion


def _lock_folder() -> Path:
    return home() / "run"
