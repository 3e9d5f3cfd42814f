"""The folders of dataset versions, whoever asks: where they are, which are there, how they come and go."""

from __future__ import annotations

import re
import secrets
import shutil
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem
from pydantic import ValidationError

from tasks.data.config import NAME_PATTERN
from tasks.data.manifest import Manifest
from tasks.data.shards import Shard
from tasks.data.storage.access import DatasetCard
from tasks.data.storage.cards import CARD, put_new_card, read_card
from tasks.data.storage.writer import MANIFEST, held
from tasks.errors import Damaged, Unavailable

TRIES = 10
VERSION = re.compile(r"^(\d{8}-\d{6})-[0-9a-f]{6}$")


class VersionFolders:
    """Folders `<root>/datasets/<name>/<version>`; nothing here asks for rights, which the store does.

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

    @property
    def is_local(self) -> bool:
        return isinstance(self.fs, LocalFileSystem)

    def all_names(self) -> Sequence[str]:
        """Names of all datasets."""
        return [name for name in self._children(self.root) if re.match(NAME_PATTERN, name)]

    def all_versions(self, name: str) -> Sequence[str]:
        """Ids of the versions that have a folder, oldest first; unfinished ones are among them."""
        return [version for version in self._children(f"{self.root}/{name}") if VERSION.match(version)]

    def is_finished(self, name: str, version: str) -> bool:
        """Whether the version has its manifest, and so is there to see."""
        return bool(self.fs.exists(f"{self.folder(name, version)}/{MANIFEST}"))

    def find(self, name: str, version: str) -> Manifest | None:
        """The manifest of a version, by its id; None when there is none.

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
        raise Damaged(f"The manifest of {name}@{version} {fault}", where=path, mend="delete this version")

    def shards(self, manifest: Manifest, split: str | None = None) -> Sequence[Shard]:
        """The shards of a version, or of one of its splits, in the order of its rows."""
        url = self.version_url(manifest.name, manifest.version)
        about = manifest.model_copy(update={"files": ()})
        files = manifest.files if split is None else manifest.files_of(split)
        return [Shard(url, self.options, about, file) for file in files]

    def folder(self, name: str, version: str) -> str:
        """Path of a version's folder on the store's file system."""
        return f"{self.root}/{name}/{version}"

    def version_url(self, name: str, version: str) -> str:
        """URL of a version's folder; a plain path on a local disk."""
        folder = self.folder(name, version)
        return folder if self.is_local else str(self.fs.unstrip_protocol(folder))

    def stored_card(self, name: str) -> DatasetCard | None:
        """The card of a dataset; None where it has none yet."""
        return read_card(self.fs, f"{self.root}/{name}/{CARD}")

    def claim(self, name: str, card: DatasetCard) -> bool:
        """Give a dataset its card; False where it has one."""
        return put_new_card(self.fs, f"{self.root}/{name}/{CARD}", card)

    def remove_card(self, name: str) -> None:
        """Remove what is left of a dataset without versions."""
        path = f"{self.root}/{name}/{CARD}"
        with suppress(FileNotFoundError):
            self.fs.rm_file(path)
        if self.is_local:
            with suppress(OSError):  # another writer has just begun in it
                Path(path).parent.rmdir()

    def remove_folder(self, name: str, version: str) -> None:
        """Remove a version's folder, visible or not."""
        folder = self.folder(name, version)
        if self.is_local:
            shutil.rmtree(folder, ignore_errors=True)
            return
        # One request a file: some S3 servers refuse the one that deletes many.
        for path in self.fs.find(folder):
            with suppress(FileNotFoundError):
                self.fs.rm_file(path)

    def begun(self, name: str, stack: ExitStack) -> str:
        """A version id of its own; on a local disk with its folder, locked until the stack ends."""
        for _ in range(TRIES):
            version = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
            try:
                if self.is_local:
                    stack.enter_context(held(Path(self.folder(name, version))))
            except FileExistsError:
                continue  # two writers drew the same id
            return version
        raise Unavailable(
            f"No folder for a new version of {name} could be made", where=self.root, mend="try again"
        )

    def _children(self, path: str) -> Sequence[str]:
        try:
            found = self.fs.ls(path, detail=True)
        except FileNotFoundError:
            return []
        return sorted(
            one["name"].rstrip("/").rsplit("/", 1)[-1] for one in found if one["type"] == "directory"
        )
