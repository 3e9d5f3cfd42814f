"""The dataset store: immutable versions on any fsspec file system.

A version is a folder `<root>/datasets/<name>/<version>` of Parquet shards and a manifest. The manifest
is put last and in one atomic step, and only folders with a manifest count: a writer that dies before
that leaves nothing to see, and `remove_remains` removes what it left. Every writer has a folder of its
own, so writers of one name never touch each other's files.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem
from pydantic import ValidationError

from tasks.data.config import NAME_PATTERN
from tasks.data.manifest import SPLITS, FileEntry, Manifest
from tasks.data.shards import ShardTarget, put
from tasks.errors import Damaged, InvalidData, InvalidSettings, NotFound
from tasks.refs import DatasetRef

MANIFEST = "manifest.json"
LATEST = "latest"
LATEST_RAW = "latest-raw"
_VERSION = re.compile(r"^(\d{8}-\d{6})-[0-9a-f]{6}$")


class DatasetStore:
    """Dataset versions below one root.

    Args:
        url: Root folder: a local path or a URL such as `s3://bucket/prefix`.
        options: fsspec storage options, such as key, secret and endpoint_url.
    """

    def __init__(self, url: str, options: dict[str, Any] | None = None) -> None:
        self.url = url
        self.options = dict(options or {})
        # Two processes write here: a listing kept in memory would hide what the other one did.
        self.fs, root = fsspec.core.url_to_fs(url, use_listings_cache=False, **self.options)
        self.root = root.rstrip("/") + "/datasets"

    def list(self, name: str | None = None) -> Sequence[Manifest]:
        """Visible versions of one dataset, or of all, newest first."""
        names = [_checked_name(name)] if name is not None else self.names()
        found = [self.find(each, version) for each in names for version in self.versions(each)]
        return sorted(
            (manifest for manifest in found if manifest), key=lambda one: one.created_at, reverse=True
        )

    def names(self) -> Sequence[str]:
        """Names of the datasets that have a folder here, sorted."""
        return [name for name in self._children(self.root) if re.match(NAME_PATTERN, name)]

    def get(self, name: str, version: str = LATEST) -> Manifest:
        """One version.

        Args:
            name: Name of the dataset.
            version: A version id; `latest` for the newest; `latest-raw` for the newest that no
                preprocessing was applied to: ingested, or labelled afterwards.

        Raises:
            NotFound: There is no such dataset or version.
        """
        if version in (LATEST, LATEST_RAW):
            candidates = [one for one in self.list(name) if version == LATEST or not one.preprocessing]
            if candidates:
                return candidates[0]
            raise NotFound(
                f"There is no dataset named {name}",
                where=self.root,
                allowed=", ".join(self.names()) or "nothing is there yet",
                mend="ingest it, or choose one of those",
            )
        manifest = self.find(_checked_name(name), version) if _VERSION.match(version) else None
        if manifest is None:
            versions = self.list(name)
            raise NotFound(
                f"The dataset {name} has no version {version}",
                where=self.root,
                allowed=", ".join(one.version for one in versions[:10]) or "it has no version yet",
                mend="choose one of those, or latest",
            )
        return manifest

    def open(self, ref: DatasetRef) -> Manifest:
        """The manifest that a reference stands for.

        The version is looked up below this store's root, never at the reference's URL: a reference
        from outside cannot make the store read elsewhere, and a store that was moved still opens.

        Raises:
            NotFound: The version is gone.
            Damaged: The manifest is not the one that the reference was made from.
        """
        manifest = self.get(ref.name, ref.version)
        if manifest.digest != ref.digest:
            raise Damaged(
                f"The manifest of {ref} does not have the digest {ref.digest[:12]}… of its reference",
                where=self.folder(ref.name, ref.version),
                mend="ingest or preprocess again to make a new version",
            )
        return manifest

    def ref(self, manifest: Manifest) -> DatasetRef:
        """The reference to a version, to travel between tasks."""
        return DatasetRef(
            name=manifest.name,
            version=manifest.version,
            url=self.version_url(manifest.name, manifest.version),
            digest=manifest.digest,
            problem=manifest.problem,
            rows=manifest.rows,
        )

    def verify(self, ref: DatasetRef, *, deep: bool = False) -> None:
        """Check that every shard is there with its size; `deep` reads and hashes them as well.

        Raises:
            NotFound: The version is gone.
            Damaged: A shard is missing, or is not what the manifest says.
        """
        manifest = self.open(ref)
        folder = self.folder(ref.name, ref.version)
        for file in manifest.files:
            path = f"{folder}/{file.path}"
            fault = ""
            try:
                size = self.fs.info(path)["size"]
            except FileNotFoundError:
                fault = "is missing"
            else:
                if size != file.bytes:
                    fault = f"has {size} bytes, not {file.bytes}"
                elif deep and hashlib.sha256(self.fs.cat_file(path)).hexdigest() != file.sha256:
                    fault = "has other content than was written"
            if fault:
                raise Damaged(
                    f"A file of {ref} {fault}",
                    where=path,
                    mend="ingest or preprocess again to make a new version",
                )

    @contextmanager
    def writer(self, name: str) -> Iterator[DatasetWriter]:
        """Begin a version; whatever was not committed at the end of the block is removed."""
        started = datetime.now(UTC)
        version = f"{started:%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
        writer = DatasetWriter(self, _checked_name(name), version)
        if isinstance(self.fs, LocalFileSystem):
            # Fails if another writer drew the same version id in the same second.
            self.fs.makedirs(self.folder(name, version), exist_ok=False)
        try:
            yield writer
        finally:
            if not writer.committed:
                self._remove(name, version)

    def remove_remains(self, older_than_s: float = 24 * 3600) -> Sequence[str]:
        """Remove what dead writers left: folders without a manifest that nobody wrote to lately.

        Args:
            older_than_s: Leave alone what was written to within so many seconds.

        Returns:
            The removed folders.
        """
        removed = []
        now = datetime.now(UTC)
        for name in self.names():
            for version in self.versions(name):
                folder = self.folder(name, version)
                if self.fs.exists(f"{folder}/{MANIFEST}"):
                    continue
                begun = datetime.strptime(version[:15], "%Y%m%d-%H%M%S").replace(tzinfo=UTC)
                written = [self.fs.modified(path) for path in self.fs.find(folder)]
                if (now - max([begun, *written])).total_seconds() > older_than_s:
                    self._remove(name, version)
                    removed.append(folder)
        return removed

    def folder(self, name: str, version: str) -> str:
        """Path of a version's folder on the store's file system."""
        return f"{self.root}/{name}/{version}"

    def version_url(self, name: str, version: str) -> str:
        """URL of a version's folder; a plain path on a local disk."""
        folder = self.folder(name, version)
        return folder if isinstance(self.fs, LocalFileSystem) else str(self.fs.unstrip_protocol(folder))

    def _children(self, path: str) -> Sequence[str]:
        try:
            found = self.fs.ls(path, detail=True)
        except FileNotFoundError:
            return []
        return sorted(
            one["name"].rstrip("/").rsplit("/", 1)[-1] for one in found if one["type"] == "directory"
        )

    def versions(self, name: str) -> Sequence[str]:
        """Ids of the versions that have a folder, oldest first; unfinished ones are among them."""
        return [version for version in self._children(f"{self.root}/{name}") if _VERSION.match(version)]

    def find(self, name: str, version: str) -> Manifest | None:
        """The manifest of a version, by its id; None when there is none to see.

        Raises:
            Damaged: The manifest is not what was written.
        """
        path = f"{self.folder(name, version)}/{MANIFEST}"
        try:
            content = self.fs.cat_file(path)
        except FileNotFoundError:
            return None
        try:
            manifest = Manifest.model_validate_json(content)
        except ValidationError as error:
            fault = f"cannot be read ({error.error_count()} faults)"
        else:
            if manifest.digest == manifest.content_digest():
                return manifest
            fault = "does not match its digest"
        raise Damaged(
            f"The manifest of {name}@{version} {fault}", where=path, mend="remove this version's folder"
        )

    def _remove(self, name: str, version: str) -> None:
        try:
            self.fs.rm(self.folder(name, version), recursive=True)
        except FileNotFoundError:
            return  # an object store has no empty folders


