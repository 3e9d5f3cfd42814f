"""Run code of the user's own on several ranks: the same program for each, with its own variables."""

from __future__ import annotations

import base64
import os
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

from tasks.errors import Unavailable
from tasks.train.algorithms.fit import Launch
from tasks.train.own_code.outcome import failure
from tasks.train.own_code.process import Ending, Program, memory_bytes, run
from tasks.train.ranks.rank import Rank

_LINES = 200


@dataclass(frozen=True)
class _OnRank:
    """One rank's run of the program.

    Attributes:
        program: As rank 0 runs it.
    """

    program: Program

    def __call__(self, rank: Rank) -> Ending:
        program = _of_rank(self.program, rank)
        lines: deque[str] = deque(maxlen=_LINES)

        def follow(new: bytes) -> None:
            lines.extend(new.decode(errors="replace").splitlines())
            if rank.place.rank == 0 and new:
                rank.tell(base64.b64encode(new).decode())

        ending = run(program, follow, rank.wishes.stop.is_set)
        failed = failure(ending, program.limits, list(lines))
        if failed is not None:
            number = rank.place.rank
            mend = failed.mend.replace("output.log", _log_name(number))
            raise type(failed)(
                failed.what, where=f"rank {number}; {failed.where}", allowed=failed.allowed, mend=mend
            )
        return ending


def run_on_ranks(
    program: Program, follow: Callable[[bytes], None], should_stop: Callable[[], bool], launch: Launch
) -> Ending:
    """Run a program on every rank; see `process.run`.

    Args:
        program: What rank 0 runs; the others have folders and a log of their own beside its own.
        follow: Called with the output of rank 0.
        should_stop: True asks all of them to end.
        launch: Runs a function on the ranks.

    Raises:
        OwnCodeFailed: It failed on a rank, of the first one that did.
    """
    ending: Ending = launch(
        _OnRank(program),
        lambda said: follow(base64.b64decode(said)),
        should_stop,
        every_round=lambda: follow(b""),  # there may be events and logged metrics without a line of output
        joined=False,
    )
    return ending


def _of_rank(program: Program, rank: Rank) -> Program:
    """The program with this rank's variables and share of the memory, and its own log and scratch folder.

    Raises:
        Unavailable: This host does not see the files of the training.
    """
    number = rank.place.rank
    if not program.folder.is_dir():
        raise Unavailable(
            f"rank {number} does not see the files of the training",
            where=f"{program.folder} on {os.uname().nodename}",
            allowed="a folder on a share that all hosts of the cluster see",
            mend="set checkpoint_folder to such a folder, or use one host",
        )
    shared = memory_bytes(program.limits) / rank.place.local_size / 2**30
    limits = program.limits.model_copy(update={"memory_gib": shared})
    mine = replace(program, environment={**program.environment, **rank.variables}, limits=limits)
    if number == 0:
        return mine
    return replace(
        mine,
        log=program.log.with_name(_log_name(number)),
        scratch=program.scratch.with_name(f"keeper-rank-{number}"),
        remove=[],
        written_to=[],
    )


def _log_name(rank: int) -> str:
    return f"output-rank-{rank}.log" if rank else "output.log"
