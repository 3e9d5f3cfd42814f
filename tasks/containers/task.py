"""Container images as Prefect knows them: blocks that name them, and work pools that run them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import BlockDocument
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError

from blocks.container_image import REGISTRY_ACCOUNT, ContainerImage
from tasks.containers import variables
from tasks.containers.reference import is_block_name, require_reference
from tasks.containers.variables import Image, Pool
from tasks.errors import InvalidSettings, NotFound


def image_variables(
    client: SyncPrefectClient,
    deployment: DeploymentResponse,
    image: str,
    earlier: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The job variables by which a run of a deployment gets its image.

    Args:
        client: Prefect.
        deployment: What is run.
        image: A reference, or the name of a block; empty for that of earlier job variables, or else the
            work pool's own.
        earlier: Job variables of the flow run that is done again.

    Raises:
        NotFound: There is no such block, or no such registry account.
        InvalidSettings: It is no reference, or the work pool does not take an image.
    """
    if not image:
        wanted = variables.image_of(earlier)
    elif is_block_name(image):
        wanted = _registered(client, image).job_variables
    else:
        wanted = Image(require_reference(image)).job_variables
    return variables.taken(wanted, _pool(client, deployment)) if wanted else {}


def _registered(client: SyncPrefectClient, name: str) -> Image:
    """The image of a block, with its registry account, whose password stays where it is."""
    slug = ContainerImage.get_block_type_slug()
    document = _document(client, slug, name, "container image", "image")
    said = {field: str(document.data.get(field) or "") for field in ContainerImage.model_fields}
    where = f"block {slug}/{name}"
    account = said["registry_account"]
    return Image(
        require_reference(said["image"], where),
        str(_document(client, REGISTRY_ACCOUNT, account, "registry account", where).id) if account else "",
        said["pull_secret"],
    )


def _document(client: SyncPrefectClient, slug: str, name: str, what: str, where: str) -> BlockDocument:
    """A block, without its secrets.

    Raises:
        NotFound: There is none of this name.
    """
    try:
        return client.read_block_document_by_name(name, slug, include_secrets=False)
    except ObjectNotFound:
        pass
    try:
        known = [one.name or "" for one in client.read_block_documents_by_type(slug, include_secrets=False)]
    except PrefectHTTPStatusError:  # the very type is not registered
        known = []
    raise NotFound(
        f"There is no {what} {name!r}",
        where=where,
        allowed=", ".join(sorted(known)) or "none is registered yet",
        mend=f"register it as {slug} on Prefect's page Blocks"
        + ("" if slug == REGISTRY_ACCOUNT else ", or give a reference with its tag"),
    )


def _pool(client: SyncPrefectClient, deployment: DeploymentResponse) -> Pool:
    if deployment.work_pool_name is None:
        raise InvalidSettings(
            f"The deployment {deployment.name} runs in no work pool, so it takes no container image",
            mend="leave image empty",
        )
    pool = client.read_work_pool(deployment.work_pool_name)
    properties = (pool.base_job_template.get("variables") or {}).get("properties") or {}
    return Pool(pool.name, pool.type, tuple(properties))
