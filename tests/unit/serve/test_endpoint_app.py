"""The routes in process: every status, every header, and what the log says of it."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tasks.serve.app import EndpointApp
from tasks.serve.batching import Batcher
from tasks.serve.metrics import Metrics
from tasks.serve.record import EndpointRecord, hash_token
from tasks.serve.requestlog import RequestLog
from tasks.serve.versions import LoadedVersion, signature_of
from tasks.train.bundle import Bundle
from tests.helpers.models import digit_images, iris_rows

pytestmark = pytest.mark.anyio

TOKEN = "secret-token"
ROW = [6.8, 2.8, 4.8, 1.4]


class Standing:
    """A follower that stands still: one version, or none."""

    def __init__(self, active: LoadedVersion | None) -> None:
        self.active = active
        self.refused = None
        self.trouble = ""


class Served:
    """An application with its log at hand."""

    def __init__(self, active: LoadedVersion | None, model: str = "iris", **settings: Any) -> None:
        values = {"request_timeout_s": 20.0, "max_instances": 16, "max_body_mib": 1, **settings}
        self.record = EndpointRecord(
            name="shop", model=model, alias="champion", host="127.0.0.1", port=3000, url="http://x",
            token_file="/x", token_sha256=hash_token(TOKEN), tracking_uri="http://x", created_at="", **values,
        )  # fmt: skip
        self.stream = io.StringIO()
        self.log = RequestLog({"endpoint": "shop", "stage": "champion", "model": model}, self.stream)
        self.batcher = Batcher()
        self.follower = Standing(active)
        self.app = EndpointApp(
            self.record,
            self.follower,
            self.batcher,
            self.log,
            Metrics("shop", model),  # type: ignore[arg-type]
        )
        self.client = httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app), base_url="http://endpoint", headers={"token": TOKEN}
        )
        self.path = f"/v1/models/{model}:predict"

    def lines(self) -> list[dict[str, Any]]:
        self.log.flush()
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]

    def close(self) -> None:
        self.batcher.close()
        self.log.close()


def loaded(bundle: Bundle, model: str = "iris", version: int = 7) -> LoadedVersion:
    return LoadedVersion(model, version, bundle, signature_of(bundle))


@pytest.fixture(scope="session")
def iris(bundles: dict[str, Path]) -> LoadedVersion:
    return loaded(Bundle.load(bundles["iris"]))


@pytest.fixture(scope="session")
def digits(bundles: dict[str, Path]) -> LoadedVersion:
    return loaded(Bundle.load(bundles["digits"]), "digits", 3)


@pytest.fixture
def table(iris: LoadedVersion) -> Iterator[Served]:
    served = Served(iris)
    yield served
    served.close()


@pytest.fixture
def image(digits: LoadedVersion) -> Iterator[Served]:
    served = Served(digits, "digits")
    yield served
    served.close()


def picture() -> bytes:
    sink = io.BytesIO()
    digit_images(1)[0][0].save(sink, "PNG")
    return sink.getvalue()


async def test_table_rows_get_the_bundles_own_scores(table: Served, iris: LoadedVersion) -> None:
    rows = iris_rows()[0].head(10).to_numpy().tolist()
    answer = await table.client.post(table.path, json={"instances": rows})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-model"] == "iris"
    assert answer.headers["x-model-version"] == "7"
    got = np.asarray(answer.json()["predictions"], dtype=np.float32)
    assert (got == iris.bundle.predict_table(rows)).all()
    line = table.lines()[-1]
    assert line["inference_id"] == answer.headers["x-inference-id"]
    assert {k: line[k] for k in ("kind", "endpoint", "stage", "model", "version", "status", "instances")} == {
        "kind": "request", "endpoint": "shop", "stage": "champion", "model": "iris", "version": 7,
        "status": 200, "instances": 10,
    }  # fmt: skip
    assert line["latency_ms"] > 0


async def test_images_get_labels_in_both_forms(image: Served, digits: LoadedVersion) -> None:
    content = picture()
    instances = [{"data": base64.b64encode(content).decode()}] * 2
    answer = await image.client.post(image.path, json={"instances": instances})
    assert answer.status_code == 200
    first, second = answer.json()["predictions"]
    assert first == second
    scores = [entry["score"] for entry in first]
    assert scores == sorted(scores, reverse=True)
    assert {entry["label"] for entry in first} == set(digits.bundle.classes)
    form = await image.client.post(image.path, files={"input": ("digit.png", content)})
    assert form.status_code == 200
    assert form.headers["content-type"].startswith("text/plain")
    assert form.text == f"[{first[0]['label']}]"
    assert image.lines()[-1]["form"] == "multipart"


@pytest.mark.parametrize("headers", [{"token": TOKEN}, {"authorization": f"Bearer {TOKEN}"}])
async def test_the_token_is_taken_from_both_headers(table: Served, headers: dict[str, str]) -> None:
    table.client.headers = httpx.Headers(headers)
    answer = await table.client.post(table.path, json={"instances": [ROW]})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "headers",
    [{}, {"token": "wrong"}, {"token": ""}, {"authorization": f"Basic {TOKEN}"}, {"authorization": "Bearer"},
     {"authorization": "Bearer \xe9"}],
)  # fmt: skip
async def test_without_the_token_nothing_is_answered(table: Served, headers: dict[str, str]) -> None:
    table.client.headers = httpx.Headers(headers, encoding="latin-1")
    for method, path in (("POST", table.path), ("GET", "/v1/models/iris"), ("POST", "/v1/models/x:predict")):
        answer = await table.client.request(method, path, content=b"not even JSON")
        assert answer.status_code == 401
        assert "token" in answer.json()["error"]
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert answer.headers["x-inference-id"]


async def test_the_status_page_says_what_answers(table: Served) -> None:
    said = (await table.client.get("/v1/models/iris")).json()
    assert {k: said[k] for k in ("name", "version", "alias", "ready")} == {
        "name": "iris", "version": 7, "alias": "champion", "ready": True,
    }  # fmt: skip
    assert said["inputs"][0]["name"] == "sepal_length"
    assert said["classes"] == ["setosa", "versicolor", "virginica"]


async def test_open_pages_need_no_token(table: Served) -> None:
    await table.client.post(table.path, json={"instances": [ROW]})
    table.client.headers = httpx.Headers()
    page = (await table.client.get("/openapi.json")).json()
    assert table.path in page["paths"]
    metrics = await table.client.get("/metrics")
    assert (
        'trainyard_endpoint_requests_total{endpoint="shop",form="json",model="iris",status="200"'
        in metrics.text
    )


@pytest.mark.parametrize(
    ("method", "path", "status", "words"),
    [
        ("GET", "/v1/models/iris:predict", 405, "POST"),
        ("PUT", "/v1/models/iris:predict", 405, "POST"),
        ("POST", "/v1/models/iris", 405, "GET"),
        ("POST", "/v1/models/roses:predict", 404, "nothing at this path"),
        ("GET", "/", 404, "nothing at this path"),
        ("POST", "/v1/models/iris:predict/", 404, "nothing at this path"),
        ("GET", "/docs", 404, "nothing at this path"),
    ],
)
async def test_wrong_paths_and_methods(
    table: Served, method: str, path: str, status: int, words: str
) -> None:
    answer = await table.client.request(method, path)
    assert answer.status_code == status
    assert words in answer.json()["error"]
    if status == 405:
        assert answer.headers["allow"] == words


@pytest.mark.parametrize(
    ("content_type", "status"),
    [("application/json; charset=utf-8", 200), ("", 200), ("text/plain", 200), ("application/x-pickle", 415),
     ("multipart/form-data; boundary=x", 415), ("application/x-www-form-urlencoded", 200)],
)  # fmt: skip
async def test_tables_take_json_alone(table: Served, content_type: str, status: int) -> None:
    content = json.dumps({"instances": [ROW]})
    answer = await table.client.post(table.path, content=content, headers={"content-type": content_type})
    assert answer.status_code == status
    if status == 415:
        assert "application/json" in answer.json()["error"]


async def test_compressed_bodies_are_refused(table: Served) -> None:
    answer = await table.client.post(table.path, content=b"x", headers={"content-encoding": "gzip"})
    assert answer.status_code == 415
    assert "without compression" in answer.json()["error"]


async def test_too_many_instances_and_too_large_bodies(table: Served) -> None:
    many = await table.client.post(table.path, json={"instances": [ROW] * 17})
    assert many.status_code == 413
    assert "at most 16" in many.json()["error"]
    large = await table.client.post(table.path, content=b" " * (2 * 2**20))
    assert large.status_code == 413
    assert "1 MiB" in large.json()["error"]

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(8):
            yield b" " * 2**18

    streamed = await table.client.post(table.path, content=chunks())
    assert streamed.status_code == 413


@pytest.mark.parametrize(
    ("files", "status", "words"),
    [
        ({"file": ("a.png", b"x")}, 400, "fields: 'file'"),
        ([("input", ("a.png", b"x")), ("input", ("b.png", b"x"))], 400, "more than one"),
        ({"input": ("a.png", b"")}, 422, "empty"),
        ({"input": ("a.txt", b"hello")}, 422, "not an image"),
    ],
)
async def test_forms_that_hold_no_image(image: Served, files: Any, status: int, words: str) -> None:
    answer = await image.client.post(image.path, files=files)
    assert answer.status_code == status
    assert words in answer.json()["error"]


async def test_a_form_field_that_is_no_file(image: Served) -> None:
    answer = await image.client.post(image.path, files={"input": (None, "text")})
    assert answer.status_code == 400


async def test_a_form_without_boundary(image: Served) -> None:
    for kind in ("multipart/form-data", "multipart/form-data; boundary=x"):
        answer = await image.client.post(image.path, content=b"--y\r\n", headers={"content-type": kind})
        assert answer.status_code == 400


async def test_before_a_version_is_loaded_clients_are_told_to_come_back() -> None:
    served = Served(None)
    answer = await served.client.post(served.path, json={"instances": [ROW]})
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    assert answer.headers["x-model-version"] == "none"
    assert (await served.client.get("/v1/models/iris")).json()["ready"] is False
    served.close()


class Held:
    """A bundle whose answers wait for a signal."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self.go = threading.Event()
        self.begun = threading.Event()
        self.batches: list[int] = []

    def predict_table(self, rows: list[Any]) -> np.ndarray:
        self.begun.set()
        assert self.go.wait(timeout=10)
        self.batches.append(len(rows))
        return self._bundle.predict_table(rows)


