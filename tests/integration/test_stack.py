"""The local stack as a user meets it: commands, status, runs, and what is left afterwards."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.helpers.local_stack import SCRATCH_DEPLOYMENTS, LocalStack, wait_until


def test_status_is_the_documented_json(scratch_stack: LocalStack) -> None:
    document = scratch_stack.status()
    assert set(document) == {"services", "endpoints"}
    assert document["endpoints"] == []
    for service in document["services"]:
        assert set(service) == {"name", "url", "healthy", "pid"}
        assert service["healthy"] is True
        assert psutil.pid_exists(service["pid"])
        if service["url"]:
            assert httpx.get(service["url"], trust_env=False, follow_redirects=True).status_code == 200
    assert {"prefect", "mlflow", "docs", "worker"} <= {service["name"] for service in document["services"]}


def test_up_is_safe_to_call_again_and_at_the_same_time(scratch_stack: LocalStack) -> None:
    before = {name: service["pid"] for name, service in scratch_stack.services().items()}
    both = [scratch_stack.start("up") for _ in range(2)]
    for process in both:
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0, output
    assert {name: service["pid"] for name, service in scratch_stack.services().items()} == before


def test_bootstrap_registers_what_is_declared(scratch_stack: LocalStack) -> None:
    call = scratch_stack.call
    assert call("GET", "/work_pools/local")["type"] == "process"
    queues = call("POST", "/work_pools/local/queues/filter", {})
    assert [q["name"] for q in sorted(queues, key=lambda q: q["priority"])][:3] == ["high", "default", "low"]
    for block in (
        "object-store",
        "mlflow-server",
        "dask-cluster",
        "ray-cluster",
        "device-slots",
        "docs-site",
        "endpoint-host",
    ):
        call("GET", f"/block_types/slug/{block}/block_documents/name/local")
    for form in ("container-image", "docker-registry-credentials"):  # the second is Prefect's own
        call("GET", f"/block_types/slug/{form}")
    deployment = call("GET", "/deployments/name/patient/short")
    assert deployment["entrypoint"] == "tests.assets.stack_flows.patient"
    assert deployment["work_queue_name"] == "high"
    assert [s["active"] for s in deployment["schedules"]] == [False]
    assert "Lost flow runs are closed" in {a["name"] for a in call("POST", "/automations/filter", {})}


def test_bootstrap_keeps_a_block_that_somebody_edited(scratch_stack: LocalStack) -> None:
    path = "/block_types/slug/dask-cluster/block_documents/name/local"
    document = scratch_stack.call("GET", path)
    scratch_stack.call("PATCH", f"/block_documents/{document['id']}", {"data": {"n_workers": 1}})
    assert scratch_stack.command("bootstrap", "--force").returncode == 0
    assert scratch_stack.call("GET", path)["data"]["n_workers"] == 1
    again = scratch_stack.command("bootstrap")
    assert "registered already" in again.stdout

    # Other settings reach the blocks that nobody edited, and only those.
    record = scratch_stack.home / "run" / "stack.json"
    before = record.read_text()
    content = json.loads(before)
    content["settings"]["dask_workers"] = 3
    try:
        record.write_text(json.dumps(content))
        assert scratch_stack.command("bootstrap").returncode == 0
    finally:
        record.write_text(before)
    assert scratch_stack.call("GET", path)["data"]["n_workers"] == 1
    ray = "/block_types/slug/ray-cluster/block_documents/name/local"
    assert scratch_stack.call("GET", ray)["data"]["num_cpus"] == 3
    assert scratch_stack.command("bootstrap").returncode == 0
    assert scratch_stack.call("GET", ray)["data"]["num_cpus"] == 2


def test_pages_of_other_sites_may_not_use_the_apis(scratch_stack: LocalStack) -> None:
    prefect = f"{scratch_stack.api_url}/flow_runs/filter"
    mlflow = f"{scratch_stack.mlflow_url}/api/2.0/mlflow/experiments/search"

    def ask(url: str, body: object, **headers: str) -> httpx.Response:
        return httpx.post(url, json=body, headers=headers, timeout=30, trust_env=False)

    foreign, own = "http://page.example", f"http://localhost:{scratch_stack.prefect_port}"
    assert "access-control-allow-origin" not in ask(prefect, {}, Origin=foreign).headers
    assert ask(prefect, {}, Origin=own).headers["access-control-allow-origin"] == own
    preflight = {
        "Origin": foreign,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type",
    }
    assert httpx.options(prefect, headers=preflight, trust_env=False).status_code == 400
    assert ask(mlflow, {"max_results": 1}).status_code == 200
    assert ask(mlflow, {"max_results": 1}, Origin=foreign).status_code == 403
    assert ask(mlflow, {"max_results": 1}, Host="page.example").status_code == 403


def test_env_is_what_a_shell_needs(scratch_stack: LocalStack) -> None:
    script = f'eval "$({sys.executable} -m infra.cli env)" && echo "$PREFECT_API_URL $MLFLOW_TRACKING_URI"'
    done = subprocess.run(
        ["sh", "-c", script], env=scratch_stack.environment, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.split() == [scratch_stack.api_url, scratch_stack.mlflow_url], done.stderr


def test_a_mlflow_run_whose_flow_run_is_over_is_closed(scratch_stack: LocalStack, signs: Path) -> None:
    api = f"{scratch_stack.mlflow_url}/api/2.0/mlflow/runs"

    def begin(tag: str, value: str) -> str:
        body = {"experiment_id": "0", "tags": [{"key": tag, "value": value}]}
        made = httpx.post(f"{api}/create", json=body, timeout=30, trust_env=False)
        return str(made.raise_for_status().json()["run"]["info"]["run_id"])

    def run_of(run_id: str) -> dict[str, Any]:
        found = httpx.get(f"{api}/get", params={"run_id": run_id}, timeout=30, trust_env=False)
        run: dict[str, Any] = found.raise_for_status().json()["run"]
        return run

    over = scratch_stack.create_run("patient/short", folder=str(signs))
    going = scratch_stack.create_run("patient/short", folder=str(signs), seconds=300)
    wait_until(lambda: len(list(signs.iterdir())) == 2)
    scratch_stack.wait_final(over)
    left, used = begin("trainyard.flow_run_id", over), begin("trainyard.flow_run_id", going)
    trial, notebook = begin("mlflow.parentRunId", left), begin("trainyard.flow_run_id", "mine")
    try:
        for run_id in (left, trial):
            wait_until(lambda run_id=run_id: run_of(run_id)["info"]["status"] == "FAILED", 90)
        tags = {tag["key"]: tag["value"] for tag in run_of(left)["data"]["tags"]}
        assert tags["trainyard.status"] == "failed"
        assert {run_of(run_id)["info"]["status"] for run_id in (used, notebook)} == {"RUNNING"}
    finally:
        cancelling = {"state": {"type": "CANCELLING", "name": "Cancelling"}}
        scratch_stack.call("POST", f"/flow_runs/{going}/set_state", cancelling)
    wait_until(lambda: run_of(used)["info"]["status"] == "KILLED", 120)


def test_a_deployment_runs_in_a_process_of_the_worker(scratch_stack: LocalStack, signs: Path) -> None:
    run = scratch_stack.create_run("patient/short", folder=str(signs))
    state = scratch_stack.wait_final(run)
    assert state["type"] == "COMPLETED", scratch_stack.tails()
    assert len(list(signs.iterdir())) == 1


def test_run_shows_steps_and_summary(scratch_stack: LocalStack) -> None:
    done = scratch_stack.command("run", "digits")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "wait 0.2 s: completed" in done.stdout
    assert "Model of digits" in done.stdout


def test_run_names_the_step_that_failed(scratch_stack: LocalStack) -> None:
    done = scratch_stack.command("run", "broken")
    assert done.returncode == 1
    assert "fail" in done.stdout
    assert "the label column is missing" in done.stdout
    assert "/runs/flow-run/" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_run_refuses_a_dataset_without_a_deployment(scratch_stack: LocalStack) -> None:
    done = scratch_stack.command("run", "nothing")
    assert done.returncode == 1
    assert "There is no main job for nothing" in done.stderr
    assert "digits" in done.stderr


def test_run_follows_a_run_that_waits_already(scratch_stack: LocalStack) -> None:
    """As after the command was killed while its run was waiting; runs with other parameters are others'."""
    found = scratch_stack.call("GET", "/deployments/name/retrain/digits")
    scratch_stack.call("PATCH", "/work_pools/local", {"is_paused": True})
    try:
        other = scratch_stack.create_run("retrain/digits", name="other")
        first = scratch_stack.start("run", "digits")

        def runs() -> list[str]:
            body = {
                "flow_runs": {
                    "deployment_id": {"any_": [found["id"]]},
                    "state": {"type": {"any_": ["SCHEDULED"]}},
                }
            }
            made = scratch_stack.call("POST", "/flow_runs/filter", body)
            return [run["id"] for run in made if run["id"] != other]

        waiting = wait_until(runs)
        first.kill()
        first.communicate()
        second = scratch_stack.start("run", "digits")
        assert second.stdout
        assert any("following it" in line for line in iter(second.stdout.readline, ""))
        assert runs() == waiting
    finally:
        scratch_stack.call("PATCH", "/work_pools/local", {"is_paused": False})
    output, _ = second.communicate(timeout=120)
    assert second.returncode == 0, output
    assert scratch_stack.wait_final(other)["type"] == "COMPLETED"


