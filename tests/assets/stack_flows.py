"""Flows that the tests of the local stack run; they need nothing but Prefect."""

from __future__ import annotations

import os
import time
from pathlib import Path

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact


@task(task_run_name="wait {seconds} s")
def wait(seconds: float, folder: str) -> int:
    """Leave a sign that the step began, then take its time."""
    Path(folder, f"began-{os.getpid()}").touch()
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(0.05)
    return os.getpid()


@task
def fail(message: str) -> None:
    raise ValueError(message)


@flow(name="patient")
def patient(folder: str, seconds: float = 0.0) -> int:
    """Wait for a number of seconds."""
    return wait(seconds, folder)


@flow(name="retrain")
def summarise(name: str = "digits", problem: str = "", seconds: float = 0.2) -> str:
    """Stand for the main job: a step, a summary, and an error where one is asked for."""
    wait(seconds, os.environ["TRAINYARD_HOME"])
    if problem:
        fail(problem)
    create_markdown_artifact(
        f"# Model of {name}\n\n| metric | value |\n|---|---|\n| accuracy | 0.98 |", "retrain-summary"
    )
    return name


@flow(name="holding", flow_run_name="{name}")
def holding(name: str, folder: str, ranks: int = 1, endpoint: str = "") -> None:
    """Take slots as a training does, and keep them until there is a file of this name to end by."""
    from tasks.serve.config import ServeConfig
    from tasks.train.config import TrainConfig
    from tasks.workspace.queue import take_slots

    serving = ServeConfig(endpoint=endpoint) if endpoint else None
    take_slots(TrainConfig(algorithm="mlp", num_ranks=ranks) if ranks else None, "local", serving=serving)
    Path(folder, f"began-{name}").write_text(str(os.getpid()))
    while not Path(folder, f"end-{name}").exists():
        time.sleep(0.05)