async def test_waiting_requests_share_a_batch_and_too_many_are_refused(iris: LoadedVersion) -> None:
    held = Held(iris.bundle)
    served = Served(replace(iris, bundle=held), max_queue=6)  # type: ignore[arg-type]
    first = asyncio.create_task(served.client.post(served.path, json={"instances": [ROW]}))
    await asyncio.to_thread(held.begun.wait, 10)
    others = [
        asyncio.create_task(served.client.post(served.path, json={"instances": [ROW] * 2})) for _ in range(5)
    ]
    while len(served.batcher._jobs) < 5:
        await asyncio.sleep(0)
    refused = await served.client.post(served.path, json={"instances": [ROW]})
    assert refused.status_code == 503
    assert refused.headers["retry-after"] == "1"
    held.go.set()
    answers = await asyncio.gather(first, *others)
    assert [answer.status_code for answer in answers] == [200] * 6
    assert [len(answer.json()["predictions"]) for answer in answers] == [1] + [2] * 5
    assert held.batches == [1, 10]
    served.close()


async def test_a_request_past_its_deadline_leaves_the_queue(iris: LoadedVersion) -> None:
    held = Held(iris.bundle)
    served = Served(replace(iris, bundle=held), request_timeout_s=0.2)  # type: ignore[arg-type]
    first = asyncio.create_task(served.client.post(served.path, json={"instances": [ROW]}))
    await asyncio.to_thread(held.begun.wait, 10)
    calls = [served.client.post(served.path, json={"instances": [ROW]}) for _ in range(3)]
    answers = await asyncio.gather(first, *calls)
    assert [answer.status_code for answer in answers] == [504] * 4
    assert "within 0.2 s" in answers[0].json()["error"]
    held.go.set()
    served.close()
    assert sum(held.batches) == 1  # only the one that the model had begun with