def test_interrupting_run_cancels_it(scratch_stack: LocalStack, signs: Path) -> None:
    found = scratch_stack.call("GET", "/deployments/name/retrain/digits")
    scratch_stack.call("PATCH", f"/deployments/{found['id']}", {"parameters": {"seconds": 120}})
    process = scratch_stack.start("run", "digits")

    def running() -> list[dict[str, str]]:
        body = {"flow_runs": {"state": {"type": {"any_": ["RUNNING"]}}}}
        return list(scratch_stack.call("POST", "/flow_runs/filter", body))

    try:
        run = wait_until(running)[0]
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        scratch_stack.call("PATCH", f"/deployments/{found['id']}", {"parameters": {}})
    assert process.returncode == 130, output
    assert "ended as Cancelled" in output
    assert scratch_stack.state(run["id"])["type"] == "CANCELLED"


def test_secrets_and_databases_are_private(scratch_stack: LocalStack) -> None:
    for file in [*(scratch_stack.home / "secrets").iterdir(), *scratch_stack.home.glob("*/*.db")]:
        assert stat.S_IMODE(file.stat().st_mode) & 0o077 == 0, file
    assert stat.S_IMODE((scratch_stack.home / "secrets").stat().st_mode) == 0o700
    assert stat.S_IMODE((scratch_stack.home / "run" / "supervisor.sock").stat().st_mode) == 0o700


