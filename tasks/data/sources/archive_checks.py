"""What must hold of the members of an archive, zip or tar, before one byte of it is written."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field

from tasks.data.sources.addresses import is_clutter, name_fault
from tasks.errors import InvalidData

MOST_MEMBERS = 500_000
MOST_RATIO = 500
"""A member or archive may unpack to so many times its packed size; honest data stays far below."""

RATIO_FROM_BYTES = 1_000_000
"""Smaller ones may have any ratio: a blank picture or a second of silence packs well."""

KINDS = {
    ".zip": "zip",
    ".tar": "tar",
    **dict.fromkeys((".tar.gz", ".tgz"), "gz"),
    **dict.fromkeys((".tar.bz2", ".tbz2", ".tbz"), "bz2"),
    **dict.fromkeys((".tar.xz", ".txz"), "xz"),
}
"""Archives that are read, by the end of their names."""

OTHER_KINDS = (".7z", ".rar", ".gz", ".bz2", ".xz", ".zst", ".lz4", ".lzma", ".z", ".cab", ".iso")
_DRIVE = re.compile(r"^[A-Za-z]:")
_LONGEST_NAME_BYTES = 255
_LONGEST_PATH_BYTES = 1024
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


class Broken(Exception):
    """An archive, or a member of it, cannot be read as what it claims to be."""

    def __init__(self, fault: str, member: str = "") -> None:
        super().__init__(fault, member)
        self.fault = fault
        self.member = member


@dataclass
class Checks:
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
                where=f"member {shown(member.name)}",
                allowed=f"{MOST_MEMBERS:,} members",
                mend="split the archive, or ingest from the unpacked folder",
            )
        fault, mend = _fault(member)
        if fault:
            raise refusal(self.given, member.name, fault, mend)
        path = relative_path(member.name)
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
        raise refusal(
            self.given,
            member.name,
            f"{fault} ({shown(other)})",
            "rename one of the two and pack the archive again",
        )

    def _refuse_size(self, name: str) -> None:
        raise InvalidData(
            f"The archive {self.given} unpacks to more than {self.most_bytes / 2**30:g} GiB",
            where=f"member {shown(name)}",
            allowed=f"{self.most_bytes / 2**30:g} GiB",
            mend="raise max_unpacked_gib, or ingest from the unpacked folder",
        )

    def _refuse_ratio(self, name: str, unpacked: int, packed: int) -> None:
        raise refusal(
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
    path = relative_path(name)
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
    if not member.is_folder and not is_clutter(path) and name.lower().endswith((*KINDS, *OTHER_KINDS)):
        return "is an archive itself", "unpack it, and pack its files beside the others"
    return "", ""


def refusal(given: str, member: str, fault: str, mend: str) -> InvalidData:
    return InvalidData(
        f"The archive {given} is refused: its member {shown(member)} {fault}", where=given, mend=mend
    )


def shown(name: str) -> str:
    return repr(name if len(name) <= 120 else f"{name[:80]}…{name[-30:]}")


def relative_path(name: str) -> str:
    """The relative path, without what stands for the folder itself: `./a//b/` is `a/b`."""
    return "/".join(part for part in name.split("/") if part not in ("", "."))


def _folded(path: str) -> str:
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())
    return path if folded == path else folded
