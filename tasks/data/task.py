"""The steps of the data stage: ingest, validate, preprocess, and finding a version by its name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from prefect import task
from prefect.logging import get_run_logger

from blocks.dask_cluster import DaskCluster
from blocks.docs_site import DocsSite
from blocks.object_store import ObjectStore
from tasks.cache import StepCache
from tasks.data.config import DatasetChoice, IngestConfig, PreprocessConfig, ValidateConfig
from tasks.errors import NotFound
from tasks.refs import DatasetRef

if TYPE_CHECKING:
    from distributed import Client

    from tasks.data.sources import Source
    from tasks.data.store import DatasetStore
    from tasks.data.validate import ValidationReport

CLUSTER_FILES = 100_000
CLUSTER_BYTES = 256 * 2**20
"""A source with as many files or bytes is read on the cluster; starting it costs seconds."""


def _verify_version(result: DatasetRef, inputs: Mapping[str, Any]) -> None:
    """Check that the version is still there, with all its files."""
    open_store(inputs["site"]).verify(result)


def _verify_report(result: ValidationReport, inputs: Mapping[str, Any]) -> None:
    """Check that the Data Docs are still there."""
    page = Path(cast(DocsSite, DocsSite.load(inputs["site"])).folder) / result.docs_path
    if not page.is_file():
        raise NotFound("The Data Docs page is gone", where=str(page))


def _source_digest(inputs: Mapping[str, Any]) -> dict[str, str]:
    """The content behind the source's path, which may change while the path stays the same."""
    from tasks.data.ingest import source_digest

    config: IngestConfig = inputs["config"]
    return {"source files": source_digest(config, _source_options(config, inputs["site"]))}


@task(
    name="ingest",
    task_run_name="ingest {config.source} as {config.name}",
    cache_policy=StepCache(verify=_verify_version, identify=_source_digest),
    persist_result=True,
    result_serializer="json",
)
def ingest_dataset(config: IngestConfig, site: str = "local") -> DatasetRef:
    """Read files in a known layout into a new dataset version."""
    from tasks.data.ingest import ingest, source_of
    from tasks.data.remains import remove_remains

    log = get_run_logger()
    store = open_store(site)
    for folder in remove_remains(store):
        log.info("Removed what a writer left that was killed: %s", folder)
    source = source_of(config, _source_options(config, site))
    log.info("Reading %d files of %s", len(source.files), config.source)
    with _client_for(source, site) as client:
        ref = ingest(config, store, client, source)
    log.info("Ingested %s: %d rows at %s", ref, ref.rows, ref.url)
    return ref


@task(
    name="validate",
    task_run_name="validate {ref.name}",
    cache_policy=StepCache(verify=_verify_report),
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
            that it points to are written.
    """
    from tasks.data.validate import validate

    docs = cast(DocsSite, DocsSite.load(site))
    report = validate(ref, open_store(site), config, docs.folder, preprocess)
    url = f"{docs.url.rstrip('/')}/{report.docs_path}"
    get_run_logger().info("Checked %d rows of %s: %s", report.rows, ref, url)
    for check in report.checks:
        if check.mended:
            get_run_logger().warning("%s; the preprocessing fills them", check.message)
    report.require_success(url)
    return report


@task(
    name="preprocess",
    task_run_name="preprocess {ref.name}",
    cache_policy=StepCache(verify=_verify_version),
    persist_result=True,
    result_serializer="json",
)
def preprocess_dataset(ref: DatasetRef, config: PreprocessConfig, site: str = "local") -> DatasetRef:
    """Divide a version into splits and apply the steps on Dask, into a new version."""
    from tasks.data.preprocess import preprocess

    with cast(DaskCluster, DaskCluster.load(site)).client() as client:
        result = preprocess(ref, config, open_store(site), client)
    get_run_logger().info("Preprocessed %s into %s: %d rows", ref, result, result.rows)
    return result


def open_store(site: str) -> DatasetStore:
    """The dataset store of a site, as every stage opens it."""
    from tasks.data.store import DatasetStore

    block = cast(ObjectStore, ObjectStore.load(site))
    return DatasetStore(block.url, block.storage_options)


@task(name="find dataset", task_run_name="find {dataset.name}@{dataset.version}")
def find_dataset(dataset: DatasetChoice, site: str = "local") -> DatasetRef:
    """The reference to a version chosen by name."""
    store = open_store(site)
    return store.ref(store.get(dataset.name, dataset.version))


def _source_options(config: IngestConfig, site: str) -> dict[str, Any]:
    """The store's own options for a source in the same kind of store, such as S3 keys."""
    block = cast(ObjectStore, ObjectStore.load(site))
    protocol = config.source.partition("://")[0]
    same = "://" in config.source and block.url.startswith(f"{protocol}://")
    return block.storage_options if same else {}


@contextmanager
def _client_for(source: Source, site: str) -> Iterator[Client | None]:
    """A Dask client where the source is large enough to be worth a cluster."""
    if len(source.files) < CLUSTER_FILES and sum(file.bytes for file in source.files) < CLUSTER_BYTES:
        yield None
        return
    with cast(DaskCluster, DaskCluster.load(site)).client() as client:
        yield client
