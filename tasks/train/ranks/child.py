"""The process of one rank: it ends with its worker, says that it lives, runs the function, leaves a result.

Run as `python -m tasks.train.ranks.child FOLDER DESCRIPTOR PARENT`.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from contextlib import nullcontext
from pathlib import Path

from tasks.parent_death import die_with_parent
from tasks.train.loop.callbacks.resize import Resized
from tasks.train.ranks.rank import Channel, Rank, Wishes

BEAT_S = 1.0
SPECIFICATION, RESULT = "function.pickle", "result.pickle"


def main() -> None:
    folder, descriptor, parent = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    die_with_parent()
    if os.getppid() != parent:
        os._exit(1)
    channel, wishes = Channel(descriptor), Wishes()
    threading.Thread(target=_beat, args=(channel,), name="beat", daemon=True).start()
    threading.Thread(target=_listen, args=(wishes,), name="words", daemon=True).start()
    code, outcome = _outcome(folder, channel, wishes)
    aside = folder / f"{RESULT}.partial"
    aside.write_bytes(outcome)
    aside.rename(folder / RESULT)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # threads of the launchers' libraries would hold the process up, or abort it


def _outcome(folder: Path, channel: Channel, wishes: Wishes) -> tuple[int, bytes]:
    """Exit code, and how and when the function ended.

    That is `("result" | "resized" | "error" | "loss", what, seconds since 1970)`.
    """
    import cloudpickle

    launcher = None
    try:
        function, launcher, place = cloudpickle.loads((folder / SPECIFICATION).read_bytes())
        with launcher.joined() if launcher is not None else nullcontext() as communicator:
            result = function(Rank(place, communicator, lambda said: channel.send({"said": said}), wishes))
        return 0, cloudpickle.dumps(("result", result if place.rank == 0 else None, time.time()))
    except Resized:
        return 0, cloudpickle.dumps(("resized", None, time.time()))
    except BaseException as error:
        traceback.print_exc()
        kind = "loss" if launcher is not None and launcher.is_loss(error) else "error"
        return 1, _pickled(kind, error)


def _pickled(kind: str, error: BaseException) -> bytes:
    """The error as it is, or in words where it cannot travel."""
    import cloudpickle

    try:
        content: bytes = cloudpickle.dumps((kind, error, time.time()))
        cloudpickle.loads(content)
    except Exception:
        told = RuntimeError(f"{type(error).__name__}: {error}")
        content = cloudpickle.dumps((kind, told, time.time()))
    return content


def _beat(channel: Channel) -> None:
    while True:
        try:
            channel.send({"beat": True})
        except OSError:  # the worker is gone, and so will this be
            return
        time.sleep(BEAT_S)


def _listen(wishes: Wishes) -> None:
    """Take in words until the worker closes the pipe; then there is nobody to work for."""
    for line in sys.stdin:
        wishes.hear(line.strip())
    os._exit(1)


if __name__ == "__main__":
    main()
