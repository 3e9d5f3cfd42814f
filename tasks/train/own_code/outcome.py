"""How a run of the code ended, in words."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path

from tasks.errors import InvalidData
from tasks.train.own_code.config import Limits
from tasks.train.own_code.process import Ending, memory_bytes

_SAID = 12


class OwnCodeFailed(InvalidData):
    """The code did not do what it was to do.

    Attributes:
        artifacts: Folder with its whole output; set where there is one.
    """

    artifacts: Path | None = None


class OwnCodeStopped(OwnCodeFailed):
    """The code was stopped by the user, and left no model: the run is aborted, not failed."""


def failure(ending: Ending, limits: Limits, lines: Sequence[str]) -> OwnCodeFailed | None:
    """Why the code failed; None where it ended well, or was asked to end.

    Args:
        ending: How it ended.
        limits: What it was allowed.
        lines: The last lines of its output.
    """
    last = " / ".join(line.strip() for line in lines[-_SAID:])
    where = f"the last lines of its output: {last}" if last else "it wrote nothing to its output"
    match ending.reason:
        case "memory":
            return OwnCodeFailed(
                f"the code used more than the {memory_bytes(limits) / 2**30:.3g} GiB of memory allowed",
                where=where,
                mend="use smaller batches or less data at a time, or raise limits.memory_gib",
            )
        case "processes":
            return OwnCodeFailed(
                f"the code had more than the {limits.processes} processes allowed",
                where=f"{ending.peak_processes} at once; {where}",
                mend="start fewer workers, or raise limits.processes",
            )
        case "output":
            return OwnCodeFailed(
                f"the code wrote more than the {limits.output_mib:g} MiB of output allowed",
                where=where,
                mend="print less, a line an epoch for example, or raise limits.output_mib",
            )
        case "disk":
            return OwnCodeFailed(
                f"the code wrote more than the {limits.disk_gib:g} GiB of files allowed",
                where="models, checkpoints, event files and temporary files together",
                mend="keep fewer checkpoints, or raise limits.disk_gib",
            )
        case "lost":
            return OwnCodeFailed(
                "the code was killed from outside, for lack of memory most likely",
                where=where,
                mend="look at the memory of this host, and set limits.memory_gib below it",
            )
        case "ended" if ending.code:
            return OwnCodeFailed(_of_code(ending.code, lines), where=where, mend=_mend(lines))
    return None


def stopped_without_model(ending: Ending, max_time_s: float | None, error: InvalidData) -> OwnCodeFailed:
    """The code was asked to end, and left no model."""
    why = "was stopped" if ending.reason == "stopped" else f"took longer than the {max_time_s:g} s allowed"
    killed = " It did not end by itself when it was asked to (SIGTERM)" if ending.code is None else ""
    kind = OwnCodeStopped if ending.reason == "stopped" else OwnCodeFailed
    return kind(
        f"the code {why}, and {error.what[0].lower()}{error.what[1:]}",
        where=(error.where + "." + killed) if killed else error.where,
        allowed=error.allowed,
        mend="save a model after each epoch, so that the last one is kept; or give it more time",
    )


def trial_failure(ending: Ending, limits: Limits, name: str, lines: Sequence[str]) -> OwnCodeFailed | None:
    """Why a model could not be tried; None where the trial came to its end.

    Args:
        ending: How the process ended that tried it.
        limits: What it was allowed.
        name: The model's file in `EM_MODEL_DIR`.
        lines: The last lines of the process's output.
    """
    last = " / ".join(line.strip() for line in lines[-_SAID:])
    where = f"{name}, which is kept with the run's artifacts, in model/" + (f"; {last}" if last else "")
    who = "the process that tried the saved model"
    match ending.reason:
        case "ended" if not ending.code:
            return None
        case "time":
            return OwnCodeFailed(
                f"the saved model gave no answer within {limits.trial_time_s} s",
                where=where,
                mend="look for a loop in it that does not end on some rows, or raise limits.trial_time_s",
            )
        case "memory":
            most_gib = memory_bytes(limits) / 2**30
            return OwnCodeFailed(
                f"the saved model used more than the {most_gib:.3g} GiB of memory allowed",
                where=where,
                mend="save a smaller model, or one that needs less for a row; or raise limits.memory_gib",
            )
        case "stopped":
            return OwnCodeStopped(
                "the training was stopped before its model had answered", where=where, mend="train again"
            )
        case "ended":
            how, mend = _of_code(ending.code or 0, lines, who), "save the model in another form"
        case "lost":
            how = f"{who} was killed from outside, for lack of memory most likely"
            mend = "look at the memory of this host, and set limits.memory_gib below it"
        case limit:
            how, mend = f"{who} was ended at the limit of {limit}", "raise that limit, or save another model"
    return OwnCodeFailed(how, where=where, mend=mend)


def _of_code(code: int, lines: Sequence[str], who: str = "the code") -> str:
    if code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        return f"{who} was ended by {name}"
    said = _exception(lines)
    return f"{who} ended with exit code {code}" + (f": {said}" if said else "")


def _exception(lines: Sequence[str]) -> str:
    """The last line of a traceback."""
    starts = [place for place, line in enumerate(lines) if line.startswith("Traceback (most recent call")]
    if starts:
        for line in lines[starts[-1] + 1 :]:
            if line and not line.startswith((" ", "\t", "|")):
                return line[:500]
    last = lines[-1].strip() if lines else ""
    return last[:500] if "error" in last.lower() else ""


def _mend(lines: Sequence[str]) -> str:
    said = _exception(lines)
    if "attempted relative import" in said:
        return "name the folder above the package as the source, or import without the dots"
    if said.startswith("ModuleNotFoundError"):
        return "add the package to requirements.txt beside the code"
    if "error: unrecognized arguments" in said or "the following arguments are required" in said:
        return "hyperparameters are passed as --key value: give those that the script knows, no others"
    if said.startswith("MemoryError"):
        return "use less memory at a time, or raise limits.memory_gib"
    return "correct the code; the whole output is with the run's artifacts, own_code/output.log"
