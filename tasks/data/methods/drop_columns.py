"""Leave columns out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from tasks.data.methods.method import MethodParameters, State, TableMethod
from tasks.errors import InvalidData

if TYPE_CHECKING:
    import pandas as pd


class DropColumnsParameters(MethodParameters):
    """Parameters of `DropColumns`."""

    columns: tuple[str, ...] = Field(default=(), max_length=10_000, description="Names of the columns.")


class DropColumns(TableMethod):
    """Leave the named columns out; all of them must be there."""

    name = "drop-columns"
    Parameters = DropColumnsParameters
    mends = "columns"

    def apply(self, frame: pd.DataFrame, parameters: DropColumnsParameters, state: State) -> pd.DataFrame:
        unknown = [column for column in parameters.columns if column not in frame.columns]
        if unknown:
            raise InvalidData(
                f"There is no column {', '.join(unknown)} to leave out",
                allowed=", ".join(str(column) for column in frame.columns),
                mend="correct the names in drop-columns",
            )
        return frame.drop(columns=list(parameters.columns))