def test_everything_listens_on_the_loopback_address_only(scratch_stack: LocalStack) -> None:
    pids = set(scratch_stack.pids())
    listening = [
        c for c in psutil.net_connections("inet") if c.pid in pids and c.status == psutil.CONN_LISTEN
    ]
    assert listening
    assert {c.laddr.ip for c in listening} == {"127.0.0.1"}


def test_logs_show_a_service(scratch_stack: LocalStack) -> None:
    assert (
        scratch_stack.settings["TRAINYARD_PREFECT_PORT"]
        in scratch_stack.command("logs", "prefect", "-n", "100000").stdout
    )
    missing = scratch_stack.command("logs", "nothing")
    assert missing.returncode == 1
    assert "prefect" in missing.stderr


def test_a_busy_port_is_one_sentence(scratch_stack: LocalStack, tmp_path: Path) -> None:
    other = LocalStack(tmp_path / "home", TRAINYARD_MLFLOW_PORT=str(scratch_stack.mlflow_port))
    done = other.command("up")
    assert done.returncode == 1
    assert f"Port {scratch_stack.mlflow_port} for mlflow is taken by process" in done.stderr
    assert "TRAINYARD_MLFLOW_PORT=" in done.stderr
    assert "Traceback" not in done.stderr
    assert other.pids() == []


def test_another_setting_of_a_running_stack_is_refused(scratch_stack: LocalStack) -> None:
    done = scratch_stack.command("up", TRAINYARD_DOCS_PORT=str(scratch_stack.docs_port + 1))
    assert done.returncode == 1
    assert "already runs with another value of TRAINYARD_DOCS_PORT" in done.stderr


def test_an_impossible_data_folder_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = LocalStack(tmp_path / "file" / "home").command("up")
    assert done.returncode == 1
    assert done.stderr.startswith("trainyard: The data folder cannot be made")
    assert "TRAINYARD_HOME" in done.stderr


def test_down_leaves_nothing_and_runs_end_in_a_true_state(tmp_path: Path, signs: Path) -> None:
    """Down with a run in progress, a cut of everything with a run in progress, and up after each."""
    stack = LocalStack(tmp_path / "home", SCRATCH_DEPLOYMENTS)
    try:
        stack.up()
        stopped = stack.create_run("patient/short", folder=str(signs), seconds=300)
        wait_until(lambda: list(signs.iterdir()))
        stack.down()
        assert stack.pids() == []
        assert stack.command("status", "--json").returncode == 1
        stack.down()

        stack.up()
        assert stack.state(stopped)["type"] == "CANCELLED"
        cut = stack.create_run("patient/short", folder=str(signs), seconds=300)
        wait_until(lambda: len(list(signs.iterdir())) == 2)
        # Prefect records steps a moment after they begin.
        query = {"flow_runs": {"id": {"any_": [cut]}}}
        wait_until(
            lambda: [t["state_type"] for t in stack.call("POST", "/task_runs/filter", query)] == ["RUNNING"]
        )
        for pid in stack.pids():
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: stack.pids() == [])

        stack.up()
        state = stack.state(cut)
        assert state["type"] == "CRASHED"
        assert "running again continues" in state["message"]
        tasks = stack.call("POST", "/task_runs/filter", query)
        assert [task["state_type"] for task in tasks] == ["CRASHED"]
    finally:
        stack.down()
    assert stack.pids() == []
