"""Prefect tasks that publish reports: artifacts on the page of the flow run."""

from __future__ import annotations

import hashlib
import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

from prefect import task
from prefect.artifacts import create_image_artifact, create_markdown_artifact, create_table_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, ArtifactFilterKey
from prefect.context import FlowRunContext

from blocks.docs_site import DocsSite
from blocks.mlflow_server import MlflowServer
from tasks.data.config_store import SampleConfig
from tasks.data.manifest import pages_folder
from tasks.data.task import open_store, publish_report
from tasks.refs import DatasetRef, EndpointRef, EvaluationRef, ModelVersionRef, RunRef, StudyRef
from tasks.train.config_catalogue import CatalogueConfig
from tasks.train.pages import run_page
from tasks.train.tags import PARENT_TAG

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL import Image

    from tasks.data.storage.store import DatasetStore
    from tasks.data.validation.validate_report import ValidationReport
    from tasks.evaluate.evaluation import Evaluation
    from tasks.register.gate import Decision

MOST_COLUMNS = 5
"""Columns beside a row that was predicted wrong: the most important ones, where that is known."""


@task(name="report dataset", task_run_name="report dataset {ref.name}")
def report_dataset(ref: DatasetRef, site: str = "local") -> None:
    """Publish what is in a dataset version: counts, columns, and samples before and after preprocessing."""
    from tasks.report import dataset, sample_table, samples
    from tasks.report.class_balance import class_balance
    from tasks.report.sample_grid import sample_grid

    store = open_store(site)
    manifest = store.open(ref)
    summary = dataset.summarise(store, manifest)
    if manifest.problem.modality == "image":
        split = samples.usual_split(manifest)
        shown = samples.image_samples(store, manifest, split=split)
        card = sample_grid(shown.images, shown.captions, before=shown.before, detail=f"{ref} · {split}")
        _publish(card, "sample-images", f"Samples of {ref}", site, _folder(ref))
    elif manifest.problem.modality != "table":
        drawn = samples.draw(store, manifest, samples.usual_split(manifest), samples.SAMPLES_BESIDE_RAW)
        page = sample_table.render(drawn, lambda content, suffix: _kept(content, _folder(ref), suffix, site))
        create_markdown_artifact(page, key="sample-rows", description=f"Samples of {ref}")
    if summary.counts:
        card = class_balance(summary.counts, manifest.classes, detail=str(ref))
        _publish(card, "class-balance", f"Samples of each class in {ref}", site, _folder(ref))
    create_markdown_artifact(
        dataset.render(summary),
        key="dataset-summary",
        description=f"What is in {ref}: {ref.rows:,} rows",
    )


@task(name="report samples", task_run_name="report samples of {ref.name}")
def report_samples(ref: DatasetRef, config: SampleConfig, site: str = "local") -> None:
    """Publish random rows of a version as a picture or a table, before and after preprocessing."""
    from tasks.report import samples
    from tasks.report.sample_grid import sample_grid
    from tasks.report.sample_table import render

    store = open_store(site)
    manifest = store.open(ref)
    split = samples.usual_split(manifest) if config.split == "any" else config.split
    drawn = samples.draw(store, manifest, split, config.count, config.seed, config.label, config.before)
    about = f"{len(drawn.rows)} rows of {ref} · {split}" + (f" · {config.label}" if config.label else "")
    if manifest.problem.modality == "image":
        shown = samples.as_images(drawn)
        card = sample_grid(shown.images, shown.captions, before=shown.before, detail=f"{ref} · {split}")
        _publish(card, "sample-images", about, site, _folder(ref))
        return
    page = render(drawn, lambda content, suffix: _kept(content, _folder(ref), suffix, site))
    create_markdown_artifact(page, key="sample-rows", description=about)


@task(name="list algorithms")
def list_algorithms(config: CatalogueConfig) -> list[dict[str, str]]:
    """List the algorithms with what they cost, and publish the list as the artifact `algorithms`."""
    from tasks.train.catalogue import HELP, rows

    lines = rows(config.problem)
    create_table_artifact(lines, key="algorithms", description=f"{len(lines)} algorithms. {HELP}")
    return lines


@task(name="report validation", task_run_name="report validation of {report.dataset.name}")
def report_validation(report: ValidationReport, site: str = "local") -> None:
    """Publish the checks of a version with their counts, also where the step was reused."""
    publish_report(report, site)


