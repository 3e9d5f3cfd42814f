"""Archives: whole ones are unpacked, any bad member refuses all of one, and nothing is left behind."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import signal
import struct
import subprocess
import sys
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.data.config import IngestConfig
from tasks.data.ingest import ingest
from tasks.data.sources import archive_checks, archives
from tasks.data.sources.source import digest, opened
from tasks.data.sources.staging import require_space, staging_folder, sweep
from tasks.data.storage.store import DatasetStore
from tasks.errors import TrainyardError, Unavailable
from tasks.refs import Problem

ANIMALS = {
    f"{label}/{number}.txt": f"{label} {number}".encode() for label in ("cat", "dog") for number in range(3)
}
SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever happens, nothing unpacked may stay."""
    monkeypatch.setenv("TRAINYARD_HOME", str(tmp_path / "home"))
    yield
    assert not staging_folder().exists() or list(staging_folder().iterdir()) == []


def config(source: Path | str, **more: Any) -> IngestConfig:
    return IngestConfig(source=str(source), name="animals", problem=Problem.TEXT_CLASSIFICATION, **more)


def zipped(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def tarred(path: Path, members: dict[str, bytes], *infos: tarfile.TarInfo, mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for info in infos:
            archive.addfile(info, io.BytesIO(bytes(info.size)))
    return path


def packed(path: Path, members: dict[str, bytes]) -> Path:
    """An archive of the kind that the path's name tells."""
    kind = path.name.partition(".")[2]
    if kind == "zip":
        return zipped(path, members)
    return tarred(path, members, mode={"tar": "w", "tgz": "w:gz"}.get(kind, f"w:{kind[4:]}"))


def contents(source: Path | str, **more: Any) -> dict[str, bytes]:
    with opened(config(source, **more)) as found:
        return {path: found.reader.read(path) for path in found.paths}


def refused(source: Path | str, **more: Any) -> str:
    with pytest.raises(TrainyardError) as caught, opened(config(source, **more)):
        pass
    assert str(source) in str(caught.value)
    assert caught.value.mend
    return str(caught.value)


def tar_info(name: str, kind: bytes = tarfile.REGTYPE, **more: Any) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    for field, value in more.items():
        setattr(info, field, value)
    return info


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_was_packed_is_there_until_the_end(tmp_path: Path, suffix: str) -> None:
    file = packed(tmp_path / f"animals{suffix}", ANIMALS)
    assert contents(file) == ANIMALS
    with opened(config(file)) as source:
        assert (Path(source.url).stat().st_mode & 0o077, source.given) == (0, str(file))
        assert source.sizes.tolist() == [len(content) for _, content in sorted(ANIMALS.items())]
    assert not Path(source.url).exists()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_names_as_usual_programs_write_them(tmp_path: Path, suffix: str) -> None:
    """A folder around everything, `./`, what desktops add, names in any writing, long names."""
    more = {f"./pets/{name}": content for name, content in ANIMALS.items()}
    more |= {"./pets/.DS_Store": b"x", "__MACOSX/pets/._1.txt": b"x", "./pets/köter 犬/é.txt": b"x"}
    long = "n" * 200 + ".txt"
    more[f"./pets/cat/{long}"] = b"x"
    found = contents(packed(tmp_path / f"pets{suffix}", more))
    assert found == ANIMALS | {"köter 犬/é.txt": b"x", f"cat/{long}": b"x"}


def test_real_programs_archives(tmp_path: Path) -> None:
    for name, content in ANIMALS.items():
        (tmp_path / "pets" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "pets" / name).write_bytes(content)
    for options, file in (("-cf", "a.tar"), ("-czf", "b.tgz"), ("-cJf", "c.tar.xz")):
        for form in ("gnu", "posix", "ustar", "v7"):
            subprocess.run(["tar", f"--format={form}", options, file, "pets"], cwd=tmp_path, check=True)
            assert contents(tmp_path / file) == ANIMALS
    subprocess.run([sys.executable, "-m", "zipfile", "-c", "d.zip", "pets"], cwd=tmp_path, check=True)
    assert contents(tmp_path / "d.zip") == ANIMALS


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
def test_a_version_from_an_archive_is_that_from_the_folder(
    tmp_path: Path, store: DatasetStore, image_folder: Callable[..., Path], suffix: str
) -> None:
    folder = image_folder()
    members = {str(path.relative_to(folder.parent)): path.read_bytes() for path in folder.rglob("*.png")}
    file = packed(tmp_path / f"pictures{suffix}", members)
    versions = [
        store.open(
            ingest(IngestConfig(source=str(source), name=name, problem=Problem.IMAGE_CLASSIFICATION), store)
        )
        for source, name in ((folder, "loose"), (file, "packed"))
    ]
    assert versions[0].rows == len(members)
    assert [file.sha256 for file in versions[0].files] == [file.sha256 for file in versions[1].files]
    assert versions[1].source == str(file)


def test_a_folder_that_has_a_meaning_stays(tmp_path: Path) -> None:
    assert list(contents(zipped(tmp_path / "a.zip", {"train/cat/1.txt": b"1"}))) == ["train/cat/1.txt"]
    assert list(contents(zipped(tmp_path / "b.zip", {"cat/1.txt": b"1"}))) == ["cat/1.txt"]
    table = {"iris/iris.csv": b"a,b\n"}
    assert list(contents(zipped(tmp_path / "c.zip", table))) == ["iris.csv"]


def test_names_of_macos_in_utf8_without_the_mark(tmp_path: Path) -> None:
    file = zipped(tmp_path / "a.zip", {"köter/1.txt": b"1", "cat/2.txt": b"2"})
    content = bytearray(file.read_bytes())
    for start, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        place = content.find(start)
        content[place + flags : place + flags + 2] = b"\0\0"
    file.write_bytes(content)
    assert sorted(contents(file)) == ["cat/2.txt", "köter/1.txt"]


def test_include_and_exclude_are_for_the_files_inside(tmp_path: Path) -> None:
    file = zipped(tmp_path / "a.zip", ANIMALS)
    assert list(contents(file, include=["cat"], exclude=["**/0.txt"])) == ["cat/1.txt", "cat/2.txt"]
    assert "1 files of include are not there: cat/9.txt" in refused(file, include=["cat/9.txt", "dog"])


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz"])
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("../x.txt", "'../x.txt' leads out of the archive"),
        ("cat/../../x.txt", "leads out of the archive"),
        ("/etc/x.txt", "'/etc/x.txt' has an absolute path"),
        ("C:/x.txt", "begins with a drive letter"),
        ("c:x.txt", "begins with a drive letter"),
        ("..\\x.txt", "has a backslash"),
        ("\\\\host\\share\\x.txt", "has a backslash"),
        ("cat/a\nb.txt", "control character"),
        ("n" * 256, "has a name of 256 bytes"),
        ("é" * 128, "has a name of 256 bytes"),
        ("/".join(["n" * 100] * 11), "has a name of 1,110 bytes"),
        ("Cat/9.txt", "in case or accents only ('cat')"),
        ("cat/1.TXT", "'cat/1.TXT' differs from another in case or accents only ('cat/1.txt')"),
        ("cat/1.txt", "'cat/1.txt' stands in it twice"),
        ("./cat//1.txt", "stands in it twice"),
        ("cat/1.txt/x.txt", "stands below a file of the same name"),
        ("dog", "'dog' is a file and a folder"),
        ("more.zip", "'more.zip' is an archive itself"),
        ("cat/more.tar.gz", "is an archive itself"),
    ],
)
def test_bad_names(tmp_path: Path, suffix: str, name: str, words: str) -> None:
    members = list({**ANIMALS, "caf\u00e9.txt": b"x"}.items())
    file = tmp_path / f"bad{suffix}"
    if suffix == ".zip":
        with zipfile.ZipFile(file, "w") as archive, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # zipfile tells of the duplicate
            for one, content in [*members, (name, b"bad")]:
                archive.writestr(one, content)
    else:
        mode = "w" if suffix == ".tar" else "w:gz"
        tarred(file, dict(members), tar_info(name, size=3), mode=mode)
    said = refused(file)
    assert words in said
    assert "is refused" in said


