"""The endpoint's log: JSON, one line an event or request, on standard output.

The supervisor writes standard output to the endpoint's log file and rotates it. Lines are gathered and
written a few times a second, so that a request pays for a list's append only.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from datetime import UTC, datetime
from typing import Any, TextIO

import orjson


class RequestLog:
    """Writes lines with the fields of every one of them filled in.

    Args:
        fixed: Fields of every line: the endpoint, the stage, the model.
        stream: Where lines go; standard output.
        flush_every_s: Longest time that a line is held back, in seconds.
    """

    def __init__(
        self, fixed: dict[str, Any], stream: TextIO | None = None, flush_every_s: float = 0.2
    ) -> None:
        self._fixed = fixed
        self._stream = stream or sys.stdout
        self._lines: deque[bytes] = deque()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._flush_every_s = flush_every_s
        self._thread = threading.Thread(target=self._flush_often, name="request-log", daemon=True)
        self._thread.start()

    def request(self, **fields: Any) -> None:
        """One answered request."""
        self._write("request", "INFO", fields)

    def event(self, level: str, message: str, **fields: Any) -> None:
        """Something that happened to the endpoint: a start, a swap, a version that failed."""
        self._write("event", level, {"message": message, **fields})

    def close(self) -> None:
        """Write what is held back."""
        self._stop.set()
        self._thread.join()
        self.flush()

    def flush(self) -> None:
        with self._lock:
            # Taken one by one: lines may be added meanwhile, without this lock.
            lines = [self._lines.popleft() for _ in range(len(self._lines))]
            if lines:
                self._stream.write(b"".join(lines).decode())
                self._stream.flush()

    def _write(self, kind: str, level: str, fields: dict[str, Any]) -> None:
        time = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = {"time": time, "level": level, "kind": kind, **self._fixed, **fields}
        self._lines.append(orjson.dumps(line, default=str) + b"\n")

    def _flush_often(self) -> None:
        while not self._stop.wait(self._flush_every_s):
            self.flush()
