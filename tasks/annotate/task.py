"""Prefect tasks of annotating: hand items out, take labels back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.logging import get_run_logger

from tasks.annotate.config import AssignConfig, CollectConfig
from tasks.data.task import open_store
from tasks.markdown import cell, table
from tasks.refs import DatasetRef

if TYPE_CHECKING:
    from tasks.annotate.assignment import Assignment


@task(task_run_name="assign items of {ref.name}")
def assign_items(ref: DatasetRef, config: AssignConfig, site: str = "local") -> Assignment:
    """Split the unlabelled items of a version evenly and write each annotator's import file.

    Args:
        ref: Version with unlabelled items.
        config: Annotators, labels and seed.
        site: Blocks to use.

    Returns:
        The assignment; its `folder` is what `collect_labels` takes.
    """
    from tasks.annotate.assignment import hand_out

    assignment = hand_out(open_store(site), ref, config)
    get_run_logger().info("Assigned %d items of %s.", sum(map(len, assignment.items.values())), ref)
    rows = [
        (cell(name), len(items), f"`{assignment.files[name]}`") for name, items in assignment.items.items()
    ]
    create_markdown_artifact(
        f"# Items of {ref.name} to label\n\nFolder: `{assignment.folder}`\n\n"
        f"{table(['annotator', 'items', 'import file'], rows, right=['items'])}\n\n"
        "For each annotator, make a Label Studio project with the labelling page `labelling.xml`, import "
        "the file, and export as JSON when all is labelled.",
        key="assignment",
        description=f"Who labels what of {ref}",
    )
    return assignment


@task(task_run_name="collect labels")
def collect_labels(config: CollectConfig, site: str = "local") -> DatasetRef:
    """Check the exported labels and join them into a new version of the dataset.

    Args:
        config: The assignment and its exports.
        site: Blocks to use.

    Returns:
        The labelled version.
    """
    from tasks.annotate.take_back import take_back

    ref, progress = take_back(open_store(site), config)
    people = [(cell(name), progress.done[name], of) for name, of in progress.of.items()]
    classes = [(cell(name), count) for name, count in progress.counts.items()]
    create_markdown_artifact(
        f"# Labels of {ref.name}\n\nNew version: `{ref.version}`\n\n"
        f"{table(['annotator', 'done', 'of'], people, right=['done', 'of'])}\n\n"
        f"{table(['label', 'items'], classes, right=['items'])}\n",
        key="labels",
        description=f"Labels joined into {ref}",
    )
    return ref
