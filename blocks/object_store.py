"""Where dataset versions, predictions and exports are kept: local disk or any object store."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import fsspec
from prefect.blocks.core import Block
from prefect.blocks.fields import SecretDict
from pydantic import Field


def default_source_roots(started_in: Path | None = None) -> list[str]:
    """Local folders that may be ingested from where nobody chose others.

    Args:
        started_in: The folder that the stack was started in.
    """
    usual = ("/data", "/mnt", "/media", "/srv", "/usr/share/datasets")
    own = [os.path.expanduser("~"), tempfile.gettempdir(), *([str(started_in)] if started_in else [])]
    # A service's home or working folder may be the root of the file system: that would open all of it.
    return [folder for folder in dict.fromkeys([*own, *usual]) if Path(folder) != Path("/")]


class ObjectStore(Block):
    """A folder on any fsspec file system."""

    _block_type_name = "Object Store"
    _block_type_slug = "object-store"
    _description = "Where dataset versions and predictions are kept: local disk, or S3 by s3fs."

    url: str = Field(
        description="Root folder: a local path, or a URL such as s3://bucket/prefix.",
        examples=["/data/trainyard", "s3://ml/trainyard"],
    )
    options: SecretDict = Field(
        default_factory=lambda: SecretDict({}),
        description="fsspec storage options, for S3 for example key, secret and endpoint_url.",
    )

    source_roots: list[str] = Field(
        default_factory=lambda: default_source_roots(),
        description="Local folders that files may be ingested from; hidden files below them are never read. "
        "An empty list leaves S3 addresses and samples only.",
        examples=[["/data", "/mnt"]],
    )

    @property
    def storage_options(self) -> dict[str, Any]:
        """The fsspec options in the clear, for the libraries that open the store themselves."""
        return dict(self.options.get_secret_value())

    def filesystem(self) -> tuple[fsspec.AbstractFileSystem, str]:
        """Open the file system; returns it and the root path on it."""
        filesystem, path = fsspec.core.url_to_fs(self.url, **self.storage_options)
        return filesystem, path
