"""The list of datasets as people read it: filtered, sorted, one line a dataset or a version."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from tasks.data.config_store import ListConfig
from tasks.data.manifest import Manifest
from tasks.data.storage.access import DatasetCard
from tasks.data.storage.store import DatasetStore
from tasks.errors import Damaged, NotFound

_SHOWN = 200


@dataclass(frozen=True)
class Line:
    """One line of the list.

    Attributes:
        manifest: The version; None where its manifest is damaged.
        name: The dataset.
        version: The version's id.
        versions: How many versions the dataset has; 0 in a list of versions.
        card: The dataset's card.
    """

    manifest: Manifest | None
    name: str
    version: str
    versions: int
    card: DatasetCard

    @property
    def kind(self) -> str:
        if self.manifest is None:
            return "damaged"
        return "prepared" if self.manifest.preprocessing else "raw"

    @property
    def created_at(self) -> str:
        if self.manifest is not None:
            return self.manifest.created_at
        return datetime.strptime(self.version[:15], "%Y%m%d-%H%M%S").replace(tzinfo=UTC).isoformat()


def list_datasets(store: DatasetStore, config: ListConfig) -> list[Line]:
    """The datasets that the store's asker may see and that the settings choose.

    A version that is damaged is in the list as such; it does not hide the others.
    """
    lines: list[Line] = []
    for name in store.names():
        try:
            card = store.card(name)
            versions = list(_versions(store, name))
        except (Damaged, NotFound):
            continue  # it has no version to see; or nobody knows whose it is
        chosen = [Line(one, name, version, 0, card) for version, one in versions if _fits(one, card, config)]
        chosen.sort(key=lambda line: line.created_at, reverse=True)
        if config.every_version:
            lines += chosen
        elif chosen:
            newest = chosen[0]
            lines.append(Line(newest.manifest, name, newest.version, len(versions), card))
    return _sorted(lines, config.sort)[: config.limit]


def rows(lines: Sequence[Line]) -> list[Mapping[str, str]]:
    """The list as table rows."""
    return [_row(line) for line in lines]


def _versions(store: DatasetStore, name: str) -> Iterator[tuple[str, Manifest | None]]:
    for version in store.versions(name):
        try:
            manifest = store.find(name, version)
        except Damaged:
            yield version, None
        else:
            if manifest is not None:
                yield version, manifest


def _fits(manifest: Manifest | None, card: DatasetCard, config: ListConfig) -> bool:
    if config.owner is not None and card.owner != config.owner:
        return False
    if manifest is None:
        return not config.text and config.problem is None and config.kind == "all"
    if config.problem is not None and manifest.problem is not config.problem:
        return False
    if config.kind != "all" and bool(manifest.preprocessing) != (config.kind == "prepared"):
        return False
    searched = "\n".join((manifest.name, card.description, manifest.source)).lower()
    return config.text.lower() in searched


def _sorted(lines: list[Line], by: str) -> list[Line]:
    if by == "name":
        return sorted(lines, key=lambda line: (line.name, line.version))
    if by == "rows":
        return sorted(lines, key=lambda line: -(line.manifest.rows if line.manifest else 0))
    if by == "size":
        return sorted(lines, key=lambda line: -(line.manifest.bytes if line.manifest else 0))
    return sorted(lines, key=lambda line: line.created_at, reverse=by == "newest")


def _row(line: Line) -> Mapping[str, str]:
    manifest = line.manifest
    shared = line.card.visibility + (", writable" if line.card.writable else "")
    known = {
        "problem": manifest.problem.value if manifest else "",
        "rows": f"{manifest.rows:,}" if manifest else "",
        "splits": ", ".join(f"{name} {count:,}" for name, count in manifest.splits.items())
        if manifest
        else "",
        "classes": str(len(manifest.classes) or "") if manifest else "",
        "unlabelled": f"{manifest.unlabelled:,}" if manifest and manifest.unlabelled else "",
        "MiB": f"{manifest.bytes / 2**20:,.1f}" if manifest else "",
        "made by": f"{manifest.method} ({manifest.owner})" if manifest else "",
        "made at": manifest.created_at[:19].replace("T", " ") if manifest else "",
    }
    return {
        "dataset": line.name,
        "version": line.version,
        "kind": line.kind,
        **known,
        **({"versions": str(line.versions)} if line.versions else {}),
        "owner": line.card.owner,
        "access": shared,
        "description": line.card.description[:_SHOWN],
    }
