"""What ingest is pointed at: a listing of files, on a disk or in an object store."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from tasks.data.samples import materialise, samples_folder
from tasks.errors import InvalidData, InvalidSettings, NotFound

PROTOCOLS = ("file", "s3")
WILDCARDS = "*?["
CLUTTER = {"__MACOSX", "Thumbs.db", "desktop.ini"}
"""What desktops leave in folders; names that begin with a dot are passed over as well."""


@dataclass(frozen=True)
class SourceFile:
    """One file: path relative to the source's root, with `/`; size; a stamp that changes with it."""

    path: str
    bytes: int
    stamp: str


@dataclass(frozen=True)
class Source:
    """A listing. Small enough to travel to workers without its files (see `reader`).

    Attributes:
        given: What the user wrote.
        url: Folder that the paths are relative to.
        files: The files below it, sorted by path.
        options: fsspec storage options.
    """

    given: str
    url: str
    files: tuple[SourceFile, ...]
    options: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def reader(self) -> Reader:
        return Reader(self.url, self.options)

    def named(self, *names: str) -> SourceFile | None:
        """The first of these files that is there."""
        there = {file.path: file for file in self.files}
        return next((there[name] for name in names if name in there), None)


@dataclass(frozen=True)
class Reader:
    """Reads files of a source, on whichever process it is unpickled."""

    url: str
    options: dict[str, Any] = field(default_factory=dict, repr=False)

    def read(self, path: str) -> bytes:
        """Content of a file by its relative path."""
        if "://" not in self.url:  # several times as fast as through fsspec, and files may be many
            with open(f"{self.url}/{path}", "rb") as file:
                return file.read()
        filesystem, root = fsspec.core.url_to_fs(self.url, **self.options)
        return bytes(filesystem.cat_file(f"{root}/{path}"))


def scan(given: str, options: Mapping[str, Any] | None = None, samples: Path | None = None) -> Source:
    """List a source.

    Args:
        given: Folder, file or glob, as a path or URL; or `sample:<name>`, which is written out first.
        options: fsspec storage options for a URL.
        samples: Folder for samples; the installation's own by default.

    Raises:
        InvalidSettings: A kind of address that is not read.
        NotFound: Nothing is there.
        InvalidData: There is no file in it, or a link leads out of it.
    """
    address = given
    if given.startswith("sample:"):
        address = str(materialise(given.removeprefix("sample:"), samples or samples_folder()))
    protocol = address.split("://", 1)[0] if "://" in address else "file"
    if "::" in address or protocol not in PROTOCOLS:
        raise InvalidSettings(
            f"{given!r} is not an address that ingest reads",
            allowed="a path, file:// or s3:// URL, or sample:digits, sample:iris, sample:fashion-mnist",
        )
    options = {} if protocol == "file" else dict(options or {})
    filesystem, path = fsspec.core.url_to_fs(address, **options)
    # Not by a URL's query or fragment: file names may hold these characters.
    path = path.rstrip("/") or path
    if any(sign in path for sign in WILDCARDS) and not filesystem.exists(path):
        root = path[: min(path.index(sign) for sign in WILDCARDS if sign in path)].rsplit("/", 1)[0]
        found = filesystem.glob(path, detail=True)
        files = [_file(info, root) for info in found.values() if info["type"] == "file"]
    elif filesystem.isfile(path):
        root = path.rsplit("/", 1)[0]
        files = [_file(filesystem.info(path), root)]
    elif filesystem.isdir(path):
        root = path
        if isinstance(filesystem, LocalFileSystem):
            files = list(_walk(Path(root)))
        else:
            found = filesystem.find(path, detail=True)
            files = [_file(info, root) for info in found.values()]
    else:
        raise NotFound(f"There is no {given}", where=address, mend="check the path; it is read on the worker")
    files = sorted((file for file in files if not _clutter(file.path)), key=lambda file: file.path)
    if not files:
        raise InvalidData(f"There is no file in {given}", where=address, mend="check the path or the pattern")
    url = root if isinstance(filesystem, LocalFileSystem) else filesystem.unstrip_protocol(root)
    return Source(given=given, url=url, files=tuple(files), options=options)


def digest(source: Source) -> str:
    """SHA-256, hex, over the names and contents of a source's files.

    On an object store the ETags stand for the contents, so nothing is downloaded.
    """
    total = hashlib.sha256()
    reader = source.reader
    local = "://" not in source.url
    for file in source.files:
        content = hashlib.sha256(reader.read(file.path)) if local else None
        stamp = content.hexdigest() if content else f"{file.bytes} {file.stamp}"
        total.update(f"{len(file.path)} {file.path} {stamp}\n".encode())
    return total.hexdigest()


def _file(info: dict[str, Any], root: str) -> SourceFile:
    stamp = info.get("ETag") or info.get("mtime") or info.get("LastModified") or ""
    return SourceFile(str(PurePosixPath(info["name"]).relative_to(root)), int(info["size"] or 0), str(stamp))


def _walk(root: Path) -> Iterator[SourceFile]:
    """The files below a local folder; links may point to files inside it only."""
    resolved = root.resolve()
    folders = [""]
    while folders:
        folder = folders.pop()
        with os.scandir(root / folder) as entries:
            for entry in entries:
                path = f"{folder}/{entry.name}" if folder else entry.name
                if _clutter(entry.name):
                    continue
                if entry.is_symlink():
                    target = Path(entry.path).resolve()
                    if not target.is_file() or not target.is_relative_to(resolved):
                        raise InvalidData(
                            f"The file {path} is a link that leads out of the folder, or not to a file",
                            where=str(root),
                            mend="put the file itself there",
                        )
                if entry.is_dir():
                    folders.append(path)
                elif entry.is_file():
                    status = entry.stat()
                    yield SourceFile(path, status.st_size, str(status.st_mtime_ns))


def _clutter(path: str) -> bool:
    return any(part.startswith(".") or part in CLUTTER for part in path.split("/"))
