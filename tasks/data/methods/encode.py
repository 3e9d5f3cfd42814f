"""Turn categorical columns into numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from tasks.data.methods.method import MethodParameters, State, TableMethod, is_numeric
from tasks.errors import InvalidData

if TYPE_CHECKING:
    import pandas as pd


class EncodeParameters(MethodParameters):
    """Parameters of `Encode`."""

    to: Literal["one-hot", "ordinal"] = Field(
        default="one-hot",
        description="One-hot: a column of 0 and 1 for every value. Ordinal: the value's place when sorted.",
    )
    max_categories: int = Field(
        default=100, ge=2, le=10_000, description="Refuse columns with more values than this (one-hot)."
    )


class Encode(TableMethod):
    """State: `categories`, the values of each categorical column in the training rows, sorted.

    A value that training never saw becomes all zeros (one-hot) or -1 (ordinal); so does a missing one.
    """

    name = "encode"
    Parameters = EncodeParameters
    learns = True

    def summarise(self, batch: pd.DataFrame, parameters: EncodeParameters) -> dict[str, set[str]]:
        return {
            column: set(batch[column].dropna()) for column in batch.columns if not is_numeric(batch[column])
        }

    def learn(self, summaries: Sequence[dict[str, set[str]]], parameters: EncodeParameters) -> State:
        categories: dict[str, list[str]] = {}
        for column in summaries[0]:
            values = sorted(set().union(*(summary[column] for summary in summaries)))
            if parameters.to == "one-hot" and len(values) > parameters.max_categories:
                raise InvalidData(
                    f"The column {column} has {len(values):,} different values, too many for one-hot",
                    where=column,
                    allowed=f"{parameters.max_categories} (max_categories)",
                    mend="leave it out with drop-columns, encode it as ordinal, or raise max_categories",
                )
            categories[column] = values
        return {"categories": categories}

    def apply(self, frame: pd.DataFrame, parameters: EncodeParameters, state: State) -> pd.DataFrame:
        import numpy as np

        if not state["categories"]:
            return frame
        order: list[str] = []
        encoded: dict[str, Any] = {}
        for column in frame.columns:
            values = state["categories"].get(column)
            if values is None:
                order.append(column)
                continue
            places = {value: place for place, value in enumerate(values)}
            place = np.array([places.get(value, -1) for value in frame[column]], np.float64)
            if parameters.to == "ordinal":
                encoded[column] = place
                order.append(column)
                continue
            for index, value in enumerate(values):
                name = f"{column}={value}"
                encoded[name] = (place == index).astype(np.float64)
                order.append(name)
        return frame.assign(**encoded)[order]
