"""One dataset version in the making, and the lock by which a living writer is told from a dead one."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from tasks.data.manifest import FileEntry, Manifest, split_rank
from tasks.data.shards import ShardTarget
from tasks.data.storage import access
from tasks.data.storage.files import put
from tasks.errors import Damaged, InvalidData, NotFound
from tasks.refs import LOCAL_USER, DatasetRef

if TYPE_CHECKING:
    from tasks.data.storage.store import DatasetStore

MANIFEST = "manifest.json"
LOCK = ".writing"
"""Held in a version's folder on a local disk for as long as its writer lives; the kernel lets go of it
whatever the writer dies of."""


class DatasetWriter:
    """One version in the making; made by `DatasetStore.writer`."""

    def __init__(self, store: DatasetStore, name: str, version: str) -> None:
        self.store = store
        self.name = name
        self.version = version
        self.committed = False
        self.target = ShardTarget(url=store.version_url(name, version), options=store.options)
        self._card = store.stored_card(name)

    def commit(self, files: Sequence[FileEntry], **about: Any) -> DatasetRef:
        """Make the version visible.

        Args:
            files: The shards, as `target.write` returned them, in any order.
            **about: The manifest's fields that the shards do not tell: problem, features, label,
                classes, parent, method, parameters, preprocessing, source, and where they are not
                usual folds, unlabelled, left_out, owner.

        Returns:
            The new version, or the one that has the same content already.

        Raises:
            InvalidData: There is no row in the shards.
            NotFound: The version that this one was made from is gone.
            Damaged: A shard is not there any more.
            NotAllowed: The name was taken by somebody else meanwhile.
        """
        ordered = sorted(files, key=lambda file: (split_rank(file.split), file.path))
        splits: dict[str, int] = {}
        for file in ordered:
            splits[file.split] = splits.get(file.split, 0) + file.rows
        if not sum(splits.values()):
            raise InvalidData(f"No row is left for a version of {self.name}", mend="check the source")
        about.setdefault("owner", self.store.asker or LOCAL_USER)
        manifest = Manifest(
            name=self.name,
            version=self.version,
            digest="",
            splits=splits,
            files=tuple(ordered),
            created_at=datetime.now(UTC).isoformat(timespec="microseconds"),
            **about,
        )
        manifest = manifest.model_copy(update={"digest": manifest.content_digest()})
        same = self._same_content(manifest)
        if same is not None:
            return same
        self._check(manifest)
        self._claim_name(manifest.owner)
        path = f"{self.store.folder(self.name, self.version)}/{MANIFEST}"
        put(self.store.fs, path, manifest.model_dump_json(indent=1).encode())
        self.committed = True
        return self.store.ref(manifest)

    def _same_content(self, manifest: Manifest) -> DatasetRef | None:
        for version in self.store.versions(self.name):
            try:
                other = self.store.find(self.name, version)
                if other is not None and other.digest == manifest.digest:
                    ref = self.store.ref(other)
                    self.store.verify(ref)
                    return ref
            except (Damaged, NotFound):
                continue  # what was written now takes its place
        return None

    def _check(self, manifest: Manifest) -> None:
        """What a version stands on may have been deleted while it was made: its parent, or its shards."""
        if manifest.parent is not None and self.store.find(self.name, manifest.parent) is None:
            raise NotFound(
                f"The version {self.name}@{manifest.parent} was deleted while another was made from it",
                mend="start again from a version that is there",
            )
        folder = self.store.folder(self.name, self.version)
        there = {path: info["size"] for path, info in self.store.fs.find(folder, detail=True).items()}
        lost = [
            file.path
            for file in manifest.files
            if there.get(f"{folder}/{file.path}") != file.bytes and not self._is_there(file)
        ]
        if lost:
            raise Damaged(
                f"{len(lost)} of {len(manifest.files)} shards are gone before the version was complete, "
                f"such as {lost[0]}",
                where=folder,
                mend="start again; check that nothing else removes files there",
            )

    def _is_there(self, file: FileEntry) -> bool:
        """Ask for the file itself: the listings of some object stores lag behind."""
        try:
            info = self.store.fs.info(f"{self.store.folder(self.name, self.version)}/{file.path}")
        except FileNotFoundError:
            return False
        return bool(info["size"] == file.bytes)

    def _claim_name(self, owner: str) -> None:
        """See that the dataset has a card before it has a version, and that the card lets this user write."""
        new = self._card or self.store.new_card or access.DatasetCard(owner=owner)
        if not self.store.claim(self.name, new):
            self.store.require_writable(self.name)  # somebody may have been faster with this name


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Make a version's folder and hold its lock.

    Raises:
        FileExistsError: Another writer has this folder, or a sweeper took the new one for an old one.
    """
    folder.mkdir(parents=True)
    lock = FileLock(folder / LOCK, thread_local=False)
    try:
        lock.acquire(blocking=False)
    except (Timeout, FileNotFoundError):
        raise FileExistsError(folder) from None
    try:
        if not os.path.exists(folder / LOCK):
            raise FileExistsError(folder)
        yield
    finally:
        with suppress(FileNotFoundError):  # before it is released: nobody else's lock is removed
            os.unlink(folder / LOCK)
        lock.release()


@contextmanager
def taken_over(folder: Path) -> Iterator[bool]:
    """Hold the lock of a folder that its writer has left; False where a writer holds it."""
    lock = FileLock(folder / LOCK, thread_local=False)
    try:
        lock.acquire(blocking=False)
    except (Timeout, OSError):
        yield False
        return
    try:
        yield True
    finally:
        with suppress(FileNotFoundError):
            os.unlink(folder / LOCK)
        with suppress(OSError):  # one that had been removed just before, and came back with the lock
            folder.rmdir()
        lock.release()
