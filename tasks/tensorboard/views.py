"""Open and close views: a record, a port and a supervised program each."""

from __future__ import annotations

import hashlib
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
from filelock import FileLock
from mlflow.exceptions import MlflowException

from tasks.errors import NotAllowed, NotFound, Unavailable
from tasks.programs import PORTS_TRIED, REPOSITORY, Supervisor, free_port, program_text
from tasks.refs import LOCAL_USER
from tasks.tensorboard.config import ViewConfig
from tasks.tensorboard.export import may_be_shown
from tasks.tensorboard.record import ViewPlace, ViewRecord, views

if TYPE_CHECKING:
    from mlflow import MlflowClient

READY_TIMEOUT_S = 90.0
_ASK_EVERY_S = 0.2
_LOCK_TIMEOUT_S = 120.0


def open_view(
    config: ViewConfig,
    client: MlflowClient,
    home: Path,
    host: str,
    first_port: int,
    datasets: tuple[str, ...] | None = None,
    user: str = LOCAL_USER,
) -> ViewRecord:
    """Have TensorBoard show some runs; a view of the same runs that is open already is taken.

    Args:
        config: What to show.
        client: MLflow.
        home: Data folder of the stack.
        host: Address to listen on.
        first_port: Lowest port of endpoints; views have those above them.
        datasets: Datasets whose runs may be shown; None for all.
        user: Who asks; each has views of their own.

    Raises:
        NotFound: A run or the experiment is not there, or the run is on none of the datasets.
        Unavailable: The supervisor does not answer, or TensorBoard did not come up.
    """
    title, runs, experiment_id = _found(config, client, datasets)
    shown = "\n".join([str(client.tracking_uri), user, experiment_id, *sorted(runs)])
    place = ViewPlace(home, f"tensorboard-{hashlib.sha256(shown.encode()).hexdigest()[:8]}")
    place.conf_file.parent.mkdir(parents=True, exist_ok=True)
    with _lock(home):
        known = datasets if experiment_id else None  # those of given runs were looked at just now
        with suppress(NotFound):
            record = place.read()
            as_asked = (record.idle_hours, record.datasets) == (config.idle_hours, known)
            if as_asked and _answers(record):
                return record
        _end(place)
        used = set()
        for other in views(home):
            with suppress(NotFound):  # it closes at this moment
                used.add(other.read().port)
        record = ViewRecord(
            name=place.name,
            user=user,
            title=title,
            runs=runs,
            experiment_id=experiment_id,
            datasets=known,
            idle_hours=config.idle_hours,
            tracking_uri=str(client.tracking_uri),
            host=host,
            port=free_port("TensorBoard", host, first_port + PORTS_TRIED, used, "close views"),
        )
        try:
            _start(place, record)
        except BaseException:  # a run that is cancelled as well
            _undo(place)
            raise
    return record


def _start(place: ViewPlace, record: ViewRecord) -> None:
    """Write the record, and have the supervisor run the view."""
    place.write(record)
    command = [sys.executable, "-m", "tasks.tensorboard.view", str(place.folder)]
    environment = {"PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": "1"}
    place.conf_file.write_text(
        program_text("tensorboard", place.name, command, environment, place.log_file, lasting=False)
    )
    Supervisor(place.home).ensure(place.name)
    _wait_until_ready(place, record)


def _undo(place: ViewPlace) -> None:
    """Take away what was begun, as far as the supervisor can be reached."""
    try:
        with suppress(Unavailable):
            _end(place)
    finally:
        place.forget()


def close_views(home: Path, name: str = "", user: str = LOCAL_USER) -> list[str]:
    """Close a view, or all of one's own; returns the names of those that were open.

    Args:
        home: Data folder of the stack.
        name: The view; empty for all that the user opened.
        user: Who asks.

    Raises:
        NotFound: There is no view of that name.
        NotAllowed: It is somebody else's.
    """
    with _lock(home):
        if name:
            closing = [ViewPlace(home, name)]
            owner = closing[0].read().user
            if owner != user:
                raise NotAllowed(
                    f"The user {user} may not close the view {name}",
                    allowed=f"its owner {owner}",
                    mend=f"ask {owner}, or leave it: unseen, it closes by itself",
                )
        else:
            closing = [place for place in views(home) if _owner(place) == user]
        for place in closing:
            _end(place)
    return [place.name for place in closing]


def _owner(place: ViewPlace) -> str | None:
    """Who opened a view; None where it closes at this moment."""
    with suppress(NotFound):
        return place.read().user
    return None


def _found(
    config: ViewConfig, client: MlflowClient, datasets: tuple[str, ...] | None
) -> tuple[str, tuple[str, ...], str]:
    """What the view is called, and the runs or the experiment that it shows."""
    if config.experiment:
        experiment = client.get_experiment_by_name(config.experiment)
        if experiment is None:
            raise NotFound(
                f"MLflow has no experiment named {config.experiment!r}",
                where="experiment",
                mend="copy its name from MLflow's page",
            )
        return f"TensorBoard: experiment {config.experiment}", (), str(experiment.experiment_id)
    names = []
    for run_id in config.runs:
        try:
            run = client.get_run(run_id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            run = None
        if run is None or not may_be_shown(client, run, datasets):
            raise NotFound(
                f"MLflow has no run {run_id}", where="runs", mend="copy the id from the run's page"
            )
        names.append(run.info.run_name or run_id[:8])
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"TensorBoard: {names[0]}{more}", tuple(dict.fromkeys(config.runs)), ""


def _end(place: ViewPlace) -> None:
    place.conf_file.unlink(missing_ok=True)
    Supervisor(place.home).remove(place.name)
    place.forget()


def _answers(record: ViewRecord) -> bool:
    """Whether this view, and not another program, answers on its port."""
    try:
        answer = httpx.get(f"{record.url}data/environment", timeout=2, trust_env=False)
        return answer.status_code == 200 and answer.json().get("window_title") == record.title
    except (httpx.HTTPError, ValueError):
        return False


def _wait_until_ready(place: ViewPlace, record: ViewRecord) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline:
        if _answers(record):
            return
        time.sleep(_ASK_EVERY_S)
    state = Supervisor(place.home).state(place.name)
    raise Unavailable(
        f"TensorBoard did not answer within {READY_TIMEOUT_S:g} s (its program was {state})",
        where=str(place.log_file),
        mend="read the end of that log, and try again",
    )


def _lock(home: Path) -> FileLock:
    """Held while views are opened and closed."""
    folder = home / "tensorboard"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return FileLock(folder / ".lock", timeout=_LOCK_TIMEOUT_S)
