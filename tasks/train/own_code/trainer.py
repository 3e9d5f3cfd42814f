"""Code of the user's own on a dataset version, as something to train."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.data.storage.store import DatasetStore
from tasks.errors import Unavailable
from tasks.refs import DatasetRef
from tasks.train.algorithms.fit import FitContext
from tasks.train.config import TrainConfig
from tasks.train.own_code.accuracy import accuracy_apart
from tasks.train.own_code.config import OwnCode
from tasks.train.own_code.opened import close_opened, take_metrics, variables
from tasks.train.own_code.outcome import OwnCodeStopped
from tasks.train.own_code.own_code import artifacts_of, check_own_code, fit_own_code
from tasks.train.own_code.source import SourceAccess
from tasks.train.own_code.try_model import NAME
from tasks.train.resources import Resources
from tasks.train.tracking import TrackedRun
from tasks.train.trainer import Fitted


@dataclass(frozen=True)
class OwnCodeTrainer:
    """See `tasks.train.trainer.Trainer`.

    Attributes:
        ref: The main dataset.
        store: Where datasets are.
        own: The code and its limits.
        config: The training that it is part of.
        access: What the code may be read from.
        log: Hears its output.
        identity: What the code was when the training was asked for: see `identify`.
    """

    ref: DatasetRef
    store: DatasetStore
    own: OwnCode
    config: TrainConfig
    access: SourceAccess
    log: Callable[[str], None]
    identity: Mapping[str, str] | None = None

    @classmethod
    def of(
        cls,
        ref: DatasetRef,
        config: TrainConfig,
        store: DatasetStore,
        access: SourceAccess,
        resources: Resources,
        log: Callable[[str], None] = print,
        identity: Mapping[str, str] | None = None,
    ) -> OwnCodeTrainer:
        """What a configuration means for a dataset version; all its faults are said at once.

        Raises:
            TrainyardError: The code cannot be run as it is.
        """
        own = config.own_code
        assert own is not None, "the configuration has no own code"
        check_own_code(own, config.hyperparameters, ref, store, access)
        return cls(ref, store, within(own, resources), config, access, log, identity)

    @property
    def name(self) -> str:
        return NAME

    @property
    def params(self) -> dict[str, Any]:
        """Where the code is. Its hyperparameters follow at the end: it may record them itself."""
        return {"own_code.source": self.own.source, "own_code.entry_point": self.own.entry_point}

    def fit(self, run: TrackedRun, context: FitContext, folder: Path) -> Fitted:
        """See `Trainer.fit`."""
        from mlflow.exceptions import MlflowException

        client = run.client
        close_opened(client, run.run_id, "FAILED")  # of an attempt that was killed
        end = "KILLED"  # what ends this process from outside ends the code as well
        try:
            result = fit_own_code(
                self.own,
                self.config.hyperparameters,
                self.ref,
                self.store,
                self.access,
                context,
                folder,
                identity=self.identity,
                mlflow=variables(client, client.get_run(run.run_id)),
                log=self.log,
            )
            end = "FINISHED" if result.ended == "finished" else "KILLED"
        except Exception as error:
            # Unavailable: stopped while its packages were installed.
            if isinstance(error, OwnCodeStopped) or (
                isinstance(error, Unavailable) and context.should_stop()
            ):
                run.ended_as = "aborted"
            else:
                end = "FAILED"
            assert context.work_folder is not None
            left = artifacts_of(context.work_folder)
            if left.is_dir():
                with suppress(MlflowException):  # the code's own failure is what is to be told
                    client.log_artifacts(run.run_id, str(left))
            raise
        finally:
            with suppress(MlflowException):  # the caretaker closes them later
                close_opened(client, run.run_id, end)
        client.update_run(run.run_id, status="RUNNING")  # the code may have closed it, and it goes on
        take_metrics(client, run.run_id)
        recorded = client.get_run(run.run_id).data
        run.stream(1, {k: v for k, v in result.scores.items() if k not in recorded.metrics})
        known = {
            "algorithm": NAME,
            "seed": self.config.seed,
            "dataset": str(self.ref),
            **self.config.hyperparameters,
        }
        params = {name: value for name, value in known.items() if name not in recorded.params}
        own = result.metrics | recorded.metrics
        apart = accuracy_apart(own, result.metrics) if result.bundle is not None else ""
        if apart:
            self.log(f"Look at this: {apart}")
        warning = "; ".join(filter(None, (apart, result.guessed)))
        return Fitted(
            result.fit, result.bundle, result.digest, params, result.artifacts, result.note, warning
        )


def within(own: OwnCode, resources: Resources) -> OwnCode:
    """The settings with no more memory than a preset of resources grants."""
    known = [limit for limit in (own.limits.memory_gib, resources.memory_gib) if limit is not None]
    limits = own.limits.model_copy(update={"memory_gib": min(known, default=None)})
    return own.model_copy(update={"limits": limits})
