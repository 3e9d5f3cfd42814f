"""Where the code comes from: a copy of it to run, and its digest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from tasks.data.config import IngestConfig
from tasks.data.sources import source as sources
from tasks.data.storage.store import DatasetStore
from tasks.errors import InvalidData, InvalidSettings
from tasks.refs import DatasetRef
from tasks.train.own_code.config import OwnCode

MOST_FILES = 20_000
MOST_BYTES = 2 * 2**30


@dataclass(frozen=True)
class SourceAccess:
    """What code may be read from.

    Attributes:
        options: fsspec storage options for a source at a URL.
        roots: Local folders that sources may be in; None for any.
        closed: Folders and URLs that no source may be in, such as the dataset store's.
    """

    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    roots: Sequence[str] | None = None
    closed: Sequence[str] = ()


@dataclass(frozen=True)
class Code:
    """The user's code, as a listing that may be read until the block of `opened` ends.

    Attributes:
        source: The files.
        below: Folder that archives hold everything in; empty if there is none.
    """

    source: sources.Source
    below: str

    @property
    def paths(self) -> tuple[str, ...]:
        """Files of the code, relative to the folder that the entry point is named from."""
        if not self.below:
            return self.source.paths
        return tuple(p.removeprefix(self.below) for p in self.source.paths if p.startswith(self.below))

    def read(self, path: str) -> bytes:
        """Content of one of `paths`."""
        return self.source.reader.read(self.below + path)

    def copy_to(self, folder: Path) -> None:
        """Write all files into a folder."""
        for path in self.paths:
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(self.read(path))


@contextmanager
def opened(own: OwnCode, access: SourceAccess) -> Iterator[Code]:
    """The code's files; those of an archive are unpacked until the block ends.

    Raises:
        NotFound, NotAllowed, InvalidSettings, InvalidData: As for data that is ingested.
        InvalidSettings: The entry point is not among the files.
        InvalidData: They are too many or too large to be code.
    """
    with sources.opened(_as_ingested(own), access.options, access.roots, closed=access.closed) as found:
        if len(found.paths) > MOST_FILES or found.bytes > MOST_BYTES:
            raise InvalidData(
                f"the code has {len(found.paths):,} files with {found.bytes / 2**20:,.0f} MiB",
                where=own.source,
                allowed=f"{MOST_FILES:,} files, {MOST_BYTES / 2**20:,.0f} MiB",
                mend="leave data and environments out of the source; give data as datasets",
            )
        yield Code(found, _around(own, found))


def identify(own: OwnCode, store: DatasetStore, access: SourceAccess) -> dict[str, str]:
    """What a training by own code depends on besides its settings, as name to digest."""
    content = sources.digest(_as_ingested(own), access.options, access.roots, closed=access.closed)
    named = {f"dataset {name}": ref.digest for name, ref in named_datasets(own, store).items()}
    return {"own code": content, **named}


def require_unchanged(
    own: OwnCode, store: DatasetStore, access: SourceAccess, identity: Mapping[str, str]
) -> None:
    """Refuse to train on what is no longer what the training will be recorded and found again by.

    Args:
        own: The settings.
        store: Where datasets are.
        access: What the source may be read from.
        identity: What `identify` gave when the training was asked for.

    Raises:
        InvalidData: The code was edited since, or a dataset has a newer version; says which.
    """
    now = identify(own, store, access)
    changed = [name for name, digest in now.items() if identity.get(name, digest) != digest]
    if changed:
        what = " and the ".join(name.replace("own code", "code") for name in changed)
        raise InvalidData(
            f"the {what} changed while the training was being started",
            where=own.source,
            mend="run it again; edit the code when it runs already, or before",
        )


def named_datasets(own: OwnCode, store: DatasetStore) -> dict[str, DatasetRef]:
    """The further datasets by their names for the code.

    Raises:
        NotFound: One is not there, or not for this user.
    """
    return {name: store.ref(store.get(one.name, one.version)) for name, one in own.datasets.items()}


def _as_ingested(own: OwnCode) -> IngestConfig:
    if own.source.startswith("sample:"):
        raise InvalidSettings(
            "samples hold data, not code", where="source", allowed="a folder, archive or file of code"
        )
    return IngestConfig(source=own.source, max_unpacked_gib=MOST_BYTES / 2**30)


def _around(own: OwnCode, found: sources.Source) -> str:
    """The folder that an archive wraps everything in, if the entry point is named from inside it."""
    if found.named(own.entry_point):
        return ""
    tops = {PurePosixPath(path).parts[0] for path in found.paths}
    if len(tops) == 1 and found.named(f"{(top := tops.pop())}/{own.entry_point}"):
        return f"{top}/"
    scripts = [path for path in found.paths if path.endswith((".py", ".ipynb"))]
    raise InvalidSettings(
        f"the source has no {own.entry_point}",
        where=own.source,
        allowed=", ".join(scripts[:10]) or "a source with a .py or .ipynb file",
        mend="set entry_point to the script's path in the source",
    )
