"""Zip and tar archives: all of an archive is looked at first, and one bad member refuses the whole.

Nothing is written before every member's name, kind and size has passed; then the bytes are counted as
they come, because a header may lie about them.
"""

from __future__ import annotations

import os
from collections.abc import Container, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Protocol

from tasks.data.partitions import Progress, silent
from tasks.data.sources.addresses import is_clutter
from tasks.data.sources.archive_checks import (
    KINDS,
    OTHER_KINDS,
    Broken,
    Checks,
    Member,
    refusal,
    relative_path,
)
from tasks.data.sources.archives_tar import TarArchive
from tasks.data.sources.archives_zip import ZipArchive
from tasks.data.sources.staging import require_space
from tasks.errors import InvalidData, InvalidSettings, Unavailable

_MAGIC = (b"PK\3\4", b"PK\5\6", b"\x1f\x8b\x08", b"\xfd7zXZ\0", b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07",
          b"\x28\xb5\x2f\xfd")  # fmt: skip
_BLOCK_BYTES = 2**20


class Archive(Protocol):
    """An open archive, read from its beginning each time."""

    def members(self) -> Iterator[Member]: ...

    def contents(self) -> Iterator[tuple[Member, AbstractContextManager[IO[bytes]]]]:
        """The members again, each with its content, to be read before the next one is asked for."""
        ...


def archive_kind(name: str) -> str | None:
    """`zip`, `tar`, `gz`, `bz2` or `xz` by the name's end; None if it is no archive.

    Raises:
        InvalidSettings: It is packed in a way that is not read.
    """
    lower = name.lower()
    for suffix in sorted(KINDS, key=len, reverse=True):
        if lower.endswith(suffix):
            return KINDS[suffix]
    for suffix in OTHER_KINDS:
        if lower.endswith(suffix):
            raise InvalidSettings(
                f"{suffix} files are not unpacked", where=name, allowed=", ".join(KINDS), mend="pack as .zip"
            )
    return None


def unpack(
    packed: Path, kind: str, folder: Path, given: str, most_bytes: int, progress: Progress = silent
) -> None:
    """Unpack an archive into a folder, or refuse all of it.

    Args:
        packed: The archive, on a local disk.
        kind: As `archive_kind` tells it.
        folder: An empty folder.
        given: What the user calls the archive.
        most_bytes: Largest size of all members together.
        progress: Hears of the members that are written.

    Raises:
        InvalidData: A member must not be unpacked, or cannot be; it is named.
        Unavailable: The disk has no room for it.
    """
    checks = Checks(given, packed.stat().st_size, most_bytes)
    try:
        archive: Archive = ZipArchive(packed) if kind == "zip" else TarArchive(packed, kind, most_bytes)
        for member in archive.members():
            checks.check(member)
        checks.check_whole()
        require_space(checks.disk_bytes, checks.count, f"The archive {given}, unpacked,")
        made: set[Path] = set()
        total, checks = checks.count, Checks(given, packed.stat().st_size, most_bytes)
        for done, (member, content) in enumerate(archive.contents(), 1):
            checks.check(member)  # again: somebody may have exchanged the file
            path = relative_path(member.name)
            if not member.is_folder and not is_clutter(path):
                target = folder / path
                if target.parent not in made:
                    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                    made.add(target.parent)
                _write(member, content, target, given)
            if done % 256 == 0 or done == total:
                progress(done, total)
    except Broken as error:
        if error.member:
            raise refusal(given, error.member, error.fault, "pack the archive again") from error
        raise InvalidData(
            f"The archive {given} {error.fault}", where=given, mend="fetch or pack the archive again"
        ) from error
    except OSError as error:
        raise Unavailable(
            f"The archive {given} could not be unpacked: {error.strerror or error}",
            where=str(folder),
            mend="free some space, or ingest from the unpacked folder",
        ) from error


def inner_folder(folder: Path, splits: Container[str]) -> Path:
    """Where the data begins: most archives hold one folder around everything.

    A folder named as a split, or one that holds nothing but files of one kind, has a meaning: it stays.
    """
    while True:
        entries = list(os.scandir(folder))
        if len(entries) != 1 or not entries[0].is_dir() or entries[0].name.lower() in splits:
            return folder
        below = list(os.scandir(entries[0].path))
        tells = (".csv", ".tsv", ".json", ".parquet")
        if not any(entry.is_dir() or entry.name.lower().endswith(tells) for entry in below):
            return folder
        folder = Path(entries[0].path)


def _write(member: Member, content: AbstractContextManager[IO[bytes]], target: Path, given: str) -> None:
    written = 0
    with content as source, open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as sink:
        while block := source.read(_BLOCK_BYTES):
            if not written and (block.startswith(_MAGIC) or block[257:262] == b"ustar"):
                raise refusal(
                    given,
                    member.name,
                    "is an archive itself",
                    "unpack it, and pack its files with the others",
                )
            written += len(block)
            if written > member.bytes:
                break
            sink.write(block)
    if written != member.bytes:
        kind = "more" if written > member.bytes else "less"
        raise Broken(f"holds {kind} than the {member.bytes:,} bytes that it says", member.name)
