"""The one word for how a training stands, from what Prefect and MLflow say of it."""

from __future__ import annotations

from typing import Literal, get_args

Status = Literal["draft", "pending", "running", "succeeded", "failed", "aborted", "published"]
STATUSES: tuple[Status, ...] = get_args(Status)

DRAFT = "Draft"
"""Name of the paused state of a flow run that is set up and not started."""

_ENDED: dict[str, Status] = {
    "COMPLETED": "succeeded",
    "FAILED": "failed",
    "CRASHED": "failed",
    "CANCELLED": "aborted",
}
_LIVE: dict[str, Status] = {
    "SCHEDULED": "pending",
    "PENDING": "pending",
    "PAUSED": "pending",
    "RUNNING": "running",
    "CANCELLING": "running",
}


def status(
    state_type: str | None, state_name: str | None, run_status: str | None = None, tag: str | None = None
) -> Status:
    """How a training stands.

    MLflow has the word on a training that ended: a flow run goes on after it, or fails at a later step.
    Prefect has it on one that did not: a killed process leaves its MLflow run running until the
    caretaker closes it. Where there is a flow run, the tag says whether the training ended: own code may
    close its run earlier.

    Args:
        state_type: Type of the flow run's state, such as RUNNING; None where there is no flow run.
        state_name: Its name, such as Draft.
        run_status: Status of the MLflow run, such as FINISHED; None where there is none yet.
        tag: What the tag `trainyard.status` says; it alone tells a published training.
    """
    if run_status is not None and state_type is not None and tag == "running":
        run_status = "RUNNING"
    if run_status == "FINISHED":
        return "published" if tag == "published" else "succeeded"
    if run_status in ("FAILED", "KILLED"):
        if state_type in ("SCHEDULED", "PENDING"):
            return "pending"  # it is about to be taken up again
        if tag == "published":  # a stopped run keeps its best model, which may be registered
            return "published"
        return "failed" if run_status == "FAILED" else "aborted"
    if state_type in _ENDED:
        ended = _ENDED[state_type]
        # A run that is open when its flow run is over was killed on the way: it did not succeed.
        return "failed" if run_status is not None and ended == "succeeded" else ended
    if state_type == "PAUSED" and state_name == DRAFT:
        return "draft"
    if state_type in _LIVE:
        return _LIVE[state_type]
    return "running" if run_status is not None else "pending"
