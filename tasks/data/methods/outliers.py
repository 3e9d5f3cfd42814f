"""Clip values that lie far from all others, or leave out their rows."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from tasks.data.methods.method import (
    Ask,
    Batch,
    Learning,
    MethodParameters,
    State,
    TableMethod,
    chosen,
    replaced,
)

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


class OutliersParameters(MethodParameters):
    """Parameters of `Outliers`."""

    action: Literal["clip", "drop"] = Field(
        default="clip",
        description="Clip brings values to the nearest limit, everywhere. Drop leaves out training rows "
        "with such a value, and no others.",
    )
    by: Literal["iqr", "z-score"] = Field(
        default="iqr",
        description="What limits are measured in: the width of the middle half, from its edges, or "
        "standard deviations from the mean.",
    )
    iqr_factor: float = Field(
        default=1.5, gt=0, le=100, allow_inf_nan=False, description="Limit for iqr, in widths."
    )
    z_limit: float = Field(
        default=3.0, gt=0, le=100, allow_inf_nan=False, description="Limit for z-score, in deviations."
    )
    columns: tuple[str, ...] = Field(
        default=(), max_length=10_000, description="Only these columns; empty takes all numeric ones."
    )


class Outliers(Learning, TableMethod):
    """State: `low` and `high`, the limits of each column.

    A column whose middle half (or deviation) has no width has no limits: all its rare values would go.
    """

    name = "outliers"
    Parameters = OutliersParameters
    leaves_out = "outliers"

    def summarise(self, question: Any, batch: Batch, parameters: OutliersParameters) -> Any:
        from tasks.data.methods.scale import Scale, ScaleParameters

        return Scale().summarise(question, batch, ScaleParameters(columns=parameters.columns))

    def learn(self, ask: Ask, like: Batch, parameters: OutliersParameters) -> State:
        from tasks.data.methods.summaries import added, quantiles

        columns = chosen(like.rows, parameters.columns, self.name, numeric=True)
        low: dict[str, float] = {}
        high: dict[str, float] = {}
        if parameters.by == "iqr":
            for column, found in quantiles(ask, columns, [0.25, 0.75]).items():
                if found and 0 < found[1] - found[0] < math.inf:
                    margin = parameters.iqr_factor * (found[1] - found[0])
                    low[column], high[column] = found[0] - margin, found[1] + margin
        elif columns:
            means = {column: total.mean for column, total in added(ask("sums")).items()}
            for column, squares in added(ask(means)).items():
                deviation = math.sqrt(squares.mean)
                if 0 < deviation < math.inf:
                    margin = parameters.z_limit * deviation
                    low[column], high[column] = means[column] - margin, means[column] + margin
        return {"low": low, "high": high}

    def left_out(
        self, frame: pd.DataFrame, parameters: OutliersParameters, state: State, *, training: bool
    ) -> np.ndarray | None:
        if parameters.action != "drop" or not training or not state["low"]:
            return None
        import numpy as np

        values, low, high = _limited(frame, state)
        gone = (values < low) | (values > high)
        return np.asarray(gone.any(axis=1))

    def apply(self, frame: pd.DataFrame, parameters: OutliersParameters, state: State) -> pd.DataFrame:
        if parameters.action == "drop" or not state["low"]:
            return frame
        import numpy as np

        values, low, high = _limited(frame, state)
        clipped = np.clip(values, low, high)
        return replaced(frame, dict(zip(state["low"], clipped.T, strict=True)))


def _limited(frame: pd.DataFrame, state: State) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values of the columns that have limits, and these."""
    import numpy as np

    columns = list(state["low"])
    high = np.array([state["high"][column] for column in columns])
    return frame[columns].to_numpy(), np.array(list(state["low"].values())), high
