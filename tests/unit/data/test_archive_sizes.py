"""Archives that hold more than they say, or than is allowed: refused before a disk or a memory is full."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

import pytest

from tasks.data.sources import archive_checks
from tasks.data.sources.staging import require_space, staging_folder
from tasks.errors import Unavailable
from tests.helpers.archives import (
    ANIMALS,
    SUFFIXES,
    contents,
    in_directory,
    in_header,
    packed,
    refused,
    tar_info,
    tarred,
    zipped,
)

pytestmark = pytest.mark.usefixtures("own_home")


@pytest.mark.parametrize("claimed", [10, 5_000_000])
@pytest.mark.parametrize("where", ["directory", "header", "both"])
@pytest.mark.parametrize(
    "method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
)
def test_a_size_that_is_a_lie(tmp_path: Path, claimed: int, where: str, method: int) -> None:
    noise = os.urandom(50_000)
    file = zipped(tmp_path / "a.zip", ANIMALS | {"cat/lie.txt": noise}, method)
    if where in ("directory", "both"):
        in_directory(file, "cat/lie.txt", 24, "<L", claimed)
    if where in ("header", "both"):
        in_header(file, "cat/lie.txt", 22, "<L", claimed)
    said = refused(file)
    assert "'cat/lie.txt'" in said
    if where == "both" and claimed == 10:
        # Not even a checksum that is right for the first bytes hides what follows.
        for first in (10, 11):
            for change, place in ((in_directory, 16), (in_header, 14)):
                change(file, "cat/lie.txt", place, "<L", zlib.crc32(noise[:first]))
            assert "'cat/lie.txt'" in (said := refused(file))
        assert "holds more than the 10 bytes" in said


def test_members_that_share_their_bytes(tmp_path: Path) -> None:
    file = zipped(tmp_path / "a.zip", {"a.txt": os.urandom(5_000), "b.txt": os.urandom(5_000)})
    in_directory(file, "b.txt", 42, "<L", 0)
    assert "shares its bytes" in refused(file)


def test_a_tar_whose_size_is_a_lie(tmp_path: Path) -> None:
    for claimed in (2**40, -(2**40)):
        with (tmp_path / "a.tar").open("wb") as file:
            info = tar_info("cat/1.txt")
            info.size = claimed
            file.write(info.tobuf(tarfile.GNU_FORMAT) + bytes(2048))
        assert str(tmp_path / "a.tar") in refused(tmp_path / "a.tar")


def zeros(path: Path, size: int, honest: int = 0) -> Path:
    kind = path.name.partition(".")[2]
    members = {"cat/1.txt": os.urandom(honest + 10), "dog/bomb.txt": bytes(size)}
    if kind == "zip":
        return zipped(path, members)
    unpacked = io.BytesIO()
    with tarfile.open(fileobj=unpacked, mode="w") as archive:
        for name, content in members.items():
            archive.addfile(tar_info(name, size=len(content)), io.BytesIO(content))
    pack = {"tar.gz": gzip.compress, "tar.bz2": bz2.compress, "tar.xz": lzma.compress}[kind]
    path.write_bytes(pack(unpacked.getvalue()))
    return path


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz", ".tar.bz2", ".tar.xz"])
@pytest.mark.parametrize("size", [2_000_000, 60_000_000])
def test_bombs(tmp_path: Path, suffix: str, size: int) -> None:
    said = refused(zeros(tmp_path / f"a{suffix}", size))
    assert "'dog/bomb.txt' unpacks to" in said
    assert "times its size" in said


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
def test_a_bomb_beside_honest_data(tmp_path: Path, suffix: str) -> None:
    file = zeros(tmp_path / f"a{suffix}", 40_000_000, honest=5_000_000)
    assert "'dog/bomb.txt' unpacks to" in refused(file)


def test_data_that_packs_well_is_no_bomb(tmp_path: Path) -> None:
    table = b"".join(b"%d,cat,0.0,0.0,0.0\n" % number for number in range(200_000))
    for suffix in SUFFIXES:
        file = packed(tmp_path / f"a{suffix}", {"a.csv": table, "blank.txt": bytes(900_000)})
        assert contents(file)["a.csv"] == table


def test_more_than_is_allowed(tmp_path: Path) -> None:
    for suffix in SUFFIXES:
        file = packed(tmp_path / f"a{suffix}", {"a.txt": os.urandom(10_000), "b.txt": os.urandom(10_000)})
        said = refused(file, max_unpacked_gib=15_000 / 2**30)
        assert "unpacks to more than" in said
        assert "'b.txt'" in said
        assert "raise max_unpacked_gib" in said
        assert len(contents(file, max_unpacked_gib=21_000 / 2**30)) == 2


def test_more_than_the_disk_has(tmp_path: Path) -> None:
    free = os.statvfs(tmp_path)
    claimed = free.f_bavail * free.f_frsize + 2**30
    staging_folder().mkdir(parents=True)
    with pytest.raises(Unavailable, match="GiB on the disk"):
        require_space(claimed, 1, "The archive")


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
def test_a_million_members(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"a{suffix}"
    if suffix == ".zip":
        file.write_bytes(_zip_directory(1_000_000))
    else:
        with gzip.open(file, "wb", compresslevel=1) as sink:
            for number in range(1_000_000):
                sink.write(tar_info(f"{number}.txt").tobuf(tarfile.USTAR_FORMAT))
            sink.write(bytes(1024))
    assert "more than" in (said := refused(file))
    assert "500,000 members" in said


@pytest.mark.parametrize("claimed", [2**16 - 1, 12, 600_000])
def test_too_many_members_whatever_the_count_says(tmp_path: Path, claimed: int, monkeypatch: Any) -> None:
    from tasks.data.sources import archives_zip

    monkeypatch.setattr(archives_zip, "MOST_MEMBERS", 500)
    (tmp_path / "a.zip").write_bytes(_zip_directory(1_000, claimed))
    assert "more than the 500 members" in refused(tmp_path / "a.zip")


def test_too_many_members_of_a_tar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_checks, "MOST_MEMBERS", 5)
    said = refused(tarred(tmp_path / "a.tar", ANIMALS))
    assert "has more than 5 members. Where: member 'dog/2.txt'" in said


def _zip_directory(entries: int, claimed: int | None = None) -> bytes:
    """A zip of empty files that are not there: only its directory."""
    directory = b"".join(
        struct.pack("<4s4B4HL2L5H2L", b"PK\1\2", 20, 0, 20, 0, *[0] * 7, len(name), *[0] * 6) + name
        for name in (b"%d.txt" % number for number in range(entries))
    )
    count = entries if claimed is None else claimed
    end64 = struct.pack("<4sQHHLLQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, count, count, len(directory), 0)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, len(directory), 1)
    return (
        directory
        + end64
        + locator
        + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, *[2**16 - 1] * 2, *[2**32 - 1] * 2, 0)
    )


@pytest.mark.parametrize(
    "kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK]
)
def test_headers_that_would_fill_the_memory(tmp_path: Path, kind: bytes) -> None:
    with gzip.open(tmp_path / "a.tar.gz", "wb") as file:
        file.write(tar_info("./PaxHeader", kind, size=2**30).tobuf(tarfile.GNU_FORMAT) + bytes(2**20))
    assert "its name is too long" in refused(tmp_path / "a.tar.gz")


def test_headers_without_end(tmp_path: Path) -> None:
    with (tmp_path / "a.tar").open("wb") as file:
        record = b"11 a=bcdef\n"
        for _ in range(5_000):
            file.write(tar_info("p", tarfile.XHDTYPE, size=len(record)).tobuf(tarfile.USTAR_FORMAT))
            file.write(record.ljust(512, b"\0"))
    assert "is no whole tar file" in refused(tmp_path / "a.tar")
