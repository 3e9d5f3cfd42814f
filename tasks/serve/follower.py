"""Follows an alias: fetches the version that it names, tries it, and swaps it in."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from tasks.errors import NotFound, TrainyardError, Unavailable
from tasks.serve.registry import RegisteredVersion, Registry
from tasks.serve.requestlog import RequestLog
from tasks.serve.versions import LoadedVersion, VersionStore

POLL_EVERY_S = 1.0
RETRY_REFUSED_AFTER_S = 60.0


@dataclass(frozen=True)
class Refused:
    """A version that the alias names and that could not be put to work."""

    version: int
    source: str
    reason: str
    at_s: float


class Follower:
    """Keeps the version in memory that the alias names; the old one answers until the new one can.

    `active` is one reference, replaced in one step: a request takes it once and uses what it took, so
    requests on the way finish on the version that they began with.

    Args:
        model: Registered model.
        alias: Alias to follow.
        store: The endpoint's versions on disk.
        registry: The MLflow server.
        log: The endpoint's log.
    """

    def __init__(
        self, model: str, alias: str, store: VersionStore, registry: Registry, log: RequestLog
    ) -> None:
        self.model = model
        self.alias = alias
        self.active: LoadedVersion | None = None
        self.refused: Refused | None = None
        self.trouble = ""
        self._source = ""
        self._store = store
        self._registry = registry
        self._log = log
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="follower", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join(timeout=5)

    def step(self) -> None:
        """Ask for the alias once, and swap if it names another version."""
        try:
            wanted = self._registry.version_of(self.model, self.alias)
        except (Unavailable, NotFound) as error:
            self._note(str(error))
            self._fall_back()
            return
        self._note("")
        if self.active and (self.active.version, self._source) == (wanted.version, wanted.source):
            self.refused = None
            return
        if self._is_refused(wanted):
            return
        started = time.perf_counter()
        try:
            self._store.place(wanted, self._registry)
            loaded = self._store.load(wanted.version)
        except Unavailable as error:
            self._note(str(error))
            self._fall_back()
            return
        except Exception as error:  # whatever a bad version does, the old one goes on answering
            reason = str(error) if isinstance(error, TrainyardError) else f"{type(error).__name__}: {error}"
            self.refused = Refused(wanted.version, wanted.source, reason, time.monotonic())
            self._log.event(
                "ERROR",
                f"v{wanted.version} was not put to work: {reason}",
                version=wanted.version,
                serving=self.active.version if self.active else None,
            )
            self._fall_back()
            return
        self._swap(loaded, wanted.source, time.perf_counter() - started)

    def _follow(self) -> None:
        while not self._stop.is_set():
            try:
                self.step()
            except Exception as error:  # the thread must outlive any single failure; it is logged
                self._note(f"{type(error).__name__}: {error}")
            self._stop.wait(POLL_EVERY_S)

    def _is_refused(self, wanted: RegisteredVersion) -> bool:
        refused = self.refused
        return (
            refused is not None
            and (refused.version, refused.source) == (wanted.version, wanted.source)
            and time.monotonic() - refused.at_s < RETRY_REFUSED_AFTER_S
        )

    def _fall_back(self) -> None:
        """With nothing in memory, start on the version that answered last."""
        if self.active is not None:
            return
        last = self._store.last_serving()
        if last is None or (self.refused is not None and self.refused.version == last):
            return
        started = time.perf_counter()
        try:
            loaded = self._store.load(last)
        except Exception as error:  # nothing is left to serve; the loop goes on asking for the alias
            self._note(f"the last good version v{last} cannot be opened: {error}")
            return
        self._swap(loaded, self._store.source(last), time.perf_counter() - started)

    def _swap(self, loaded: LoadedVersion, source: str, seconds: float) -> None:
        before = self.active.version if self.active else None
        self.active, self._source = loaded, source
        self.refused = None
        self._store.mark_serving(loaded.version)
        self._log.event(
            "INFO",
            f"serving v{loaded.version}" + (f" instead of v{before}" if before is not None else ""),
            version=loaded.version,
            before=before,
            load_s=round(seconds, 3),
        )

    def _note(self, trouble: str) -> None:
        """Log a trouble when it begins, when it changes and when it is over, not at every poll."""
        if trouble == self.trouble:
            return
        self.trouble = trouble
        if trouble:
            self._log.event("WARNING", trouble, serving=self.active.version if self.active else None)
        else:
            self._log.event("INFO", "the registry answers again")
