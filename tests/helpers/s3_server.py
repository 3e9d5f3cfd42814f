"""An S3 server for tests: the one that the environment names, or one in a thread of this process.

TRAINYARD_TEST_S3_URL with _KEY and _SECRET is the server; _BUCKET a bucket of it that the key may write to,
without which every folder gets a bucket of its own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4


@contextmanager
def s3_server() -> Iterator[dict[str, object]]:
    """fsspec options for the server."""
    url = os.environ.get("TRAINYARD_TEST_S3_URL")
    if url:
        yield {
            "key": os.environ["TRAINYARD_TEST_S3_KEY"],
            "secret": os.environ["TRAINYARD_TEST_S3_SECRET"],
            "endpoint_url": url,
            "config_kwargs": {"s3": {"addressing_style": "path"}},
        }
        return
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield {"key": "test", "secret": "test", "endpoint_url": f"http://{host}:{port}"}
    server.stop()


@contextmanager
def empty_folder(options: dict[str, object]) -> Iterator[str]:
    """URL of a new folder on the server; its files are gone afterwards."""
    import s3fs

    filesystem = s3fs.S3FileSystem(use_listings_cache=False, **options)
    bucket = os.environ.get("TRAINYARD_TEST_S3_BUCKET") or f"bucket-{uuid4().hex[:8]}"
    if not filesystem.exists(bucket):
        filesystem.mkdir(bucket)
    folder = f"{bucket}/test-{uuid4().hex[:8]}"
    yield f"s3://{folder}"
    for path in filesystem.find(folder):
        filesystem.rm_file(path)
