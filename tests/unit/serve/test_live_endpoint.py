"""Endpoints as real processes under a real supervisor."""

from __future__ import annotations

import os
import signal
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from filelock import FileLock

from tasks.errors import InvalidSettings, NotFound, Unavailable
from tasks.programs import Supervisor
from tasks.serve import endpoints
from tasks.serve.config import ServeConfig
from tasks.serve.record import EndpointPlace
from tests.helpers.serving_stack import register, wait_until

ROW = [6.8, 2.8, 4.8, 1.4]
#: Deadlines that hold on a machine that is busy with other work; nothing here waits for one to pass.
PATIENCE_S = 240.0
QUIET = ServeConfig(ready_timeout_s=PATIENCE_S, request_timeout_s=120)


# The registry is shared with other suites, and versions are counted here.
MODEL = "live-iris"


@pytest.fixture(scope="module")
def served(stack: Any) -> Any:
    register(stack.mlflow.uri, MODEL, stack.bundles["iris"])
    with ThreadPoolExecutor(2) as pool:  # two callers at once make one endpoint
        both = [pool.submit(endpoints.serve, MODEL, QUIET, stack.host) for _ in range(2)]
        first, second = (future.result() for future in both)
    assert first == second
    return first


def ask(url: str, token: str) -> httpx.Response:
    return httpx.post(url, headers={"token": token}, json={"instances": [ROW]}, timeout=PATIENCE_S)


def token_of(ref: Any) -> str:
    return Path(ref.token_file).read_text().strip()


def processes(stack: Any, name: str) -> list[psutil.Process]:
    """The arbiter of an endpoint and its workers, arbiter first."""
    supervisor = Supervisor(stack.home)
    wait_until(lambda: supervisor.state(f"endpoint-{name}") == "RUNNING", PATIENCE_S)
    pid = int(supervisor._call("getProcessInfo", f"endpoint-{name}")["pid"])
    arbiter = psutil.Process(pid)
    return [arbiter, *arbiter.children(recursive=True)]


def wait_for_the_end_of(those: list[psutil.Process]) -> None:
    """Until none of the processes runs; one that nobody has reaped yet has ended."""

    def ended(process: psutil.Process) -> bool:
        try:
            return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    wait_until(lambda: all(map(ended, those)), PATIENCE_S)


def test_an_endpoint_answers_and_stays_as_it_is(stack: Any, served: Any) -> None:
    record, ref = served
    assert ref.version == 1
    assert ref.url == f"http://127.0.0.1:{record.port}/v1/models/{MODEL}:predict"
    assert stat.S_IMODE(os.stat(ref.token_file).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(Path(ref.token_file).parent).st_mode) == 0o700
    answer = ask(ref.url, token_of(ref))
    assert answer.status_code == 200
    assert answer.headers["x-model-version"] == "1"
    assert ask(ref.url, "wrong").status_code == 401
    for page in ("livez", "readyz", "healthz", "metrics"):
        assert httpx.get(f"{record.base_url}/{page}", timeout=PATIENCE_S).status_code == 200
    for page in ("", "docs.json", "static_content"):
        assert httpx.get(f"{record.base_url}/{page}", timeout=PATIENCE_S).status_code == 404
    before = [process.pid for process in processes(stack, MODEL)]
    assert endpoints.serve(MODEL, QUIET, stack.host) == served
    assert [process.pid for process in processes(stack, MODEL)] == before


def test_an_endpoint_stays_in_the_workspace_that_it_was_made_in(stack: Any, served: Any) -> None:
    """Another workspace's run may bring it to a new version, and does not pay for it with its slots."""
    name = "live-of-vision"
    config = QUIET.model_copy(update={"endpoint": name})
    for workspace in ("vision", "speech"):
        host = replace(stack.host, workspace=workspace)
        record, _ = endpoints.serve(MODEL, config, host)
        assert record.workspace == "vision"
    endpoints.delete(stack.home, name)


