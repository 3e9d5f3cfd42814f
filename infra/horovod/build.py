"""Build the Horovod wheel from its source distribution: `python -m infra.horovod.build`.

Horovod 0.28.1 asks for C++14, and current PyTorch headers need C++17: its CMake files are changed
before the build. The wheel is kept in the user's cache, by Python, torch, platform and operations,
and its path is the only thing printed on standard output. Uses the standard library alone, since it
runs while the environment is being made.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

VERSION = "0.28.1"
CXX_STANDARD = "17"
_STANDARDS = {
    "CMakeLists.txt": "CMAKE_CXX_STANDARD 14",
    "horovod/torch/CMakeLists.txt": "CMAKE_CXX_STANDARD 14",
    "horovod/common/ops/cuda/CMakeLists.txt": "CMAKE_CUDA_STANDARD 11",
}
"""The CMake files that say which C++ they are compiled by, and how."""
_FREE_BYTES = 2 * 2**30


class BuildFailed(Exception):
    """The wheel could not be built; the message says what is missing or where the log is."""


def cache_folder(gpu_operations: str) -> Path:
    """Folder of the wheel for this Python, torch, platform and operations."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    python = f"cp{sys.version_info.major}{sys.version_info.minor}"
    torch = importlib.metadata.version("torch").replace("+", "_")
    platform = sysconfig.get_platform().replace("-", "_")
    operations = f"-{gpu_operations}" if gpu_operations else ""
    return root / "trainyard" / "wheels" / f"{python}-torch{torch}-{platform}{operations}"


def cached(folder: Path) -> Path | None:
    """The wheel of an earlier build, or None."""
    return next(iter(sorted(folder.glob(f"horovod-{VERSION}-*.whl"))), None)


def require_tools(gpu_operations: str) -> None:
    """Refuse before the build what would stop it minutes later.

    Raises:
        BuildFailed: A tool or a header is missing; all that are missing are named.
    """
    missing = []
    if not (os.environ.get("CXX") or shutil.which("g++")):
        missing.append("a C++ compiler (apt-get install g++)")
    if not shutil.which("make"):
        missing.append("make (apt-get install make)")
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        missing.append("Python's headers (apt-get install python3-dev)")
    if gpu_operations and not (shutil.which("nvcc") or os.environ.get("HOROVOD_CUDA_HOME")):
        missing.append("the CUDA toolkit (nvcc, or its folder in HOROVOD_CUDA_HOME)")
    if missing:
        raise BuildFailed(f"Horovod cannot be built: missing {', and '.join(missing)}.")
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if free < _FREE_BYTES:
        raise BuildFailed(
            f"Horovod cannot be built: {free / 2**30:.1f} GiB free in {tempfile.gettempdir()}, "
            f"{_FREE_BYTES / 2**30:.0f} GiB needed (set TMPDIR to another folder)."
        )


def raise_standard(source: Path) -> None:
    """Have the CMake files ask for C++17.

    Raises:
        BuildFailed: They are not as in the version that this was written for.
    """
    for name, setting in _STANDARDS.items():
        file = source / name
        raised = setting.rpartition(" ")[0] + f" {CXX_STANDARD}"
        text, count = re.subn(rf"{setting}\b", raised, file.read_text())
        if not count:
            raise BuildFailed(
                f"Horovod cannot be built: {name} does not set {setting} as version {VERSION} does."
            )
        file.write_text(text)


def nccl_to_link(installed: Path, scratch: Path) -> Path:
    """A folder with NCCL's headers and a library by the name that a linker looks for.

    Args:
        installed: The folder of NCCL's Python package, which has `libnccl.so.2` alone.
        scratch: Where the folder is made, if it is needed.
    """
    if (installed / "lib" / "libnccl.so").exists() or not (installed / "lib" / "libnccl.so.2").exists():
        return installed
    made = scratch / "nccl"
    (made / "lib").mkdir(parents=True)
    (made / "include").symlink_to(installed / "include")
    (made / "lib" / "libnccl.so").symlink_to(installed / "lib" / "libnccl.so.2")
    return made


