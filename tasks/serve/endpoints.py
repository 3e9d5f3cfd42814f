"""Start, stop and delete endpoints on a host: a record, a token, a port and a supervised program."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from filelock import FileLock

from tasks.errors import Damaged, InvalidSettings, NotFound, TrainyardError, Unavailable
from tasks.programs import Supervisor, free_port, is_taken
from tasks.refs import EndpointRef
from tasks.serve import samples
from tasks.serve.config import ServeConfig
from tasks.serve.program import program_text
from tasks.serve.record import EndpointPlace, EndpointRecord, hash_token, list_records, now, write_atomically
from tasks.serve.registry import RegisteredVersion, Registry
from tasks.serve.versions import VersionStore

_LOG_TAIL_BYTES = 2000
_ASK_EVERY_S = 0.1
_LOCK_TIMEOUT_S = 60.0
_MLFLOW_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Host:
    """Where endpoints run.

    Attributes:
        home: Data folder of the stack.
        tracking_uri: The MLflow server whose aliases are followed.
        address: Address to listen on.
        first_port: Lowest port to use.
        workspace: Workspace whose serving slots they use; empty for none.
    """

    home: Path
    tracking_uri: str
    address: str = "127.0.0.1"
    first_port: int = 3000
    workspace: str = ""


def serve(
    model: str, config: ServeConfig, host: Host, report: Callable[[str], None] = lambda text: None
) -> tuple[EndpointRecord, EndpointRef]:
    """Have the endpoint of a model answer with the version that its alias names.

    Safe to call again and by several at once: an endpoint that answers already is left as it is.

    Args:
        model: The registered model.
        config: The endpoint's settings.
        host: Where it runs.
        report: Hears what is being done.

    Returns:
        The record and the reference; the version in it has answered.

    Raises:
        InvalidSettings: The endpoint of that name serves another model.
        NotFound: The model has no version of that alias, or the endpoint was deleted meanwhile.
        Unavailable: MLflow or the supervisor does not answer, the port is taken, or the endpoint did
            not become ready in time (with the end of its log).
    """
    place = EndpointPlace(host.home, config.endpoint or endpoint_name(model))
    with Registry(host.tracking_uri, _MLFLOW_TIMEOUT_S) as registry:
        wanted = _version_of(registry, model, config.alias)
        with _lock(place, config.ready_timeout_s):
            record = _ensure_record(place, model, config, host)
            if _answering(record, place.token()) != wanted.version:
                report(f"Bringing endpoint {record.name} to v{wanted.version} of {model}.")
                VersionStore(place.versions, model).place(wanted, registry)
                _ensure_program(place, record)
        version = _wait_until_ready(place, record, wanted, config.ready_timeout_s, registry)
    with _lock(place):
        # Read again: it may have been switched off or deleted while we waited.
        record = place.read()
        record = record.model_copy(update={"curl": samples.curl(record, samples.example_of(place, version))})
        place.write(record)
    return record, _ref(record, version)


def stop(home: Path, name: str) -> None:
    """Switch an endpoint off; its address, token and versions stay for the next start.

    Raises:
        NotFound: There is no such endpoint.
    """
    place = EndpointPlace(home, name)
    with _lock(place):
        place.write(place.read().model_copy(update={"enabled": False}))
        _end_program(place)


def delete(home: Path, name: str) -> None:
    """Stop an endpoint and remove its record, token and versions; its log stays.

    Raises:
        NotFound: There is no such endpoint.
    """
    place = EndpointPlace(home, name)
    with _lock(place):
        with suppress(Damaged):  # deleting is how a record that cannot be read is mended
            place.read()
        _end_program(place)
        place.record_file.unlink(missing_ok=True)
        place.token_file.unlink(missing_ok=True)
        shutil.rmtree(place.folder, ignore_errors=True)


def endpoint_name(model: str) -> str:
    """An endpoint's name from a model's: small letters, digits and dashes."""
    name = "".join(letter if letter.isalnum() and letter.isascii() else "-" for letter in model.lower())
    return name.strip("-")[:63] or "model"


def status(record: EndpointRecord, token: str, timeout_s: float = 2.0) -> dict[str, Any] | None:
    """What the endpoint says of itself; None where it does not answer or is not this endpoint."""
    try:
        answer = httpx.get(record.status_url, headers={"token": token}, timeout=timeout_s, trust_env=False)
    except httpx.HTTPError:
        return None
    if answer.status_code != 200:
        return None
    said: dict[str, Any] = answer.json()
    return said if said.get("endpoint") == record.name else None


def _version_of(registry: Registry, model: str, alias: str) -> RegisteredVersion:
    try:
        return registry.version_of(model, alias)
    except NotFound as error:
        raise NotFound(
            f"the model {model!r} has no version with the alias {alias!r}",
            where=registry.tracking_uri,
            allowed="a registered model one of whose versions has the alias",
            mend="promote a version, or set the alias in MLflow",
        ) from error


def _lock(place: EndpointPlace, timeout_s: float = _LOCK_TIMEOUT_S) -> FileLock:
    """Held while an endpoint's record and program are read and changed."""
    place.lock_file.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(place.lock_file, timeout=timeout_s)


