"""The steps of the data stage as Prefect tasks, and opening the store for the user who asks.

What else is done with datasets (lists, exports, templates, sharing, deletion) is in `dataset_tasks.py`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from httpx import HTTPError
from prefect import task
from prefect.artifacts import create_markdown_artifact, create_progress_artifact, update_progress_artifact
from prefect.exceptions import PrefectException
from prefect.logging import get_run_logger
from prefect.runtime import flow_run

from blocks.docs_site import DocsSite
from blocks.object_store import ObjectStore
from tasks.cache import StepCache
from tasks.cluster import dask_client
from tasks.data.config import DatasetChoice, IngestConfig, PreprocessConfig, ValidateConfig
from tasks.data.storage.access import DatasetCard, user_of
from tasks.errors import NotFound
from tasks.refs import DatasetRef

if TYPE_CHECKING:
    from distributed import Client

    from tasks.data.partitions import Progress
    from tasks.data.storage.store import DatasetStore
    from tasks.data.validation.validate_report import ValidationReport

CLUSTER_BYTES = 64 * 2**20
"""With fewer bytes, a table is read and a version checked here: a cluster takes a second or two to start."""

PROGRESS_AFTER_S = 2.0
PROGRESS_EVERY_S = 1.0
STORE_FOLDERS = ("datasets", "annotations", "predictions", "workspaces")


def asking_user() -> str:
    """The user for whom this flow run works."""
    return user_of(flow_run.tags)


def open_store(site: str, new_card: DatasetCard | None = None) -> DatasetStore:
    """The dataset store of a site, as every stage opens it: for the user who asks.

    Args:
        site: Which set of blocks to use.
        new_card: The card of a dataset that is made through this store.
    """
    from tasks.data.storage.store import DatasetStore

    block = cast(ObjectStore, ObjectStore.load(site))
    return DatasetStore(block.url, block.storage_options, asking_user(), new_card)


def closed_folders(block: ObjectStore) -> list[str]:
    """Folders of the store that nothing is read from or exported to by address: access goes by name."""
    return [f"{block.url.rstrip('/')}/{folder}" for folder in STORE_FOLDERS]


def options_for(address: str, block: ObjectStore) -> dict[str, Any]:
    """The store's own options for an address in the same kind of store, such as S3 keys."""
    protocol = address.partition("://")[0]
    same = "://" in address and block.url.startswith(f"{protocol}://")
    return block.storage_options if same else {}


def require_source(config: IngestConfig, site: str, *, here: bool = True) -> None:
    """Check that data is where it is said to be; what its files hold is not looked at.

    Args:
        config: Which files.
        site: Which set of blocks to use.
        here: Whether it is to be read on a host such as this one; of another the files are not known.

    Raises:
        TrainyardError: As `tasks.data.sources.source.opened`.
    """
    from tasks.data.sources.samples import require_sample
    from tasks.data.sources.source import listing

    if config.source.startswith("sample:"):  # it is written out when it is first read
        require_sample(config.source.removeprefix("sample:"))
    elif here or config.source.startswith("s3://"):
        block = cast(ObjectStore, ObjectStore.load(site))
        options = options_for(config.source, block)
        listing(config, options, block.source_roots, closed=closed_folders(block))


def _verify_version(result: DatasetRef, inputs: Mapping[str, Any]) -> None:
    """Check that the version is still there for this user, with all its files."""
    open_store(inputs["site"]).verify(result)


def _verify_report(result: ValidationReport, inputs: Mapping[str, Any]) -> None:
    """Check that the version and its Data Docs are still there for this user."""
    open_store(inputs["site"]).open(result.dataset)
    page = Path(cast(DocsSite, DocsSite.load(inputs["site"])).folder) / result.docs_path
    if not page.is_file():
        raise NotFound("The Data Docs page is gone", where=str(page))


def _source_digest(inputs: Mapping[str, Any]) -> dict[str, str]:
    """The content behind the source's path, which may change while the path stays the same.

    Where rows are added, the version that they are added to as well.
    """
    from tasks.data.sources.source import digest
    from tasks.data.storage.store import LATEST_RAW

    config: IngestConfig = inputs["config"]
    block = cast(ObjectStore, ObjectStore.load(inputs["site"]))
    options = options_for(config.source, block)
    found = digest(config, options, block.source_roots, closed=closed_folders(block))
    if not config.add:
        return {"source files": found}
    newest = ""
    with suppress(NotFound):  # the step says so
        newest = open_store(inputs["site"]).get(config.name, LATEST_RAW).version
    return {"source files": found, "newest raw version": newest}


def _suite_digest(inputs: Mapping[str, Any]) -> dict[str, str]:
    config: ValidateConfig = inputs["config"]
    return {"expectation suite": _suite(config, inputs["site"]) or ""}


