"""The samples are what they say: commands and scripts that run as they stand."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tasks.serve import samples
from tasks.serve.record import EndpointRecord
from tests.helpers.models import digit_images

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")


class Listener(HTTPServer):
    """Takes one request after another and remembers them."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: Listener

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.requests.append((self.path, headers, body))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"predictions": []}')

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def listener() -> Iterator[Listener]:
    with Listener() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def record(listener: Listener, tmp_path: Path) -> EndpointRecord:
    token_file = tmp_path / "with space.token"
    token_file.write_text("the-token\n")
    digit_images(1)[0][0].save(tmp_path / "image.png")
    return EndpointRecord(
        name="a", model="m", alias="champion", host="127.0.0.1", port=listener.server_port,
        url=f"http://127.0.0.1:{listener.server_port}/v1/models/m:predict", token_file=str(token_file),
        token_sha256="0", tracking_uri="http://m", created_at="",
    )  # fmt: skip


@pytest.mark.parametrize("language", ["curl", "python"])
@pytest.mark.parametrize("instances", [[[1.5, "it's"]], None])
def test_json_samples(
    listener: Listener,
    record: EndpointRecord,
    tmp_path: Path,
    language: str,
    instances: list[list[object]] | None,
) -> None:
    if language == "curl":
        command = ["bash", "-euo", "pipefail", "-c", samples.curl_json(record, samples.Example(instances))]
    else:
        command = [sys.executable, "-c", samples.python_json(record, samples.Example(instances))]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=60)
    path, headers, body = listener.requests[0]
    assert (path, headers["token"]) == ("/v1/models/m:predict", "the-token")
    assert headers["content-type"].startswith("application/json")
    sent = json.loads(body)["instances"]
    assert sent == instances if instances else list(sent[0]) == ["data"]


@pytest.mark.parametrize("language", ["curl", "python"])
def test_form_samples(listener: Listener, record: EndpointRecord, tmp_path: Path, language: str) -> None:
    if language == "curl":
        command = ["bash", "-c", samples.curl_form(record, samples.Example(None))]
    else:
        command = [sys.executable, "-c", samples.python_form(record, samples.Example(None))]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=60)
    _, headers, body = listener.requests[0]
    assert headers["token"] == "the-token"
    assert headers["content-type"].startswith("multipart/form-data")
    assert b'name="input"' in body
    assert (tmp_path / "image.png").read_bytes() in body
