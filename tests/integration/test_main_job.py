"""The main job as a user meets it: `trainyard run`, then clients that know only the address and the token."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
from PIL import Image
from sklearn.datasets import load_digits, load_iris

from tests.helpers.local_stack import LocalStack, wait_until

ACCURACY = {"digits": 0.97, "iris": 0.93}


@pytest.fixture(scope="session")
def runs(stack: LocalStack) -> dict[str, str]:
    """What `trainyard run` printed for each dataset."""
    printed = {}
    for dataset in ACCURACY:
        done = stack.command("run", dataset, timeout_s=600)
        assert done.returncode == 0, done.stdout + done.stderr + stack.tails()
        printed[dataset] = done.stdout
    return printed


@pytest.fixture(scope="session")
def endpoints(stack: LocalStack, runs: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Name → what `status --json` says of an endpoint."""
    return {endpoint["name"]: endpoint for endpoint in stack.status()["endpoints"]}


def last_run(stack: LocalStack, dataset: str) -> dict[str, Any]:
    """The newest completed run of a dataset's deployment."""
    deployment = stack.call("GET", f"/deployments/name/retrain/{dataset}")["id"]
    body = {
        "flow_runs": {"deployment_id": {"any_": [deployment]}, "state": {"type": {"any_": ["COMPLETED"]}}},
        "sort": "START_TIME_DESC",
        "limit": 1,
    }
    found: dict[str, Any] = stack.call("POST", "/flow_runs/filter", body)[0]
    return found


def artifacts_of(stack: LocalStack, run: dict[str, Any]) -> dict[str, dict[str, Any]]:
    body = {"flow_runs": {"id": {"any_": [run["id"]]}}, "limit": 200}
    return {artifact["key"]: artifact for artifact in stack.call("POST", "/artifacts/filter", body)}


def tasks_of(stack: LocalStack, run: dict[str, Any]) -> dict[str, str]:
    """Task run name → state name."""
    body = {"flow_runs": {"id": {"any_": [run["id"]]}}, "limit": 200}
    return {task["name"]: task["state"]["name"] for task in stack.call("POST", "/task_runs/filter", body)}


def ask(endpoint: dict[str, Any], **request: Any) -> httpx.Response:
    """Post to an endpoint with its token in the `token` header."""
    token = Path(endpoint["token_file"]).read_text().strip()
    return httpx.post(endpoint["url"], headers={"token": token}, timeout=30, trust_env=False, **request)


