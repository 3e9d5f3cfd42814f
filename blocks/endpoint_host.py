"""The host that endpoints run on."""

from __future__ import annotations

from prefect.blocks.core import Block
from pydantic import Field


class EndpointHost(Block):
    """A place that keeps endpoint processes running: on one machine, the stack's supervisor."""

    _block_type_name = "Endpoint Host"
    _block_type_slug = "endpoint-host"
    _description = "Where endpoints run: their folder, their ports and the supervisor that keeps them."

    home: str = Field(description="Data folder of the stack; endpoints live in its endpoints/ folder.")
    host: str = Field(default="127.0.0.1", description="Address that endpoints listen on.")
    first_port: int = Field(default=3000, ge=1024, le=65000, description="Lowest port to use.")