def _ensure_record(place: EndpointPlace, model: str, config: ServeConfig, host: Host) -> EndpointRecord:
    """The endpoint's record, written when it is new or its settings changed; port and token stay.

    Raises:
        InvalidSettings: The endpoint serves another model, whose clients would get this one's answers.
    """
    with FileLock(place.home / "run" / "endpoints.lock", timeout=30):
        try:
            before: EndpointRecord | None = place.read()
        except NotFound:
            before = None
        if before and before.model != model:
            raise InvalidSettings(
                f"the endpoint {place.name!r} serves the model {before.model!r} already",
                where=f"serving {model!r}",
                allowed="one model at an endpoint",
                mend="choose another name for the endpoint, or delete the one that has this name",
            )
        token = place.ensure_token()
        port = before.port if before else _free_port(host, place)
        record = EndpointRecord(
            name=place.name,
            model=model,
            alias=config.alias,
            host=host.address,
            port=port,
            url=f"http://{host.address}:{port}/v1/models/{model}:predict",
            token_file=str(place.token_file),
            token_sha256=hash_token(token),
            tracking_uri=host.tracking_uri,
            workers=config.workers,
            request_timeout_s=config.request_timeout_s,
            max_queue=config.max_queue,
            max_instances=config.max_instances,
            max_body_mib=config.max_body_mib,
            workspace=(before.workspace if before else "") or host.workspace,
            created_at=before.created_at if before else now(),
            curl=before.curl if before else "",
        )
        if record != before:
            place.write(record)
    return record


def _ensure_program(place: EndpointPlace, record: EndpointRecord) -> None:
    """Run the endpoint's program as its record says."""
    supervisor = Supervisor(place.home)
    text = program_text(place, record)
    if not place.conf_file.exists() or place.conf_file.read_text() != text:
        write_atomically(place.conf_file, text.encode())
    # A program that has just been started may listen already.
    if supervisor.state(place.program) not in ("STARTING", "RUNNING") and is_taken(record.host, record.port):
        raise Unavailable(
            f"port {record.port} is taken by another process",
            where=f"endpoint {record.name} on {record.host}",
            allowed="the port that the endpoint has had since it was made",
            mend="end the other process, or delete the endpoint and serve the model again",
        )
    for folder in (place.log_file.parent, place.folder / "bentoml"):
        folder.mkdir(parents=True, exist_ok=True)
    supervisor.ensure(place.program)


def _end_program(place: EndpointPlace) -> None:
    place.conf_file.unlink(missing_ok=True)
    Supervisor(place.home).remove(place.program)


def _wait_until_ready(
    place: EndpointPlace,
    record: EndpointRecord,
    wanted: RegisteredVersion,
    timeout_s: float,
    registry: Registry,
) -> int:
    """Wait until the wanted version answers, or the one that the alias names by then.

    Returns:
        The version that answered.

    Raises:
        Unavailable: It did not, with the reason that the endpoint gives or the end of its log.
    """
    token = place.token()
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        said = status(record, token)
        if said and said["version"] == wanted.version:
            return wanted.version
        refused = (said or {}).get("refused")
        if refused and refused["version"] == wanted.version:
            raise Unavailable(
                f"endpoint {record.name} cannot serve v{wanted.version}: {refused['reason']}",
                where=str(place.log_file),
                mend="see the log; the endpoint goes on with "
                + (f"v{said['version']}" if said and said["version"] else "no version"),
            )
        time.sleep(_ASK_EVERY_S)
        if said and said["version"] != wanted.version:
            # The alias may have moved on while we waited; then the newer version is the right one.
            wanted = _version_of(registry, record.model, record.alias)
    raise Unavailable(
        f"endpoint {record.name} was not ready within {timeout_s:g} s (its program is {_state(place)})",
        where=str(place.log_file),
        mend="the end of its log is: " + (log_tail(place.log_file) or "empty"),
    )


def _state(place: EndpointPlace) -> str:
    try:
        return Supervisor(place.home).state(place.program)
    except TrainyardError as error:
        return f"not known: {error.what}"


def log_tail(path: Path) -> str:
    """The end of a log file, or nothing where there is none."""
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - _LOG_TAIL_BYTES))
            return file.read().decode(errors="replace").strip()
    except FileNotFoundError:
        return ""


def _answering(record: EndpointRecord, token: str) -> int | None:
    """The version that the endpoint answers with now, if it follows the alias that is asked for."""
    said = status(record, token)
    if said is None or said["alias"] != record.alias or said["settings"] != record.settings_digest:
        return None
    version: int | None = said["version"]
    return version


def _free_port(host: Host, place: EndpointPlace) -> int:
    return free_port(
        "the endpoint",
        host.address,
        host.first_port,
        {record.port for record in list_records(place.home)},
        "delete endpoints that are not needed, or set another first port",
    )


def _ref(record: EndpointRecord, version: int) -> EndpointRef:
    return EndpointRef(
        name=record.name,
        url=record.url,
        model=record.model,
        alias=record.alias,
        version=version,
        token_file=record.token_file,
        curl=record.curl,
    )
