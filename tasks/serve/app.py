"""The endpoint's routes, as a lean ASGI application.

    POST /v1/models/<model>:predict     predictions, in both request forms
    GET  /v1/models/<model>             which version answers, and what it takes
    GET  /openapi.json                  this page for machines
    GET  /metrics                       counts and latencies for Prometheus

Liveness and readiness (`/livez`, `/readyz`, `/healthz`) are BentoML's own, in front of this.
"""

from __future__ import annotations

import asyncio
import hmac
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tasks.errors import InvalidRequest
from tasks.serve import bodies, openapi, wire, wire_images
from tasks.serve.batching import Batcher
from tasks.serve.follower import Follower
from tasks.serve.metrics import Metrics
from tasks.serve.record import EndpointRecord, hash_token
from tasks.serve.requestlog import RequestLog
from tasks.serve.versions import LoadedVersion

#: Bodies up to this size are read on the event loop; reading a larger one would hold the others up.
INLINE_BODY_BYTES = 64 * 2**10


@dataclass
class _Call:
    """What is known of one request; goes into its log line."""

    inference_id: str
    started_s: float
    form: str = "other"
    instances: int = 0
    loaded: LoadedVersion | None = None
    reading: bool = False
    error: str = ""


class EndpointApp:
    """Answers requests with the follower's active version.

    Args:
        record: The endpoint's settings.
        follower: Keeps the active version.
        batcher: Runs it.
        log: Gets a line for every request.
        metrics: Count every request.
    """

    def __init__(
        self, record: EndpointRecord, follower: Follower, batcher: Batcher, log: RequestLog, metrics: Metrics
    ) -> None:
        self.record = record
        self.follower = follower
        self.batcher = batcher
        self.log = log
        self.metrics = metrics
        self.limits = wire.Limits(
            max_instances=record.max_instances, max_body_bytes=record.max_body_mib * 2**20
        )
        self._in_flight = 0
        self._predict_path = f"/v1/models/{record.model}:predict"
        self._status_path = f"/v1/models/{record.model}"
        self._readers = ThreadPoolExecutor(max_workers=2, thread_name_prefix="read")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        call = _Call(uuid.uuid4().hex, time.perf_counter())
        try:
            async with asyncio.timeout(self.record.request_timeout_s):
                response = await self._route(request, call)
        except wire.Refusal as refusal:
            response = self._refuse(refusal, call)
        except TimeoutError:
            response = self._refuse(self._too_slow(call), call)
        except ClientDisconnect:
            self._log_call(call, 499)
            return
        except InvalidRequest as error:  # the bundle's own checks: a value that it cannot use
            response = self._refuse(
                wire.Refusal(400, error.what, where=error.where, allowed=error.allowed, mend=error.mend), call
            )
        except Exception as error:
            self.log.event(
                "ERROR",
                f"a request failed: {type(error).__name__}: {error}",
                inference_id=call.inference_id,
            )
            response = self._refuse(
                wire.Refusal(
                    500,
                    "the request failed for a reason that is not the client's",
                    where=f"inference id {call.inference_id}",
                    mend="look for the inference id in the endpoint's log",
                ),
                call,
            )
        version = call.loaded or self.follower.active
        response.headers["x-inference-id"] = call.inference_id
        response.headers["x-model"] = self.record.model
        response.headers["x-model-version"] = str(version.version) if version else "none"
        await response(scope, receive, send)
        self._log_call(call, response.status_code)

    async def _route(self, request: Request, call: _Call) -> Response:
        path, method = request.scope["path"], request.method
        if path == self._predict_path:
            self._check_method(method, "POST")
            self._check_token(request)
            return await self._predict(request, call)
        if path == "/metrics":
            self._check_method(method, "GET")
            return Response(self.metrics.render(), media_type=self.metrics.content_type)
        if path == "/openapi.json":
            self._check_method(method, "GET")
            active = self.follower.active
            page = openapi.describe(self.record, active.signature if active else None)
            return Response(orjson.dumps(page), media_type=bodies.JSON)
        if path == self._status_path:
            self._check_method(method, "GET")
            self._check_token(request)
            return Response(orjson.dumps(self._status()), media_type=bodies.JSON)
        if path.startswith("/v1/"):
            self._check_token(request)
        raise wire.Refusal(
            404,
            "there is nothing at this path",
            where=path[:200],
            allowed=f"POST {self._predict_path}, GET {self._status_path}",
            mend="check the model's name and the spelling of the path",
        )

    async def _predict(self, request: Request, call: _Call) -> Response:
        call.loaded = loaded = self.follower.active
        if loaded is None:
            raise wire.Refusal(
                503,
                "no version of the model is loaded yet",
                where=self.record.model,
                mend="try again in a few seconds; the endpoint's log says what it waits for",
            )
        if self._in_flight >= self.record.max_queue:
            raise wire.Refusal(
                503,
                f"{self._in_flight} requests are waiting",
                where=self.record.name,
                allowed=f"at most {self.record.max_queue} at once",
                mend="try again after the time in Retry-After",
            )
        kind = bodies.media_type(request.headers, loaded.signature)
        self._in_flight += 1
        try:
            if kind == bodies.MULTIPART:
                call.form = "multipart"
                return await self._predict_file(request, call, loaded)
            call.form = "json"
            return await self._predict_json(request, call, loaded)
        finally:
            self._in_flight -= 1

    async def _predict_json(self, request: Request, call: _Call, loaded: LoadedVersion) -> Response:
        body = await self._body(request, call)
        is_table = loaded.signature.problem.is_table
        if is_table and len(body) <= INLINE_BODY_BYTES:
            inputs = self._read_json(body, loaded)
        else:
            loop = asyncio.get_running_loop()
            inputs = await loop.run_in_executor(self._readers, self._read_json, body, loaded)
        call.instances = len(inputs)
        scores = await self.batcher.predict(loaded, inputs)
        return Response(wire.write_predictions(scores, loaded.signature), media_type=bodies.JSON)

    def _read_json(self, body: bytes, loaded: LoadedVersion) -> list[Any]:
        instances = wire.read_instances(body, self.limits)
        if loaded.signature.problem.is_table:
            return list(wire.read_rows(instances, loaded.signature))
        return list(wire_images.read_images(instances, self.limits))

    async def _predict_file(self, request: Request, call: _Call, loaded: LoadedVersion) -> Response:
        data = await bodies.uploaded_file(request.headers, await self._body(request, call))
        call.instances = 1
        loop = asyncio.get_running_loop()
        image = await loop.run_in_executor(
            self._readers, wire_images.decode_image, data, "input", self.limits
        )
        scores = await self.batcher.predict(loaded, [image])
        # The form's clients take the body as text; its content is valid JSON as well.
        return Response(wire.write_label(scores, loaded.signature), media_type="text/plain")

    async def _body(self, request: Request, call: _Call) -> bytes:
        call.reading = True
        body = await bodies.whole_body(request, self.limits)
        call.reading = False
        return body

    def _check_token(self, request: Request) -> None:
        """Refuses a request without the endpoint's token; the comparison takes the same time for all."""
        token = request.headers.get("token", "")
        if not token:
            scheme, _, value = request.headers.get("authorization", "").partition(" ")
            token = value.strip() if scheme.lower() == "bearer" else ""
        if hmac.compare_digest(hash_token(token), self.record.token_sha256):
            return
        raise wire.Refusal(
            401,
            "the token is wrong" if token else "the token is missing",
            where="header 'token' or 'Authorization'",
            allowed="'token: <token>' or 'Authorization: Bearer <token>'",
            mend="send the token that is in the endpoint's token file",
        )

    def _check_method(self, method: str, allowed: str) -> None:
        if method == allowed or (method == "HEAD" and allowed == "GET"):
            return
        raise wire.Refusal(405, f"{method} is not answered here", allowed=allowed, mend=f"use {allowed}")

    def _too_slow(self, call: _Call) -> wire.Refusal:
        seconds = f"{self.record.request_timeout_s:g} s"
        if call.reading:
            return wire.Refusal(
                408,
                f"the body did not arrive within {seconds}",
                where="request body",
                mend="send the body faster, or a smaller one",
            )
        return wire.Refusal(
            504,
            f"the model did not answer within {seconds}",
            where=self.record.model,
            allowed=f"requests that take at most {seconds}",
            mend="send fewer instances in one request, or try again when there is less load",
        )

    def _refuse(self, refusal: wire.Refusal, call: _Call) -> Response:
        call.error = str(refusal)
        headers = {}
        if refusal.status == 401:
            headers["WWW-Authenticate"] = 'Bearer realm="trainyard"'
        elif refusal.status == 405:
            headers["Allow"] = refusal.allowed
        elif refusal.status == 503:
            headers["Retry-After"] = "1"
        elif refusal.status in (408, 413):
            headers["Connection"] = "close"
        return Response(
            orjson.dumps({"error": call.error}), refusal.status, headers=headers, media_type=bodies.JSON
        )

    def _status(self) -> dict[str, Any]:
        """The answer of `GET /v1/models/<model>`."""
        active, refused = self.follower.active, self.follower.refused
        status: dict[str, Any] = {
            "name": self.record.model,
            "version": active.version if active else None,
            "alias": self.record.alias,
            "ready": active is not None,
            "endpoint": self.record.name,
            "settings": self.record.settings_digest,
            "trouble": self.follower.trouble or None,
            "refused": {"version": refused.version, "reason": refused.reason} if refused else None,
        }
        if active:
            signature = active.signature
            status["problem"] = signature.problem.value
            status["classes"] = list(signature.classes)
            status["inputs"] = [
                {"name": c.name, "type": "number" if c.numeric else "text", "categories": list(c.categories)}
                for c in signature.columns
            ]
        return status

    def _log_call(self, call: _Call, status: int) -> None:
        seconds = time.perf_counter() - call.started_s
        version = call.loaded.version if call.loaded else None
        self.metrics.count(
            form=call.form, status=status, version=version, seconds=seconds, rows=call.instances
        )
        fields: dict[str, Any] = {
            "inference_id": call.inference_id,
            "version": version,
            "form": call.form,
            "status": status,
            "latency_ms": round(seconds * 1000, 3),
            "instances": call.instances,
        }
        if call.error:
            fields["error"] = call.error[:300]
        self.log.request(**fields)
