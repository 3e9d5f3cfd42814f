"""The Horovod build: what it changes, what it refuses, what it finds in its cache."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from infra.horovod import build


def test_the_standard_is_raised_in_all_files(tmp_path: Path) -> None:
    settings = {
        "CMakeLists.txt": "CMAKE_CXX_STANDARD 14",
        "horovod/torch/CMakeLists.txt": "CMAKE_CXX_STANDARD 14",
        "horovod/common/ops/cuda/CMakeLists.txt": "CMAKE_CUDA_STANDARD 11",
    }
    for name, setting in settings.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"set({setting})\nset(CMAKE_CXX_STANDARD_REQUIRED ON)\n")
    build.raise_standard(tmp_path)
    for name, setting in settings.items():
        assert f"{setting.split()[0]} 17)" in (tmp_path / name).read_text()
    with pytest.raises(build.BuildFailed, match="does not set"):
        build.raise_standard(tmp_path)


def test_nccl_of_the_python_package_gets_the_name_that_linkers_look_for(tmp_path: Path) -> None:
    package = tmp_path / "nvidia" / "nccl"
    (package / "include").mkdir(parents=True)
    (package / "include" / "nccl.h").touch()
    (package / "lib").mkdir()
    (package / "lib" / "libnccl.so.2").write_bytes(b"library")
    made = build.nccl_to_link(package, tmp_path / "scratch")
    assert (made / "include" / "nccl.h").exists()
    assert (made / "lib" / "libnccl.so").read_bytes() == b"library"
    (package / "lib" / "libnccl.so").touch()
    assert build.nccl_to_link(package, tmp_path / "scratch") == package


def test_missing_tools_are_all_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(build.BuildFailed) as caught:
        build.require_tools("nccl")
    for word in ("C++ compiler", "make", "CUDA toolkit"):
        assert word in str(caught.value)


def test_the_cache_tells_builds_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cpu, gpu = build.cache_folder(""), build.cache_folder("nccl")
    assert cpu != gpu
    assert cpu.name.startswith("cp311-torch2.13.0")
    assert build.cached(cpu) is None
    cpu.mkdir(parents=True)
    (cpu / ".horovod-0.28.1-cp311.whl.partial").write_bytes(b"")
    assert build.cached(cpu) is None
    (cpu / "horovod-0.28.1-cp311-cp311-linux_x86_64.whl").write_bytes(b"")
    assert build.cached(cpu) is not None


def test_the_gpu_build_differs_by_its_operations(tmp_path: Path) -> None:
    cpu = build.build_environment("", None, tmp_path)
    gpu = build.build_environment("nccl", tmp_path, tmp_path)
    assert "HOROVOD_GPU_OPERATIONS" not in cpu
    assert gpu["HOROVOD_GPU_OPERATIONS"] == "NCCL"
    assert gpu["PATH"].split(os.pathsep)[0] == str(tmp_path / "bin")
