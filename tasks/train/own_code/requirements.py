"""What pip makes an environment from besides names of packages: named files, settings of the host."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote

_COMMENT = re.compile(r"(^|\s)#.*$", re.M)
_VARIABLE = re.compile(r"\$\{([A-Z0-9_]+)\}")
_OPTION = re.compile(r"^(-[rcef]|--[a-z-]+)\s*=?\s*")
_FILE_URL = re.compile(r"^(\w+\+)?file:(//(localhost)?)?")
_BETWEEN = re.compile(r"[\s=@,;'\"]+")
_ARCHIVES = (".whl", ".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz", ".tar.xz", ".txz", ".tar.lzma")
_LISTS = ("-r", "--requirement", "-c", "--constraint")
_NAMING = ("PIP_FIND_LINKS", "PIP_CONSTRAINT", "PIP_BUILD_CONSTRAINT", "PIP_REQUIREMENT", "PIP_EDITABLE")
"""Settings whose files are part of what is installed; others name caches and logs."""
_LONGEST_LIST = 10_000_000

Part = tuple[str, bytes | int, int]
"""A file's path with its content (of the code), or with its size and time (of this host)."""


def pip_settings() -> dict[str, str]:
    """The variables of this process that pip is given; an index in them may have a password."""
    kept = ("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME")
    return {name: value for name, value in os.environ.items() if name.startswith("PIP_") or name in kept}


def setting_parts(settings: Mapping[str, str]) -> list[tuple[str, str | bytes]]:
    """Pip's variables, and the files that it takes settings from."""
    folder = Path(settings.get("HOME", "/"))
    files = [
        *(Path("/etc/pip.conf"), Path("/etc/xdg/pip/pip.conf"), folder / ".pip" / "pip.conf"),
        Path(settings.get("XDG_CONFIG_HOME") or folder / ".config", "pip", "pip.conf"),
        Path(sys.prefix, "pip.conf"),
        Path(settings.get("PIP_CONFIG_FILE", os.devnull)),
    ]
    variables = [(name, value) for name, value in sorted(settings.items()) if name.startswith("PIP_")]
    return [*variables, *((str(path), path.read_bytes()) for path in files if path.is_file())]


def local_parts(requirements: bytes, source: Path, settings: Mapping[str, str]) -> Iterator[Part]:
    """All files that requirements name, in the order of their paths.

    A folder in the code is a package that is built, and a build may read all around it: then all files of
    the code are part of it.

    Args:
        requirements: Content of requirements.txt.
        source: The copy of the code, where pip is started; its files have no lasting times.
        settings: See `pip_settings`.
    """
    named = "\n".join(f"-r {word}" for name in _NAMING for word in settings.get(name, "").split())
    waiting = [(requirements.decode(errors="replace"), source), (named, source)]
    found: set[Path] = set()
    while waiting:
        text, folder = waiting.pop()
        for word, is_list in _paths_in(_VARIABLE.sub(lambda m: settings.get(m[1], m[0]), text)):
            for base in (folder, source):
                path = Path(os.path.normpath(base / os.path.expanduser(word)))
                if path in found or not os.path.exists(path) or path == path.parent:
                    continue
                found.add(path)
                if is_list and path.is_file() and path.stat().st_size < _LONGEST_LIST:
                    waiting.append((path.read_text(errors="replace"), path.parent))
    files: set[Path] = set()
    for path in found:
        if path.is_dir():
            whole = source if path.is_relative_to(source) else path
            files.update(one for one in whole.rglob("*") if one.is_file())
        elif path.is_file():
            files.add(path)
    for path in sorted(files):
        if path.is_relative_to(source):
            yield str(path.relative_to(source)), path.read_bytes(), 0
        else:
            yield str(path), path.stat().st_size, path.stat().st_mtime_ns


def _paths_in(text: str) -> Iterator[tuple[str, bool]]:
    """What may be a path in lines of requirements, and whether it would be a list of more of them.

    Whether pip would take it as one is not asked in full: a word too many costs no more than an environment
    that is made again. As for pip, a bare word without a slash is the name of a package.
    """
    for line in _COMMENT.sub("", text.replace("\\\n", "")).splitlines():
        option = _OPTION.match(line.strip())
        rest = line.strip()[option.end() :] if option else line.strip()
        for word in {rest, *_BETWEEN.split(rest)}:
            path = unquote(_FILE_URL.sub("", word).partition("#")[0].partition("[")[0])
            if path and (option or "/" in path or path.startswith(".") or path.endswith(_ARCHIVES)):
                yield path, option is not None and option[1] in _LISTS