class DatasetWriter:
    """One version in the making; made by `DatasetStore.writer`."""

    def __init__(self, store: DatasetStore, name: str, version: str) -> None:
        self.store = store
        self.name = name
        self.version = version
        self.committed = False
        self.target = ShardTarget(url=store.version_url(name, version), options=store.options)

    def commit(self, files: Sequence[FileEntry], **about: Any) -> DatasetRef:
        """Make the version visible.

        Args:
            files: The shards, as `target.write` returned them, in any order.
            **about: The manifest's fields that the shards do not tell: problem, features, label,
                classes, parent, method, parameters, preprocessing, source.

        Returns:
            The new version, or the one that has the same content already.

        Raises:
            InvalidData: There is no row in the shards.
        """
        rank = {split: place for place, split in enumerate(SPLITS)}
        ordered = sorted(files, key=lambda file: (rank.get(file.split, len(rank)), file.path))
        splits: dict[str, int] = {}
        for file in ordered:
            splits[file.split] = splits.get(file.split, 0) + file.rows
        if not sum(splits.values()):
            raise InvalidData(f"No row is left for a version of {self.name}", mend="check the source")
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
            except Damaged:
                continue  # what was written now takes its place
        return None


def _checked_name(name: str) -> str:
    if not re.match(NAME_PATTERN, name):
        raise InvalidSettings(
            f"{name!r} cannot be a dataset name",
            allowed="1 to 63 lower-case letters, digits, dots, dashes and underscores, "
            "a letter or digit first",
        )
    return name
