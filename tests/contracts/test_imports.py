"""What importing costs: nothing heavy is loaded where a flow is only being listed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
HEAVY = {
    "bentoml", "dask_cuda", "datasets", "distributed", "gradio", "great_expectations", "horovod",
    "lightgbm", "matplotlib", "mlflow", "optuna", "pandas", "ray", "sklearn", "torch", "transformers",
}  # fmt: skip
FLOWS = sorted(f"flows.{file.stem}" for file in (REPOSITORY / "flows").glob("[!_]*.py"))
SETTINGS = sorted(f"tasks.{file.parent.name}.config" for file in (REPOSITORY / "tasks").glob("*/config.py"))


def loaded_by(modules: list[str]) -> set[str]:
    """Top-level packages in sys.modules after importing modules in a fresh interpreter."""
    code = (
        "import importlib, json, sys\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_listing_all_flows_loads_nothing_heavy() -> None:
    assert FLOWS
    assert not loaded_by(FLOWS) & HEAVY


@pytest.mark.skipif(not SETTINGS, reason="no stage has settings")
def test_settings_load_neither_prefect_nor_anything_heavy() -> None:
    assert not loaded_by(SETTINGS) & (HEAVY | {"prefect", "blocks"})


def test_commands_of_the_stack_are_light() -> None:
    assert not loaded_by(["infra.cli", "infra.stack.status", "infra.stack.lifecycle"]) & (HEAVY | {"prefect"})
