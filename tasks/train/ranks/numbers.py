"""How many ranks there may be: checked before anything is started."""

from __future__ import annotations

from tasks.errors import InvalidSettings


def require_possible(num_ranks: int, min_ranks: int | None, ranks_per_host: int | None) -> None:
    """Check the numbers of ranks against each other.

    Raises:
        InvalidSettings: They contradict each other.
    """
    faults = []
    if num_ranks < 1:
        faults.append(f"{num_ranks} ranks are asked for: at least 1")
    if min_ranks is not None and not 1 <= min_ranks <= num_ranks:
        faults.append(f"{min_ranks} ranks are to be enough: between 1 and the {num_ranks} asked for")
    if ranks_per_host is not None and (ranks_per_host < 1 or num_ranks % ranks_per_host):
        faults.append(f"{num_ranks} ranks cannot be {ranks_per_host} on each host")
    if faults:
        raise InvalidSettings(
            "; ".join(faults), where="num_ranks, min_ranks, ranks_per_host", mend="change one of them"
        )
