"""The program of one view: TensorBoard on a folder of event files, and beside it their export from MLflow.

Run by the supervisor as `python -m tasks.tensorboard.view FOLDER`, where FOLDER holds the view's record. It
ends, and takes its files with it, when nobody has looked for the view's idle hours, or when it is told to.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from tasks.tensorboard.record import ViewPlace

BUSY_S, QUIET_S = 3.0, 15.0
_SHARE = 0.1
"""The export may take this share of the time."""

_log = logging.getLogger("tensorboard view")


class Visits:
    """Knows when somebody last looked: stands before TensorBoard's own application.

    Args:
        application: TensorBoard, as a WSGI application.
    """

    last = time.monotonic()

    def __init__(self, application: Callable[..., Iterable[bytes]]) -> None:
        self._application = application

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        Visits.last = time.monotonic()
        return self._application(environ, start_response)


def main() -> None:
    """Serve and export until the end."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    place = ViewPlace.of_folder(Path(sys.argv[1]))
    record = place.read()

    def end(*_: object) -> None:
        place.forget()
        os._exit(0)  # at once: TensorBoard's threads may be in the middle of reading, and keep nothing

    signal.signal(signal.SIGTERM, end)
    shutil.rmtree(place.logs, ignore_errors=True)  # of an earlier process: it is all written anew
    place.logs.mkdir(parents=True)
    _serve(place, record.host, record.port, record.title)
    _log.info("%s is at %s", record.title, record.url)

    from mlflow import MlflowClient

    from tasks.tensorboard.export import Export

    export = Export(
        MlflowClient(record.tracking_uri), place.logs, record.runs, record.experiment_id, record.datasets
    )
    while True:
        if time.monotonic() - Visits.last > record.idle_hours * 3600:
            _log.info("Nobody has looked for %g hours; the view closes.", record.idle_hours)
            end()
        began = time.monotonic()
        try:
            busy = export.update()
        except Exception as error:  # MLflow is away for a while
            _log.warning("The view could not be brought up to date: %s", error)
            busy = False
        time.sleep(max(BUSY_S if busy else QUIET_S, (time.monotonic() - began) / _SHARE))


def _serve(place: ViewPlace, host: str, port: int, title: str) -> None:
    """Start TensorBoard in a thread of its own."""
    from tensorboard import default, program

    def server(application: Callable[..., Iterable[bytes]], flags: Any) -> Any:
        return program.WerkzeugServer(Visits(application), flags)

    board = program.TensorBoard(default.get_plugins(), server_class=server)  # type: ignore[no-untyped-call]
    arguments = {
        "logdir": str(place.logs),
        "host": host,
        "port": port,
        "window_title": title,
        "reload_interval": 3.0,
        "load_fast": "false",  # else another process, which needs to be watched as well
    }
    board.configure(**arguments)  # type: ignore[no-untyped-call]
    board.launch()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()