def test_accents_written_in_two_ways(tmp_path: Path) -> None:
    members = {"caf\u00e9/1.txt": b"1", "cafe\u0301/2.txt": b"2"}
    for suffix in (".zip", ".tar"):
        assert "in case or accents only" in refused(packed(tmp_path / f"a{suffix}", members))


def test_nul_in_a_name(tmp_path: Path) -> None:
    file = zipped(tmp_path / "a.zip", ANIMALS | {"cat/a_b.txt": b"x"})
    file.write_bytes(file.read_bytes().replace(b"cat/a_b.txt", b"cat/a\0b.txt"))
    assert "'cat/a\\x00b.txt' has a NUL character" in refused(file)


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    file = tarred(tmp_path / "a.tar", ANIMALS | {"cat/a_b.txt": b"x"}, mode="w")
    content = bytearray(file.read_bytes())
    place = content.find(b"cat/a_b.txt")
    content[place : place + 512] = tar_info("cat/a\udcffb.txt", size=1).tobuf(
        tarfile.GNU_FORMAT, "utf-8", "surrogateescape"
    )
    file.write_bytes(content)
    assert "not in UTF-8" in refused(file)


@pytest.mark.parametrize(
    ("info", "words"),
    [
        (tar_info("cat/l", tarfile.SYMTYPE, linkname="/etc/passwd"), "'cat/l' is a link"),
        (tar_info("cat/l", tarfile.SYMTYPE, linkname="1.txt"), "'cat/l' is a link"),
        (tar_info("cat/l", tarfile.LNKTYPE, linkname="cat/1.txt"), "'cat/l' is a link"),
        (tar_info("cat/d", tarfile.CHRTYPE, devmajor=1, devminor=3), "'cat/d' is a device or pipe"),
        (tar_info("cat/d", tarfile.BLKTYPE), "'cat/d' is a device or pipe"),
        (tar_info("cat/d", tarfile.FIFOTYPE), "'cat/d' is a device or pipe"),
        (tar_info("cat/d", b"D"), "is of kind b'D'"),
        (tar_info("cat/s", tarfile.GNUTYPE_SPARSE), "'cat/s' is a sparse file"),
    ],
)
@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
def test_members_of_a_tar_that_are_no_files(
    tmp_path: Path, suffix: str, info: tarfile.TarInfo, words: str
) -> None:
    file = tarred(tmp_path / f"bad{suffix}", ANIMALS, info, mode="w" if suffix == ".tar" else "w:gz")
    assert words in refused(file)


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        (0o120777, "is a link"),
        (0o020666, "is a device"),
        (0o010644, "is a device, pipe"),
        (0o140755, "socket"),
    ],
)
def test_members_of_a_zip_that_are_no_files(tmp_path: Path, mode: int, words: str) -> None:
    info = zipfile.ZipInfo("cat/l")
    info.external_attr = mode << 16
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        for name, content in ANIMALS.items():
            archive.writestr(name, content)
        archive.writestr(info, "/etc/passwd")
    said = refused(tmp_path / "bad.zip")
    assert "its member 'cat/l'" in said
    assert words in said