@task(name="report training", task_run_name="report training {run.algorithm}")
def report_training(run: RunRef, site: str = "local") -> None:
    """Publish how a training went: scores, settings and learning curves."""
    from tasks.report import training
    from tasks.report.learning_curves import learning_curves
    from tasks.train.cross_validation import recorded

    server = cast(MlflowServer, MlflowServer.load(site))
    client = server.client()
    found = client.get_run(run.run_id)
    address = run_page(server.tracking_uri, found.info.experiment_id, run.run_id)
    curves = training.curves(client, found)
    if max((len(points) for splits in curves.values() for points in splits.values()), default=0) > 1:
        best = training.kept_epoch(found.data.metrics)
        rows = ", fit on all rows" if "folds" in found.data.params else ""
        detail = f"{run.algorithm} on {run.dataset.name}{rows}"
        card = learning_curves(curves, best_epoch=best, detail=detail)
        _drop_earlier("learning-curves", site)
        _publish(card, "learning-curves", f"Learning curves of {run.algorithm} on {run.dataset}", site)
    create_markdown_artifact(
        training.render(found, address, recorded(client, found)),
        key="training-summary",
        description=f"Training of {run.algorithm} on {run.dataset}",
    )


@task(name="report evaluation", task_run_name="report evaluation on {evaluation.split}")
def report_evaluation(evaluation: EvaluationRef, site: str = "local") -> None:
    """Publish the evaluation: its tables, and its figures here and beside the run in MLflow."""
    from tasks.evaluate.records import load_evaluation
    from tasks.report import evaluation_table, style, training
    from tasks.report.evaluation_figures import figures
    from tasks.report.mistakes import mistakes_table

    client = cast(MlflowServer, MlflowServer.load(site)).client()
    found = load_evaluation(client, evaluation)
    scores = training.best_scores(client.get_run(evaluation.run_id).data.metrics, found.problem)
    pictures, rows = _mistaken(found, site)
    with tempfile.TemporaryDirectory() as scratch:
        for drawn in figures(found, pictures):
            content = style.png(drawn.card)
            Path(scratch, f"{drawn.key}.png").write_bytes(content)
            folder = _folder(evaluation.dataset) if drawn.shows_rows else "pictures"
            create_image_artifact(
                _kept(content, folder, ".png", site), key=drawn.key, description=drawn.about
            )
        client.log_artifacts(evaluation.run_id, scratch, evaluation.uri.split("/", 2)[2])
    create_markdown_artifact(
        evaluation_table.page(found, scores, mistakes_table(found.mistakes, rows) if not pictures else ""),
        key="evaluation",
        description=f"Evaluation of {found.algorithm} on {evaluation.dataset}, {found.split}",
    )


def _mistaken(found: Evaluation, site: str) -> tuple[dict[str, Image.Image], dict[str, dict[str, object]]]:
    """The rows that were most wrong, as they came in: pictures, or a few columns of a table."""
    from tasks.data.read import raw_manifest
    from tasks.report import samples
    from tasks.report.annotated import pictured

    if not found.mistakes:
        return {}, {}
    store = open_store(site)
    raw = raw_manifest(store, store.open(found.dataset))
    rows = samples.rows_of_ids(store, raw, [mistake.id for mistake in found.mistakes])
    if raw.problem.modality == "image":
        return {key: pictured(row, raw) for key, row in rows.items()}, {}
    columns = [feature.name for feature in raw.features][:MOST_COLUMNS]
    if found.importance is not None:
        columns = [column.name for column in found.importance.permutation[:MOST_COLUMNS]]
    return {}, {key: {name: row.get(name) for name in columns} for key, row in rows.items()}


@task(name="report study", task_run_name="report study of {study.trials} trials")
def report_study(study: StudyRef, site: str = "local") -> None:
    """Publish the trials of a tuning study, as a table and pictures, or the leaderboard of a sweep."""
    from tasks.report.leaderboard import leaderboard
    from tasks.report.study import of_runs
    from tasks.sweep.board import read_board
    from tasks.tune.figures.figures import FIGURES, figures
    from tasks.tune.figures.importance import importance
    from tasks.tune.figures.trial_table import trial_table

    server = cast(MlflowServer, MlflowServer.load(site))
    client = server.client()
    parent = client.get_run(study.run_id)
    experiment = parent.info.experiment_id

    def address(run_id: str) -> str:
        return run_page(server.tracking_uri, experiment, run_id)

    if parent.data.tags.get("trainyard.kind") == "sweep":
        board = leaderboard(read_board(client, study.run_id), address)
        page = f"# {parent.info.run_name}\n\nEnded: **{study.end_reason}**\n\n{board}"
        create_markdown_artifact(page, key="leaderboard", description="Algorithms side by side, best first")
        return
    nested = f"tags.`{PARENT_TAG}` = '{study.run_id}'"
    children = list(client.search_runs([experiment], nested, max_results=1000))
    view = of_runs(parent, children, address)
    found = importance(view)
    _drop_earlier("trials", site)
    about = "Trials of the study, best first"
    create_markdown_artifact(trial_table(view, found), key="trials", description=about)
    pictures = figures(view, found)
    for key, shows in FIGURES.items():
        _drop_earlier(key, site)
        if key in pictures:
            address_of_it = _kept(pictures[key].encode(), "pictures", ".svg", site)
            create_image_artifact(address_of_it, key=key, description=shows)


