"""Archives: whole ones are unpacked, any bad member refuses all of one, and nothing is left behind."""

from __future__ import annotations

import gzip
import lzma
import os
import signal
import subprocess
import sys
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.data.config import IngestConfig
from tasks.data.ingest import ingest
from tasks.data.sources import archives
from tasks.data.sources.source import digest, opened
from tasks.data.sources.staging import staging_folder, sweep
from tasks.data.storage.store import DatasetStore
from tasks.errors import TrainyardError
from tasks.refs import Problem
from tests.helpers.archives import (
    ANIMALS,
    SUFFIXES,
    config,
    contents,
    in_directory,
    packed,
    refused,
    tar_info,
    tarred,
    zipped,
)

pytestmark = pytest.mark.usefixtures("own_home")


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
