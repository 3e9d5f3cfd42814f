"""Errors that a user can act on: what is wrong, where, what is allowed, how to mend it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager


class TrainyardError(Exception):
    """An error with its mend.

    Args:
        what: What is wrong, as one sentence without a full stop.
        where: The file, column, field or service that it was found in.
        allowed: What would have been accepted.
        mend: The next thing to do about it.
    """

    def __init__(self, what: str, *, where: str = "", allowed: str = "", mend: str = "") -> None:
        self.what = what
        self.where = where
        self.allowed = allowed
        self.mend = mend
        super().__init__(what, where, allowed, mend)

    def __str__(self) -> str:
        parts = [self.what[:1].upper() + self.what[1:] + "."]
        if self.where:
            parts.append(f"Where: {self.where}.")
        if self.allowed:
            parts.append(f"Allowed: {self.allowed}.")
        if self.mend:
            parts.append(f"To mend: {self.mend}.")
        return " ".join(parts)

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.what, self.where, self.allowed, self.mend))


def _rebuild(kind: type[TrainyardError], what: str, where: str, allowed: str, mend: str) -> TrainyardError:
    """Pickling hook: Dask and Ray carry these errors between processes."""
    return kind(what, where=where, allowed=allowed, mend=mend)


class InvalidSettings(TrainyardError):
    """A parameter, setting or hyperparameter that cannot be accepted."""


class InvalidData(TrainyardError):
    """Data that must not be trained on, or a file that cannot be read."""


class InvalidRequest(TrainyardError):
    """A prediction request that an endpoint cannot answer."""


class NotFound(TrainyardError):
    """A dataset, run, model, alias or endpoint that does not exist."""


class Damaged(TrainyardError):
    """Stored content that no longer matches its digest."""


class Unavailable(TrainyardError):
    """A service that does not answer, or a resource that is taken."""


class NotAllowed(TrainyardError):
    """Something that this user may not do, or not now."""


@contextmanager
def noted(faults: list[TrainyardError]) -> Iterator[None]:
    """Note an error of the block, and go on behind it: `raise_all` tells it with the others."""
    try:
        yield
    except TrainyardError as error:
        faults.append(error)


def raise_all(faults: Sequence[TrainyardError]) -> None:
    """Tell all faults at once, if there are any.

    Raises:
        TrainyardError: Of the kind of the one fault; `InvalidSettings` with all of them if they are more.
    """
    if len(faults) == 1:
        raise faults[0]
    if faults:
        raise InvalidSettings(
            "; ".join(error.what for error in faults),
            where="; ".join(error.where for error in faults if error.where),
            allowed="; ".join(error.allowed for error in faults if error.allowed),
            mend="; ".join(dict.fromkeys(error.mend for error in faults if error.mend)),
        )
