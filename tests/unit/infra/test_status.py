"""Which endpoints `trainyard status` lists."""

from __future__ import annotations

from pathlib import Path

from infra.settings import Settings
from infra.stack.status import endpoints_now
from tasks.serve.record import EndpointPlace, EndpointRecord


def test_an_endpoint_that_is_switched_off_or_half_written_is_not_listed(tmp_path: Path) -> None:
    for name, enabled in (("iris", True), ("digits", False)):
        record = EndpointRecord(
            name=name,
            model=name,
            alias="champion",
            host="127.0.0.1",
            port=3000,
            url=f"http://127.0.0.1:3000/v1/models/{name}:predict",
            token_file=str(tmp_path / name),
            token_sha256="0",
            tracking_uri="http://127.0.0.1:5000",
            created_at="2026-01-01T00:00:00+00:00",
            enabled=enabled,
        )
        EndpointPlace(tmp_path, name).write(record)
    (tmp_path / "endpoints" / "torn").mkdir()
    (tmp_path / "endpoints" / "torn" / "endpoint.json").write_text('{"name": "torn"')
    assert endpoints_now(Settings(home=tmp_path)) == [
        {
            "name": "iris",
            "url": "http://127.0.0.1:3000/v1/models/iris:predict",
            "token_file": str(tmp_path / "iris"),
        }
    ]
