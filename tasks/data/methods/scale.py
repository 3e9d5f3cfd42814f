"""Bring numeric columns to one scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from tasks.data.methods.method import MethodParameters, State, TableMethod, is_numeric

if TYPE_CHECKING:
    import pandas as pd


class ScaleParameters(MethodParameters):
    """Parameters of `Scale`."""

    to: Literal["standard", "min-max", "robust"] = Field(
        default="standard",
        description="Standard: mean 0, deviation 1. Min-max: training values from 0 to 1. "
        "Robust: median 0, middle half of width 1.",
    )


class Scale(TableMethod):
    """State: `offset` and `divisor` of every numeric column; a constant column keeps divisor 1."""

    name = "scale"
    Parameters = ScaleParameters
    learns = True

    def summarise(self, batch: pd.DataFrame, parameters: ScaleParameters) -> dict[str, Any]:
        return {
            column: batch[column].dropna().to_numpy() for column in batch.columns if is_numeric(batch[column])
        }

    def learn(self, summaries: Sequence[dict[str, Any]], parameters: ScaleParameters) -> State:
        import numpy as np

        offset: dict[str, float] = {}
        divisor: dict[str, float] = {}
        for column in summaries[0]:
            # Sorted, so that rounding does not depend on how rows were cut into batches.
            values = np.sort(np.concatenate([summary[column] for summary in summaries]))
            centre, width = (0.0, 1.0) if not len(values) else _scale_of(values, parameters.to)
            offset[column] = float(centre)
            divisor[column] = float(width) if width > 0 and np.isfinite(width) else 1.0
        return {"offset": offset, "divisor": divisor}

    def apply(self, frame: pd.DataFrame, parameters: ScaleParameters, state: State) -> pd.DataFrame:
        import numpy as np

        columns = list(state["offset"])
        if not columns:
            return frame
        # One array for all columns: a request of one row is spared pandas' cost for each of them.
        offset = np.array(list(state["offset"].values()))
        divisor = np.array([state["divisor"][column] for column in columns])
        scaled = (frame[columns].to_numpy() - offset) / divisor
        if columns == list(frame.columns):
            return type(frame)(scaled, index=frame.index, columns=frame.columns)
        return frame.assign(**dict(zip(columns, scaled.T, strict=True)))


def _scale_of(values: Any, to: str) -> tuple[float, float]:
    import numpy as np

    if to == "standard":
        return values.mean(), values.std()
    if to == "min-max":
        return values[0], values[-1] - values[0]
    low, middle, high = np.percentile(values, [25, 50, 75])
    return middle, high - low
