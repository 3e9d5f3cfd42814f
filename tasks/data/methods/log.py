"""Take the logarithm of numeric columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from tasks.data.methods.method import MethodParameters, State, TableMethod, chosen, place_of, replaced
from tasks.errors import InvalidData

if TYPE_CHECKING:
    import pandas as pd


class LogParameters(MethodParameters):
    """Parameters of `Log`."""

    columns: tuple[str, ...] = Field(
        default=(), max_length=10_000, description="Only these columns; empty takes all numeric ones."
    )
    add: float = Field(
        default=1.0,
        ge=0,
        allow_inf_nan=False,
        description="Added to every value first, so that 0 has a logarithm.",
    )
    base: Literal["e", "2", "10"] = Field(default="e", description="Base of the logarithm.")
    signed: bool = Field(
        default=False,
        description="Negative values too: the logarithm of the size, with the sign of the value.",
    )


class Log(TableMethod):
    """Gaps stay gaps."""

    name = "log"
    Parameters = LogParameters

    def apply(self, frame: pd.DataFrame, parameters: LogParameters, state: State) -> pd.DataFrame:
        import numpy as np

        columns = chosen(frame, parameters.columns, self.name, numeric=True)
        values = frame[columns].to_numpy()
        sizes = np.abs(values) if parameters.signed else values
        # log1p keeps the digits of small values, which adding 1 would lose.
        wrong = sizes + parameters.add <= 0
        if wrong.any():
            row, place = (int(where[0]) for where in np.nonzero(wrong))
            raise InvalidData(
                f"{values[row, place]:g} in the column {columns[place]} has no logarithm",
                where=place_of(frame, row),
                allowed=f"values above {-parameters.add or 0:g}",
                mend="name other columns, raise add in the method log, or set signed",
            )
        logs = np.log1p(sizes) if parameters.add == 1 else np.log(sizes + parameters.add)
        logs = logs / {"e": 1.0, "2": np.log(2), "10": np.log(10)}[parameters.base]
        if parameters.signed:
            logs = np.sign(values) * logs
        return replaced(frame, dict(zip(columns, logs.T, strict=True)))
