"""One call that hears nothing before its end, such as scikit-learn's `fit`, made so that it can be ended.

Where it may take long, and someone may want it to end, it is made in a child process, which is killed
then. Pickles pass between this process and its own child alone, through pipes that nobody else has.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import pickle
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import ClassVar, TypeVar

from tasks.errors import InvalidSettings, TrainyardError, Unavailable
from tasks.parent_death import die_with_parent
from tasks.train.algorithms.fit import FitContext, never

T = TypeVar("T")

LONG_OPERATIONS = 3e9
"""Operations that take some seconds: quicker calls are made here, since a child takes one to start."""

_LEAST_S = 1e-3
_POLL_S = 0.1
_BEGIN = (
    "import sys; sys.path[:] = sys.argv[2:]; "
    "from tasks.train.algorithms.one_call import answer; answer(int(sys.argv[1]))"
)


class FitStopped(TrainyardError):
    """A fit was stopped before it had a model: its training is aborted, not failed."""

    ended: ClassVar[str] = "stopped"


class FitOutOfTime(InvalidSettings):
    """A fit had no model when its time was up."""

    ended: ClassVar[str] = "time limit"


def one_call(work: Callable[[], T], context: FitContext, operations: float, used_s: float = 0.0) -> T:
    """Make a call, and end it when the fit is to stop or its time is up.

    Args:
        work: The call. It, and what it gives, can be pickled.
        context: Of the fit that it is part of, for its time limit and the wish to stop.
        operations: About how many it takes at most; few are not worth a child.
        used_s: Seconds of the time limit that are used up.

    Raises:
        FitStopped: The fit was asked to stop.
        FitOutOfTime: The time was up.
        Unavailable: The child was killed by someone else.
    """
    if operations < LONG_OPERATIONS or (context.max_time_s is None and context.should_stop is never):
        return work()
    left_s = 0.0 if context.max_time_s is None else max(context.max_time_s - used_s, _LEAST_S)
    child = subprocess.Popen(
        [sys.executable, "-c", _BEGIN, str(os.getpid()), *sys.path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        import_estimators()  # as the child does meanwhile: the answer is made of them
        assert child.stdin is not None
        assert child.stdout is not None
        with contextlib.suppress(BrokenPipeError), child.stdin:  # if it is dead, it gives no answer either
            pickle.dump((left_s, work), child.stdin, protocol=5)
        while not select.select([child.stdout], [], [], _POLL_S)[0]:
            if context.should_stop():
                raise FitStopped("the fit was stopped before it had a model", mend="train again")
        try:
            succeeded, given = pickle.load(child.stdout)  # noqa: S301 - from our own child
        except (EOFError, pickle.UnpicklingError):  # it died before its answer, or while giving it
            raise _lost(child.wait(), context) from None
    finally:
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                pipe.close()
    if not succeeded:
        raise given
    return given  # type: ignore[no-any-return]


def import_estimators() -> None:
    """Import what the fits need, which takes seconds in a fresh process and is no part of a fit's time."""
    importlib.import_module("tasks.train.models.scikit_learn")  # skops imports all of scikit-learn


def answer(parent: int) -> None:
    """Read a call from the standard input, make it, and write what it gives: what the child does.

    The kernel ends it when its time is up or its parent is gone, whatever compiled code it is in.

    Args:
        parent: Process id of the one that asks.
    """
    for number in (signal.SIGINT, signal.SIGTERM):  # meant for the parent, which says what becomes of it
        signal.signal(number, signal.SIG_IGN)
    die_with_parent()
    if os.getppid() != parent:  # it ended before the call
        return
    with os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)  # what a library prints is no answer
        import_estimators()
        left_s, work = pickle.load(sys.stdin.buffer)  # noqa: S301 - from our own parent
        signal.setitimer(signal.ITIMER_REAL, left_s)
        try:
            given = True, work()
        except Exception as error:
            given = False, error
        signal.setitimer(signal.ITIMER_REAL, 0)
        pickle.dump(given, answers, protocol=5)


def _lost(code: int, context: FitContext) -> TrainyardError:
    """Why a child gave no answer, from its exit code."""
    if code == -signal.SIGALRM:
        return FitOutOfTime(
            f"the fit was not finished within {context.max_time_s:.3g} s",
            where="max_time_s, which the fits of a cross-validation share",
            mend="raise max_time_s, take fewer rows, or take an algorithm that learns in steps",
        )
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    return Unavailable(
        f"the process of the fit {how}",
        where="lack of memory, most likely" if code == -signal.SIGKILL else "",
        mend="train again; look for other processes that use up the memory, or take fewer rows",
    )
