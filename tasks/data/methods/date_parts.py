"""Turn dates into numbers."""

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
    place_of,
)
from tasks.errors import InvalidData

if TYPE_CHECKING:
    import pandas as pd

Part = Literal[
    "year", "quarter", "month", "week", "day", "weekday", "day-of-year", "hour", "minute", "second", "days"
]


class DatePartsParameters(MethodParameters):
    """Parameters of `DateParts`."""

    columns: tuple[str, ...] = Field(
        default=(),
        max_length=10_000,
        description="Columns that hold dates; empty takes those whose training values all are dates.",
    )
    parts: tuple[Part, ...] = Field(
        default=("year", "month", "day", "weekday", "hour"),
        min_length=1,
        max_length=11,
        description="A numeric column for each of them. Weekday: Monday is 0. Days: since 1970-01-01.",
    )
    format: str | None = Field(
        default=None,
        min_length=2,
        max_length=64,
        description="How dates are written, such as %d.%m.%Y; empty takes ISO 8601 (2026-11-21T09:58). "
        "Times with an offset are taken to UTC.",
    )


class DateParts(Learning, TableMethod):
    """State: `columns`. Column `bought` becomes `bought.year`, `bought.month` and so on; gaps stay gaps."""

    name = "date-parts"
    Parameters = DatePartsParameters

    def summarise(self, question: Any, batch: Batch, parameters: DatePartsParameters) -> Any:
        """For each column whether it has values, and whether all are dates."""
        frame: pd.DataFrame = batch.rows
        found: dict[str, tuple[bool, bool]] = {}
        for column in chosen(frame, parameters.columns, self.name, numeric=False):
            present = frame[column].dropna()
            found[column] = len(present) > 0, not _dates(present, parameters.format).isna().any()
        return found

    def learn(self, ask: Ask, like: Batch, parameters: DatePartsParameters) -> State:
        there: dict[str, bool] = {}
        dates: dict[str, bool] = {}
        for answer in ask("dates"):
            for column, (some, all_dates) in answer.items():
                there[column] = there.get(column, False) or some
                dates[column] = dates.get(column, True) and all_dates
        if parameters.columns:  # wrong values are named when the method is applied
            return {"columns": [column for column in there if column in parameters.columns]}
        return {"columns": [column for column in there if there[column] and dates[column]]}

    def apply(self, frame: pd.DataFrame, parameters: DatePartsParameters, state: State) -> pd.DataFrame:
        import pandas as pd

        if not state["columns"]:
            return frame
        made: dict[str, pd.Series] = {}
        for column in frame.columns:
            if column not in state["columns"]:
                made[column] = frame[column]
                continue
            dates = _dates(frame[column], parameters.format)
            wrong = (dates.isna() & frame[column].notna()).to_numpy()
            if wrong.any():
                row = int(wrong.argmax())
                raise InvalidData(
                    f"The column {column} holds {frame[column].iloc[row]!r}, which is not a date",
                    where=place_of(frame, row),
                    allowed=parameters.format or "ISO 8601, such as 2026-11-21 or 2026-11-21T09:58",
                    mend="correct the value, or set format in the method date-parts",
                )
            for part in parameters.parts:
                name = f"{column}.{part}"
                if name in frame.columns:
                    raise InvalidData(
                        f"The method date-parts would make a second column named {name}",
                        where="preprocess.steps",
                        mend="rename the column that is there with rename-columns",
                    )
                made[name] = _part(dates, part).astype("float64")
        return pd.DataFrame(made, index=frame.index)


def _dates(series: pd.Series, form: str | None) -> pd.Series:
    """Dates in UTC; NaT where a value is none. One format for all, so that rows do not sway each other."""
    import pandas as pd

    texts = series.astype("str")
    return pd.to_datetime(texts, format=form or "ISO8601", errors="coerce", utc=True)


def _part(dates: pd.Series, part: str) -> Any:
    if part == "week":
        return dates.dt.isocalendar().week
    if part == "days":
        import pandas as pd

        return (dates - pd.Timestamp("1970-01-01", tz="UTC")) / pd.Timedelta(days=1)
    return getattr(dates.dt, {"day-of-year": "dayofyear"}.get(part, part))
