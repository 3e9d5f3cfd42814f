"""Where an exported zip file goes: a link on the docs site, a path on the worker, or an object store."""

from __future__ import annotations

import io
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import fsspec

from tasks.data.config_store import ExportConfig
from tasks.data.manifest import Manifest, pages_folder
from tasks.data.sources.addresses import is_inside, local_path, protocol_of, real_folders
from tasks.data.storage.files import appearing
from tasks.errors import InvalidData, InvalidSettings, NotAllowed, NotFound, Unavailable

EXPORTS = "exports"
KEPT_DAYS = 7.0
"""A link works for so long; then a later export removes its file."""

_RESERVE_BYTES = 300 * 2**20
_BLOCK_BYTES = 16 * 2**20

Write = Callable[[IO[bytes]], object]


class Limited(io.RawIOBase):
    """A file that takes so many bytes and no more.

    Args:
        file: The file.
        limit_gib: How much it takes.
        what: What is written, for the message.
    """

    def __init__(self, file: IO[bytes], limit_gib: float, what: str) -> None:
        super().__init__()
        self._file = file
        self._limit_gib = limit_gib
        self._what = what

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def tell(self) -> int:
        return self._file.tell()

    def write(self, block: Any) -> int:
        if self._file.tell() + len(block) > self._limit_gib * 2**30:
            raise _too_large(self._what, f"more than the {self._limit_gib:g} GiB allowed")
        return self._file.write(block)


def require_size(manifest: Manifest, config: ExportConfig) -> int:
    """Bytes that the chosen splits have in the store; those of the zip file may be more or fewer.

    Raises:
        NotFound: A split is not there.
        InvalidData: They are more than the settings allow.
    """
    unknown = [split for split in config.splits if split not in manifest.splits]
    if unknown:
        raise NotFound(
            f"{manifest.name}@{manifest.version} has no split named {', '.join(unknown)}",
            allowed=", ".join(manifest.splits),
        )
    splits = config.splits or tuple(manifest.splits)
    size = sum(file.bytes for split in splits for file in manifest.files_of(split))
    if size > config.max_gib * 2**30 and not config.include:
        raise _too_large(
            f"{manifest.name}@{manifest.version}",
            f"{size / 2**30:,.2f} GiB, more than the {config.max_gib:g} GiB allowed",
        )
    return size


def to_link(folder: str | os.PathLike[str], name: str, size: int, write: Write) -> str:
    """Write a file below the folder of the docs site, under an address that cannot be guessed.

    Returns:
        Its path relative to the folder.
    """
    exports = Path(folder, EXPORTS)
    exports.mkdir(parents=True, exist_ok=True)
    (exports / "index.html").touch()  # in place of a listing, which would give the addresses away
    for old in exports.glob("*/"):
        with suppress(FileNotFoundError):  # another export removes it as well
            if time.time() - old.stat().st_mtime > KEPT_DAYS * 86_400:
                shutil.rmtree(old, ignore_errors=True)
    place = exports / secrets.token_hex(16)
    _require_space(exports, size)
    place.mkdir()
    try:
        with _new_file(place / name) as file:
            write(file)
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise
    return f"{EXPORTS}/{place.name}/{name}"


def remove_links(folder: str | os.PathLike[str], name: str, versions: Sequence[str]) -> None:
    """Remove what the docs site shows of deleted versions: Data Docs, samples, and links to exports."""
    for version in versions:
        shutil.rmtree(Path(folder, pages_folder(name, version)), ignore_errors=True)
        for file in Path(folder, EXPORTS).glob(f"*/{name}-{version}.zip"):
            shutil.rmtree(file.parent, ignore_errors=True)


