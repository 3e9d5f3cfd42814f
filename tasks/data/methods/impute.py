"""Fill in missing values, or leave out the rows that have them."""

from __future__ import annotations

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
    is_numeric,
    place_of,
    replaced,
)
from tasks.errors import InvalidData

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


class ImputeParameters(MethodParameters):
    """Parameters of `Impute`."""

    numeric: Literal["mean", "median", "most-frequent", "constant", "drop"] = Field(
        default="median",
        description="What fills a gap in a numeric column; drop leaves out every row with one.",
    )
    categorical: Literal["most-frequent", "constant", "drop"] = Field(
        default="most-frequent",
        description="What fills a gap in a categorical column; drop leaves out every row with one.",
    )
    numeric_constant: float = Field(
        default=0.0, allow_inf_nan=False, description="The number for numeric: constant."
    )
    categorical_constant: str = Field(
        default="missing", min_length=1, max_length=256, description="The word for categorical: constant."
    )
    columns: tuple[str, ...] = Field(
        default=(), max_length=10_000, description="Only these columns; empty takes all."
    )


class Impute(Learning, TableMethod):
    """State: `fill`, the value of every column that was there at training; `drop`, the columns without.

    A fill is learned for columns without gaps too: a request may have a gap where training had none. A
    row that a version does without is refused in a request, where nothing is left out silently.
    """

    name = "impute"
    Parameters = ImputeParameters
    mends = "gaps"
    leaves_out = "missing values"

    def summarise(self, question: Any, batch: Batch, parameters: ImputeParameters) -> Any:
        from tasks.data.methods.summaries import ExactSum, Ranks, Tally, sampled

        frame: pd.DataFrame = batch.rows
        if isinstance(question, Ranks):
            return {
                column: sampled(question, column, frame[column].dropna().to_numpy())
                for column in question.brackets
            }
        columns = chosen(frame, parameters.columns, self.name)
        numeric = [column for column in columns if is_numeric(frame[column])]
        if question == "sums":
            return {column: ExactSum(frame[column].dropna().to_numpy()) for column in numeric}
        return {
            column: Tally.of(frame[column].dropna())
            for column in columns
            if _strategy(is_numeric(frame[column]), parameters) == "most-frequent"
        }

    def learn(self, ask: Ask, like: Batch, parameters: ImputeParameters) -> State:
        from tasks.data.methods.summaries import added, quantiles, tallied

        columns = chosen(like.rows, parameters.columns, self.name)
        kinds = {column: is_numeric(like.rows[column]) for column in columns}
        strategies = {column: _strategy(numeric, parameters) for column, numeric in kinds.items()}
        numeric = [column for column in kinds if kinds[column]]
        fill: dict[str, Any] = {}
        if numeric and parameters.numeric == "mean":
            sums = added(ask("sums"))
            fill = {column: sums[column].mean if sums[column].count else None for column in numeric}
        elif numeric and parameters.numeric == "median":
            middles = quantiles(ask, numeric, [0.5])
            fill = {column: middles[column][0] if middles[column] else None for column in numeric}
        many: list[str] = []
        if "most-frequent" in strategies.values():
            for column, tally in tallied(ask("tallies")).items():
                if tally.counts is None:
                    many.append(column)
                else:
                    fill[column] = tally.most_frequent
        for column, strategy in strategies.items():
            if strategy == "constant":
                given = parameters.numeric_constant, parameters.categorical_constant
                fill[column] = given[0] if kinds[column] else given[1]
        for column, value in fill.items():
            if value is None:
                raise InvalidData(
                    f"The column {column} has no value in any training row, so nothing can fill its gaps",
                    where=column,
                    mend="leave the column out with drop-columns, or fill it with a constant",
                )
        state: State = {"fill": {column: fill[column] for column in kinds if column in fill}}
        dropped = [column for column, strategy in strategies.items() if strategy == "drop"]
        if dropped:
            state["drop"] = dropped
        if many:
            state["too_many_values"] = sorted(many)
        return state

    def left_out(
        self, frame: pd.DataFrame, parameters: ImputeParameters, state: State, *, training: bool
    ) -> np.ndarray | None:
        columns = state.get("drop")
        if not columns:
            return None
        gone: np.ndarray = frame[columns].isna().any(axis=1).to_numpy()
        return gone

    def apply(self, frame: pd.DataFrame, parameters: ImputeParameters, state: State) -> pd.DataFrame:
        gaps = list(frame.columns[frame.isna().any().to_numpy()])
        if not gaps:
            return frame
        fill = state["fill"]
        for column in gaps:
            if column in fill:
                continue
            if column in state.get("drop", ()):
                _refuse(frame, column, "training left out every such row", "send a value")
            if column in state.get("too_many_values", ()):
                mend = "fill it with a constant, or leave it out with drop-columns"
                _refuse(frame, column, "it has too many different values for a most frequent one", mend)
        return replaced(
            frame, {column: frame[column].fillna(fill[column]) for column in gaps if column in fill}
        )


def _strategy(numeric: bool, parameters: ImputeParameters) -> str:
    return parameters.numeric if numeric else parameters.categorical


def _refuse(frame: pd.DataFrame, column: str, why: str, mend: str) -> None:
    row = int(frame[column].isna().to_numpy().argmax())
    raise InvalidData(
        f"A value is missing in the column {column}: {why}",
        where=place_of(frame, row),
        mend=mend,
    )