@task(name="report summary", task_run_name="report summary of {version.name}")
def report_summary(
    dataset: DatasetRef,
    run: RunRef,
    evaluation: EvaluationRef,
    version: ModelVersionRef,
    decision: Decision,
    endpoint: EndpointRef | None,
    site: str = "local",
) -> None:
    """Publish how the main job ended: numbers, decision, address, command and links.

    Args:
        dataset: Preprocessed version that was trained on.
        run: The training.
        evaluation: Its evaluation on held-out rows.
        version: The registered version.
        decision: What the gate said.
        endpoint: Where the champion answers; None where nothing is served.
        site: Which set of blocks to use.
    """
    from tasks.evaluate.records import load_evaluation
    from tasks.report.summary import Links, Summary, render

    server = cast(MlflowServer, MlflowServer.load(site))
    client = server.client()
    found = load_evaluation(client, evaluation)
    store = open_store(site)
    experiment = client.get_run(run.run_id).info.experiment_id
    context = FlowRunContext.get()
    summary = Summary(
        dataset=dataset.name,
        dataset_version=dataset.version,
        problem=dataset.problem,
        algorithm=run.algorithm,
        metric=found.headline.replace("_", " "),
        value=found.metrics[found.headline],
        interval=found.interval,
        rows=evaluation.rows,
        model=str(version),
        promoted=decision.promote,
        reasons=decision.reasons,
        endpoint=endpoint.url if endpoint else "",
        serving=f"v{endpoint.version}" if endpoint else "",
        token_file=endpoint.token_file if endpoint else "",
        curl=endpoint.curl if endpoint else "",
        links=Links(
            run=run_page(server.tracking_uri, experiment, run.run_id),
            model=f"{server.tracking_uri.rstrip('/')}/#/models/{version.name}/versions/{version.version}",
            data_docs=_data_docs(store, dataset, cast(DocsSite, DocsSite.load(site))),
        ),
        duration_s=(datetime.now(UTC) - context.start_time).total_seconds() if context else None,
    )
    create_markdown_artifact(
        render(summary),
        key="retrain-summary",
        description=f"{version}: {found.headline} {summary.value:.4f}, "
        + ("promoted" if decision.promote else "not promoted"),
    )


def _publish(card: Figure, key: str, description: str, site: str, folder: str = "pictures") -> None:
    """Publish a figure as an image artifact, its file on the docs site under the name of its digest.

    A picture inside the artifact would weigh on Prefect's database, and its page prints the address.
    """
    from tasks.report import style

    create_image_artifact(_kept(style.png(card), folder, ".png", site), key=key, description=description)


def _drop_earlier(key: str, site: str) -> None:
    """Take back what this flow run has published under a key: what was shown while it ran."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return
    only = ArtifactFilter(
        flow_run_id=ArtifactFilterFlowRunId(any_=[context.flow_run.id]), key=ArtifactFilterKey(any_=[key])
    )
    with get_client(sync_client=True) as client:
        for artifact in client.read_artifacts(artifact_filter=only):
            client.delete_artifact(artifact.id)
            name = Path(urlsplit(str(artifact.data)).path).name
            if name.startswith("live-"):
                Path(cast(DocsSite, DocsSite.load(site)).folder, "pictures", name).unlink(missing_ok=True)


def _folder(ref: DatasetRef) -> str:
    """Where the docs site keeps what shows rows of a version: beside its Data Docs, to be deleted with it."""
    return f"{pages_folder(ref.name, ref.version)}/samples"


def _kept(content: bytes, folder: str, suffix: str, site: str) -> str:
    """Keep a file on the docs site under the name of its digest; returns its address."""
    docs = cast(DocsSite, DocsSite.load(site))
    name = f"{folder}/{hashlib.sha256(content).hexdigest()[:24]}{suffix}"
    file = Path(docs.folder, name)
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_name(f".{file.name}.{os.getpid()}")
        partial.write_bytes(content)
        partial.replace(file)
    return f"{docs.url.rstrip('/')}/{name}"


def _data_docs(store: DatasetStore, dataset: DatasetRef, site: DocsSite) -> str:
    """Address of the newest Data Docs of the nearest version that has some: this one or one before it."""
    manifest = store.open(dataset)
    while True:
        pages = Path(site.folder, pages_folder(manifest.name, manifest.version)).glob("*/index.html")
        newest = max(pages, key=lambda page: page.stat().st_mtime_ns, default=None)
        if newest is not None:
            return f"{site.url.rstrip('/')}/{newest.relative_to(site.folder).as_posix()}"
        if manifest.parent is None:
            return ""
        manifest = store.get(manifest.name, manifest.parent)
