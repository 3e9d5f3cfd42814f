"""A container image that trainings run in, and who may pull it."""

from __future__ import annotations

from prefect.blocks.core import Block
from pydantic import Field

REGISTRY_ACCOUNT = "docker-registry-credentials"
"""Prefect's own block of a registry account: every Prefect server has it, as Docker Registry Credentials."""


class ContainerImage(Block):
    """An image under a name that forms take, with the registry account that may pull it."""

    _block_type_name = "Container Image"
    _block_type_slug = "container-image"
    _description = "A container image that trainings run in; a private one with its registry account."

    image: str = Field(
        description="Reference of the image, with its tag or digest.",
        examples=["registry.example.com/team/trainer:1.4"],
    )
    registry_account: str = Field(
        default="",
        description="Name of the block Docker Registry Credentials that may pull it, in Docker work pools; "
        "empty for a public image.",
    )
    pull_secret: str = Field(
        default="",
        description="Name of the Kubernetes secret that may pull it, in work pools whose template has the "
        "variable image_pull_secret; empty where none is needed.",
    )
