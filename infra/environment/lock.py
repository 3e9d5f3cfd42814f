"""Write requirements.lock: every dependency of pyproject.toml pinned, with why it is there.

`python -m infra.environment.lock` asks pip to resolve, so that the indexes that pip is set up with
are the ones used (uv reads other settings). Versions stay as they are locked, unless `--upgrade`.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
LOCK = REPOSITORY / "requirements.lock"
_HEADER = """\
# Every dependency of Trainyard, pinned. Written by `make lock` from pyproject.toml, for Python 3.11 on
# Linux x86_64; installed by `make run` and `make test`. After a pin stands why it is that one, or
# which packages ask for it.
#
# horovod does not build as it is: the Makefile installs everything else first, and then the wheel
# that infra/horovod builds. torch has no local version here, so that the index of the host decides
# between the CPU and the CUDA build. torchvision is left out on purpose: only CUDA builds exist, and
# beside a CPU torch its import fails, and with it those of timm and transformers.
"""


def canonical(name: str) -> str:
    """A package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def requirements(project: dict[str, Any]) -> list[str]:
    """What is locked: the dependencies, what GPU hosts need besides, and the tools of development."""
    extras = project["optional-dependencies"]
    return [*project["dependencies"], *extras["gpu"], *extras["dev"]]


def reasons(text: str) -> dict[str, str]:
    """The comments that stand on the lines of requirements in pyproject.toml, by package."""
    found = {}
    for match in re.finditer(r'^\s*"([A-Za-z0-9._-]+)[^"]*",\s*#\s*(.+)$', text, re.MULTILINE):
        found[canonical(match.group(1))] = match.group(2).strip()
    return found


def resolve(wanted: list[str], constraints: Path | None) -> dict[str, Any]:
    """Let pip resolve without installing; returns its report."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        source = Path(folder) / "wanted.txt"
        source.write_text("\n".join(wanted) + "\n")
        command = [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"),
            *("--no-build-isolation", "--report", str(report), "-r", str(source)),
        ]
        if constraints:
            command += ["-c", str(constraints)]
        if subprocess.run(command).returncode:
            sys.exit("pip found no set of versions that fits; see its output above.")
        resolved: dict[str, Any] = json.loads(report.read_text())
        return resolved


def render(report: dict[str, Any], wanted: list[str], why: dict[str, str]) -> str:
    """The lock's text from pip's report."""
    direct = {canonical(re.split(r"[\[<>=!~;\s]", requirement)[0]) for requirement in wanted}
    packages = {canonical(item["metadata"]["name"]): item["metadata"] for item in report["install"]}
    askers: dict[str, set[str]] = {name: set() for name in packages}
    for name, metadata in packages.items():
        for requirement in metadata.get("requires_dist", []):
            if "extra ==" in requirement:
                continue
            needed = canonical(re.split(r"[\[<>=!~;(\s]", requirement)[0])
            if needed in askers:
                askers[needed].add(name)
    lines = []
    for name in sorted(packages):
        version = packages[name]["version"].partition("+")[0]
        if name in why:
            comment = why[name]
        elif name in direct:
            comment = ""
        else:
            comment = "for " + (", ".join(sorted(askers[name])[:4]) or "an extra of another package")
        lines.append(f"{name}=={version}" + (f"  # {comment}" if comment else ""))
    return _HEADER + "\n" + "\n".join(lines) + "\n"


def main() -> None:
    """Resolve and write the lock."""
    parser = argparse.ArgumentParser(description="Write requirements.lock from pyproject.toml.")
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions that fit")
    parser.add_argument("--report", type=Path, help="use a report of `pip install --report` that exists")
    arguments = parser.parse_args()
    text = (REPOSITORY / "pyproject.toml").read_text()
    wanted = requirements(tomllib.loads(text)["project"])
    if arguments.report:
        report = json.loads(arguments.report.read_text())
    else:
        report = resolve(wanted, LOCK if LOCK.exists() and not arguments.upgrade else None)
    temporary = LOCK.with_suffix(".partial")
    temporary.write_text(render(report, wanted, reasons(text)))
    temporary.replace(LOCK)
    print(f"{LOCK.name}: {len(report['install'])} packages.")


if __name__ == "__main__":
    main()