@task(
    name="ingest",
    task_run_name="ingest {config.source} as {config.name}",
    cache_policy=StepCache(verify=_verify_version, identify=_source_digest),
    persist_result=True,
    result_serializer="json",
)
def ingest_dataset(config: IngestConfig, site: str = "local") -> DatasetRef:
    """Read files in a known layout into a new dataset version."""
    from tasks.data.ingest import ingest
    from tasks.data.sources.source import opened
    from tasks.data.storage.remains import remove_remains
    from tasks.data.unions import version_to_add_to

    log, user = get_run_logger(), asking_user()
    card = DatasetCard(
        description=config.description, owner=user, visibility="private" if config.private else "shared"
    )
    store = open_store(site, card)
    store.require_writable(config.name)  # before anything is unpacked
    there = version_to_add_to(store, config).bytes if config.add else 0
    for folder in remove_remains(store):
        log.info("Removed what a writer left that was killed: %s", folder)
    block = cast(ObjectStore, ObjectStore.load(site))
    options, closed = options_for(config.source, block), closed_folders(block)
    with (
        shown(f"Unpacking of {config.source}") as unpacking,
        opened(config, options, block.source_roots, closed=closed, progress=unpacking) as source,
    ):
        log.info("Reading %d files of %s", len(source.paths), config.source)
        small = config.problem.is_table and source.bytes + there < CLUSTER_BYTES
        with _client(site, needed=not small) as client, shown(f"Ingest of {config.name}") as progress:
            ref = ingest(config, store, client, source, progress, user, log.warning)
    log.info("Ingested %s: %d rows at %s", ref, ref.rows, ref.url)
    return ref


@task(
    name="validate",
    task_run_name="validate {ref.name}",
    cache_policy=StepCache(verify=_verify_report, identify=_suite_digest),
    persist_result=True,
    result_serializer="json",
)
def validate_dataset(
    ref: DatasetRef,
    config: ValidateConfig,
    site: str = "local",
    preprocess: PreprocessConfig | None = None,
) -> ValidationReport:
    """Check a version with Great Expectations and publish its Data Docs.

    Args:
        ref: The version to check.
        config: The limits.
        site: Which set of blocks to use.
        preprocess: The preprocessing that comes next: gaps that it fills are let through.

    Raises:
        InvalidData: A check failed. The message has the counts, the rows and the mends; the Data Docs
            that it points to are written, and the report is an artifact of the run.
    """
    from tasks.data.validation.validate import validate

    docs = cast(DocsSite, DocsSite.load(site))
    store = open_store(site)
    large = store.open(ref).bytes >= CLUSTER_BYTES
    with _client(site, needed=large) as client, shown(f"Validation of {ref.name}") as progress:
        report = validate(ref, store, config, docs.folder, preprocess, client, progress, _suite(config, site))
    url = f"{docs.url.rstrip('/')}/{report.docs_path}"
    get_run_logger().info("Checked %d rows of %s: %s", report.rows, ref, url)
    for check in report.checks:
        if check.mended:
            get_run_logger().warning("%s; the preprocessing mends it", check.message)
    if not report.success:  # one that succeeded is published by the flow, also when it is reused
        publish_report(report, site)
    report.require_success(url)
    return report


def publish_report(report: ValidationReport, site: str) -> None:
    """Show a validation report on the page of the run."""
    from tasks.data.validation.validate_report import render

    docs = cast(DocsSite, DocsSite.load(site))
    url = f"{docs.url.rstrip('/')}/{report.docs_path}"
    outcome = "fit for training" if report.success else f"{len(report.failures)} checks failed"
    create_markdown_artifact(
        f"{render(report)}\n\n[Data Docs]({url})",
        key="validation",
        description=f"Validation of {report.dataset}: {outcome}",
    )


@task(
    name="preprocess",
    task_run_name="preprocess {ref.name}",
    cache_policy=StepCache(verify=_verify_version),
    persist_result=True,
    result_serializer="json",
)
def preprocess_dataset(ref: DatasetRef, config: PreprocessConfig, site: str = "local") -> DatasetRef:
    """Divide a version into splits and apply the steps on Dask, into a new version."""
    from tasks.data.preparation.preprocess import preprocess

    store = open_store(site)
    store.open(ref)
    store.require_writable(ref.name)
    with _client(site) as client, shown(f"Preprocessing of {ref.name}") as progress:
        result = preprocess(ref, config, store, client, progress, asking_user())
    get_run_logger().info("Preprocessed %s into %s: %d rows", ref, result, result.rows)
    return result


@task(name="find dataset", task_run_name="find {dataset.name}@{dataset.version}")
def find_dataset(dataset: DatasetChoice, site: str = "local") -> DatasetRef:
    """The reference to a version chosen by name."""
    store = open_store(site)
    return store.ref(store.get(dataset.name, dataset.version))


@contextmanager
def shown(what: str) -> Iterator[Progress]:
    """A progress that the run's page shows as a bar, if it takes longer than a moment."""
    begun = told = time.monotonic()
    bar: Any = None

    def progress(done: int, total: int) -> None:
        nonlocal bar, told
        now = time.monotonic()
        if not total or now - begun < PROGRESS_AFTER_S or now - told < PROGRESS_EVERY_S:
            return
        told, percent = now, min(99.9, 100 * done / total)
        with suppress(PrefectException, HTTPError):  # a server too busy to show it must not end the work
            if bar is None:
                bar = create_progress_artifact(percent, description=what)
            else:
                update_progress_artifact(bar, percent)

    yield progress
    if bar is not None:
        with suppress(PrefectException, HTTPError):
            update_progress_artifact(bar, 100.0)


@contextmanager
def _client(site: str, needed: bool = True) -> Iterator[Client | None]:
    """A client of the site's Dask cluster, where it is worth its start."""
    if not needed:
        yield None
        return
    with dask_client(site) as client:
        yield client


def _suite(config: ValidateConfig, site: str) -> str | None:
    """The text of the user's expectation suite, read under the same rules as any source."""
    if config.suite is None:
        return None
    from tasks.data.validation.suites import suite_text

    block = cast(ObjectStore, ObjectStore.load(site))
    return suite_text(
        config.suite, options_for(config.suite, block), block.source_roots, closed_folders(block)
    )
