"""Prefect tasks that publish reports: artifacts on the page of the flow run."""

from __future__ import annotations

import hashlib
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, cast

from prefect import task
from prefect.artifacts import create_image_artifact, create_markdown_artifact, create_table_artifact
from prefect.context import FlowRunContext

from blocks.docs_site import DocsSite
from blocks.mlflow_server import MlflowServer
from tasks.data.config_store import SampleConfig
from tasks.data.manifest import pages_folder
from tasks.data.task import open_store, publish_report
from tasks.refs import DatasetRef, EndpointRef, EvaluationRef, ModelVersionRef, RunRef, StudyRef
from tasks.train.config_catalogue import CatalogueConfig

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from tasks.data.storage.store import DatasetStore
    from tasks.data.validation.validate_report import ValidationReport
    from tasks.register.gate import Decision


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

    server = cast(MlflowServer, MlflowServer.load(site))
    client = server.client()
    found = client.get_run(run.run_id)
    address = run_page(server.tracking_uri, found.info.experiment_id, run.run_id)
    curves = training.curves(client, found)
    if max((len(points) for splits in curves.values() for points in splits.values()), default=0) > 1:
        best = int(found.data.metrics.get("best_epoch", 0)) or None
        card = learning_curves(curves, best_epoch=best, detail=f"{run.algorithm} on {run.dataset.name}")
        _publish(card, "learning-curves", f"Learning curves of {run.algorithm} on {run.dataset}", site)
    create_markdown_artifact(
        training.render(found, address),
        key="training-summary",
        description=f"Training of {run.algorithm} on {run.dataset}",
    )


@task(name="report evaluation", task_run_name="report evaluation on {evaluation.split}")
def report_evaluation(evaluation: EvaluationRef, site: str = "local") -> None:
    """Publish the evaluation table, with a confusion matrix or predictions against the truth."""
    from tasks.evaluate.records import load_evaluation
    from tasks.report import evaluation_table, training
    from tasks.report.confusion_matrix import confusion_matrix
    from tasks.report.predicted_vs_true import predicted_vs_true

    client = cast(MlflowServer, MlflowServer.load(site)).client()
    found = load_evaluation(client, evaluation)
    scores = training.best_scores(client.get_run(evaluation.run_id).data.metrics, found.problem)
    scores[evaluation.split] = found.metrics
    detail = f"{found.algorithm} on {evaluation.dataset.name} · {found.split} · {found.rows:,} rows"
    if found.confusion:
        card = confusion_matrix(found.confusion, found.classes, detail=detail)
        key, text = "confusion-matrix", f"Which classes of {evaluation.dataset} are taken for which"
    else:
        card = predicted_vs_true(
            found.true_values, found.predicted_values, label=found.label or "value", detail=detail
        )
        key, text = "predicted-against-true", f"Predictions against the truth, {evaluation.dataset}"
    _publish(card, key, text, site)
    create_markdown_artifact(
        evaluation_table.page(found, scores),
        key="evaluation",
        description=f"Evaluation of {found.algorithm} on {evaluation.dataset}, {found.split}",
    )


@task(name="report study", task_run_name="report study of {study.trials} trials")
def report_study(study: StudyRef, site: str = "local") -> None:
    """Publish every trial of a tuning study, or the leaderboard of a sweep, best first."""
    from tasks.report import study as study_page
    from tasks.report.leaderboard import entries, leaderboard

    server = cast(MlflowServer, MlflowServer.load(site))
    client = server.client()
    parent = client.get_run(study.run_id)
    experiment = parent.info.experiment_id
    nested = f"tags.`mlflow.parentRunId` = '{study.run_id}'"
    children = list(client.search_runs([experiment], nested, max_results=1000))

    def address(run_id: str) -> str:
        return run_page(server.tracking_uri, experiment, run_id)

    if parent.data.tags.get("trainyard.kind") == "sweep":
        metric = parent.data.params["metric"]
        board = leaderboard(entries(parent, children, address), metric=metric.replace("_", " "))
        page = f"# {parent.info.run_name}\n\nEnded: **{study.end_reason}**\n\n{board}"
        create_markdown_artifact(page, key="leaderboard", description="Algorithms side by side, best first")
        return
    create_markdown_artifact(
        study_page.render(parent, children, address),
        key="trials",
        description="Trials of the study, best first",
    )


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
        metric=found.headline,
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


def run_page(tracking_uri: str, experiment_id: str, run_id: str) -> str:
    """Address of a run's page in MLflow."""
    return f"{tracking_uri.rstrip('/')}/#/experiments/{experiment_id}/runs/{run_id}"


def _publish(card: Figure, key: str, description: str, site: str, folder: str = "pictures") -> None:
    """Publish a figure as an image artifact, its file on the docs site under the name of its digest.

    A picture inside the artifact would weigh on Prefect's database, and its page prints the address.
    """
    from tasks.report import style

    create_image_artifact(_kept(style.png(card), folder, ".png", site), key=key, description=description)


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
