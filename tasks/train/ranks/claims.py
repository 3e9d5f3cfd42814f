"""The workers that belong to a job: taken all together or not at all, kept while ranks come and go."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from tasks.errors import Unavailable
from tasks.train.algorithms.one_call import FitStopped
from tasks.train.ranks import host
from tasks.train.ranks.launcher import Place
from tasks.train.ranks.workers import Facts, Workers, chosen, places

POLL_S = 0.25
RETURN_S = 30.0
"""How long lost workers are waited for where too few are left: a nanny has one back in seconds."""


class Claims:
    """The workers of one job.

    Args:
        workers: Of the cluster.
        job: Its id.
        num_ranks: How many are wanted.
        per_host: On each host; None for any.
        packages: Whose versions must be the same everywhere.
        log: Hears what the job waits for.
    """

    def __init__(
        self,
        workers: Workers,
        job: str,
        num_ranks: int,
        per_host: int | None,
        packages: tuple[str, ...],
        log: Callable[[str], None],
    ) -> None:
        self._workers, self.job = workers, job
        self._num_ranks, self._per_host, self._packages = num_ranks, per_host, packages
        self._log = log
        self._taken: list[str] = []
        self._known: Mapping[str, Facts] = {}

    @property
    def places(self) -> list[Place]:
        """Where the ranks are to run."""
        return places(self._taken, self._known)

    def gather(
        self, least: int, should_stop: Callable[[], bool], *, patience_s: float, after_loss: bool
    ) -> None:
        """Have as many workers as are wanted, or at least the least; those that are there already stay.

        Args:
            least: Fewer will not do.
            should_stop: True ends the wait.
            patience_s: How long to wait for workers that others have.
            after_loss: Whether lost ones may come back.

        Raises:
            Unavailable: The cluster has too few, or others have them for too long.
            FitStopped: It was stopped while it waited.
        """
        began, said = time.monotonic(), ""
        while True:
            listed = self._workers.addresses()
            known = self._workers.survey(self._packages)
            mine = {address for address, one in known.items() if one.holder == self.job}
            free = {address: one for address, one in known.items() if not one.holder or address in mine}
            wanted = chosen(free, self._num_ranks, self._per_host)
            kept = mine & set(self._taken)  # one that was given up, and has come back, is claimed anew
            if len(wanted) >= least and self._claim([one for one in wanted if one not in kept]):
                self._release([one for one in mine if one not in wanted])
                self._taken, self._known = wanted, known
                return
            waited_s = time.monotonic() - began
            if not (after_loss and waited_s < RETURN_S):
                self._refuse_too_few(known, listed, least)
            waiting = _waiting(least, len(free), listed, known)
            if waiting != said and waited_s > POLL_S:
                said = waiting
                self._log(waiting)
            if should_stop():
                raise FitStopped("it was stopped while it waited for workers", where="the Dask cluster")
            if waited_s > patience_s:
                raise Unavailable(
                    f"{least} workers were not free for {patience_s:.0f} s",
                    where="the Dask cluster",
                    mend="try again later",
                )
            time.sleep(POLL_S)

    def could_grow(self) -> bool:
        """Whether there are workers for more ranks than now."""
        known: Mapping[str, Facts] = {}
        with suppress(Unavailable):  # a worker that does not fit is no reason to end those that run
            known = self._workers.survey(self._packages)
        free = {address: one for address, one in known.items() if one.holder in ("", self.job)}
        return len(chosen(free, self._num_ranks, self._per_host)) > len(self._taken)

    def end_ranks(self) -> None:
        """End the ranks, and keep the workers."""
        self._workers.call(host.end, dict.fromkeys(self._taken, (self.job,)))

    def release(self) -> None:
        """End the ranks and give the workers back; where they cannot be told, they find out by themselves."""
        with suppress(Unavailable):
            self._release(self._taken)
        self._taken = []

    def _claim(self, addresses: list[str]) -> bool:
        answers = self._workers.call(host.claim, dict.fromkeys(addresses, (self.job, self._workers.driver)))
        taken = [address for address in addresses if answers[address] is True]
        if len(taken) < len(addresses):  # somebody was quicker
            self._release(taken)
            return False
        return True

    def _release(self, addresses: list[str]) -> None:
        self._workers.call(host.release, dict.fromkeys(addresses, (self.job,)))

    def _refuse_too_few(self, known: Mapping[str, Facts], listed: list[str], least: int) -> None:
        fitting = chosen(known, self._num_ranks, self._per_host)
        if len(fitting) >= least or (len(known) < len(listed) and len(listed) >= least):
            return
        hosts = len({one.host for one in known.values()})
        each = f", {self._per_host} on each host" if self._per_host else ""
        raise Unavailable(
            f"{least} ranks{each} are asked for, and the cluster has {len(known)} workers on {hosts} "
            f"host{'s' if hosts != 1 else ''}, one for a rank",
            where="num_ranks",
            allowed=f"at most {len(fitting)}",
            mend="ask for fewer ranks, or let the block Dask Cluster have more workers",
        )


def _waiting(least: int, free: int, listed: list[str], known: Mapping[str, Facts]) -> str:
    """What a job waits for, in words."""
    holders = sorted({one.holder for one in known.values() if one.holder})
    silent = sorted(set(listed) - set(known))
    return (
        f"Waits for {least} workers: {free} of {len(listed)} are free"
        + (f", others belong to {', '.join(holders)}" if holders else "")
        + (f", no answer from {', '.join(silent)}" if silent else "")
        + "."
    )
