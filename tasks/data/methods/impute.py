"""Fill in missing values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from tasks.data.methods.method import MethodParameters, State, TableMethod, is_numeric
from tasks.errors import InvalidData

if TYPE_CHECKING:
    import pandas as pd


class ImputeParameters(MethodParameters):
    """Parameters of `Impute`."""

    numeric: Literal["mean", "median", "most-frequent", "constant"] = Field(
        default="median", description="What fills a gap in a numeric column."
    )
    categorical: Literal["most-frequent", "constant"] = Field(
        default="most-frequent", description="What fills a gap in a categorical column."
    )
    numeric_constant: float = Field(
        default=0.0, allow_inf_nan=False, description="The number for numeric: constant."
    )
    categorical_constant: str = Field(
        default="missing", min_length=1, max_length=256, description="The word for categorical: constant."
    )


class Impute(TableMethod):
    """State: `fill`, the value of every column that was there at training.

    A fill is learned for columns without gaps too: a request may have a gap where training had none.
    """

    name = "impute"
    Parameters = ImputeParameters
    learns = True
    mends_missing_values = True

    def summarise(self, batch: pd.DataFrame, parameters: ImputeParameters) -> dict[str, Any]:
        """Values of a column (numbers, for the median) or how often each occurs."""
        found: dict[str, Any] = {}
        for column in batch.columns:
            present = batch[column].dropna()
            found[column] = present.to_numpy() if is_numeric(batch[column]) else Counter(present)
        return found

    def learn(self, summaries: Sequence[dict[str, Any]], parameters: ImputeParameters) -> State:
        import numpy as np

        fill: dict[str, float | str] = {}
        for column in summaries[0]:
            parts = [summary[column] for summary in summaries]
            if isinstance(parts[0], Counter):
                if parameters.categorical == "constant":
                    fill[column] = parameters.categorical_constant
                    continue
                counts: Counter[str] = sum(parts, Counter())
                _require(column, len(counts))
                fill[column] = min(counts, key=lambda value: (-counts[value], value))
            else:
                if parameters.numeric == "constant":
                    fill[column] = parameters.numeric_constant
                    continue
                # Sorted, so that rounding does not depend on how rows were cut into batches.
                values = np.sort(np.concatenate(parts))
                _require(column, len(values))
                fill[column] = _centre(values, parameters.numeric)
        return {"fill": fill}

    def apply(self, frame: pd.DataFrame, parameters: ImputeParameters, state: State) -> pd.DataFrame:
        gaps = list(frame.columns[frame.isna().any().to_numpy()])
        if not gaps:
            return frame
        return frame.assign(**{column: frame[column].fillna(state["fill"][column]) for column in gaps})


def _centre(values: Any, kind: str) -> float:
    import numpy as np

    if kind == "mean":
        return float(values.mean())
    if kind == "median":
        return float(np.median(values))
    unique, counts = np.unique(values, return_counts=True)
    return float(unique[counts.argmax()])


def _require(column: str, count: int) -> None:
    if not count:
        raise InvalidData(
            f"The column {column} has no value in any training row, so nothing can fill its gaps",
            where=column,
            mend="leave the column out with drop-columns, or fill it with a constant",
        )
