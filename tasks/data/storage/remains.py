"""Remove what writers left that died: nothing of it was ever visible."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from tasks.data.storage.cards import CARD
from tasks.data.storage.store import DatasetStore
from tasks.data.storage.writer import taken_over

DAY_S = 24 * 3600.0


def remove_remains(store: DatasetStore, older_than_s: float = DAY_S) -> Sequence[str]:
    """Remove folders without a manifest that no writer works on.

    On a local disk a living writer holds a lock, so what a dead one left goes at once. An object store
    has no locks: what was written to lately is left alone there.

    Args:
        store: The store.
        older_than_s: How long after its last write a folder on an object store counts as left; and
            everywhere a card without versions, or a file that was being written beside it.

    Returns:
        What was removed.
    """
    removed: list[str] = []
    for name in store.all_names():
        for version in store.all_versions(name):
            if store.is_finished(name, version):
                continue
            if store.is_local:
                gone = _take(store, name, version)
            else:
                gone = _age_s(store, store.folder(name, version), version) > older_than_s
                if gone:
                    store.remove_folder(name, version)
            if gone:
                removed.append(store.folder(name, version))
        removed += _beside(store, name, older_than_s)
    return removed


def _take(store: DatasetStore, name: str, version: str) -> bool:
    with taken_over(Path(store.folder(name, version))) as left:
        if not left or store.is_finished(name, version):  # it may have been finished just before
            return False
        store.remove_folder(name, version)
    return True


def _beside(store: DatasetStore, name: str, older_than_s: float) -> list[str]:
    """A card whose first version never came, and cards that were cut off while they were written."""
    folder = f"{store.root}/{name}"
    removed = []
    if store.is_local:
        for path in Path(folder).glob(f".{CARD}.*"):
            with suppress(FileNotFoundError):  # it has its place now
                if _since_s(datetime.fromtimestamp(path.stat().st_mtime, UTC)) > older_than_s:
                    path.unlink()
                    removed.append(str(path))
    with suppress(FileNotFoundError):
        if not store.all_versions(name) and _since_s(store.fs.modified(f"{folder}/{CARD}")) > older_than_s:
            store.remove_card(name)
            removed.append(f"{folder}/{CARD}")
    return removed


def _age_s(store: DatasetStore, folder: str, version: str) -> float:
    begun = datetime.strptime(version[:15], "%Y%m%d-%H%M%S").replace(tzinfo=UTC)
    files = store.fs.find(folder, detail=True).values()
    return _since_s(max([begun, *(file["LastModified"] for file in files if file.get("LastModified"))]))


def _since_s(moment: datetime) -> float:
    return (datetime.now(UTC) - moment).total_seconds()
