"""Fit a network on several ranks: what each of them does, and what the driver hears of it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from tasks.errors import Unavailable
from tasks.train.algorithms.algorithm import AlgorithmSettings
from tasks.train.algorithms.fit import Fit, FitContext, TrainingData
from tasks.train.algorithms.network_algorithm import NetworkHyperparameters
from tasks.train.loop.refusals import refuse_unfit
from tasks.train.ranks.rank import Rank


@dataclass(frozen=True)
class _Share:
    """What a rank needs to fit its share of the rows.

    Attributes:
        algorithm: Its name.
        settings: Its hyperparameters, with the number of epochs.
        read: Reads the rows.
        context: What the rank's own context takes over.
    """

    algorithm: str
    settings: AlgorithmSettings
    read: Any
    context: dict[str, Any]

    def __call__(self, rank: Rank) -> Fit | None:
        from tasks.train import algorithms

        assert rank.communicator is not None
        for path in (self.context["work_folder"], self.context["start_from"]):
            if path is not None and not path.exists():
                raise Unavailable(
                    f"rank {rank.place.rank} does not see the files of the training",
                    where=f"{path} on {os.uname().nodename}",
                    allowed="a folder on a share that all hosts of the cluster see",
                    mend="name such folders as checkpoint_folder and start_from, or use one host",
                )
        context = FitContext(
            **self.context,
            report=lambda *told: rank.tell(["epoch", *told]),
            report_steps=lambda *told: rank.tell(["steps", *told]),
            should_stop=rank.wishes.stop.is_set,
            should_resize=rank.wishes.resize.is_set,
            communicator=rank.communicator,
        )
        fit = algorithms.get(self.algorithm).fit(self.read(), self.settings, context)
        return fit if rank.communicator.world.is_root else None


def fit_on_ranks(algorithm: str, data: TrainingData, settings: AlgorithmSettings, context: FitContext) -> Fit:
    """Fit by the ranks that the context launches; see `Algorithm.fit`.

    Args:
        algorithm: Its name.
        data: The rows, which every rank reads for itself.
        settings: Its hyperparameters.
        context: How to run the fit.
    """
    assert context.launch is not None
    assert data.read is not None
    assert isinstance(settings, NetworkHyperparameters)
    # However many ranks go on in the end, the epochs are those of the number that was asked for.
    epochs = settings.epochs_for(len(data.train), context.launch.num_ranks)
    refuse_unfit(settings, data, context.launch.num_ranks)
    if context.work_folder is not None:
        context.work_folder.mkdir(parents=True, exist_ok=True)
    share = _Share(
        algorithm,
        settings.model_copy(update={"epochs": epochs}),
        data.read,
        {
            "seed": context.seed,
            "work_folder": context.work_folder,
            "max_time_s": context.max_time_s,
            "threads": context.launch.threads,
            "gpus": context.gpus,
            "start_from": context.start_from,
        },
    )

    def told(said: list[Any]) -> None:
        kind, *what = said
        (context.report if kind == "epoch" else context.report_steps)(*what)

    fit: Fit = context.launch(share, told, context.should_stop)
    return fit
