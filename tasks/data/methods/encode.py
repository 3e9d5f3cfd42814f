"""Turn categorical columns into numbers."""

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
)
from tasks.errors import InvalidData

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

LONG = 512
"""From so many rows on it pays to look each different value up once."""


class EncodeParameters(MethodParameters):
    """Parameters of `Encode`."""

    to: Literal["one-hot", "ordinal", "target"] = Field(
        default="one-hot",
        description="One-hot: a column of 0 and 1 for every value. Ordinal: the value's place when sorted. "
        "Target: the mean of the label over the training rows with that value; of several classes, the "
        "share of each. A row's own label is in its mean: for columns of few rows a value, raise smoothing.",
    )
    max_categories: int = Field(
        default=100, ge=2, le=10_000, description="Refuse columns with more values than this (one-hot)."
    )
    smoothing: float = Field(
        default=10.0,
        ge=0,
        le=1e6,
        allow_inf_nan=False,
        description="Target: as if so many rows with the mean of all were added to each value.",
    )
    columns: tuple[str, ...] = Field(
        default=(), max_length=10_000, description="Only these columns; empty takes all categorical ones."
    )


class Encode(Learning, TableMethod):
    """State: `categories`, the values of each categorical column in the training rows, sorted.

    By target also `means`, a list for each value of a column, and `mean`, that of all training rows.

    A value that training never saw becomes all zeros (one-hot), -1 (ordinal) or the mean of all (target);
    so does a missing one.
    """

    name = "encode"
    Parameters = EncodeParameters

    def summarise(self, question: Any, batch: Batch, parameters: EncodeParameters) -> Any:
        from tasks.data.methods.summaries import Tally

        frame: pd.DataFrame = batch.rows
        columns = chosen(frame, parameters.columns, self.name, numeric=False)
        if question == "values":
            return {column: Tally.of(frame[column].dropna()) for column in columns}
        return _sums(None, batch), {column: _sums(frame[column], batch) for column in columns}

    def learn(self, ask: Ask, like: Batch, parameters: EncodeParameters) -> State:
        from tasks.data.methods.summaries import MOST_VALUES, tallied

        categories: dict[str, list[str]] = {}
        for column, tally in tallied(ask("values")).items():
            limit = parameters.max_categories if parameters.to == "one-hot" else MOST_VALUES
            if tally.counts is None or len(tally.counts) > limit:
                many = f"more than {MOST_VALUES:,}" if tally.counts is None else f"{len(tally.counts):,}"
                one_hot = "encode it as ordinal or target, or raise max_categories"
                raise InvalidData(
                    f"The column {column} has {many} different values, too many for {parameters.to}",
                    where=column,
                    allowed=f"{limit:,}" + (" (max_categories)" if parameters.to == "one-hot" else ""),
                    mend="leave it out with drop-columns"
                    + (f", {one_hot}" if parameters.to == "one-hot" else ""),
                )
            categories[column] = sorted(tally.counts)
        state: State = {"categories": categories}
        if parameters.to == "target" and categories:
            state |= _learned_means(ask, like.classes, categories, parameters.smoothing)
        return state

    def apply(self, frame: pd.DataFrame, parameters: EncodeParameters, state: State) -> pd.DataFrame:
        import numpy as np
        import pandas as pd

        if not state["categories"]:
            return frame
        made: list[tuple[str, Any]] = []
        for column in frame.columns:
            values = state["categories"].get(column)
            if values is None:
                made.append(
                    (column, frame[column].to_numpy() if is_numeric(frame[column]) else frame[column])
                )
                continue
            place = _places(frame[column], values)
            if parameters.to == "one-hot":
                made += [(f"{column}={value}", place == index) for index, value in enumerate(values)]
            elif parameters.to == "ordinal":
                made.append((column, place))
            else:
                table = np.array([*state["means"][column], state["mean"]], np.float64)
                names = [f"{column}={name}" for name in state["classes"]] or [column]
                made += zip(names, table[place].T, strict=True)
        names = [name for name, _ in made]
        if all(isinstance(values, np.ndarray) for _, values in made):
            # One array for all columns: a request of one row is spared pandas' cost for each of them.
            whole = np.empty((len(frame), len(made)), np.float64)
            for index, (_, values) in enumerate(made):
                whole[:, index] = values
            return type(frame)(whole, index=frame.index, columns=names)
        columns = [
            values
            if isinstance(values, pd.Series)
            else pd.Series(values.astype(np.float64), index=frame.index)
            for _, values in made
        ]
        return pd.concat(columns, axis=1).set_axis(names, axis=1)


def _places(series: pd.Series, values: list[str]) -> np.ndarray:
    """Where each row's value stands in the list; -1 for others: int64 [rows]."""
    import numpy as np
    import pandas as pd

    places = {value: place for place, value in enumerate(values)}
    if len(series) < LONG:
        return np.array([places.get(value, -1) for value in series], np.int64)
    codes, unique = pd.factorize(series)
    of_unique = np.array([places.get(value, -1) for value in unique] + [-1], np.int64)
    found: np.ndarray = of_unique[codes]  # the code of a gap is -1, the last
    return found


def _sums(series: pd.Series | None, batch: Batch) -> Any:
    """For each value, or for all rows together, how many rows, and the sum of the label (by class)."""
    import numpy as np
    import pandas as pd

    labels = batch.labels
    if labels is None:
        raise InvalidData("Encoding by target needs a label that is a class or a number")
    codes, unique = (np.zeros(len(labels), np.int64), ["all"]) if series is None else pd.factorize(series)
    there = codes >= 0
    codes, labels = codes[there], labels[there]
    counts = np.bincount(codes, minlength=len(unique))
    if batch.classes:
        wide = len(batch.classes)
        flat = np.bincount(codes * wide + labels.astype(np.int64), minlength=wide * len(unique))
        sums: np.ndarray = flat.reshape(-1, wide).astype(np.float64)
    else:
        sums = np.bincount(codes, weights=labels, minlength=len(unique))[:, None]
    return {
        value: (int(count), total)
        for value, count, total in zip(unique, counts.tolist(), sums.tolist(), strict=True)
    }


def _learned_means(
    ask: Ask, classes: tuple[str, ...], categories: dict[str, list[str]], smoothing: float
) -> State:
    import math

    everything: list[tuple[int, list[float]]] = []
    rows: dict[str, dict[str, list[tuple[int, list[float]]]]] = {
        column: {value: [] for value in values} for column, values in categories.items()
    }
    for of_all, of_columns in ask("sums"):
        everything.extend(of_all.values())
        for column, of_values in of_columns.items():
            for value, pair in of_values.items():
                rows[column][value].append(pair)

    def mean(pairs: list[tuple[int, list[float]]], prior: list[float]) -> list[float]:
        count = sum(pair[0] for pair in pairs) + (smoothing if prior else 0)
        added = [smoothing * share for share in prior] or [0.0] * len(everything[0][1])
        # fsum rounds once, in whatever order the batches come.
        sums = (math.fsum(pair[1][place] for pair in pairs) for place in range(len(added)))
        return [(total + extra) / count for total, extra in zip(sums, added, strict=True)]

    prior = mean(everything, [])
    # Of two classes one share says it all; of more, each has a column.
    kept = [1] if len(classes) == 2 else list(range(len(prior)))
    means = {
        column: [[mean(pairs, prior)[place] for place in kept] for pairs in of_values.values()]
        for column, of_values in rows.items()
    }
    return {
        "means": means,
        "mean": [prior[place] for place in kept],
        "classes": [classes[place] for place in kept] if len(classes) > 2 else [],
    }
