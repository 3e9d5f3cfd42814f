"""Archives to unpack, honest and changed ones, and what comes of them."""

from __future__ import annotations

import io
import struct
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tasks.data.config import IngestConfig
from tasks.data.sources.source import opened
from tasks.errors import TrainyardError
from tasks.refs import Problem

ANIMALS = {
    f"{label}/{number}.txt": f"{label} {number}".encode() for label in ("cat", "dog") for number in range(3)
}
SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")


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
