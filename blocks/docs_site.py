"""Where pages such as Data Docs are published for people to read."""

from __future__ import annotations

from prefect.blocks.core import Block
from pydantic import Field


class DocsSite(Block):
    """A folder of static pages and the address that serves it."""

    _block_type_name = "Docs Site"
    _block_type_slug = "docs-site"
    _description = "Static pages, such as Data Docs: the folder that they are written to, its URL."

    folder: str = Field(description="Folder that pages are written to.")
    url: str = Field(description="Address that serves the folder.")
