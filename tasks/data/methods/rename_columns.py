"""Give columns other names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from tasks.data.methods.method import MethodParameters, State, TableMethod, chosen
from tasks.errors import InvalidData

if TYPE_CHECKING:
    import pandas as pd


class RenameColumnsParameters(MethodParameters):
    """Parameters of `RenameColumns`."""

    names: dict[str, str] = Field(
        default_factory=dict, max_length=10_000, description="The new name of each column, by its old one."
    )


class RenameColumns(TableMethod):
    """Rename the named columns; all of them must be there, and no name may be taken twice."""

    name = "rename-columns"
    Parameters = RenameColumnsParameters

    def apply(self, frame: pd.DataFrame, parameters: RenameColumnsParameters, state: State) -> pd.DataFrame:
        if parameters.names:
            chosen(frame, tuple(parameters.names), self.name)
        renamed = frame.rename(columns=parameters.names)
        if not renamed.columns.is_unique:
            twice = sorted(set(renamed.columns[renamed.columns.duplicated()]))
            raise InvalidData(
                f"After rename-columns two columns would be named {', '.join(twice)}",
                where="preprocess.steps",
                allowed="names that differ",
                mend="choose other names, or leave a column out first with drop-columns",
            )
        empty = [old for old, new in parameters.names.items() if not new.strip()]
        if empty:
            raise InvalidData(
                f"The new name of {', '.join(empty)} is empty", where="preprocess.steps", mend="give a name"
            )
        return renamed
