"""What ingest is pointed at: a listing of files, on a disk, in an object store or in an archive."""

from __future__ import annotations

import bisect
import hashlib
import itertools
import os
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, cast

import fsspec
import numpy as np

from tasks.data.config import IngestConfig
from tasks.data.listed import listed
from tasks.data.manifest import SPLIT_OF
from tasks.data.partitions import Progress, silent
from tasks.data.sources.addresses import (
    is_clutter,
    local_path,
    name_fault,
    not_found,
    protocol_of,
    require_allowed,
)
from tasks.data.sources.archives import archive_kind, inner_folder, unpack
from tasks.data.sources.globs import WILDCARD, Glob, Selection
from tasks.data.sources.samples import materialise, samples_folder
from tasks.data.sources.staging import require_space, staged, sweep
from tasks.data.sources.walks import Found, answers, local_files, remote_files, remote_kind
from tasks.errors import InvalidData, NotFound

MOST_FILES = 5_000_000


@dataclass(frozen=True, eq=False)
class Source:
    """A listing, some 100 bytes a file; workers get its `reader` only.

    Attributes:
        given: What the user wrote.
        url: Folder that the paths are relative to: an absolute path, or an s3:// URL.
        paths: The files below it, with `/` between folders, sorted.
        sizes: Their sizes in bytes; int64 [files].
        stamps: Their ETags; none on a local disk.
        options: fsspec storage options.
    """

    given: str
    url: str
    paths: tuple[str, ...]
    sizes: np.ndarray
    stamps: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def reader(self) -> Reader:
        return Reader(self.url, self.options)

    @property
    def bytes(self) -> int:
        """Size of all files together."""
        return int(self.sizes.sum())

    def named(self, *names: str) -> str | None:
        """The first of these paths that is there."""
        for name in names:
            place = bisect.bisect_left(self.paths, name)
            if place < len(self.paths) and self.paths[place] == name:
                return name
        return None


@dataclass(frozen=True)
class Reader:
    """Reads files of a source by their relative paths, on whichever process it is unpickled."""

    url: str
    options: dict[str, Any] = field(default_factory=dict, repr=False)

    def read(self, path: str) -> bytes:
        """Content of a file."""
        if "://" not in self.url:  # several times as fast as through fsspec, and files may be many
            with open(f"{self.url}/{path}", "rb") as file:
                return file.read()
        filesystem, root = fsspec.core.url_to_fs(self.url, **self.options)
        return bytes(filesystem.cat_file(f"{root}/{path}"))

    def open(self, path: str) -> IO[bytes]:
        """A file, to be read in parts."""
        if "://" not in self.url:
            return open(f"{self.url}/{path}", "rb")
        filesystem, root = fsspec.core.url_to_fs(self.url, **self.options)
        file: IO[bytes] = filesystem.open(f"{root}/{path}", "rb")
        return file


@contextmanager
def opened(
    config: IngestConfig,
    options: Mapping[str, Any] | None = None,
    roots: Sequence[str] | None = None,
    samples: Path | None = None,
    closed: Sequence[str] = (),
    progress: Progress = silent,
) -> Iterator[Source]:
    """The files that the settings point at; those of an archive are unpacked until the block ends.

    Args:
        config: The settings.
        options: fsspec storage options for a source at a URL.
        roots: Local folders that sources may be in; None for any.
        samples: Folder for samples; the installation's own by default.
        closed: Folders and URLs that no source may be in, such as the dataset store's.
        progress: Hears of the files that are unpacked.

    Raises:
        InvalidSettings: A kind of address or archive that is not read, or a file of `include` is missing.
        NotAllowed: A local folder outside the roots.
        NotFound: Nothing is there.
        InvalidData: No file is left, a link leads out of the folder, or an archive is refused.
        Unavailable: The disk is full, or the object store does not answer.
    """
    sweep()
    source = listing(config, options, roots, samples, closed)
    kind = _archive_of(source, config)
    if kind is None:
        yield source
        return
    with staged() as folder:
        packed = Path(source.url) / source.paths[0]
        if "://" in source.url:
            require_space(source.bytes, 1, f"The archive {source.given}")
            packed = folder / "packed"
            filesystem, root = fsspec.core.url_to_fs(source.url, **source.options)
            with answers(source.given):
                filesystem.get_file(f"{root}/{source.paths[0]}", str(packed))
        files = folder / "files"
        files.mkdir(mode=0o700)
        unpack(packed, kind, files, source.given, int(config.max_unpacked_gib * 2**30), progress)
        if packed.parent == folder:
            packed.unlink()
        root = inner_folder(files, SPLIT_OF)
        selection = Selection(config.include, config.exclude)
        yield _source(source.given, str(root), local_files(str(root)), selection)


def digest(
    config: IngestConfig,
    options: Mapping[str, Any] | None = None,
    roots: Sequence[str] | None = None,
    samples: Path | None = None,
    closed: Sequence[str] = (),
) -> str:
    """SHA-256, hex, over the names and contents of the files that `opened` would list; archives as they are.

    On an object store the ETags stand for the contents, so nothing is downloaded.
    """
    source = listing(config, options, roots, samples, closed)
    total = hashlib.sha256()
    for place, path in enumerate(source.paths):
        if source.stamps:
            stamp = f"{source.sizes[place]} {source.stamps[place]}"
        else:
            try:
                with source.reader.open(path) as file:
                    stamp = hashlib.file_digest(cast(Any, file), "sha256").hexdigest()
            except OSError as error:  # ingest names it, or leaves it out
                stamp = f"unreadable: {error.strerror}"
        total.update(f"{len(path)} {path} {stamp}\n".encode())
    return total.hexdigest()