def in_directory(file: Path, member: str, field: int, form: str, value: int) -> Path:
    """Change a field of a member in a zip's directory."""
    content = bytearray(file.read_bytes())
    place = content.rindex(member.encode()) - 46
    struct.pack_into(form, content, place + field, value)
    file.write_bytes(content)
    return file


def in_header(file: Path, member: str, field: int, form: str, value: int) -> Path:
    """Change a field in the header that stands before a member of a zip."""
    content = bytearray(file.read_bytes())
    place = content.index(member.encode()) - 30
    struct.pack_into(form, content, place + field, value)
    file.write_bytes(content)
    return file


def test_encryption(tmp_path: Path) -> None:
    for flags in (0x1, 0x41):
        file = in_directory(zipped(tmp_path / "a.zip", ANIMALS), "dog/1.txt", 8, "<H", flags)
        assert "'dog/1.txt' is encrypted" in refused(file)
    file = in_directory(zipped(tmp_path / "a.zip", ANIMALS), "dog/1.txt", 10, "<H", 99)
    assert "'dog/1.txt' is encrypted" in refused(file)


def test_methods_that_are_not_read(tmp_path: Path) -> None:
    file = in_directory(zipped(tmp_path / "a.zip", ANIMALS), "dog/1.txt", 10, "<H", 9)
    assert "'dog/1.txt' is packed by method 9" in refused(file)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_truncation_anywhere(tmp_path: Path, suffix: str) -> None:
    members = ANIMALS | {"noise.txt": os.urandom(20_000), "zeros.txt": bytes(512)}
    file = packed(tmp_path / f"a{suffix}", members)
    whole = file.read_bytes()
    # A tar ends in kilobytes of zeros, of which the first thousand say that it ends.
    end = whole.rstrip(b"\0") if suffix == ".tar" else whole
    cuts = [0, 1, 100, 512, 1024, 1536, len(end) // 2, len(end) - 600, len(end) - 20, len(end) - 1]
    for cut in cuts:
        file.write_bytes(whole[:cut])
        assert f"The archive {file} is " in refused(file), cut
    file.write_bytes(whole)
    assert contents(file) == members


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_damaged_content(tmp_path: Path, suffix: str) -> None:
    file = packed(tmp_path / f"a{suffix}", {"noise.txt": os.urandom(20_000), "more.txt": b"x"})
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 0xFF
    file.write_bytes(content)
    if suffix == ".tar":  # has no checksum over contents
        assert len(contents(file)) == 2
    else:
        assert str(file) in refused(file)


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


def test_archives_inside_that_hide_their_kind(tmp_path: Path) -> None:
    inner = zipped(tmp_path / "inner.zip", ANIMALS).read_bytes()
    plain_tar = tarred(tmp_path / "inner.tar", ANIMALS).read_bytes()
    for content in (inner, plain_tar, gzip.compress(plain_tar), lzma.compress(plain_tar)):
        for suffix in (".zip", ".tar.gz"):
            file = packed(tmp_path / f"a{suffix}", {"cat/1.txt": b"1", "cat/picture.png": content})
            assert "'cat/picture.png' is an archive itself" in refused(file)


@pytest.mark.parametrize("name", ["a.7z", "a.rar", "a.csv.gz", "a.tar.zst"])
def test_packings_that_are_not_read(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    assert "files are not unpacked" in refused(tmp_path / name)


def test_archives_that_are_something_else(tmp_path: Path) -> None:
    for suffix in SUFFIXES:
        file = tmp_path / f"a{suffix}"
        for content in (b"", b"no archive", b"no archive" * 1000):
            file.write_bytes(content)
            assert f"The archive {file} is no whole" in refused(file)
        with_nothing = packed(file, {})
        assert str(file) in refused(with_nothing)


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


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("name", ["../../../outside.txt", "cat/0.txt/x.txt"])
def test_an_archive_that_is_exchanged_after_it_was_looked_at(
    tmp_path: Path, suffix: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = packed(tmp_path / f"a{suffix}", ANIMALS)
    bad = packed(tmp_path / f"b{suffix}", ANIMALS | {name: b"x"})

    def exchange(*_: object) -> None:
        file.write_bytes(bad.read_bytes())

    monkeypatch.setattr(archives, "require_space", exchange)
    try:  # a zip's directory is in memory: what was checked is what comes
        assert contents(file) == ANIMALS
        assert suffix == ".zip"
    except TrainyardError as error:
        assert "is refused" in str(error)  # noqa: PT017
    assert not list(tmp_path.rglob("outside.txt"))


def test_progress_is_told(tmp_path: Path) -> None:
    heard: list[tuple[int, int]] = []
    file = zipped(tmp_path / "a.zip", {f"{number}.txt": b"x" for number in range(600)})
    with opened(config(file), progress=lambda done, total: heard.append((done, total))):
        pass
    assert heard == [(256, 600), (512, 600), (600, 600)]


def test_the_digest_is_of_the_archive_as_it_is(tmp_path: Path) -> None:
    file = zipped(tmp_path / "a.zip", ANIMALS)
    before = digest(config(file))
    assert not staging_folder().exists()
    assert digest(config(file)) == before
    zipped(file, ANIMALS | {"cat/0.txt": b"another"})
    assert digest(config(file)) != before


def test_an_archive_on_s3(tmp_path: Path, s3: dict[str, object]) -> None:
    import s3fs

    server = s3fs.S3FileSystem(**s3)
    server.mkdir("archives")
    server.put(str(zipped(tmp_path / "a.zip", ANIMALS)), "archives/in/a.zip")
    source = "s3://archives/in/a.zip"
    with opened(config(source), s3) as found:
        assert {path: found.reader.read(path) for path in found.paths} == ANIMALS
    first = digest(config(source), s3)
    server.put(str(zipped(tmp_path / "a.zip", ANIMALS | {"cat/0.txt": b"another"})), "archives/in/a.zip")
    assert digest(config(source), s3) != first


_UNPACKER = """
import os, sys
from tasks.data.config import IngestConfig
from tasks.data.sources.source import opened
config = IngestConfig(source=sys.argv[1], name="animals", problem="text-classification")
with opened(config) as source:
    print(source.url, flush=True)
    sys.stdin.read()
"""


def test_what_a_killed_process_unpacked_is_swept_and_no_living_ones(tmp_path: Path) -> None:
    file = zipped(tmp_path / "a.zip", ANIMALS)

    def start() -> tuple[subprocess.Popen[str], Path]:
        process = subprocess.Popen(
            [sys.executable, "-c", _UNPACKER, str(file)],
            stdin=-1,
            stdout=-1,
            text=True,
            env=os.environ.copy(),
        )
        assert process.stdout is not None
        return process, Path(process.stdout.readline().strip())

    killed, its = start()
    living, alive = start()
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert its.is_dir()
    assert contents(file) == ANIMALS
    assert not its.exists()
    assert (alive / "cat" / "1.txt").read_bytes() == ANIMALS["cat/1.txt"]
    assert sweep() == []
    living.communicate("")
    assert living.returncode == 0
    assert not alive.exists()
