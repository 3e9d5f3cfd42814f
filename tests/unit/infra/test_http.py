"""Requests to the stack's own servers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from infra.stack import http


class Server(HTTPServer):
    """Answers with the given statuses in turn, then with 200."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.statuses: list[int] = []


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.send_response(self.server.statuses.pop(0) if self.server.statuses else 200)
        self.end_headers()
        self.wfile.write(b'{"answer": 1}')

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- its name there
        return


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_busy_server_is_asked_again(server: Server) -> None:
    server.statuses = [503, 503]
    assert http.call("GET", f"http://127.0.0.1:{server.server_port}/") == {"answer": 1}


@pytest.mark.parametrize(("status", "timeout_s"), [(503, 0.1), (409, 10.0)])
def test_a_refusal_is_an_error(server: Server, status: int, timeout_s: float) -> None:
    server.statuses = [status] * 3
    with pytest.raises(http.Refused) as caught:
        http.call("GET", f"http://127.0.0.1:{server.server_port}/", timeout_s=timeout_s)
    assert caught.value.status == status
