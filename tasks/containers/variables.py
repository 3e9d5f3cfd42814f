"""The job variables by which a work pool runs an image: as far as its base job template takes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tasks.errors import InvalidSettings

IMAGE = "image"
CREDENTIALS = "registry_credentials"
"""Of Prefect's Docker pools: a block with username, password and address of the registry."""
PULL_SECRET = "image_pull_secret"  # noqa: S105 - the name of a variable
"""Of Kubernetes pools whose template was extended by it: the name of a secret in the cluster."""


@dataclass(frozen=True)
class Image:
    """An image, and who may pull it.

    Attributes:
        reference: What the registry knows it by.
        account_id: Id of the document of its registry account; empty where none is needed.
        pull_secret: Name of its secret in Kubernetes; empty where none is needed.
    """

    reference: str
    account_id: str = ""
    pull_secret: str = ""

    @property
    def job_variables(self) -> dict[str, Any]:
        """What a flow run is told. Secrets stay in their block: the worker looks them up by its id."""
        wanted: dict[str, Any] = {IMAGE: self.reference}
        if self.account_id:
            wanted[CREDENTIALS] = {"$ref": {"block_document_id": self.account_id}}
        if self.pull_secret:
            wanted[PULL_SECRET] = self.pull_secret
        return wanted


@dataclass(frozen=True)
class Pool:
    """A work pool.

    Attributes:
        kind: Its type, such as `docker`.
        variables: Job variables that its base job template takes.
    """

    name: str
    kind: str
    variables: tuple[str, ...]


def taken(wanted: Mapping[str, Any], pool: Pool) -> dict[str, Any]:
    """Of job variables that say which image to run in, those that a work pool takes: enough to pull it.

    Prefect leaves out what a template does not take without a word.

    Raises:
        InvalidSettings: The pool runs in no image, or has no way to pull a private one.
    """
    found = {name: value for name, value in wanted.items() if name in pool.variables}
    if wanted and IMAGE not in found:
        raise InvalidSettings(
            f"The work pool {pool.name} runs in no container image",
            where=f"base job template of the {pool.kind} work pool {pool.name}",
            allowed=f"job variables {_listed(pool)}",
            mend="leave image empty, or give the deployment a Docker or Kubernetes work pool in "
            "deployments/prefect.yaml",
        )
    if len(wanted) > 1 and len(found) == 1:
        raise InvalidSettings(
            f"The work pool {pool.name} has no way to pull the private image {wanted[IMAGE]}",
            where=f"base job template of the {pool.kind} work pool {pool.name}",
            allowed=f"job variables {_listed(pool)}",
            mend=f"give the template the variable {CREDENTIALS} (Docker), or {PULL_SECRET} (Kubernetes) and "
            "the block the secret's name; or let the hosts log in, and leave both empty in the block",
        )
    return found


def image_of(variables: Mapping[str, Any] | None) -> dict[str, Any]:
    """Of the job variables of a flow run, those that say which image it ran in."""
    return {
        name: value for name, value in (variables or {}).items() if name in (IMAGE, CREDENTIALS, PULL_SECRET)
    }


def _listed(pool: Pool) -> str:
    return ", ".join(sorted(pool.variables)) or "none"
