"""Exported files appear whole or not at all, and replace nothing, on a disk and on S3."""

from __future__ import annotations

import os
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pytest
import s3fs

from tasks.data import delivery
from tasks.data.delivery import EXPORTS, Limited, remove_links, to_destination, to_link
from tasks.errors import InvalidData, InvalidSettings, NotAllowed, Unavailable

BLOCKS = [os.urandom(1_000_003) for _ in range(6)]


def packed(file: IO[bytes]) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        for number, block in enumerate(BLOCKS):
            archive.writestr(f"{number}.bin", block)


def broken(file: IO[bytes]) -> None:
    packed(file)
    raise RuntimeError("midway")


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "_BLOCK_BYTES", 5 * 2**20)  # an upload in parts, as of a large file


@pytest.fixture(params=["local", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, dict[str, object]]:
    if request.param == "local":
        return str(tmp_path), {}
    return request.getfixturevalue("s3_folder"), request.getfixturevalue("s3")


def read(address: str, options: dict[str, object]) -> bytes:
    if "://" not in address:
        return Path(address).read_bytes()
    content: bytes = s3fs.S3FileSystem(use_listings_cache=False, **options).cat_file(address)
    return content


def there(folder: str, options: dict[str, object]) -> list[str]:
    if "://" not in folder:
        return sorted(path.name for path in Path(folder).iterdir())
    filesystem = s3fs.S3FileSystem(use_listings_cache=False, **options)
    return sorted(path.rsplit("/", 1)[-1] for path in filesystem.find(folder))


def test_a_file_is_written_whole(place: tuple[str, dict[str, object]], tmp_path: Path) -> None:
    folder, options = place
    written = to_destination(f"{folder}/all.zip", options, None, [], 0, packed)
    copy = tmp_path / "copy.bin"
    copy.write_bytes(read(written, options))
    with zipfile.ZipFile(copy) as archive:
        assert [archive.read(f"{number}.bin") for number in range(6)] == BLOCKS


def test_a_failure_leaves_nothing_and_a_file_that_is_there_stays(
    place: tuple[str, dict[str, object]],
) -> None:
    folder, options = place
    with pytest.raises(RuntimeError, match="midway"):
        to_destination(f"{folder}/all.zip", options, None, [], 0, broken)
    assert there(folder, options) == []
    to_destination(f"{folder}/all.zip", options, None, [], 0, lambda file: file.write(b"mine"))
    with pytest.raises(InvalidSettings, match="There is a file at"):
        to_destination(f"{folder}/all.zip", options, None, [], 0, packed)
    assert read(f"{folder}/all.zip", options) == b"mine"


def test_nothing_is_written_into_closed_folders(place: tuple[str, dict[str, object]]) -> None:
    folder, options = place
    closed = [f"{folder}/datasets"]
    with pytest.raises(NotAllowed):
        to_destination(f"{folder}/datasets/all.zip", options, None, closed, 0, packed)
    assert there(folder, options) == []


def test_one_that_takes_the_name_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    target = tmp_path / "all.zip"

    def late(file: IO[bytes]) -> None:
        file.write(b"theirs")
        target.write_bytes(b"mine")

    with pytest.raises(InvalidSettings, match="There is a file at"):
        to_destination(str(target), {}, None, [], 0, late)
    assert target.read_bytes() == b"mine"
    assert there(str(tmp_path), {}) == ["all.zip"]


def test_what_the_disk_does_not_hold_is_refused_before_it_is_written(tmp_path: Path) -> None:
    written: list[IO[bytes]] = []
    with pytest.raises(Unavailable, match="are free"):
        to_destination(f"{tmp_path}/all.zip", {}, None, [], 2**60, written.append)
    with pytest.raises(Unavailable, match="are free"):
        to_link(tmp_path, "all.zip", 2**60, written.append)
    assert written == []


@pytest.mark.parametrize("write", [packed, lambda file: file.write(bytes(2_000_000))])
def test_more_bytes_than_allowed_are_refused_while_they_are_written(
    tmp_path: Path, write: Callable[[IO[bytes]], object]
) -> None:
    with pytest.raises(InvalidData, match=r"more than the 0\.001 GiB allowed"):
        to_link(tmp_path, "all.zip", 0, lambda file: write(Limited(file, 0.001, "pets")))  # type: ignore[arg-type]
    assert there(f"{tmp_path}/{EXPORTS}", {}) == ["index.html"]


def test_links_end_with_their_time_and_with_their_version(tmp_path: Path) -> None:
    old, kept = (to_link(tmp_path, f"pets-{version}.zip", 0, packed) for version in ("1", "2"))
    long_ago = time.time() - 8 * 86_400
    os.utime((tmp_path / old).parent, (long_ago, long_ago))
    new = to_link(tmp_path, "pets-3.zip", 0, packed)
    assert [(tmp_path / one).exists() for one in (old, kept, new)] == [False, True, True]
    docs = tmp_path / "datasets" / "pets" / "3" / "abc"
    docs.mkdir(parents=True)
    remove_links(tmp_path, "pets", ["3"])
    assert [(tmp_path / one).exists() for one in (kept, new)] == [True, False]
    assert not docs.exists()
