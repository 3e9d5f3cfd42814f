"""Files that appear whole or not at all: on a local disk, and on any fsspec file system."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import fsspec
from fsspec.implementations.local import LocalFileSystem

_LONGEST_NAME = 200
"""The name of the file that is written aside is a little longer than its own, which may have 255 bytes."""


def put(filesystem: fsspec.AbstractFileSystem, path: str, content: bytes | memoryview) -> None:
    """Store a file in one atomic step: all of it is there afterwards, or nothing.

    An object store does that by itself; on a local disk the content is written aside, forced to the
    disk and renamed.
    """
    if not isinstance(filesystem, LocalFileSystem):
        filesystem.pipe_file(path, bytes(content))
        return
    with appearing(path) as file:
        file.write(content)


def copy(filesystem: fsspec.AbstractFileSystem, old: str, new: str) -> None:
    """Copy a file within the store, as atomically as `put`."""
    if not isinstance(filesystem, LocalFileSystem):
        filesystem.cp_file(old, new)
        return
    with open(old, "rb") as source, appearing(new) as file:
        shutil.copyfileobj(source, file, 2**20)


@contextmanager
def appearing(path: str | os.PathLike[str], *, replace: bool = True) -> Iterator[IO[bytes]]:
    """A local file that is there with all of its content at the end of the block.

    Args:
        path: Where; folders that are missing are made.
        replace: Whether it takes the place of a file that is there.

    Raises:
        FileExistsError: A file is there that must not be replaced; of several that try at once, one succeeds.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name[-_LONGEST_NAME:]}.{secrets.token_hex(4)}")
    try:
        with aside.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if replace:
            aside.replace(target)
        else:
            os.link(aside, target)  # unlike a rename, a link never replaces what is there
    finally:
        aside.unlink(missing_ok=True)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the name itself
    finally:
        os.close(folder)