def listing(
    config: IngestConfig,
    options: Mapping[str, Any] | None = None,
    roots: Sequence[str] | None = None,
    samples: Path | None = None,
    closed: Sequence[str] = (),
) -> Source:
    """As `opened`, but an archive is a file like others and stays as it is."""
    selection = Selection(config.include, config.exclude)
    if config.source.startswith("sample:"):
        path = materialise(config.source.removeprefix("sample:"), samples or samples_folder())
        return replace(scan(str(path), selection=selection), given=config.source)
    packed = archive_kind(config.source) is not None
    source = scan(config.source, options, roots, closed, None if packed else selection)
    if packed and _archive_of(source, config) is None:  # a folder that is named like an archive
        source = scan(config.source, options, roots, closed, selection)
    return source


def scan(
    given: str,
    options: Mapping[str, Any] | None = None,
    roots: Sequence[str] | None = None,
    closed: Sequence[str] = (),
    selection: Selection | None = None,
) -> Source:
    """List a folder, file or glob, by path or URL; archives are files like others here.

    Raises:
        As `opened`.
    """
    selection = selection or Selection()
    if protocol_of(given) == "s3":
        found, url = _remote(given, dict(options or {}), closed)
        return _source(given, url, found, selection, dict(options or {}), stamped=True)
    path = local_path(given)
    root, pattern = path, None
    if WILDCARD.search(path) and not os.path.lexists(path):
        root, pattern = _cut(path)
    root = os.path.realpath(root)
    require_allowed(root, given, roots, closed)
    if pattern is None and os.path.isfile(root):
        folder, name = os.path.split(root)
        return _source(given, folder, [(name, os.path.getsize(root), "")], selection)
    if not os.path.isdir(root):
        raise not_found(given)
    return _source(given, root, local_files(root, pattern, closed), selection)


def _archive_of(source: Source, config: IngestConfig) -> str | None:
    """The kind of archive that the source is; a file inside a folder is not unpacked."""
    alone = len(source.paths) == 1 and config.source.rstrip("/").endswith(source.paths[0])
    return archive_kind(source.paths[0]) if alone else None


def _remote(given: str, options: dict[str, Any], closed: Sequence[str]) -> tuple[Iterable[Found], str]:
    filesystem, path = fsspec.core.url_to_fs(given, use_listings_cache=False, **options)
    path = path.rstrip("/")
    hidden = [folder.removeprefix("s3://").rstrip("/") for folder in closed if folder.startswith("s3://")]
    if not path or WILDCARD.search(path.partition("/")[0]):
        raise not_found(given)
    if any(f"{path}/".startswith(f"{folder}/") for folder in hidden):
        raise not_found(given)
    kind = remote_kind(filesystem, path, given)
    if kind == "file":
        folder, _, name = path.rpartition("/")
        return remote_files(filesystem, folder, name, None, [], given, only=name), f"s3://{folder}"
    if kind == "folder":
        return remote_files(filesystem, path, "", None, hidden, given), f"s3://{path}"
    if not WILDCARD.search(path):
        raise not_found(given)
    root, pattern = _cut(path)
    prefix = path[len(root) + 1 : WILDCARD.search(path).start()]  # type: ignore[union-attr]
    return remote_files(filesystem, root, prefix, pattern, hidden, given), f"s3://{root}"


def _cut(path: str) -> tuple[str, Glob]:
    """The folder before the first wildcard, and the glob below it."""
    match = WILDCARD.search(path)
    assert match is not None
    root, _, _ = path[: match.start()].rpartition("/")
    return root or "/", Glob(path[len(root) + 1 :])


def _source(
    given: str,
    url: str,
    found: Iterable[Found],
    selection: Selection,
    options: dict[str, Any] | None = None,
    *,
    stamped: bool = False,
) -> Source:
    """Gather a listing without an object for each file."""
    paths: list[str] = []
    sizes = array("q")
    stamps: list[str] = []
    for path, size, stamp in found:
        if is_clutter(path) or not selection.takes(path):
            continue
        if fault := name_fault(path):
            raise InvalidData(f"The file {path!r} {fault}", where=given, mend="rename the file")
        if len(paths) == MOST_FILES:
            raise InvalidData(
                f"There are more than {MOST_FILES:,} files in {given}", where=url, mend="ingest it in parts"
            )
        paths.append(path)
        sizes.append(size)
        if stamped:
            stamps.append(stamp)
    if absent := selection.absent(paths):
        raise NotFound(
            f"{len(absent):,} files of include are not there: {listed(absent)}",
            where=given,
            mend="correct the names, which are relative to the source's folder, or leave them out",
        )
    if not paths:
        raise InvalidData(
            f"There is no file in {given}",
            where=url,
            mend="check the path, and the include and exclude globs",
        )
    sizes_array = np.frombuffer(sizes, np.int64)
    if any(after < before for before, after in itertools.pairwise(paths)):  # S3 lists in order
        order = sorted(range(len(paths)), key=paths.__getitem__)
        paths = [paths[place] for place in order]
        stamps = [stamps[place] for place in order] if stamped else []
        sizes_array = sizes_array[order]
    return Source(given, url, tuple(paths), sizes_array, tuple(stamps), options or {})
