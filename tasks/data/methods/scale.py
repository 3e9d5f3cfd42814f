"""Bring numeric columns to one scale."""

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
    import pandas as pd


class ScaleParameters(MethodParameters):
    """Parameters of `Scale`."""

    to: Literal["standard", "min-max", "robust"] = Field(
        default="standard",
        description="Standard: mean 0, deviation 1. Min-max: training values from 0 to 1. "
        "Robust: median 0, middle half of width 1.",
    )
    columns: tuple[str, ...] = Field(
        default=(), max_length=10_000, description="Only these columns; empty takes all numeric ones."
    )


class Scale(Learning, TableMethod):
    """State: `offset` and `divisor` of every numeric column; a constant column keeps divisor 1."""

    name = "scale"
    Parameters = ScaleParameters

    def summarise(self, question: Any, batch: Batch, parameters: ScaleParameters) -> Any:
        from tasks.data.methods.summaries import ExactSum, Ranks, sampled

        frame: pd.DataFrame = batch.rows
        if isinstance(question, Ranks):
            return {
                column: sampled(question, column, frame[column].dropna().to_numpy())
                for column in question.brackets
            }
        present = {
            column: frame[column].dropna().to_numpy()
            for column in chosen(frame, parameters.columns, self.name, numeric=True)
        }
        if question == "sums":
            return {column: ExactSum(values) for column, values in present.items()}
        if question == "extremes":
            return {column: (values.min(), values.max()) for column, values in present.items() if len(values)}
        import numpy as np

        with np.errstate(over="ignore"):
            return {column: ExactSum((values - question[column]) ** 2) for column, values in present.items()}

    def learn(self, ask: Ask, like: Batch, parameters: ScaleParameters) -> State:
        from tasks.data.methods.summaries import added, quantiles

        columns = chosen(like.rows, parameters.columns, self.name, numeric=True)
        found: dict[str, tuple[float, float]] = {}
        if parameters.to == "standard" and columns:
            means = {column: total.mean for column, total in added(ask("sums")).items()}
            squares = added(ask(means))
            found = {column: (means[column], math.sqrt(squares[column].mean)) for column in columns}
        elif parameters.to == "min-max" and columns:
            extremes: dict[str, list[tuple[float, float]]] = {column: [] for column in columns}
            for answer in ask("extremes"):
                for column, pair in answer.items():
                    extremes[column].append(pair)
            for column, pairs in extremes.items():
                if pairs:
                    low, high = min(pair[0] for pair in pairs), max(pair[1] for pair in pairs)
                    found[column] = low, high - low
        elif columns:
            for column, of_column in quantiles(ask, columns, [0.25, 0.5, 0.75]).items():
                if of_column:
                    found[column] = of_column[1], of_column[2] - of_column[0]
        offset: dict[str, float] = {}
        divisor: dict[str, float] = {}
        for column in columns:
            centre, width = found.get(column, (0.0, 1.0))
            offset[column] = float(centre) if math.isfinite(centre) else 0.0
            divisor[column] = float(width) if width > 0 and math.isfinite(width) else 1.0
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
        return replaced(frame, dict(zip(columns, scaled.T, strict=True)))
