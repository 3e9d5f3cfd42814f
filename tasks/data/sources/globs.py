"""Which files of a source are meant: relative paths, and globs where `**` stands for any folders."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

WILDCARD = re.compile(r"[*?\[]")

States = frozenset[int]


class Glob:
    """A glob, matched name by name, so that a walk can pass over folders that hold nothing of it.

    What matches a folder stands for all that is in it. Runs in time that is linear in the path's length.
    """

    def __init__(self, pattern: str) -> None:
        self._names: list[str] = []
        for name in pattern.rstrip("/").split("/"):
            if name != "**" or self._names[-1:] != ["**"]:
                self._names.append(name)
        self._end = len(self._names)
        self.start = self._closed({0})

    def step(self, states: States, name: str) -> States:
        """Where the match stands after one more name; nowhere if nothing below can match."""
        if self._end in states:
            return states
        after: set[int] = set()
        for place in states:
            if self._names[place] == "**":
                after.add(place)
            elif fnmatchcase(name, self._names[place]):
                after.add(place + 1)
        return self._closed(after)

    def ended(self, states: States) -> bool:
        """Whether all of the glob is matched."""
        return self._end in states

    def matches(self, names: Sequence[str]) -> bool:
        """Whether it matches a path, given as its names."""
        states = self.start
        for name in names:
            states = self.step(states, name)
        return self._end in states

    def _closed(self, places: set[int]) -> States:
        """`**` may also stand for no folder at all."""
        skipped = {place + 1 for place in places if place < self._end and self._names[place] == "**"}
        return frozenset(places | skipped)


class Selection:
    """Files that are wanted: those that `include` names, or all, but none that `exclude` names."""

    def __init__(self, include: Iterable[str] = (), exclude: Iterable[str] = ()) -> None:
        self._include, self._exclude = _Patterns(include), _Patterns(exclude)

    def takes(self, path: str) -> bool:
        names = path.split("/")
        if self._exclude and self._exclude.match(path, names):
            return False
        return not self._include or self._include.match(path, names)

    def absent(self, paths: Sequence[str]) -> list[str]:
        """The files and folders that `include` names but that do not stand among the paths."""
        wanted = self._include.plain()
        if wanted:
            for path in paths:
                wanted -= set(_prefixes(path))
        return sorted(wanted)


class _Patterns:
    def __init__(self, patterns: Iterable[str]) -> None:
        self._literal = {pattern.removeprefix("./").rstrip("/") for pattern in patterns} - {""}
        self._globs = [Glob(pattern) for pattern in sorted(self._literal) if WILDCARD.search(pattern)]

    def __bool__(self) -> bool:
        return bool(self._literal)

    def plain(self) -> set[str]:
        return {pattern for pattern in self._literal if not WILDCARD.search(pattern)}

    def match(self, path: str, names: list[str]) -> bool:
        # Names of files may hold a wildcard's character: they are looked up as they stand as well.
        return any(prefix in self._literal for prefix in _prefixes(path)) or any(
            glob.matches(names) for glob in self._globs
        )


def _prefixes(path: str) -> Iterable[str]:
    """The path and the folders that it is in."""
    yield path
    while "/" in path:
        path = path[: path.rindex("/")]
        yield path
