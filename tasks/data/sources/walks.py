"""Walks over the files of a local folder or an S3 prefix, one by one."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tasks.data.sources.addresses import is_clutter, is_inside, not_found, real_folders
from tasks.data.sources.globs import Glob
from tasks.errors import InvalidData, NotAllowed, Unavailable
from tasks.home import home

Found = tuple[str, int, str]
"""Relative path, size in bytes, ETag (empty on a local disk)."""


def local_files(root: str, pattern: Glob | None = None, closed: Sequence[str] = ()) -> Iterator[Found]:
    """The files below a local folder; links may point to files inside it only.

    Args:
        root: The folder, with all links followed.
        pattern: What is wanted of it.
        closed: Folders that are passed over, as is the installation's data folder.

    Raises:
        InvalidData: A link leads out of the folder, or to something else than a file.
        NotAllowed: A folder cannot be read.
    """
    pattern = pattern or Glob("**")
    shut = {folder for folder in real_folders([*closed, str(home())]) if not is_inside(root, folder)}
    waiting = [("", pattern.start)]
    while waiting:
        folder, states = waiting.pop()
        try:
            entries = os.scandir(os.path.join(root, folder))
        except OSError as error:
            raise NotAllowed(
                f"The folder {folder or root} cannot be read: {error.strerror}",
                where=root,
                mend="let the user that runs the step read it, or exclude it",
            ) from error
        with entries:
            for entry in entries:
                after = pattern.step(states, entry.name)
                if not after or is_clutter(entry.name):
                    continue
                path = f"{folder}/{entry.name}" if folder else entry.name
                if entry.is_symlink():
                    if not pattern.ended(after):
                        continue
                    _require_inside(path, root, shut)
                if entry.is_dir():
                    if entry.path not in shut:
                        waiting.append((path, after))
                elif entry.is_file() and pattern.ended(after):
                    yield path, entry.stat().st_size, ""


def _require_inside(path: str, root: str, shut: set[str]) -> None:
    target = os.path.realpath(os.path.join(root, path))
    if (
        not os.path.isfile(target)
        or not is_inside(target, root)
        or is_clutter(os.path.relpath(target, root))
        or any(is_inside(target, folder) for folder in shut)
    ):
        raise InvalidData(
            f"The file {path} is a link that leads out of the folder, or not to a file",
            where=root,
            mend="put the file itself there",
        )


def remote_kind(filesystem: Any, path: str, given: str) -> str | None:
    """`file`, `folder`, or None if there is nothing."""
    with answers(given):
        try:
            return "file" if filesystem.info(path)["type"] == "file" else "folder"
        except FileNotFoundError:
            return None


def remote_files(
    filesystem: Any,
    root: str,
    prefix: str,
    pattern: Glob | None,
    hidden: Sequence[str],
    given: str,
    only: str | None = None,
) -> Iterator[Found]:
    """The objects below a prefix, a page at a time: s3fs would hold a dictionary for each of them.

    Args:
        filesystem: An s3fs file system.
        root: Bucket and folder that the paths are relative to.
        prefix: What all paths begin with.
        pattern: What is wanted of them.
        hidden: Buckets and folders that are passed over.
        given: What the user wrote.
        only: The one path that is wanted.
    """
    bucket, _, folder = root.partition("/")
    start = f"{folder}/" if folder else ""
    more: dict[str, Any] = {}
    while True:
        with answers(given):
            page = filesystem.call_s3("list_objects_v2", Bucket=bucket, Prefix=start + prefix, **more)
        for one in page.get("Contents", ()):
            path = one["Key"].removeprefix(start)
            if not path or path.endswith("/"):  # what stands for an empty folder
                continue
            if only is not None and path != only:
                continue
            if hidden and any(f"{bucket}/{one['Key']}".startswith(f"{each}/") for each in hidden):
                continue
            if pattern is None or pattern.matches(path.split("/")):
                yield path, int(one["Size"]), str(one.get("ETag", "")).strip('"')
        if not page.get("IsTruncated"):
            return
        more = {"ContinuationToken": page["NextContinuationToken"]}


@contextmanager
def answers(given: str) -> Iterator[None]:
    """What an object store refuses or fails at, in words."""
    from botocore.exceptions import (  # type: ignore[import-untyped]
        BotoCoreError,
        ClientError,
        NoCredentialsError,
        ParamValidationError,
    )

    try:
        yield
    except FileNotFoundError:
        raise
    except ParamValidationError:
        raise not_found(given) from None
    except (PermissionError, NoCredentialsError) as error:
        raise NotAllowed(
            f"The object store does not let {given} be read",
            where=str(error),
            mend="check the address, and the key and secret of the Object Store block",
        ) from error
    except (OSError, BotoCoreError, ClientError) as error:
        raise Unavailable(
            f"The object store does not answer for {given}",
            where=f"{type(error).__name__}: {error}"[:500],
            mend="check the endpoint and the options of the Object Store block, then try again",
        ) from error
