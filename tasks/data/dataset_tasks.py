"""Datasets as things, as Prefect tasks: listed, looked into, exported, shared and deleted."""

from __future__ import annotations

from typing import Any, cast

from prefect import task
from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact
from prefect.logging import get_run_logger

from blocks.docs_site import DocsSite
from blocks.mlflow_server import MlflowServer
from blocks.object_store import ObjectStore
from tasks.data.config import DatasetChoice
from tasks.data.config_store import (
    BrowseConfig,
    DeleteConfig,
    ExportConfig,
    ListConfig,
    ShareConfig,
    TemplateConfig,
)
from tasks.data.storage.access import DatasetCard, card_page, shared
from tasks.data.task import asking_user, closed_folders, open_store, options_for, shown


@task(name="list datasets")
def list_datasets(config: ListConfig, site: str = "local") -> list[dict[str, str]]:
    """List datasets, and publish the list as the artifact `datasets`."""
    from tasks.data.storage.listing import list_datasets, rows

    lines = [dict(row) for row in rows(list_datasets(open_store(site), config))]
    create_table_artifact(lines, key="datasets", description=f"{len(lines)} datasets")
    return lines


@task(name="browse dataset", task_run_name="browse {dataset.name}@{dataset.version}")
def browse_dataset(dataset: DatasetChoice, config: BrowseConfig, site: str = "local") -> list[dict[str, str]]:
    """List the folders of a version, or the items of one, as the artifact `content`."""
    from tasks.data.browsing import browse, lines

    store = open_store(site)
    manifest = store.get(dataset.name, dataset.version)
    title = f"{manifest.name}@{manifest.version}"
    with shown(f"Look into {title}") as progress:
        found = browse(store, manifest, config, progress)
    table = lines(found, config.limit)
    what = "folders" if found.folders else "items"
    of = len(found.folders) or found.rows
    about = (
        f"{title}, {config.path or 'top'}: {found.rows:,} rows, about {found.bytes / 2**20:,.1f} MiB stored; "
        f"{len(table):,} of {of:,} {what}"
    )
    create_table_artifact(table, key="content", description=about)
    return table


@task(name="export dataset", task_run_name="export {dataset.name}@{dataset.version}")
def export_dataset(dataset: DatasetChoice, config: ExportConfig, site: str = "local") -> str:
    """Write a version into a zip file with its labels, in the layout that it came in.

    Returns:
        The address to download it from, or where it was written to.
    """
    from tasks.data import delivery
    from tasks.data.export import export

    store = open_store(site)
    manifest = store.get(dataset.name, dataset.version)
    size = delivery.require_size(manifest, config)
    title = f"{manifest.name}@{manifest.version}"
    with shown(f"Export of {title}") as progress:

        def write(file: Any) -> None:
            limited: Any = delivery.Limited(file, config.max_gib, title)
            export(store, manifest, limited, config.splits or None, config.include, progress)

        if config.destination is not None:
            block = cast(ObjectStore, ObjectStore.load(site))
            options = options_for(config.destination, block)
            written = delivery.to_destination(
                config.destination, options, block.source_roots, closed_folders(block), size, write
            )
            create_markdown_artifact(f"# {title}\n\nExported to `{written}`", key="export")
            return written
        docs = cast(DocsSite, DocsSite.load(site))
        name = f"{manifest.name}-{manifest.version}.zip"
        path = delivery.to_link(docs.folder, name, size, write)
    link = f"{docs.url.rstrip('/')}/{path}"
    about = f"{title} as a zip file; the link works for {delivery.KEPT_DAYS:g} days"
    create_link_artifact(link, link_text=name, key="export", description=about)
    return link


@task(name="make template", task_run_name="template of {config.layout}")
def make_template(config: TemplateConfig, site: str = "local") -> str:
    """Publish an example of a layout as a zip file; returns the address to download it from."""
    from tasks.data import delivery
    from tasks.data.export import template

    content = template(config.layout, config.problem)
    docs = cast(DocsSite, DocsSite.load(site))
    name = f"{config.layout}-{config.problem.value}.zip"
    path = delivery.to_link(docs.folder, name, len(content), lambda file: file.write(content))
    link = f"{docs.url.rstrip('/')}/{path}"
    about = f"An example of {config.layout} for {config.problem.value}: replace its files by your own"
    create_link_artifact(link, link_text=name, key="template", description=about)
    return link


@task(name="delete dataset", task_run_name="delete {config.name} {config.version}")
def delete_dataset(config: DeleteConfig, site: str = "local") -> list[str]:
    """Delete a version, or all of a dataset; refused while a training or another version needs it."""
    from tasks.data import delivery
    from tasks.data.storage import removal

    server = cast(MlflowServer, MlflowServer.load(site))
    deleted = removal.delete(open_store(site), config, removal.trainings(server.client()))
    delivery.remove_links(cast(DocsSite, DocsSite.load(site)).folder, config.name, deleted)
    get_run_logger().info("%s deleted %s: %s", asking_user(), config.name, ", ".join(deleted))
    create_markdown_artifact(
        removal.page(config.name, deleted),
        key="deleted",
        description=f"{len(deleted)} versions of {config.name} were deleted",
    )
    return deleted


@task(name="share dataset", task_run_name="share {config.name}")
def share_dataset(config: ShareConfig, site: str = "local") -> DatasetCard:
    """Set who may see a dataset and add versions to it."""
    store = open_store(site)
    card = shared(store.card(config.name), config)
    store.change_card(config.name, card)
    create_markdown_artifact(
        card_page(config.name, card), key="sharing", description=f"Who may use {config.name}"
    )
    return card
