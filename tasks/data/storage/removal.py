"""Deletion of dataset versions: refused while a training or another version stands on them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from tasks.data.config_store import DeleteConfig
from tasks.data.listed import listed
from tasks.data.manifest import Manifest
from tasks.data.storage.store import DatasetStore
from tasks.errors import Damaged, NotAllowed, NotFound
from tasks.refs import DATASET_TAG

_RUNS_AT_ONCE = 1_000
_EXPERIMENTS_AT_ONCE = 500
ALL = "all"

Users = Callable[[str], dict[str, list[str]]]
"""Trainings that refer to a dataset: version → what names them."""


def delete(store: DatasetStore, config: DeleteConfig, users: Users) -> list[str]:
    """Delete a version, or all versions of a dataset.

    Args:
        store: The store, opened for who asks.
        config: What to delete.
        users: Says which trainings refer to the versions of a dataset.

    Returns:
        The deleted versions.

    Raises:
        NotFound: There is no such dataset or version, or it is somebody else's private one.
        NotAllowed: It is somebody else's, or in use: the message names by what.
    """
    store.require_owner(config.name, "delete versions of")
    there = {
        version: _readable(store, config.name, version)
        for version in store.versions(config.name)
        if store.is_finished(config.name, version)
    }
    doomed = list(there) if config.version == ALL else [config.version]
    if config.version != ALL and config.version not in there:
        store.get(config.name, config.version)  # says what there is instead
        raise NotFound(f"The dataset {config.name} has no version {config.version}")
    _require_unused(config.name, doomed, there.values(), users)
    # The youngest first: one whose parent is gone has lost its raw rows.
    doomed.sort(key=lambda version: one.created_at if (one := there[version]) else "", reverse=True)
    for version in doomed:
        store.delete(config.name, version)
    return doomed


def page(name: str, deleted: Sequence[str]) -> str:
    """What was deleted, as Markdown."""
    return f"# {name}\n\nDeleted:\n\n" + "\n".join(f"- `{version}`" for version in deleted)


def trainings(client: Any) -> Users:
    """Look up in MLflow; runs that were deleted there do not count.

    Args:
        client: An MLflow client.
    """

    def of(name: str) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        experiments = [one.experiment_id for one in _pages(client.search_experiments, view_type=3)]
        for start in range(0, len(experiments), _EXPERIMENTS_AT_ONCE):
            some = experiments[start : start + _EXPERIMENTS_AT_ONCE]
            wanted = f"tags.`{DATASET_TAG}` LIKE '{name}@%'"
            for run in _pages(
                client.search_runs, experiment_ids=some, filter_string=wanted, max_results=_RUNS_AT_ONCE
            ):
                dataset, _, version = run.data.tags[DATASET_TAG].partition("@")
                if dataset == name:  # _ in a name stands for any character in LIKE
                    found.setdefault(version, []).append(f"{run.info.run_name} ({run.info.run_id})")
        return found

    return of


def _pages(search: Callable[..., Any], **how: Any) -> list[Any]:
    page = search(**how)
    found = list(page)
    while page.token:
        page = search(**how, page_token=page.token)
        found += page
    return found


def _require_unused(name: str, doomed: Sequence[str], there: Iterable[Manifest | None], users: Users) -> None:
    stay = [one for one in there if one is not None and one.version not in doomed]
    children = [f"{one.name}@{one.version}" for one in stay if one.parent in doomed]
    if children:
        raise NotAllowed(
            f"{len(children)} versions are made from {name}@{doomed[0]}: {listed(children)}",
            where=f"dataset {name}",
            mend="delete those first, or the whole dataset",
        )
    used = [run for version, runs in users(name).items() if version in doomed for run in runs]
    if used:
        what = f"{name}@{doomed[0]}" if len(doomed) == 1 else f"the dataset {name}"
        raise NotAllowed(
            f"{len(used)} trainings refer to {what}: {listed(used)}",
            where=f"dataset {name}",
            mend="delete these runs in MLflow first, or keep the data",
        )


def _readable(store: DatasetStore, name: str, version: str) -> Manifest | None:
    try:
        return store.find(name, version)
    except Damaged:
        return None