def to_destination(
    destination: str,
    options: Mapping[str, Any],
    roots: Sequence[str] | None,
    closed: Sequence[str],
    size: int,
    write: Write,
) -> str:
    """Write a new file where the settings say.

    Args:
        destination: Absolute path or s3:// URL, ending in .zip.
        options: fsspec storage options for S3.
        roots: Local folders that may be written to; None for any.
        closed: Folders and URLs that nothing is written into, such as the dataset store's.
        size: About how many bytes it will have.
        write: Writes the content.

    Raises:
        InvalidSettings: The destination is no new .zip file.
        NotAllowed: It is where nothing may be written.
    """
    target = require_new(destination, options, roots, closed)
    if protocol_of(destination) == "file":
        path = Path(target)
        _require_space(path.parent, size)
        with _new_file(path) as file:
            write(file)
        return str(path)
    filesystem, path = fsspec.core.url_to_fs(destination, **options)
    file = filesystem.open(path, "wb", autocommit=False, block_size=_BLOCK_BYTES)
    try:
        write(file)
        file.close()
    except BaseException:
        file.autocommit = True  # else closing it later would finish the upload
        file.closed = True
        file.discard()
        raise
    file.commit()
    return destination


def require_new(
    destination: str, options: Mapping[str, Any], roots: Sequence[str] | None, closed: Sequence[str]
) -> str:
    """Check that a zip file may be written to a place, before there is one: see `to_destination`.

    Returns:
        The path with all links followed, or the URL.
    """
    if not destination.endswith(".zip"):
        raise InvalidSettings(
            f"{destination!r} is not the name of a zip file", allowed="a name ending in .zip"
        )
    if protocol_of(destination) == "file":
        return _allowed(destination, roots, closed)
    filesystem, path = fsspec.core.url_to_fs(destination, **options)
    inner = [folder.removeprefix("s3://") for folder in closed if folder.startswith("s3://")]
    if any(is_inside(f"/{path}", f"/{folder}") for folder in inner):
        raise NotAllowed("The dataset store is not a place for exports", where=destination)
    if filesystem.exists(path):
        raise _taken(destination)
    return destination


def _allowed(destination: str, roots: Sequence[str] | None, closed: Sequence[str]) -> str:
    given = destination.removeprefix("file://")
    if not given.startswith("/"):
        raise InvalidSettings(
            f"{destination!r} is not an absolute path", allowed="a path that begins with /, or an s3:// URL"
        )
    path = Path(local_path(destination))
    target = os.path.join(os.path.realpath(path.parent), path.name)
    allowed = roots is None or any(is_inside(target, root) for root in real_folders(roots))
    hidden = any(part.startswith(".") for part in Path(target).parts)
    if not allowed or hidden or any(is_inside(target, folder) for folder in real_folders(closed)):
        raise NotAllowed(
            f"Nothing is written to {destination}",
            where=target,
            allowed=f"new files in folders that are not hidden, below {', '.join(roots or ())}; s3:// URLs",
            mend="choose another path, or leave it empty for a link",
        )
    if not path.parent.is_dir():
        raise NotFound(f"There is no folder {path.parent}", where=destination, mend="make it first")
    if os.path.lexists(target):
        raise _taken(destination)
    return target


def _too_large(what: str, size: str) -> InvalidData:
    return InvalidData(
        f"The export has {size}",
        where=what,
        mend="export fewer splits, choose items with include, or raise max_gib",
    )


def _taken(destination: str) -> InvalidSettings:
    return InvalidSettings(
        f"There is a file at {destination} already", allowed="a new file", mend="choose another name"
    )


def _require_space(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free - _RESERVE_BYTES
    if size > free:
        raise Unavailable(
            f"The export needs about {size / 2**30:.2f} GiB on the disk, {max(0, free) / 2**30:.2f} are free",
            where=str(folder),
            mend="free some space, export fewer splits, or give an s3:// URL as the destination",
        )


@contextmanager
def _new_file(target: Path) -> Iterator[IO[bytes]]:
    """A file that appears with all of its content, and replaces nothing."""
    try:
        with appearing(target, replace=False) as file:
            yield file
    except FileExistsError:
        raise _taken(str(target)) from None
    except OSError as error:
        raise Unavailable(
            f"The file cannot be written: {error.strerror}",
            where=str(target),
            mend="free some space, or choose another destination",
        ) from error
