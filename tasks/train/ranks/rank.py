"""One rank as the function that runs in it sees it."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasks.train.ranks.launcher import Place

if TYPE_CHECKING:
    from tasks.train.loop.communicators.communicator import Communicator

Json = dict[str, Any]


class Wishes:
    """What the driver said to this rank."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.resize = threading.Event()
        self.heard_at = time.monotonic()

    def hear(self, word: str) -> None:
        """Take a word in: `stop` or `resize`."""
        {"stop": self.stop, "resize": self.resize}[word].set()


class Channel:
    """The way up to the worker: one JSON object a line."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()

    def send(self, message: Json) -> None:
        """Send one message whole, from any thread."""
        line = json.dumps(message).encode() + b"\n"
        with self._lock:
            while line:
                line = line[os.write(self._descriptor, line) :]


@dataclass(frozen=True)
class Rank:
    """What a function that is launched on ranks is given.

    Attributes:
        place: Which rank it is, and where.
        communicator: The ranks; None where the function joins them by itself.
        tell: Sends something that JSON can hold to the driver.
        wishes: What the driver said.
        variables: What a program finds the other ranks by; this process has them too.
    """

    place: Place
    communicator: Communicator | None
    tell: Callable[[Any], None]
    wishes: Wishes
    variables: Mapping[str, str]
