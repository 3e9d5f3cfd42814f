"""Which addresses a source may have: kinds of address, and the local folders that may be read."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from tasks.errors import InvalidSettings, NotAllowed, NotFound
from tasks.home import home

ALLOWED = "a path, file:/// or s3:// URL, or sample:digits, sample:iris, sample:fashion-mnist"
CLUTTER = {"__MACOSX", "Thumbs.db", "desktop.ini"}
"""What desktops leave in folders; names that begin with a dot are passed over as well."""

_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*)://")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def protocol_of(given: str) -> str:
    """`file` or `s3`.

    Raises:
        InvalidSettings: Any other kind of address, such as http, or several of fsspec's chained with `::`.
    """
    match = _SCHEME.match(given)
    protocol = match[1] if match else "file"
    if "::" in given or protocol not in ("file", "s3") or given.startswith(("http:", "https:", "//")):
        raise InvalidSettings(
            f"{given!r} is not an address that ingest reads",
            allowed=ALLOWED,
            mend="fetch the files first, and give their path or S3 address",
        )
    if protocol == "s3" and given.startswith("s3://arn:"):  # a second name for a bucket, past what is closed
        raise InvalidSettings(f"{given!r} is the name of an access point", allowed="s3://bucket/prefix")
    if "\0" in given or (match and protocol == "file" and not given.startswith("file:///")):
        raise InvalidSettings(f"{given!r} is not an address of a local file", allowed=ALLOWED)
    return protocol


def local_path(given: str) -> str:
    """The absolute path of a local address; links in it are not followed."""
    return os.path.abspath(os.path.expanduser(given.removeprefix("file://")))


def require_allowed(path: str, given: str, roots: Sequence[str] | None, closed: Sequence[str]) -> None:
    """Refuse a local path that sources may not be at, before anything is told of what is there.

    Args:
        path: With all links followed.
        given: What the user wrote.
        roots: Folders that may be read; None for any. Hidden files and folders below them may not, nor
            may the data folder of the installation.
        closed: Folders that may never be read, such as the store's.

    Raises:
        NotAllowed: It is outside the roots.
        NotFound: It is hidden, or in a closed folder; said as if nothing were there.
    """
    if any(is_inside(path, folder) for folder in real_folders(closed)):
        raise not_found(given)
    if roots is None:
        return
    around = [root for root in real_folders(roots) if is_inside(path, root)]
    if not around:
        raise NotAllowed(
            f"Files are not read from {given}",
            where=path,
            allowed=f"below {', '.join(roots) or 'no folder'}; s3:// URLs; samples",
            mend="copy the files below one of these folders, or have an administrator add a folder to "
            "source_roots of the Object Store block (TRAINYARD_SOURCE_ROOTS)",
        )
    own = os.path.realpath(home())
    if is_inside(path, own):  # read only if somebody opened a part of it on purpose
        around = [root for root in around if root != own and is_inside(root, own)]
    if all(is_clutter(os.path.relpath(path, root)) for root in around):
        raise not_found(given)


def not_found(given: str) -> NotFound:
    return NotFound(
        f"There is no {given}", where=given, mend="check the path; it is looked up where the step runs"
    )


def real_folders(folders: Sequence[str]) -> list[str]:
    """The local ones of the folders, with all links followed."""
    return [
        os.path.realpath(local_path(folder))
        for folder in folders
        if not _SCHEME.match(folder) or folder.startswith("file://")
    ]


def is_inside(path: str, folder: str) -> bool:
    """Whether a path is a folder or below it; both absolute."""
    return Path(path).is_relative_to(folder)


def leads_out(name: str) -> bool:
    """Whether a file's name, as a list of files has it, is not simply a path below its folder."""
    return name.startswith("/") or "\\" in name or ":" in name or "\0" in name or ".." in name.split("/")


def is_clutter(path: str) -> bool:
    """Whether a relative path is hidden, or what a desktop left."""
    parts = path.split("/")
    return any((part.startswith(".") and part not in (".", "..")) or part in CLUTTER for part in parts)


def name_fault(path: str) -> str:
    """What is wrong with the characters of a relative path; empty if nothing is."""
    if _CONTROL.search(path):
        return "has a control character in its name"
    try:
        path.encode()
    except UnicodeEncodeError:
        return "has a name that is not in UTF-8"
    if any(part in ("", ".", "..") for part in path.split("/")):
        return "has a name with an empty part, . or .. in it"
    return ""
