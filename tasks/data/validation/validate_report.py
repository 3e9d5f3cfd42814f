"""What a validation found, and the same as Markdown for the page of a flow run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from tasks.data.validation.distributions import Distribution
from tasks.errors import InvalidData
from tasks.markdown import cell, table
from tasks.refs import DatasetRef

Severity = Literal["error", "mendable", "warning"]
State = Literal["failed", "warned", "mended", "passed"]

LONGEST_LIST = 100
"""Lines of a table in Markdown; an artifact's page shows no more with pleasure."""
BAR_WIDTH = 24
MARKS: dict[State, str] = {
    "failed": "❌ failed",
    "warned": "⚠️ look at",
    "mended": "🩹 mended",
    "passed": "✅",
}


class Check(BaseModel):
    """One expectation and how it went."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    column: str
    suite: str = Field(default="", description="The user's suite that it is from; empty: built in.")
    success: bool = Field(description="It stops nobody: it holds, will be mended, or is a warning.")
    severity: Severity
    mended: bool = Field(description="It does not hold, and the preprocessing to come mends it.")
    warned: bool = Field(default=False, description="It does not hold, which is worth a look.")
    unexpected: int = Field(description="How many rows (or classes) are not as expected.")
    of: int = Field(description="Out of how many.")
    examples: tuple[str, ...] = Field(description="Ids of the first such rows, or names of such classes.")
    message: str
    mend: str
    expectation: str = Field(default="", description="What was expected, in Great Expectations' words.")
    found: str = Field(default="", description="What was found, with the first unexpected values.")

    @property
    def state(self) -> State:
        if not self.success:
            return "failed"
        return "mended" if self.mended else "warned" if self.warned else "passed"


class ValidationReport(BaseModel):
    """All checks of one version."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: DatasetRef
    success: bool
    rows: int
    checks: tuple[Check, ...]
    rows_by_class: dict[str, dict[str, int]] = Field(
        description="Rows (objects of a detection, maps of a segmentation) by split and class name."
    )
    distributions: tuple[Distribution, ...] = Field(default=(), description="Of the files' properties.")
    docs_path: str = Field(description="The Data Docs page, relative to the folder of the docs site.")

    @property
    def failures(self) -> tuple[Check, ...]:
        """The checks because of which this data must not be trained on."""
        return self.in_state("failed")

    @property
    def counted(self) -> str:
        """What `rows_by_class` counts."""
        problem = self.dataset.problem
        return "rows" if problem.is_classification else "objects" if problem.has_objects else "images"

    @property
    def verdict(self) -> str:
        """The result in one or two sentences."""
        total = len(self.checks)
        if not self.success:
            text = f"{len(self.failures)} of {total} checks failed: this data must not be trained on."
        else:
            text = f"All {total} checks passed."
        mended, warned = len(self.in_state("mended")), len(self.in_state("warned"))
        if mended:
            text += f" In {mended} of them, the preprocessing to come mends what was found."
        if warned:
            text += f" {warned} {'is' if warned == 1 else 'are'} worth a look."
        return text

    def in_state(self, state: State) -> tuple[Check, ...]:
        """The checks in one state, in order."""
        return tuple(check for check in self.checks if check.state == state)

    def require_success(self, docs_url: str = "") -> None:
        """Raise InvalidData with the counts, the places and the mends if a check failed."""
        if self.success:
            return
        raise InvalidData(
            f"The version {self.dataset} must not be trained on: "
            + "; ".join(check.message for check in self.failures[:10])
            + (f"; and {len(self.failures) - 10} more" if len(self.failures) > 10 else ""),
            where=docs_url or self.docs_path,
            mend="; ".join(dict.fromkeys(check.mend for check in self.failures)),
        )


def render(report: ValidationReport, docs_url: str = "") -> str:
    """The report as Markdown.

    Args:
        report: The report.
        docs_url: Address of its Data Docs page, for a link.
    """
    link = f" [Data Docs]({docs_url})" if docs_url else ""
    parts = [
        f"# Validation of {cell(report.dataset.name)}\n\nVersion `{report.dataset.version}`, "
        f"{report.rows:,} rows.{link}",
        f"**{'Passed' if report.success else 'Failed'}.** {report.verdict}",
    ]
    troubled = [check for state in ("failed", "warned", "mended") for check in report.in_state(state)]  # type: ignore[arg-type]
    if troubled:
        rows = [[MARKS[one.state], _name(one), cell(one.message), cell(one.mend)] for one in troubled]
        parts.append(_first(("", "check", "what was found", "to mend"), rows))
    if report.rows_by_class:
        parts += [f"## Classes ({report.counted})", _classes(report)]
    for one in report.distributions:
        parts += [f"### {one.name}{f' ({one.unit})' if one.unit else ''}", "\n".join(_distribution(one))]
    passed = [[MARKS["passed"], _name(one), cell(one.message)] for one in report.in_state("passed")]
    if passed:
        parts += ["## Checks that passed", _first(("", "check", "finding"), passed)]
    return "\n\n".join(parts)


def ends(one: Distribution) -> str:
    """Smallest, middle and largest value of a distribution in words; empty for names."""
    if one.smallest is None or one.median is None or one.largest is None:
        return ""
    if one.smallest == one.largest:
        return f"all {one.smallest:,g}"
    return f"{one.smallest:,g} to {one.largest:,g}, median {one.median:,g}"


def _distribution(one: Distribution) -> Iterator[str]:
    if ends(one):
        yield f"{ends(one)}\n"
    most = max([count for _, count in one.bars] or [1])
    rows = [[cell(label), f"{count:,}", _bar(count, most)] for label, count in one.bars]
    yield _first((one.unit or "value", "files", ""), rows)


def _classes(report: ValidationReport) -> str:
    splits = list(report.rows_by_class)
    names = list(report.rows_by_class[splits[0]])
    totals = {name: sum(report.rows_by_class[split][name] for split in splits) for name in names}
    most = max([*totals.values(), 1])
    rows = [
        [
            cell(name),
            *(f"{report.rows_by_class[split][name]:,}" for split in splits),
            _bar(totals[name], most),
        ]
        for name in names[:LONGEST_LIST]
    ]
    more = len(names) - LONGEST_LIST
    return table(("class", *splits, ""), rows) + (f"\n\nand {more:,} more classes" if more > 0 else "")


def _bar(count: int, most: int) -> str:
    return "█" * max(round(BAR_WIDTH * count / max(most, 1)), 1 if count else 0)


def _name(check: Check) -> str:
    suite = f" ({cell(check.suite)})" if check.suite else ""
    return f"{cell(check.name)}: {cell(check.column)}{suite}"


def _first(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The first rows as a table, and how many more there are."""
    more = len(rows) - LONGEST_LIST
    return table(header, rows[:LONGEST_LIST]) + (f"\n\nand {more:,} more" if more > 0 else "")
