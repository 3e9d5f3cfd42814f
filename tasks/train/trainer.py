"""What is trained: an algorithm of the catalogue, or code of the user's own. Both are recorded alike."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tasks.train.algorithms.fit import Fit, FitContext

if TYPE_CHECKING:
    from tasks.train.bundle import Bundle
    from tasks.train.tracking import TrackedRun


@dataclass(frozen=True)
class Fitted:
    """What a training gave.

    Attributes:
        fit: The model and how it came about.
        bundle: The model with its preprocessing; None where it is of a form that cannot be served.
        digest: SHA-256 of the bundle, or of the files that stand for it, hex.
        params: What is known of the settings only now.
        artifacts: A folder to be kept with the run; None where there is nothing.
        note: Why the model cannot be served; empty if it can.
        warning: What the user should look at before the model is used; empty if there is nothing.
    """

    fit: Fit
    bundle: Bundle | None
    digest: str
    params: dict[str, Any] = field(default_factory=dict)
    artifacts: Path | None = None
    note: str = ""
    warning: str = ""


class Trainer(Protocol):
    """Something to train on a dataset version; made only if it can be, so that no run begins in vain.

    Attributes:
        name: What stands in records: an algorithm's name, or `own_code`.
        params: Settings to record when the run begins.
    """

    @property
    def name(self) -> str: ...

    @property
    def params(self) -> dict[str, Any]: ...

    def fit(self, run: TrackedRun, context: FitContext, folder: Path) -> Fitted:
        """Train.

        Args:
            run: The MLflow run, for metrics.
            context: How to run the fit.
            folder: Where the bundle is written, replacing an earlier one.
        """
        ...