async def test_a_body_that_does_not_arrive_in_time(iris: LoadedVersion) -> None:
    served = Served(iris, request_timeout_s=0.1)
    never = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b'{"instances": '
        await never.wait()

    answer = await served.client.post(served.path, content=slow())
    assert answer.status_code == 408
    served.close()


class Faulty:
    """A bundle that fails on rows whose first value is negative."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle

    def predict_table(self, rows: list[Any]) -> np.ndarray:
        if any(row[0] < 0 for row in rows):
            raise RuntimeError("negative")
        return self._bundle.predict_table(rows)


async def test_one_requests_failure_is_its_own(iris: LoadedVersion) -> None:
    served = Served(replace(iris, bundle=Faulty(iris.bundle)))  # type: ignore[arg-type]
    bad = [-1.0, *ROW[1:]]
    calls = [served.client.post(served.path, json={"instances": [row]}) for row in (ROW, bad, ROW, ROW)]
    answers = await asyncio.gather(*calls)
    assert [answer.status_code for answer in answers] == [200, 500, 200, 200]
    error = answers[1].json()["error"]
    assert answers[1].headers["x-inference-id"] in error
    assert "negative" not in error
    assert any("RuntimeError: negative" in line.get("message", "") for line in served.lines())
    served.close()


async def test_a_score_that_is_not_finite_is_never_sent(iris: LoadedVersion) -> None:
    class NotANumber:
        def predict_table(self, rows: list[Any]) -> np.ndarray:
            return np.full((len(rows), 3), np.nan, dtype=np.float32)

    served = Served(replace(iris, bundle=NotANumber()))  # type: ignore[arg-type]
    answer = await served.client.post(served.path, json={"instances": [ROW]})
    assert answer.status_code == 422
    assert "not finite" in answer.json()["error"]
    served.close()
