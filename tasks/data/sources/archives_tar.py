"""Tar archives, read as a stream; a damaged header is an error here, where tarfile takes it for the end."""

from __future__ import annotations

import bz2
import gzip
import lzma
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import IO, Any, Self, cast

from tasks.data.sources.archive_checks import MOST_MEMBERS, MOST_RATIO, RATIO_FROM_BYTES, Broken, Member

_MOST_EXTENDED_HEADER_BYTES = 32 * 2**10
_MOST_GLOBAL_HEADERS = 1000
_READ_AHEAD_BYTES = {"gz": 2**14, "bz2": 2**20, "xz": 2**20}
"""The unpackers read so far ahead, so the packed size of a member is known to that only."""

_FAULTS = (
    tarfile.TarError, EOFError, ValueError, RecursionError, OverflowError, zlib.error, lzma.LZMAError,
)  # fmt: skip


class TarArchive:
    """A tar file, packed or not.

    Args:
        packed: The file.
        kind: `tar`, `gz`, `bz2` or `xz`.
        most_bytes: No more than so many are unpacked, whatever the headers say.
    """

    def __init__(self, packed: Path, kind: str, most_bytes: int) -> None:
        self._packed = packed
        self._kind = kind
        self._most_bytes = most_bytes + MOST_MEMBERS * 4 * tarfile.BLOCKSIZE

    def members(self) -> Iterator[Member]:
        for member, _ in self._read(with_content=False):
            yield member

    def contents(self) -> Iterator[tuple[Member, AbstractContextManager[IO[bytes]]]]:
        yield from self._read(with_content=True)

    def _read(self, *, with_content: bool) -> Iterator[tuple[Member, AbstractContextManager[IO[bytes]]]]:
        name = ""
        with self._packed.open("rb") as raw:
            stream = _Counted(raw, self._kind, self._most_bytes, self._packed.stat().st_size)
            with _as_broken(name):
                tar = tarfile.open(  # noqa: SIM115  # there is nothing to close but `raw`
                    fileobj=cast(Any, stream), mode="r|", tarinfo=_Header, bufsize=2**16
                )
            while True:
                before = raw.tell()
                with _as_broken(name):
                    info = tar.next()
                if info is None:
                    break
                name = info.name
                tar.members.clear()  # type: ignore[attr-defined]  # it would keep them all
                if len(tar.pax_headers) > _MOST_GLOBAL_HEADERS:
                    raise Broken("has too many global headers", name)
                content: AbstractContextManager[Any] = nullcontext()
                if with_content and info.isreg():
                    content = _content(tar, info)
                elif not with_content and info.size >= RATIO_FROM_BYTES:
                    with _as_broken(name):
                        tar.fileobj.seek(info.offset_data + info.size)  # type: ignore[union-attr]
                packed_bytes = info.size
                if self._kind != "tar" and not with_content:
                    packed_bytes = raw.tell() - before + _READ_AHEAD_BYTES[self._kind]
                yield _member(info, packed_bytes), content
            with _as_broken(name):
                while not stream.ended and stream.read(2**20):  # to the checksum at the end
                    pass


class _Counted:
    """The unpacked stream; refuses more than the limit, or than any honest packing gives."""

    def __init__(self, raw: IO[bytes], kind: str, most_bytes: int, packed_bytes: int) -> None:
        match kind:
            case "gz":
                self._stream: Any = gzip.GzipFile(fileobj=raw)
            case "bz2":
                self._stream = bz2.BZ2File(raw)
            case "xz":
                self._stream = lzma.LZMAFile(raw)  # noqa: SIM115
            case _:
                self._stream = raw
        self._most_bytes = most_bytes
        self._most_by_ratio = (
            max(RATIO_FROM_BYTES, MOST_RATIO * packed_bytes) if kind != "tar" else most_bytes
        )
        self._bytes = 0
        self.ended = False

    def read(self, size: int) -> bytes:
        try:
            block: bytes = self._stream.read(size)
        except OSError as error:  # what gzip and bz2 raise of data that is not theirs
            if error.errno is not None:
                raise
            raise tarfile.ReadError(str(error)) from error
        if not block and self.ended:  # or the stream would be read for as long as a header says
            raise tarfile.ReadError("unexpected end of data")
        self.ended = not block
        self._bytes += len(block)
        if self._bytes > self._most_by_ratio:
            raise Broken(f"unpacks to more than {MOST_RATIO} times its size")
        if self._bytes > self._most_bytes:
            raise Broken("unpacks to more than max_unpacked_gib allows")
        return block


class _Header(tarfile.TarInfo):
    """A header that is whole, or an error: tarfile ends silently at a damaged or a missing one."""

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(tar)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # the mark that ends an archive
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"{error}, and no mark of the archive's end") from error

    def _proc_member(self, tar: tarfile.TarFile) -> Any:
        extended = self.type in (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE,
                                 tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)  # fmt: skip
        if extended and self.size > _MOST_EXTENDED_HEADER_BYTES:  # it is read at once
            raise Broken(f"has a member with a header of {self.size:,} bytes: its name is too long")
        return super()._proc_member(tar)  # type: ignore[misc]

    def _block(self, count: int) -> int:
        if count < 0:  # or the stream would be read backwards without end
            raise tarfile.ReadError("a header with a negative size")
        return int(super()._block(count))  # type: ignore[misc]

    def _refuse_sparse(self, *about: Any) -> Any:
        member = about[0] if about and isinstance(about[0], tarfile.TarInfo) else self
        raise Broken("is a sparse file (pack without --sparse)", member.name)

    _proc_sparse = _proc_gnusparse_00 = _proc_gnusparse_01 = _proc_gnusparse_10 = _refuse_sparse


def _member(info: tarfile.TarInfo, packed_bytes: int) -> Member:
    fault = mend = ""
    if info.issym() or info.islnk():
        fault, mend = "is a link", "pack the file itself (tar --dereference --hard-dereference)"
    elif info.isdev():
        fault, mend = "is a device or pipe", "leave it out"
    elif not (info.isreg() or info.isdir()):
        fault, mend = f"is of kind {info.type!r}, which is not read", "leave it out"
    size = 0 if info.isdir() else info.size
    return Member(info.name, info.isdir(), size, max(packed_bytes, 1), fault, mend)


@contextmanager
def _content(tar: tarfile.TarFile, info: tarfile.TarInfo) -> Iterator[IO[bytes]]:
    file = tar.extractfile(info)
    assert file is not None
    with _as_broken(info.name):
        yield file


@contextmanager
def _as_broken(member: str) -> Iterator[None]:
    try:
        yield
    except Broken as error:
        error.member = error.member or member
        raise
    except _FAULTS as error:
        after = f", at or after member {member!r}" if member else ""
        raise Broken(f"is no whole tar file: {error}{after}") from error
