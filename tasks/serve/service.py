"""The endpoint as a BentoML service: `bentoml serve tasks.serve.service:Endpoint`.

BentoML gives the process model (an arbiter that holds the socket, workers that answer), liveness and
readiness. The routes are a plain ASGI application mounted in it: BentoML's own API layer costs most of
a small request's time. This module is imported by the arbiter too, so nothing heavy is loaded here;
a worker loads the model when its service is made.

Environment: `TRAINYARD_HOME` and `TRAINYARD_ENDPOINT` name the endpoint's record.
"""

from __future__ import annotations

import os
from typing import Any

import bentoml
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from tasks.parent_death import die_with_parent

WORKERS = int(os.environ.get("TRAINYARD_ENDPOINT_WORKERS", "1"))
#: The application has its own deadline, which comes first. BentoML keeps a timer for every request until
#: it would have rung, so this is no longer than needed.
TIMEOUT_S = float(os.environ.get("TRAINYARD_ENDPOINT_TIMEOUT_S", "20")) + 5
_PARENT_VARIABLE = "TRAINYARD_ENDPOINT_ARBITER"
#: The arbiter looks for dead workers this often; BentoML's own value of 10 s is an outage as long.
_LOOK_FOR_WORKERS_EVERY_S = 0.5


class _Mount:
    """Stands in the routes from the import on; the worker puts the application into it."""

    def __init__(self) -> None:
        self.app: Any = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.app is None:
            await PlainTextResponse("starting\n", 503, {"Retry-After": "1"})(scope, receive, send)
        else:
            await self.app(scope, receive, send)


_mount = _Mount()


@bentoml.asgi_app(_mount, path="/")
@bentoml.service(
    name="endpoint",
    workers=WORKERS,
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
    traffic={"timeout": TIMEOUT_S},
)
class Endpoint:
    """One worker of an endpoint."""

    def __init__(self) -> None:
        _die_with_arbiter()
        from tasks.serve.app import EndpointApp
        from tasks.serve.batching import Batcher
        from tasks.serve.follower import Follower
        from tasks.serve.metrics import Metrics
        from tasks.serve.record import EndpointPlace
        from tasks.serve.registry import Registry
        from tasks.serve.requestlog import RequestLog
        from tasks.serve.versions import VersionStore

        place = EndpointPlace(os.environ["TRAINYARD_HOME"], os.environ["TRAINYARD_ENDPOINT"])
        record = place.read()
        self.log = RequestLog({"endpoint": record.name, "stage": record.alias, "model": record.model})
        self.follower = Follower(
            record.model,
            record.alias,
            VersionStore(place.versions, record.model),
            Registry(record.tracking_uri),
            self.log,
        )
        self.batcher = Batcher()
        metrics = Metrics(record.name, record.model)
        _mount.app = EndpointApp(record, self.follower, self.batcher, self.log, metrics)
        self.follower.start()

    def __is_ready__(self) -> bool:
        return self.follower.active is not None

    @bentoml.on_shutdown
    def close(self) -> None:
        """End the threads; BentoML calls this when the last request has been answered."""
        self.follower.close()
        self.batcher.close()
        self.log.close()


def _die_with_arbiter() -> None:
    """Have the kernel end this worker when its arbiter dies.

    The workers share the arbiter's listening socket: one that outlives it goes on answering, and keeps
    the port from the arbiter's successor.
    """
    expected = os.environ.get(_PARENT_VARIABLE)
    if expected is None:
        return
    die_with_parent()
    if os.getppid() != int(expected):
        os._exit(1)


def _prepare_arbiter() -> None:
    """Tell the workers who their arbiter is, and have it look for dead ones twice a second."""
    os.environ[_PARENT_VARIABLE] = str(os.getpid())
    from circus.controller import Controller  # type: ignore[import-untyped]

    original = Controller.__init__

    def prompt(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        self.check_delay = _LOOK_FOR_WORKERS_EVERY_S * 1000

    Controller.__init__ = prompt


if bentoml.server_context.worker_index is None:
    _prepare_arbiter()