def test_only_loopback_is_bound(stack: Any, served: Any) -> None:
    listening = {
        connection.laddr.ip
        for process in processes(stack, MODEL)
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {"127.0.0.1"}


def test_no_request_is_lost_while_versions_change(stack: Any, served: Any) -> None:
    _, ref = served
    token, stop = token_of(ref), threading.Event()
    seen: list[tuple[int, str]] = []

    def hammer() -> None:
        with httpx.Client(headers={"token": token}, timeout=PATIENCE_S) as client:
            while not stop.is_set():
                answer = client.post(ref.url, json={"instances": [ROW]})
                seen.append((answer.status_code, answer.headers["x-model-version"]))

    def is_seen_again(version: str, more: int = 1) -> None:
        known = len(seen)
        wait_until(lambda: [one for _, one in seen[known:]].count(version) >= more, PATIENCE_S)

    with ThreadPoolExecutor(3) as pool:
        clients = [pool.submit(hammer) for _ in range(3)]
        try:
            is_seen_again("1")
            register(stack.mlflow.uri, MODEL, stack.bundles["iris-weaker"])
            _, moved = endpoints.serve(MODEL, QUIET, stack.host)
            assert moved.version == 2
            is_seen_again("2")
            register(stack.mlflow.uri, MODEL, stack.bundles["iris"], digest="0" * 64)
            with pytest.raises(Unavailable, match="cannot serve v3"):
                endpoints.serve(MODEL, QUIET, stack.host)
            stack.mlflow.client().set_registered_model_alias(MODEL, "champion", "1")
            assert endpoints.serve(MODEL, QUIET, stack.host)[1].version == 1
            is_seen_again("1", more=100)
        finally:
            stop.set()
        for client in clients:
            client.result()
    assert {status for status, _ in seen} == {200}
    assert {version for _, version in seen} == {"1", "2"}


def test_an_image_model_answers_in_both_forms_from_a_real_process(stack: Any) -> None:
    import base64
    import io

    from tasks.train.bundle import Bundle
    from tests.helpers.models import digit_images

    register(stack.mlflow.uri, "Digits_v1", stack.bundles["digits"])
    record, ref = endpoints.serve("Digits_v1", QUIET, stack.host)
    assert record.name == "digits-v1"
    picture, headers = digit_images(1)[0][0], {"token": token_of(ref)}
    sink = io.BytesIO()
    picture.save(sink, "PNG")
    encoded = base64.b64encode(sink.getvalue()).decode()
    best = httpx.post(
        ref.url, headers=headers, json={"instances": [{"data": encoded}]}, timeout=PATIENCE_S
    ).json()
    form = httpx.post(
        ref.url, headers=headers, files={"input": ("a.png", sink.getvalue())}, timeout=PATIENCE_S
    )
    expected = Bundle.load(stack.bundles["digits"]).predict_images([picture])[0]
    assert best["predictions"][0][0]["label"] == str(expected.argmax())
    assert best["predictions"][0][0]["score"] == pytest.approx(float(expected.max()), abs=1e-5)
    assert form.text == f"[{expected.argmax()}]"
    large = httpx.post(ref.url, headers=headers, content=b" " * (40 * 2**20), timeout=PATIENCE_S)
    assert large.status_code == 413
    endpoints.delete(stack.home, record.name)


def test_a_killed_arbiter_takes_its_workers_with_it_and_comes_back(stack: Any, served: Any) -> None:
    _, ref = served
    arbiter, *workers = processes(stack, MODEL)
    assert workers
    arbiter.kill()
    wait_for_the_end_of(workers)
    assert endpoints.serve(MODEL, QUIET, stack.host)[1].version == 1
    assert ask(ref.url, token_of(ref)).status_code == 200
    assert processes(stack, MODEL)[0].pid != arbiter.pid


def test_a_killed_worker_is_replaced_within_seconds(stack: Any, served: Any) -> None:
    record, ref = served
    arbiter, worker, *_ = processes(stack, MODEL)
    worker.send_signal(signal.SIGKILL)
    wait_until(lambda: worker.pid not in [process.pid for process in processes(stack, MODEL)], PATIENCE_S)
    wait_until(lambda: endpoints.status(record, token_of(ref)), PATIENCE_S)
    assert processes(stack, MODEL)[0].pid == arbiter.pid


def test_changed_settings_restart_the_endpoint_on_its_port(stack: Any, served: Any) -> None:
    record, ref = served
    changed, _ = endpoints.serve(MODEL, QUIET.model_copy(update={"max_instances": 2}), stack.host)
    assert (changed.port, changed.token_sha256) == (record.port, record.token_sha256)
    answer = httpx.post(
        ref.url, headers={"token": token_of(ref)}, json={"instances": [ROW] * 3}, timeout=PATIENCE_S
    )
    assert answer.status_code == 413
    assert "at most 2" in answer.json()["error"]


def test_without_mlflow_an_endpoint_starts_on_its_last_version(stack: Any, served: Any) -> None:
    record, ref = served
    stack.mlflow.stop()
    try:
        with pytest.raises(Unavailable, match="MLflow does not answer"):
            endpoints.serve(MODEL, QUIET, stack.host)
        arbiter, *workers = processes(stack, MODEL)
        arbiter.kill()
        wait_for_the_end_of(workers)
        wait_until(lambda: (endpoints.status(record, token_of(ref)) or {}).get("version") == 1, PATIENCE_S)
        assert ask(ref.url, token_of(ref)).status_code == 200
    finally:
        stack.mlflow.start()


def test_an_endpoint_is_not_given_to_another_model(stack: Any, served: Any) -> None:
    register(stack.mlflow.uri, f"{MODEL}_", stack.bundles["iris-weaker"])
    assert endpoints.endpoint_name(f"{MODEL}_") == MODEL
    before = EndpointPlace(stack.home, MODEL).read()
    with pytest.raises(InvalidSettings, match=f"serves the model '{MODEL}' already"):
        endpoints.serve(f"{MODEL}_", QUIET, stack.host)
    assert EndpointPlace(stack.home, MODEL).read() == before


def test_what_is_written_while_serve_waits_is_kept(
    stack: Any, served: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = EndpointPlace(stack.home, MODEL)

    class LateLock(FileLock):
        """Gets the lock after another caller that switches the endpoint off."""

        def acquire(self, *arguments: Any, **named: Any) -> Any:
            if self.lock_file == str(place.lock_file):
                place.write(place.read().model_copy(update={"enabled": False}))
            return super().acquire(*arguments, **named)

    monkeypatch.setattr(endpoints, "FileLock", LateLock)
    endpoints.serve(MODEL, QUIET, stack.host)
    assert place.read().enabled is False
    assert place.read().curl


def test_stop_and_delete(stack: Any, served: Any) -> None:
    record, _ = served
    those = processes(stack, MODEL)
    endpoints.stop(stack.home, MODEL)
    wait_for_the_end_of(those)
    place = EndpointPlace(stack.home, MODEL)
    assert place.read().enabled is False

    def move_the_alias(_: str) -> None:
        stack.mlflow.client().set_registered_model_alias(MODEL, "champion", "2")

    again, moved = endpoints.serve(MODEL, QUIET, stack.host, move_the_alias)
    assert moved.version == 2  # the one that answers, not the one that the alias named at first
    assert again.port == record.port
    assert place.read() == again
    assert again.enabled is True
    endpoints.delete(stack.home, MODEL)
    assert not place.folder.exists()
    assert not place.token_file.exists()
    assert not place.conf_file.exists()
    for call in (endpoints.stop, endpoints.delete):
        with pytest.raises(NotFound, match=f"no endpoint '{MODEL}'"):
            call(stack.home, MODEL)


def test_a_model_without_the_alias_is_refused_in_words(stack: Any) -> None:
    register(stack.mlflow.uri, "nameless", stack.bundles["iris"], alias=None)
    with pytest.raises(NotFound, match="no version with the alias 'champion'"):
        endpoints.serve("nameless", QUIET, stack.host)
    assert not EndpointPlace(stack.home, "nameless").folder.exists()