def build_environment(gpu_operations: str, tools: Path | None, scratch: Path) -> dict[str, str]:
    """Environment of the build: PyTorch only, Gloo on CPU, NCCL where it is asked for.

    Args:
        gpu_operations: `nccl`, or empty.
        tools: Folder of a CMake that was fetched; None takes that of the host.
        scratch: For files that the build needs.
    """
    environment = {
        **os.environ,
        "HOROVOD_WITH_PYTORCH": "1",
        "HOROVOD_WITH_GLOO": "1",
        "HOROVOD_WITHOUT_MPI": "1",
        "HOROVOD_WITHOUT_TENSORFLOW": "1",
        "HOROVOD_WITHOUT_MXNET": "1",
        "HOROVOD_CPU_OPERATIONS": "GLOO",
        "CMAKE_POLICY_VERSION_MINIMUM": "3.5",  # its submodules predate what CMake 4 accepts
        "MAKEFLAGS": f"-j{min(os.cpu_count() or 1, 8)}",
    }
    if gpu_operations:
        environment["HOROVOD_GPU_OPERATIONS"] = gpu_operations.upper()
        environment["HOROVOD_WITHOUT_NVTX"] = "1"  # marks for a profiler, by headers that come and go
        nccl = Path(sysconfig.get_path("purelib"), "nvidia", "nccl")
        if nccl.exists() and "HOROVOD_NCCL_HOME" not in environment:
            # The one that PyTorch loads: two versions in one process do not go together.
            environment["HOROVOD_NCCL_HOME"] = str(nccl_to_link(nccl, scratch))
            environment["HOROVOD_NCCL_LINK"] = "SHARED"
        if "HOROVOD_CUDA_HOME" in environment:  # PyTorch's own headers are found by another name of it
            environment.setdefault("CUDA_HOME", environment["HOROVOD_CUDA_HOME"])
    else:
        environment["HOROVOD_WITHOUT_GPU"] = "1"
    if tools:
        environment["PATH"] = f"{tools / 'bin'}{os.pathsep}{environment.get('PATH', os.defpath)}"
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(tools), environment.get("PYTHONPATH")]))
    return environment


def build(folder: Path, gpu_operations: str) -> Path:
    """Build the wheel and put it into the folder in one step; returns its path.

    Raises:
        BuildFailed: With what is missing, or the end of the log and where all of it is.
    """
    require_tools(gpu_operations)
    folder.mkdir(parents=True, exist_ok=True)
    log_file = folder / "build.log"
    with tempfile.TemporaryDirectory(prefix="horovod-") as scratch, log_file.open("wb") as log:
        work = Path(scratch)

        def run(doing: str, *arguments: str, environment: dict[str, str] | None = None) -> None:
            log.write(f"\n# {doing}: {' '.join(arguments)}\n".encode())
            log.flush()
            done = subprocess.run(arguments, cwd=work, env=environment, stdout=log, stderr=subprocess.STDOUT)
            if done.returncode:
                end = "\n".join(log_file.read_text(errors="replace").splitlines()[-15:])
                raise BuildFailed(
                    f"Horovod cannot be built: {doing} failed. The end of the log:\n{end}\n"
                    f"All of it: {log_file}"
                )

        pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input")
        tools = None
        if not shutil.which("cmake"):
            tools = work / "tools"
            run("fetching cmake", *pip, "install", "--target", str(tools), "cmake<4")
        run(
            "fetching the sources",
            *(*pip, "download", "--no-deps", "--no-binary", "horovod", "--no-build-isolation"),
            *("--dest", str(work), f"horovod=={VERSION}"),
        )
        with tarfile.open(work / f"horovod-{VERSION}.tar.gz") as archive:
            archive.extractall(work, filter="data")
        source = work / f"horovod-{VERSION}"
        raise_standard(source)
        run(
            "compiling",
            *(
                *pip,
                "wheel",
                "--no-build-isolation",
                "--no-deps",
                "--wheel-dir",
                str(work / "wheel"),
                str(source),
            ),
            environment=build_environment(gpu_operations, tools, work),
        )
        wheel = next((work / "wheel").glob("*.whl"))
        # Another file system, perhaps: copied beside its place, then renamed.
        partial = folder / f".{wheel.name}.partial"
        shutil.copyfile(wheel, partial)
        os.replace(partial, folder / wheel.name)
        return folder / wheel.name


@contextlib.contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Let one build for a folder run at a time."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def main() -> None:
    """Print the path of the wheel, building it first where it is not cached."""
    parser = argparse.ArgumentParser(description="Build the Horovod wheel, or find it in the cache.")
    parser.add_argument(
        "--gpu-operations", choices=["nccl"], default="", help="also build collective operations for GPUs"
    )
    parser.add_argument("--rebuild", action="store_true", help="build even where a wheel is cached")
    arguments = parser.parse_args()
    try:
        folder = cache_folder(arguments.gpu_operations)
    except importlib.metadata.PackageNotFoundError:
        sys.exit("Horovod cannot be built: torch is not installed in this Python yet.")
    try:
        with only_one(folder):
            wheel = None if arguments.rebuild else cached(folder)
            print(wheel or build(folder, arguments.gpu_operations))
    except BuildFailed as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
