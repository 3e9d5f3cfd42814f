"""The process of one rank: it ends with its worker, says that it lives, runs the function, leaves a result.

Run as `python -m tasks.train.ranks.child FOLDER FUNCTION CHANNEL PARENT`, numbers of open files in between.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from tasks.parent_death import die_with_parent
from tasks.train.loop.callbacks.resize import Resized
from tasks.train.ranks.host import ALIVE, LEASE_S
from tasks.train.ranks.process import OUTCOME, RESULT
from tasks.train.ranks.rank import Channel, Rank, Wishes

BEAT_S = 1.0


def main() -> None:
    folder, (function, descriptor, parent) = Path(sys.argv[1]), map(int, sys.argv[2:5])
    die_with_parent()
    if os.getppid() != parent:
        os._exit(1)
    channel, wishes = Channel(descriptor), Wishes()
    for work in (_beat, _listen, _end_alone):
        threading.Thread(target=work, args=(channel, wishes), name=work.__name__, daemon=True).start()
    kind, what = _run(function, folder, channel, wishes)
    _write(folder / OUTCOME, (kind, what, time.time()))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0 if what is None else 1)  # threads of the launchers' libraries would hold it up, or abort it


def _run(function_file: int, folder: Path, channel: Channel, wishes: Wishes) -> tuple[str, Any]:
    """How the function ended: `("result" | "resized", None)`, or `("error" | "loss", what)`."""
    import cloudpickle

    launcher = None
    try:
        with open(function_file, "rb") as file:
            file.seek(0)
            function, launcher, place, variables = cloudpickle.load(file)
        with launcher.joined() if launcher is not None else nullcontext() as communicator:
            rank = Rank(place, communicator, lambda said: channel.send({"said": said}), wishes, variables)
            result = function(rank)
            if place.rank == 0:  # before the ranks part: that may fail
                _write(folder / RESULT, ("result", result))
        return "result", None
    except Resized:
        return "resized", None
    except BaseException as error:
        traceback.print_exc()
        return ("loss" if launcher is not None and launcher.is_loss(error) else "error"), error


def _write(path: Path, what: tuple[Any, ...]) -> None:
    """Write it in one step; an error that cannot travel goes in words."""
    import cloudpickle

    try:
        content: bytes = cloudpickle.dumps(what)
        if isinstance(what[1], BaseException):
            cloudpickle.loads(content)
    except Exception:
        if not isinstance(what[1], BaseException):
            raise
        told = RuntimeError(f"{type(what[1]).__name__}: {what[1]}")
        content = cloudpickle.dumps((what[0], told, *what[2:]))
    aside = path.with_suffix(".partial")
    aside.write_bytes(content)
    aside.rename(path)


def _beat(channel: Channel, wishes: Wishes) -> None:
    while True:
        try:
            channel.send({"beat": True})
        except OSError:  # the worker is gone, and so will this be
            return
        time.sleep(BEAT_S)


def _listen(channel: Channel, wishes: Wishes) -> None:
    """Take in words until the worker closes the pipe; then there is nobody to work for."""
    for line in sys.stdin:
        word = line.strip()
        wishes.heard_at = time.monotonic()
        if word != ALIVE:
            wishes.hear(word)
    os._exit(1)


def _end_alone(channel: Channel, wishes: Wishes) -> None:
    """End where no word comes any more: the driver may have gone on without this rank."""
    while time.monotonic() - wishes.heard_at < 2 * LEASE_S:
        time.sleep(BEAT_S)
    os._exit(1)


if __name__ == "__main__":
    main()
