"""Environments made from requirements.txt: cached by content, made once, swept; pip's failures in words."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from tasks.errors import InvalidData, Unavailable
from tasks.refs import DatasetRef
from tasks.train.own_code import environment
from tasks.train.own_code.config import OwnCode
from tasks.train.own_code.environment import environment_for, environment_key, sweep
from tasks.train.own_code.own_code import OwnCodeFit
from tasks.train.own_code.script import REQUIREMENTS

SAVE = "import os; open(os.environ['EM_MODEL_DIR'] + '/notes.txt', 'w').write('x')\n"


def wheel(folder: Path, version: str = "1.0") -> str:
    """A package of one module, as a wheel that pip installs without an index."""
    name = f"tinyhelper-{version}-py3-none-any.whl"
    about = f"tinyhelper-{version}.dist-info"
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / name, "w") as archive:
        archive.writestr("tinyhelper.py", f"version = {version!r}\n")
        archive.writestr(
            f"{about}/METADATA", f"Metadata-Version: 2.1\nName: tinyhelper\nVersion: {version}\n"
        )
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")
    return f"./{name}"


def test_packages_of_the_code_and_of_the_project(
    train: Callable[..., OwnCodeFit], measures: DatasetRef, script: Callable[..., OwnCode], tmp_path: Path
) -> None:
    content = (
        "import tinyhelper, numpy, sys\nprint(tinyhelper.version, numpy.__version__, sys.prefix)\n" + SAVE
    )
    # numpy is met by the project's own; no index is asked for it.
    own = script(content, files={REQUIREMENTS: f"{wheel(tmp_path / 'code')}\nnumpy\n"})
    said: list[str] = []
    train(own, measures, log=said.append)
    import numpy

    line = next(line for line in said if line.startswith("1.0"))
    assert line.split()[1] == numpy.__version__
    environments = tmp_path / "home" / "environments"
    assert line.split()[2].startswith(str(environments))
    assert any("Successfully installed tinyhelper-1.0" in line for line in said)

    again: list[str] = []
    train(own, measures, log=again.append)
    assert not any("install" in line.lower() for line in again)
    assert len([path for path in environments.iterdir() if path.is_symlink()]) == 1


def test_pip_that_fails_is_quoted(
    train: Callable[..., OwnCodeFit], measures: DatasetRef, script: Callable[..., OwnCode], tmp_path: Path
) -> None:
    own = script("x = 1", files={REQUIREMENTS: "./no-such-file-1.0-py3-none-any.whl\n"})
    with pytest.raises(InvalidData, match=r"^Pip cannot install requirements.txt: .*no-such-file"):
        train(own, measures)
    left = [path.name for path in (tmp_path / "home" / "environments").iterdir()]
    assert [name for name in left if not name.endswith(".lock")] == []


def test_imports_that_the_requirements_do_not_bring(
    train: Callable[..., OwnCodeFit], measures: DatasetRef, script: Callable[..., OwnCode], tmp_path: Path
) -> None:
    own = script("import tinyhelper\nimport absent_one", files={REQUIREMENTS: wheel(tmp_path / "code")})
    with pytest.raises(InvalidData, match=r"^The code imports absent_one, which is not installed"):
        train(own, measures)


def test_two_builders_make_one_and_the_least_used_go(tmp_path: Path) -> None:
    own = OwnCode(source="/code")
    source = tmp_path / "source"
    source.mkdir()
    requirements = wheel(source).encode()
    (source / REQUIREMENTS).write_bytes(requirements)
    folder = tmp_path / "home" / "environments"
    said: list[str] = []

    def use(number: int) -> Path:
        scratch = tmp_path / f"scratch-{number}"
        scratch.mkdir()
        with environment_for(own, requirements, source, scratch, said.append, lambda: False) as python:
            assert python.is_relative_to(folder)
            return python

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(use, range(2))
    assert first == second
    assert sum("Successfully installed" in line for line in said) == 1

    with ExitStack() as stack:
        scratch = tmp_path / "in-use"
        scratch.mkdir()
        stack.enter_context(environment_for(own, requirements, source, scratch, print, lambda: False))
        assert sweep(folder, most=0) == []
    key = environment_key(requirements, source)
    assert sweep(folder, most=1) == []
    assert sweep(folder, most=1, most_bytes=1) == [key]
    assert list(folder.iterdir()) == []


def test_the_key_is_the_content(tmp_path: Path) -> None:
    assert environment_key(b"a==1\n# word\nb\n", tmp_path) == environment_key(b"b\na==1", tmp_path)
    assert environment_key(b"a==1", tmp_path) != environment_key(b"a==2", tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "train.py").write_text("x")
    before = environment_key(b"a\ntrain", tmp_path)  # names of packages that are folders of the code as well
    (tmp_path / "a" / "new.py").write_text("x")
    (tmp_path / "train.py").write_text("y")
    assert environment_key(b"a\ntrain", tmp_path) == before


@pytest.mark.parametrize("named", [
    "-r {}/more.txt", "-r{}/more.txt", "--requirement={}/more.txt", "-c {}/more.txt", "-e {}/package[extra]",
    "-f {}/wheels", "--find-links {}/wheels", "{}/wheels/b-1-py3-none-any.whl", "{}/package/",
    "b @ file:{}/wheels/b-1.tar.gz", "b@{}/wheels/b-1.tar.gz#sha256=0 ; python_version > '3'",
    "-r {}/lists/outer.txt", "{}/lists/b.zip",
    "-r \\\n {}/lists/outer.txt  # with a word", "git+file://{}/package@main",
])  # fmt: skip
@pytest.mark.parametrize("inside", [True, False], ids=["of the code", "of the host"])
def test_the_key_knows_all_files_that_requirements_name(tmp_path: Path, named: str, inside: bool) -> None:
    source = tmp_path / "code"
    folder = source if inside else tmp_path / "host"
    wheels = ("wheels/b-1-py3-none-any.whl", "wheels/b-1.tar.gz")
    files = ("more.txt", "package/setup.py", *wheels, "lists/more.in", "lists/b.zip")
    for number, name in enumerate(files):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(str(number))
    (folder / "lists" / "outer.txt").write_text("-c more.in")
    source.mkdir(exist_ok=True)
    requirements = named.replace("{}/", "" if inside and "//" not in named else f"{folder}/").encode()
    before = environment_key(requirements, source)
    assert environment_key(requirements, source) == before
    for name in files:
        (folder / name).write_text("another")
        os.utime(folder / name, (1, 1))
    assert environment_key(requirements, source) != before


def test_the_key_knows_how_this_host_sets_pip_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "home" / ".config" / "pip").mkdir(parents=True)
    (tmp_path / "wheels").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    keys = [environment_key(b"b", tmp_path)]
    (tmp_path / "home" / ".config" / "pip" / "pip.conf").write_text(
        "[global]\nindex-url = https://one/simple\n"
    )
    keys.append(environment_key(b"b", tmp_path))
    for password in ("first", "second"):
        monkeypatch.setenv("PIP_INDEX_URL", f"https://ada:{password}@pypi.example.org/simple")
        keys.append(environment_key(b"b", tmp_path))
    monkeypatch.setenv("PIP_FIND_LINKS", f"https://elsewhere {tmp_path}/wheels")
    keys.append(environment_key(b"b", tmp_path))
    (tmp_path / "wheels" / "b-1-py3-none-any.whl").touch()
    keys.append(environment_key(b"b", tmp_path))
    assert len(set(keys)) == len(keys)
    assert all(len(key) == 24 for key in keys)


def test_no_password_of_an_index_is_written_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither where an environment was made nor in what is said of a failure."""
    monkeypatch.setenv("PIP_INDEX_URL", "http://ada:open-sesame@127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    source, scratch = tmp_path / "source", tmp_path / "scratch"
    scratch.mkdir()
    wheel(source)
    for requirements in (b"./tinyhelper-1.0-py3-none-any.whl", b"an-absent-package"):
        (source / REQUIREMENTS).write_bytes(requirements)
        with ExitStack() as stack:
            own = OwnCode(source="/code")
            making = environment_for(own, requirements, source, scratch, print, lambda: False)
            if requirements.startswith(b"an"):
                with pytest.raises(InvalidData, match="an-absent-package") as caught:
                    stack.enter_context(making)
                assert "open-sesame" not in str(caught.value)
            else:
                stack.enter_context(making)
            files = [path for path in tmp_path.rglob("*") if path.is_file()]
            assert not [path for path in files if b"open-sesame" in path.read_bytes()]


def test_who_waits_for_a_lock_that_is_swept_takes_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "key.lock"
    path.touch()
    with path.open("a") as waiting:
        assert environment._is_there(waiting.fileno(), path)
        path.unlink()
        assert not environment._is_there(waiting.fileno(), path)
        path.touch()
        assert not environment._is_there(waiting.fileno(), path)


def test_two_sweepers_at_once(tmp_path: Path) -> None:
    for _ in range(20):
        for number in range(30):
            (tmp_path / f"{number}.lock").touch()
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _: sweep(tmp_path, most=0), range(4)))
        assert list(tmp_path.glob("*.lock")) == []


def test_an_environment_that_hangs_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexec sleep 60\n")
    python.chmod(0o700)
    monkeypatch.setattr(environment, "LOOKING_S", 0.2)
    with pytest.raises(Unavailable, match="did not say within"):
        environment.missing_in(python, ())
