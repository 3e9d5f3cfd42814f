"""How long the main job takes, from a stack that is down: run alone, on an idle machine.

    pytest -m benchmark tests/benchmarks/test_main_job_times.py -s

Each figure is the median of three runs but for Fashion-MNIST, which runs once.
"""

from __future__ import annotations

import base64
import io
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from tasks.data.sources.samples import FASHION_MNIST_FOLDER
from tests.helpers.local_stack import LocalStack, wait_until

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(1800)]

REPEATS = 3


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[LocalStack]:
    """A stack that has never been up; whatever it becomes is stopped at the end."""
    stack = LocalStack(tmp_path / "home")
    yield stack
    stack.down()


def digit() -> dict[str, str]:
    buffer = io.BytesIO()
    pixels = np.round(load_digits().images[0] * 255 / 16).astype(np.uint8)
    Image.fromarray(pixels).save(buffer, format="PNG")
    return {"data": base64.b64encode(buffer.getvalue()).decode()}


def answers(stack: LocalStack, endpoint: str, instance: Any) -> bool:
    for known in stack.status()["endpoints"]:
        if known["name"] == endpoint:
            token = Path(known["token_file"]).read_text().strip()
            try:
                answer = httpx.post(known["url"], json={"instances": [instance]}, headers={"token": token})
            except httpx.TransportError:
                return False
            return answer.status_code == 200
    return False


def flow_seconds(stack: LocalStack, dataset: str) -> float:
    """Duration of the newest run of a dataset's deployment, from its start in the flow process."""
    deployment = stack.call("GET", f"/deployments/name/retrain/{dataset}")["id"]
    body = {"flow_runs": {"deployment_id": {"any_": [deployment]}}, "sort": "START_TIME_DESC", "limit": 1}
    return float(stack.call("POST", "/flow_runs/filter", body)[0]["total_run_time"])


def show(what: str, seconds: list[float], limit_s: float) -> None:
    low, middle, high = min(seconds), statistics.median(seconds), max(seconds)
    print(f"\n| {what} | {middle:.1f} s | {low:.1f} to {high:.1f} s | {limit_s:.0f} s |")
    assert middle <= limit_s


def test_from_nothing_to_a_digits_endpoint_that_answers(tmp_path_factory: pytest.TempPathFactory) -> None:
    seconds, again = [], []
    for _ in range(REPEATS):
        stack = LocalStack(tmp_path_factory.mktemp("cold") / "home")
        try:
            began = time.perf_counter()
            job = stack.start("run", "digits")
            wait_until(lambda stack=stack: answers(stack, "digits", digit()), 300)
            seconds.append(time.perf_counter() - began)
            output, _ = job.communicate(timeout=120)
            assert job.returncode == 0, output
            assert stack.command("run", "digits").returncode == 0
            again.append(flow_seconds(stack, "digits"))
        finally:
            stack.down()
    show("`make run`, stack down, until the digits endpoint answers", seconds, 90)
    show("`retrain` again on nothing new, in the flow process", again, 15)


@pytest.mark.skipif(not FASHION_MNIST_FOLDER.exists(), reason="needs Debian's dataset-fashion-mnist")
def test_fashion_mnist(fresh: LocalStack) -> None:
    fresh.up()
    began = time.perf_counter()
    done = fresh.command("run", "fashion-mnist", timeout_s=1200)
    assert done.returncode == 0, done.stdout + done.stderr
    show("Fashion-MNIST, the main job", [time.perf_counter() - began], 360)
    accuracy = fresh.champion_metrics("fashion-mnist")["test_accuracy"]
    print(f"\n| accuracy on Fashion-MNIST's test images | {accuracy:.3f} | one run | 0.90 |")
    assert accuracy >= 0.90
