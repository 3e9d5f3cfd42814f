"""Zip and tar archives: all of an archive is looked at first, and one bad member refuses the whole.

Nothing is written before every member's name, kind and size has passed; then the bytes are counted as
they come, because a header may lie about them.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Protocol

from tasks.data.addresses import is_clutter, name_fault
from tasks.data.partitions import Progress, silent
from tasks.data.staging import require_space
from tasks.errors import InvalidData, InvalidSettings, Unavailable

MOST_MEMBERS = 500_000
MOST_RATIO = 500
"""A member or archive may unpack to so many times its packed size; honest data stays far below."""

RATIO_FROM_BYTES = 1_000_000
"""Smaller ones may have any ratio: a blank picture or a second of silence packs well."""

_KINDS = {
    ".zip": "zip",
    ".tar": "tar",
    **dict.fromkeys((".tar.gz", ".tgz"), "gz"),
    **dict.fromkeys((".tar.bz2", ".tbz2", ".tbz"), "bz2"),
    **dict.fromkeys((".tar.xz", ".txz"), "xz"),
}
_PACKED = (*_KINDS, ".7z", ".rar", ".gz", ".bz2", ".xz", ".zst", ".lz4", ".lzma", ".Z", ".cab", ".iso")
_MAGIC = (b"PK\3\4", b"PK\5\6", b"\x1f\x8b\x08", b"\xfd7zXZ\0", b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07",
          b"\x28\xb5\x2f\xfd")  # fmt: skip
_DRIVE = re.compile(r"^[A-Za-z]:")
_LONGEST_NAME_BYTES = 255
_LONGEST_PATH_BYTES = 1024
_BLOCK_BYTES = 2**20
_DISK_BLOCK_BYTES = 4096


@dataclass(frozen=True)
class Member:
    """What an archive says about a member.

    Attributes:
        name: As the archive writes it.
        is_folder: Whether it is a folder.
        bytes: Size when unpacked.
        packed_bytes: Size in the archive.
        fault: Why this kind of member is not taken; empty if it is.
        mend: What helps against the fault.
    """

    name: str
    is_folder: bool
    bytes: int
    packed_bytes: int
    fault: str = ""
    mend: str = ""


class Archive(Protocol):
    """An open archive, read from its beginning each time."""

    def members(self) -> Iterator[Member]: ...

    def contents(self) -> Iterator[tuple[Member, AbstractContextManager[IO[bytes]]]]:
        """The members again, each with its content, to be read before the next one is asked for."""
        ...


class Broken(Exception):
    """An archive, or a member of it, cannot be read as what it claims to be."""

    def __init__(self, fault: str, member: str = "") -> None:
        super().__init__(fault, member)
        self.fault = fault
        self.member = member


def archive_kind(name: str) -> str | None:
    """`zip`, `tar`, `gz`, `bz2` or `xz` by the name's end; None if it is no archive.

    Raises:
        InvalidSettings: It is packed in a way that is not read.
    """
    lower = name.lower()
    for suffix in sorted(_KINDS, key=len, reverse=True):
        if lower.endswith(suffix):
            return _KINDS[suffix]
    for suffix in _PACKED:
        if lower.endswith(suffix.lower()):
            raise InvalidSettings(
                f"{suffix} files are not unpacked", where=name, allowed=", ".join(_KINDS), mend="pack as .zip"
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
    from tasks.data.archives_tar import TarArchive
    from tasks.data.archives_zip import ZipArchive

    checks = _Checks(given, packed.stat().st_size, most_bytes)
    try:
        archive: Archive = ZipArchive(packed) if kind == "zip" else TarArchive(packed, kind, most_bytes)
        for member in archive.members():
            checks.check(member)
        checks.check_whole()
        checks.forget()
        require_space(checks.disk_bytes, checks.count, f"The archive {given}, unpacked,")
        made: set[Path] = set()
        for done, (member, content) in enumerate(archive.contents(), 1):
            path = _path(member.name)
            if not member.is_folder and not is_clutter(path):
                target = folder / path
                if target.parent not in made:
                    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                    made.add(target.parent)
                _write(member, content, target, given)
            if done % 256 == 0 or done == checks.count:
                progress(done, checks.count)
    except Broken as error:
        if error.member:
            raise _refusal(given, error.member, error.fault, "pack the archive again") from error
        raise InvalidData(
            f"The archive {given} {error.fault}", where=given, mend="fetch or pack the archive again"
        ) from error
    except OSError as error:
        raise Unavailable(
            f"The archive {given} could not be unpacked: {error.strerror or error}",
            where=str(folder),
            mend="free some space, or ingest from the unpacked folder",
        ) from error


def inner_folder(folder: Path, splits: frozenset[str]) -> Path:
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


@dataclass
class _Checks:
    """The checks that need no content, over all members in turn."""

    given: str
    packed_bytes: int
    most_bytes: int
    count: int = 0
    bytes: int = 0
    disk_bytes: int = 0
    largest: tuple[int, str] = (0, "")
    files: dict[str, str] = field(default_factory=dict)
    folders: dict[str, str] = field(default_factory=dict)

    def check(self, member: Member) -> None:
        self.count += 1
        if self.count > MOST_MEMBERS:
            raise InvalidData(
                f"The archive {self.given} has more than {MOST_MEMBERS:,} members",
                where=f"member {_shown(member.name)}",
                allowed=f"{MOST_MEMBERS:,} members",
                mend="split the archive, or ingest from the unpacked folder",
            )
        fault, mend = _fault(member)
        if fault:
            raise _refusal(self.given, member.name, fault, mend)
        path = _path(member.name)
        if path:
            self._place(member, path)
        self.bytes += member.bytes
        self.disk_bytes += member.bytes + _DISK_BLOCK_BYTES
        self.largest = max(self.largest, (member.bytes, member.name))
        if self.bytes > self.most_bytes:
            self._refuse_size(member.name)
        if member.bytes >= RATIO_FROM_BYTES and member.bytes > MOST_RATIO * member.packed_bytes:
            self._refuse_ratio(member.name, member.bytes, member.packed_bytes)

    def check_whole(self) -> None:
        if not self.files:
            raise InvalidData(
                f"There is no file in the archive {self.given}", where=self.given, mend="check the archive"
            )
        if self.bytes >= RATIO_FROM_BYTES and self.bytes > MOST_RATIO * self.packed_bytes:
            self._refuse_ratio(self.largest[1], self.bytes, self.packed_bytes)

    def forget(self) -> None:
        self.files.clear()
        self.folders.clear()

    def _place(self, member: Member, path: str) -> None:
        """Names must differ also where case, or the way to write an accent, does not count."""
        parent, _, _ = path.rpartition("/")
        while parent:
            key = _folded(parent)
            if key in self.files:
                self._refuse_pair(member, "stands below a file of the same name", self.files[key])
            known = self.folders.get(key)
            if known == parent:
                break
            if known is not None:
                self._refuse_pair(
                    member, "is in a folder whose name differs from another in case or accents only", known
                )
            self.folders[key] = parent
            parent = parent.rpartition("/")[0]
        key = _folded(path)
        if member.is_folder:
            if key in self.files:
                self._refuse_pair(member, "is a file and a folder", self.files[key])
            if self.folders.setdefault(key, path) != path:
                self._refuse_pair(member, "differs from another in case or accents only", self.folders[key])
            return
        if key in self.folders:
            self._refuse_pair(member, "is a file and a folder", self.folders[key])
        if (known := self.files.get(key)) is not None:
            same = "stands in it twice" if known == path else "differs from another in case or accents only"
            self._refuse_pair(member, same, known)
        self.files[key] = path

    def _refuse_pair(self, member: Member, fault: str, other: str) -> None:
        raise _refusal(
            self.given,
            member.name,
            f"{fault} ({_shown(other)})",
            "rename one of the two and pack the archive again",
        )

    def _refuse_size(self, name: str) -> None:
        raise InvalidData(
            f"The archive {self.given} unpacks to more than {self.most_bytes / 2**30:g} GiB",
            where=f"member {_shown(name)}",
            allowed=f"{self.most_bytes / 2**30:g} GiB",
            mend="raise max_unpacked_gib, or ingest from the unpacked folder",
        )

    def _refuse_ratio(self, name: str, unpacked: int, packed: int) -> None:
        raise _refusal(
            self.given,
            name,
            f"unpacks to {unpacked / max(1, packed):,.0f} times its size ({unpacked:,} bytes)",
            f"leave it out, or ingest from the unpacked folder; at most {MOST_RATIO} times is unpacked",
        )


def _fault(member: Member) -> tuple[str, str]:
    """Why a member must not be unpacked, looked at by itself, and what helps."""
    name = member.name
    names = name.rstrip("/").split("/")
    repack = "pack the archive again with relative names, from inside the folder"
    if member.fault:
        return member.fault, member.mend
    if "\0" in name:
        return "has a NUL character in its name", repack
    if name.startswith("/"):
        return "has an absolute path", repack
    if "\\" in name:
        return "has a backslash in its name", "pack the archive again with / between folders"
    if _DRIVE.match(name):
        return "begins with a drive letter", repack
    if ".." in names:
        return "leads out of the archive with ..", repack
    path = _path(name)
    if path and (fault := name_fault(path)):
        return fault, "rename it and pack the archive again"
    if not path and not member.is_folder:
        return "has no name", repack
    longest = max((len(part.encode()) for part in path.split("/")), default=0)
    if longest > _LONGEST_NAME_BYTES or len(path.encode()) > _LONGEST_PATH_BYTES:
        return (
            f"has a name of {max(longest, len(path.encode())):,} bytes; a name may have "
            f"{_LONGEST_NAME_BYTES}, a path {_LONGEST_PATH_BYTES:,}",
            "give it a shorter name and pack the archive again",
        )
    if member.bytes < 0 or (member.is_folder and member.bytes):
        return "says that it has a size that it cannot have", "pack the archive again"
    if not member.is_folder and not is_clutter(path) and name.lower().endswith(_lower_packed()):
        return "is an archive itself", "unpack it, and pack its files beside the others"
    return "", ""


def _write(member: Member, content: AbstractContextManager[IO[bytes]], target: Path, given: str) -> None:
    written = 0
    with content as source, open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as sink:
        while block := source.read(_BLOCK_BYTES):
            if not written and (block.startswith(_MAGIC) or block[257:262] == b"ustar"):
                raise _refusal(
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


def _refusal(given: str, member: str, fault: str, mend: str) -> InvalidData:
    return InvalidData(
        f"The archive {given} is refused: its member {_shown(member)} {fault}", where=given, mend=mend
    )


def _shown(name: str) -> str:
    return repr(name if len(name) <= 120 else f"{name[:80]}…{name[-30:]}")


def _path(name: str) -> str:
    """The relative path, without what stands for the folder itself: `./a//b/` is `a/b`."""
    return "/".join(part for part in name.split("/") if part not in ("", "."))


def _folded(path: str) -> str:
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())
    return path if folded == path else folded


def _lower_packed() -> tuple[str, ...]:
    return tuple(suffix.lower() for suffix in _PACKED)
