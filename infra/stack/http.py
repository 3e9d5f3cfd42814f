"""JSON over HTTP to the stack's own servers: the standard library, for commands that must be quick."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from http import HTTPStatus
from typing import Any

from tasks.errors import Unavailable

_AGAIN_S = 0.2
# Proxies are for the world outside; everything of ours is on the loopback address.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Refused(Unavailable):
    """The server answered with an error status."""

    def __init__(self, status: int, text: str, url: str) -> None:
        super().__init__(f"The server answered {status}: {text[:500]}", where=url)
        self.status = status


def call(method: str, url: str, body: Any = None, *, timeout_s: float = 10.0) -> Any:
    """Send a request and return the decoded answer (text, where it is not JSON).

    A busy server (503: Prefect's database was locked, and nothing was done) is asked again in that time.

    Raises:
        Refused: The answer has an error status.
        Unavailable: No answer.
    """
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(  # noqa: S310 -- the scheme is ours
        url, data=data, method=method, headers={"Content-Type": "application/json"}
    )
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            with _OPENER.open(request, timeout=timeout_s) as answer:
                text = answer.read().decode()
            break
        except urllib.error.HTTPError as error:
            if error.code != HTTPStatus.SERVICE_UNAVAILABLE or time.monotonic() > deadline:
                raise Refused(error.code, error.read().decode(errors="replace"), url) from error
            time.sleep(_AGAIN_S)
        except (OSError, ValueError) as error:
            raise Unavailable(f"No answer ({error})", where=url, mend="see `trainyard status`") from error
    try:
        return json.loads(text) if text else None
    except ValueError:
        return text