def png(pixels: np.ndarray) -> bytes:
    """A digit of scikit-learn (float [8, 8], 0 to 16) as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(np.round(pixels * 255 / 16).astype(np.uint8)).save(buffer, format="PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("dataset", list(ACCURACY))
def test_the_held_out_accuracy_is_reached(stack: LocalStack, runs: dict[str, str], dataset: str) -> None:
    assert stack.champion_metrics(dataset)["test_accuracy"] >= ACCURACY[dataset]


@pytest.mark.parametrize("dataset", list(ACCURACY))
def test_the_run_ends_with_address_token_file_and_command(
    runs: dict[str, str], endpoints: dict[str, dict[str, Any]], dataset: str
) -> None:
    printed = "".join(runs[dataset].split())
    assert endpoints[dataset]["url"] in printed
    assert endpoints[dataset]["token_file"] in printed
    assert Path(endpoints[dataset]["token_file"]).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("dataset", list(ACCURACY))
def test_the_printed_command_answers(runs: dict[str, str], dataset: str) -> None:
    (command,) = re.findall(r"^curl .*?(?=\n\s*\n)", runs[dataset], re.MULTILINE | re.DOTALL)
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "error" not in done.stdout
    assert json.loads(done.stdout)


def test_a_job_without_its_parameters_is_refused_in_a_sentence(stack: LocalStack) -> None:
    done = stack.command("run", "any")
    assert done.returncode == 1
    assert "'data' is a required property" in done.stderr
    assert "To mend: " in done.stderr
    assert '{"detail"' not in done.stderr


def test_images_answer_to_json_best_first(endpoints: dict[str, dict[str, Any]]) -> None:
    digits = load_digits()
    files = [png(image) for image in digits.images[:50]]
    body = {"instances": [{"data": base64.b64encode(file).decode()} for file in files]}
    answer = ask(endpoints["digits"], json=body)
    assert answer.status_code == 200, answer.text
    predictions = answer.json()["predictions"]
    for prediction in predictions:
        scores = [entry["score"] for entry in prediction]
        assert scores == sorted(scores, reverse=True)
        assert sum(scores) == pytest.approx(1, abs=1e-4)
        assert {entry["label"] for entry in prediction} == set("0123456789")
    right = sum(int(p[0]["label"]) == label for p, label in zip(predictions, digits.target, strict=False))
    assert right >= 48


def test_images_answer_to_a_form_with_the_label(endpoints: dict[str, dict[str, Any]]) -> None:
    digits = load_digits()
    right = 0
    for image, label in zip(digits.images[:10], digits.target, strict=False):
        answer = ask(endpoints["digits"], files={"input": ("digit.png", png(image), "image/png")})
        assert answer.status_code == 200, answer.text
        assert re.fullmatch(r"\[\d]", answer.text)
        right += answer.text == f"[{label}]"
    assert right >= 9


def test_tables_answer_with_a_probability_a_class(endpoints: dict[str, dict[str, Any]]) -> None:
    iris = load_iris()
    answer = ask(endpoints["iris"], json={"instances": iris.data.tolist()})
    assert answer.status_code == 200, answer.text
    scores = np.array(answer.json()["predictions"])
    assert scores.shape == (150, 3)
    assert np.allclose(scores.sum(axis=1), 1, atol=1e-4)
    assert (scores.argmax(axis=1) == iris.target).mean() >= 0.93


@pytest.mark.parametrize("dataset", list(ACCURACY))
def test_without_the_token_nobody_is_answered(endpoints: dict[str, dict[str, Any]], dataset: str) -> None:
    url = endpoints[dataset]["url"]
    for headers in ({}, {"token": "guess"}, {"Authorization": "Bearer guess"}):
        answer = httpx.post(url, json={"instances": [[1, 2, 3, 4]]}, headers=headers, trust_env=False)
        assert answer.status_code == 401
        assert answer.json()["error"]


@pytest.mark.parametrize(
    ("dataset", "request_"),
    [
        ("iris", {"json": {"instances": [[1, 2, 3]]}}),
        ("iris", {"json": {"instances": [[1, 2, 3, "wide"]]}}),
        ("iris", {"json": {"instances": []}}),
        ("iris", {"json": {"rows": [[1, 2, 3, 4]]}}),
        ("iris", {"content": b'{"instances": [[NaN, 1, 2, 3]]}', "headers": {}}),
        ("iris", {"content": b"not json"}),
        ("digits", {"json": {"instances": [{"data": "not base64!"}]}}),
        ("digits", {"json": {"instances": [{"data": base64.b64encode(b"no image").decode()}]}}),
        ("digits", {"files": {"input": ("a.png", b"no image", "image/png")}}),
        ("digits", {"files": {"other": ("a.png", b"no image", "image/png")}}),
    ],
)
def test_a_malformed_request_is_refused_with_a_sentence(
    endpoints: dict[str, dict[str, Any]], dataset: str, request_: dict[str, Any]
) -> None:
    request = {key: value for key, value in request_.items() if key != "headers"}
    answer = ask(endpoints[dataset], **request)
    assert 400 <= answer.status_code < 500
    assert len(answer.json()["error"].split()) >= 4


def test_the_run_shows_its_pictures_tables_and_links(stack: LocalStack, runs: dict[str, str]) -> None:
    shown = artifacts_of(stack, last_run(stack, "digits"))
    assert {
        "dataset-summary",
        "class-balance",
        "sample-images",
        "training-progress",
        "learning-curves",
        "evaluation",
        "confusion-matrix",
        "endpoint-digits",
        "retrain-summary",
    } <= set(shown)
    for key in ("sample-images", "class-balance", "learning-curves", "confusion-matrix"):
        picture = httpx.get(shown[key]["data"], trust_env=False)
        assert Image.open(io.BytesIO(picture.content)).width >= 400
    summary = shown["retrain-summary"]["data"]
    for page in re.findall(r"]\((http[^)]+)\)", summary):
        assert httpx.get(page, trust_env=False, follow_redirects=True).status_code == 200, page


def test_retraining_on_nothing_new_reuses_every_step(stack: LocalStack, runs: dict[str, str]) -> None:
    before = stack.champion_metrics("digits")
    done = stack.command("run", "digits", timeout_s=300)
    assert done.returncode == 0, done.stdout + done.stderr
    run = last_run(stack, "digits")
    states = tasks_of(stack, run)
    for step in ("ingest", "validate", "preprocess", "train", "evaluate"):
        assert [s for name, s in states.items() if name.startswith(step)] == ["Cached"], states
    assert run["total_run_time"] < 15
    assert stack.champion_metrics("digits") == before


def test_training_again_gives_the_same_metrics(stack: LocalStack, runs: dict[str, str]) -> None:
    """The same seed gives the same metrics twice; a description of the run is no reason to differ."""
    run_id = stack.create_run(
        "retrain/iris",
        data={"source": "sample:iris", "name": "iris", "problem": "table-classification"},
        training={"tags": {"purpose": "repeat"}},
        registration={"model": "iris-repeat"},
        serve=False,
    )
    state = stack.wait_final(run_id, 300)
    assert state["type"] == "COMPLETED", state
    first, again = stack.champion_metrics("iris"), stack.champion_metrics("iris-repeat")
    repeatable = {key for key in first if key.startswith(("train_", "validation_", "test_"))}
    assert repeatable
    assert {key: first[key] for key in repeatable} == {key: again[key] for key in repeatable}


def test_every_process_of_the_job_is_gone_but_stack_and_endpoints(
    stack: LocalStack, runs: dict[str, str]
) -> None:
    def left() -> list[str]:
        """Command lines of flow runs and of Dask workers; a run's process outlives its last state briefly."""
        lines = []
        for pid in stack.pids():
            with contextlib.suppress(psutil.NoSuchProcess):
                lines.append(" ".join(psutil.Process(pid).cmdline()))
        return [
            line for line in lines if re.search(r"prefect\.engine|prefect flow-run|distributed|dask", line)
        ]

    wait_until(lambda: not left(), 30)
