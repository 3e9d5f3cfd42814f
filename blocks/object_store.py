"""Where dataset versions, predictions and exports are kept: local disk or any object store."""

from __future__ import annotations

from typing import Any

import fsspec
from prefect.blocks.core import Block
from prefect.blocks.fields import SecretDict
from pydantic import Field


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

    @property
    def storage_options(self) -> dict[str, Any]:
        """The fsspec options in the clear, for the libraries that open the store themselves."""
        return dict(self.options.get_secret_value())

    def filesystem(self) -> tuple[fsspec.AbstractFileSystem, str]:
        """Open the file system; returns it and the root path on it."""
        filesystem, path = fsspec.core.url_to_fs(self.url, **self.storage_options)
        return filesystem, path
