"""Zip archives: what the directory says, compared with what stands before each member."""

from __future__ import annotations

import copy
import lzma
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from tasks.data.sources.archive_checks import MOST_MEMBERS, Broken, Member

_MOST_DIRECTORY_BYTES = 256 * 2**20
_ENTRY = struct.Struct("<4s24xHHH12x")
_HEADER = struct.Struct("<4sHHHHHLLLHH")
_END_64 = b"PK\6\6"
_END_64_BYTES = 56 + 20  # with its locator
_AES = 99
_ENCRYPTED = 0x1 | 0x40 | 0x2000
_UTF8 = 0x800
_SIZES_FOLLOW = 0x8
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
_FAULTS = (
    zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError, struct.error, zlib.error,
    lzma.LZMAError,
)  # fmt: skip


class ZipArchive:
    """An open zip file.

    Raises:
        Broken: It cannot be read as one.
    """

    def __init__(self, packed: Path) -> None:
        self._packed = packed
        _require_sound_directory(packed)
        try:
            self._zip = zipfile.ZipFile(packed)
        except _FAULTS as error:
            raise Broken(f"is no whole zip file: {error}") from error

    def members(self) -> Iterator[Member]:
        end, size = 0, self._packed.stat().st_size
        with self._packed.open("rb") as file:
            for info in sorted(self._zip.infolist(), key=lambda info: info.header_offset):
                if info.header_offset < end:
                    raise Broken("shares its bytes with another member", _name(info))
                if info.header_offset + info.compress_size > size:
                    raise Broken("is not where the archive's directory says", _name(info))
                end = info.header_offset + _HEADER.size + info.compress_size
                yield _member(info, _header_fault(file, info))

    def contents(self) -> Iterator[tuple[Member, Any]]:
        for info in sorted(self._zip.infolist(), key=lambda info: info.header_offset):
            yield _member(info), self._content(info)

    @contextmanager
    def _content(self, info: zipfile.ZipInfo) -> Iterator[IO[bytes]]:
        # Read as if it had one byte more: else what lies behind the size that it says is never seen.
        longer = copy.copy(info)
        longer.file_size += 1
        try:
            with self._zip.open(longer) as content:
                yield content
        except _FAULTS as error:
            raise Broken(f"cannot be unpacked: {error}", _name(info)) from error
        except OSError as error:
            if error.errno is not None:
                raise
            raise Broken(f"cannot be unpacked: {error}", _name(info)) from error  # bz2 says it so


def _require_sound_directory(packed: Path) -> None:
    """Count the directory's entries before zipfile makes an object of each."""
    with packed.open("rb") as file:
        try:
            end = zipfile._EndRecData(file)  # type: ignore[attr-defined]
        except (OSError, zipfile.BadZipFile) as error:
            raise Broken(f"is no whole zip file: {error}") from error
        if not end:
            raise Broken("is no whole zip file: its directory, which stands at the end, is missing")
        signature, disk, start_disk, _, count, size, *_, place = end
        if disk or start_disk:
            raise Broken("is one part of a zip file in several parts")
        if size > min(place, _MOST_DIRECTORY_BYTES):
            raise Broken(f"is no whole zip file: its directory would have {size:,} bytes")
        if count <= MOST_MEMBERS and size >= _ENTRY.size * MOST_MEMBERS:  # the count may be a lie
            file.seek(place - size - (_END_64_BYTES if signature == _END_64 else 0))
            count = _entries(file)
        if count > MOST_MEMBERS:
            raise Broken(f"has more than the {MOST_MEMBERS:,} members that an archive may have")


def _entries(file: IO[bytes]) -> int:
    """How many entries of a directory follow; stops counting when they are too many."""
    count = 0
    while count <= MOST_MEMBERS and len(entry := file.read(_ENTRY.size)) == _ENTRY.size:
        signature, name, extra, comment = _ENTRY.unpack(entry)
        if signature != b"PK\1\2":
            break
        count += 1
        file.seek(name + extra + comment, 1)
    return count


def _member(info: zipfile.ZipInfo, fault: str = "") -> Member:
    mode, mend = info.external_attr >> 16, "pack the archive again"
    if info.flag_bits & _ENCRYPTED or info.compress_type == _AES:
        fault, mend = "is encrypted", "pack the archive again without a password"
    elif stat.S_ISLNK(mode):
        fault, mend = "is a link", "pack the file itself (zip without --symlinks)"
    elif stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        fault, mend = "is a device, pipe or socket", "leave it out"
    elif info.compress_type not in _METHODS:
        fault = f"is packed by method {info.compress_type}, which is not read"
        mend = "pack the archive again, by the usual method deflate"
    return Member(_name(info), info.filename.endswith("/"), info.file_size, info.compress_size, fault, mend)


def _header_fault(file: IO[bytes], info: zipfile.ZipInfo) -> str:
    """What the header that stands before a member says otherwise than the directory."""
    file.seek(info.header_offset)
    header = file.read(_HEADER.size)
    if len(header) < _HEADER.size or not header.startswith(b"PK\3\4"):
        return "is not where the archive's directory says"
    _, _, flags, _, _, _, crc, packed, unpacked, _, _ = _HEADER.unpack(header)
    said = (info.CRC, info.compress_size, info.file_size)
    if not flags & _SIZES_FOLLOW and 2**32 - 1 not in (packed, unpacked) and (crc, packed, unpacked) != said:
        return f"has two sizes: {info.file_size:,} bytes in the directory, {unpacked:,} in its own header"
    return ""


def _name(info: zipfile.ZipInfo) -> str:
    """The name as it was written; macOS writes UTF-8 without saying so."""
    name = info.orig_filename
    if not info.flag_bits & _UTF8 and not name.isascii():
        try:
            return name.encode("cp437").decode("utf-8")
        except UnicodeError:
            return name
    return name
