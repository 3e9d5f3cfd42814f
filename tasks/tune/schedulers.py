"""Which trials are stopped early: Ray's schedulers, told of the trials of an earlier attempt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ray.tune.schedulers import ASHAScheduler, MedianStoppingRule, TrialScheduler

from tasks.tune.config import TuneConfig
from tasks.tune.recorded import Recorded
from tasks.tune.records import Study
from tasks.tune.trial import EPOCH


@dataclass(frozen=True)
class _Past:
    """What Ray's schedulers look at of a trial."""

    trial_id: str


class _Nobody:
    """Ray's controller, of a time when no trial runs."""

    def get_live_trials(self) -> list[object]:
        return []


_NOBODY: Any = _Nobody()


def scheduler(config: TuneConfig, study: Study, before: Sequence[Recorded]) -> TrialScheduler | None:
    """The scheduler of a study, with what trials of an earlier attempt reported.

    Args:
        config: The study's settings.
        study: Whose metric is compared.
        before: Trials of an earlier attempt; those that go on report anew from where they are.
    """
    if config.scheduler == "none":
        return None
    if config.scheduler == "asha":
        # Epochs beyond any real training: a trial that reaches its own last epoch ends by itself.
        made: TrialScheduler = ASHAScheduler(
            time_attr=EPOCH,
            metric=study.metric,
            mode=study.mode,
            grace_period=config.grace_epochs,
            max_t=100_000,
            reduction_factor=3,
            stop_last_trials=False,
        )
    else:
        made = MedianStoppingRule(
            time_attr=EPOCH,
            metric=study.metric,
            mode=study.mode,
            grace_period=config.grace_epochs,
            min_samples_required=config.min_trials,
        )
    for one in (one for one in before if one.is_over and one.values):
        trial: Any = _Past(one.trial.id)
        last: dict[str, float] = {}
        made.on_trial_add(_NOBODY, trial)
        for epoch, value in sorted(one.values.items()):
            last = {EPOCH: epoch, study.metric: value}
            made.on_trial_result(_NOBODY, trial, last)
        made.on_trial_complete(_NOBODY, trial, last)
    return made
