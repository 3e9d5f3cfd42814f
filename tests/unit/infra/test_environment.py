"""The lock agrees with pyproject.toml and with what is installed; making .venv refuses in words."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

from infra.environment import lock

REPOSITORY = Path(__file__).resolve().parents[3]
PYPROJECT = (REPOSITORY / "pyproject.toml").read_text()
PINS = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", lock.LOCK.read_text(), re.MULTILINE))


def test_every_requirement_is_locked_within_its_range() -> None:
    for text in lock.requirements(tomllib.loads(PYPROJECT)["project"]):
        requirement = Requirement(text)
        pinned = PINS[lock.canonical(requirement.name)]
        assert requirement.specifier.contains(pinned, prereleases=True), (text, pinned)


def test_what_is_installed_is_what_is_locked() -> None:
    installed = {lock.canonical(d.metadata["Name"]): d.version for d in metadata.distributions()}
    differing = {
        name: (pinned, installed.get(name))
        for name, pinned in PINS.items()
        if Version(installed.get(name, "0")).public != pinned
    }
    assert not differing


def test_pins_without_a_choice_say_why() -> None:
    why = lock.reasons(PYPROJECT)
    assert {"prefect", "fastapi", "sqlalchemy", "torch", "horovod", "dask", "dask-cuda", "bentoml"} <= set(
        why
    )
    assert "torchvision" not in PINS
    assert PINS["torch"] == "2.13.0"


def test_the_lock_names_who_asks_for_a_package() -> None:
    report = {
        "install": [
            {
                "metadata": {
                    "name": "Torch",
                    "version": "2.13.0+cpu",
                    "requires_dist": ["sympy>=1", "x; extra == 'y'"],
                }
            },
            {"metadata": {"name": "sympy", "version": "1.14"}},
        ]
    }
    text = lock.render(report, ["torch==2.13.0"], {"torch": "the index decides"})
    assert "torch==2.13.0  # the index decides\n" in text
    assert "sympy==1.14  # for torch\n" in text


def create(tmp_path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "infra/environment/create.sh"],
        cwd=REPOSITORY,
        env={"PATH": os.environ["PATH"], "VENV": str(tmp_path / "venv"), **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_a_wrong_python_is_one_sentence(tmp_path: Path) -> None:
    old = tmp_path / "python3"
    old.write_text("#!/bin/sh\n[ \"$1\" = --version ] && echo 'Python 3.9.2' || echo 3.9\n")
    old.chmod(0o755)
    done = create(tmp_path, PYTHON=str(old))
    assert done.returncode == 1
    assert done.stderr.startswith(f"trainyard: PYTHON={old} is not Python 3.11 (Python 3.9.2)")
    assert not (tmp_path / "venv").exists()


def test_no_python_at_all_is_one_sentence(tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("sh", "dirname", "sha256sum", "cut", "cat"):
        for folder in ("/usr/bin", "/bin"):
            if (Path(folder) / name).exists():
                (tools / name).symlink_to(Path(folder) / name)
                break
    done = create(tmp_path, PATH=str(tools))
    assert done.returncode == 1, done.stderr
    assert "Python 3.11 is needed, and only no python3 was found" in done.stderr
    assert "PYTHON=" in done.stderr
