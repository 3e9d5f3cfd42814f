"""The dataset store: immutable versions on any fsspec file system.

A version is a folder `<root>/datasets/<name>/<version>` of Parquet shards and a manifest. The manifest
is put last and in one atomic step, and only folders with a manifest count: a writer that dies before
that leaves nothing to see, and `tasks.data.storage.remains` removes what it left. Every writer has a
folder of its own, so writers of one name never touch each other's files.

`<root>/datasets/<name>/dataset.json` is the dataset's card: description, owner, and who else may use it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from tasks.data.config import NAME_PATTERN
from tasks.data.manifest import Manifest
from tasks.data.storage import access
from tasks.data.storage.access import DatasetCard
from tasks.data.storage.cards import CARD, put_card
from tasks.data.storage.folders import VERSION, VersionFolders
from tasks.data.storage.writer import MANIFEST, DatasetWriter
from tasks.errors import Damaged, InvalidSettings, NotFound
from tasks.refs import DatasetRef

LATEST = "latest"
LATEST_RAW = "latest-raw"


class DatasetStore(VersionFolders):
    """Dataset versions below one root.

    Args:
        url: Root folder: a local path or a URL such as `s3://bucket/prefix`.
        options: fsspec storage options, such as key, secret and endpoint_url.
        asker: The user for whom the store is opened: private datasets of others are not there then, and
            only what this user may write can be written. None, for work within a step, checks nothing.
        new_card: The card of a dataset that is made through this store; the asker's own and shared
            where none is given. A dataset that is there keeps its card.
    """

    def __init__(
        self,
        url: str,
        options: dict[str, Any] | None = None,
        asker: str | None = None,
        new_card: DatasetCard | None = None,
    ) -> None:
        super().__init__(url, options)
        self.asker = asker
        self.new_card = new_card

    def list(self, name: str | None = None) -> Sequence[Manifest]:
        """Visible versions of one dataset, or of all, newest first."""
        names = [_checked_name(name)] if name is not None else self.names()
        found = [self.find(each, version) for each in names for version in self.versions(each)]
        return sorted(
            (manifest for manifest in found if manifest), key=lambda one: one.created_at, reverse=True
        )

    def names(self) -> Sequence[str]:
        """Names of the datasets that the asker may see, sorted."""
        return [name for name in self.all_names() if not self.hides(name)]

    def get(self, name: str, version: str = LATEST) -> Manifest:
        """One version.

        Args:
            name: Name of the dataset.
            version: A version id; `latest` for the newest; `latest-raw` for the newest that no
                preprocessing was applied to: ingested, or labelled afterwards.

        Raises:
            NotFound: There is no such dataset or version, or it is somebody else's private one.
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
        known = VERSION.match(version) and not self.hides(_checked_name(name))
        manifest = self.find(_checked_name(name), version) if known else None
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
            NotFound: The version is gone, or somebody else's private one.
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
        """Begin a version; whatever was not committed at the end of the block is removed.

        Raises:
            NotAllowed: The asker may not write to this dataset.
        """
        self.require_writable(_checked_name(name))
        with ExitStack() as stack:
            writer = DatasetWriter(self, name, self.begun(name, stack))
            try:
                yield writer
            finally:
                if not writer.committed:
                    self.remove_folder(name, writer.version)

    def delete(self, name: str, version: str) -> None:
        """Remove a version: its manifest first, so that it is gone at once, then the rest."""
        self.require_owner(name, "delete versions of")
        with suppress(FileNotFoundError):
            self.fs.rm_file(f"{self.folder(name, version)}/{MANIFEST}")
        self.remove_folder(name, version)
        if not self.versions(name):
            self.remove_card(name)

    def card(self, name: str) -> DatasetCard:
        """The card of a dataset; one that has none, as of old, is shared.

        Raises:
            NotFound: There is no such dataset, or it is somebody else's private one.
        """
        if not self._exists(_checked_name(name)):
            self.get(name)  # says what there is instead
        return self.stored_card(name) or DatasetCard()

    def change_card(self, name: str, card: DatasetCard) -> None:
        """Replace the card of one's own dataset.

        Raises:
            NotFound: There is no such dataset, or it is somebody else's private one.
            NotAllowed: It is somebody else's.
        """
        self.require_owner(name, "share")
        put_card(self.fs, f"{self.root}/{name}/{CARD}", card)

    def require_writable(self, name: str) -> None:
        """Check that the asker may add versions to a dataset, which need not be there yet."""
        if self.asker is None:
            return
        card = self.stored_card(_checked_name(name))
        if card is None and self._exists(name):
            card = DatasetCard()
        if card is not None:
            access.require_may_write(card, name, self.asker)

    def require_owner(self, name: str, act: str) -> None:
        """Check that the dataset is there and the asker's own."""
        card = self.card(name)
        if self.asker is not None:
            access.require_owner(card, name, self.asker, act)

    def versions(self, name: str) -> Sequence[str]:
        """The same as `all_versions`; none of a dataset that the asker may not see."""
        found = self.all_versions(name)
        return [] if found and self.hides(name) else found

    def _exists(self, name: str) -> bool:
        return any(self.is_finished(name, version) for version in reversed(self.versions(name)))

    def hides(self, name: str) -> bool:
        """Whether a dataset is somebody else's private one; one that is gone is nobody's."""
        if self.asker is None or not re.match(NAME_PATTERN, name):
            return False
        card = self.stored_card(name)
        return card is not None and not access.may_read(card, self.asker)


def _checked_name(name: str) -> str:
    if not re.match(NAME_PATTERN, name):
        raise InvalidSettings(
            f"{name!r} cannot be a dataset name",
            allowed="1 to 63 lower-case letters, digits, dots, dashes and underscores, "
            "a letter or digit first",
        )
    return name
