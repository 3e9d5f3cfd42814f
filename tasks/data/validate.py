"""Validation of a dataset version with Great Expectations, and its Data Docs."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from tasks.data.checks import Rule, Severity, rules_of
from tasks.data.config import PreprocessConfig, ValidateConfig
from tasks.data.docs_pages import publish
from tasks.data.facts import ROW_ID, facts_of, rows_by_class
from tasks.data.manifest import Manifest
from tasks.data.plan import mends_missing_values
from tasks.data.store import DatasetStore
from tasks.errors import InvalidData
from tasks.refs import DatasetRef

if TYPE_CHECKING:
    from great_expectations.core import ExpectationSuiteValidationResult

EXAMPLES = 5


class Check(BaseModel):
    """One expectation and how it went."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    column: str
    success: bool = Field(description="It holds, or what is wrong is mended by the preprocessing to come.")
    severity: Severity
    mended: bool = Field(description="It does not hold, and the preprocessing to come mends it.")
    unexpected: int = Field(description="How many rows (or classes) are not as expected.")
    of: int = Field(description="Out of how many.")
    examples: tuple[str, ...] = Field(description="Ids of the first such rows, or names of such classes.")
    message: str
    mend: str


class ValidationReport(BaseModel):
    """All checks of one version."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: DatasetRef
    success: bool
    rows: int
    checks: tuple[Check, ...]
    rows_by_class: dict[str, dict[str, int]] = Field(description="Rows by split and class name.")
    docs_path: str = Field(description="The Data Docs page, relative to the folder of the docs site.")

    @property
    def failures(self) -> tuple[Check, ...]:
        """The checks because of which this data must not be trained on."""
        return tuple(check for check in self.checks if not check.success)

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


def validate(
    ref: DatasetRef,
    store: DatasetStore,
    config: ValidateConfig,
    docs_folder: str | os.PathLike[str],
    preprocess: PreprocessConfig | None = None,
) -> ValidationReport:
    """Check a version and write its Data Docs; failed checks are in the report, not raised.

    Args:
        ref: The version.
        store: The store that holds it.
        config: The limits.
        docs_folder: Folder of the docs site; the page goes to
            `<docs_folder>/<name>/<version>/<digest of the settings>/index.html`.
        preprocess: The preprocessing that the version goes to next. A gap that it fills is reported
            and let through; without one nothing is let through.
    """
    manifest = store.open(ref)
    frame = facts_of(store, manifest)
    empty = frozenset(
        feature.name
        for feature in manifest.features
        if feature.type != "image" and frame[feature.name].isna().all()
    )
    rules = rules_of(manifest, config, empty)
    mended = mends_missing_values(manifest.problem, preprocess)
    result = _run(manifest, frame, rules)
    by_key = {_rule_of(one): one for one in result.results}
    checks = tuple(_check(rule, by_key[_key(rule)], len(frame), mended) for rule in rules)
    report = ValidationReport(
        dataset=ref,
        success=all(check.success for check in checks),
        rows=len(frame),
        checks=checks,
        rows_by_class=rows_by_class(frame, manifest),
        docs_path=f"{ref.name}/{ref.version}/{_settings_digest(config, preprocess)}/index.html",
    )
    publish(report, manifest, result, Path(docs_folder))
    return report


def _settings_digest(config: ValidateConfig, preprocess: PreprocessConfig | None) -> str:
    """Eight hex digits: validations of one version under other settings have pages of their own."""
    text = config.model_dump_json() + (preprocess.model_dump_json() if preprocess else "")
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _key(rule: Rule) -> str:
    return f"{rule.name}: {rule.column}"


def _rule_of(result: Any) -> str:
    return str(result.expectation_config.meta["rule"])


def _run(manifest: Manifest, frame: pd.DataFrame, rules: Sequence[Rule]) -> ExpectationSuiteValidationResult:
    """Run the rules as one suite, in a context of its own that leaves no files."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"  # read when the library is imported
    import great_expectations as gx

    logging.getLogger("great_expectations").setLevel(logging.WARNING)
    context: Any = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    for rule in rules:
        rule.expectation.meta = {"rule": _key(rule)}
    suite = context.suites.add(
        gx.ExpectationSuite(name=manifest.problem.value, expectations=[rule.expectation for rule in rules])
    )
    batch = (
        context.data_sources.add_pandas("trainyard")
        .add_dataframe_asset(manifest.name)
        .add_batch_definition_whole_dataframe(manifest.version)
    )
    definition = context.validation_definitions.add(
        gx.ValidationDefinition(name=manifest.version, data=batch, suite=suite)
    )
    result: ExpectationSuiteValidationResult = definition.run(
        batch_parameters={"dataframe": frame},
        result_format={
            "result_format": "SUMMARY",
            "unexpected_index_column_names": [ROW_ID],
            "partial_unexpected_count": EXAMPLES,
        },
    )
    faults = [one.exception_info for one in result.results if _raised(one.exception_info)]
    if faults:
        raise RuntimeError(f"Great Expectations could not compute {len(faults)} expectations: {faults[0]}")
    return result


def _raised(information: dict[str, Any]) -> bool:
    """Whether an expectation ended in an exception; the library nests this by metric, or does not."""
    if "raised_exception" in information:
        return bool(information["raised_exception"])
    return any(_raised(one) for one in information.values() if isinstance(one, dict))


def _check(rule: Rule, result: Any, rows: int, gaps_are_mended: bool) -> Check:
    details = result.result
    if "partial_missing_list" in details or ("missing_count" in details and rule.counted != "rows"):
        examples = [str(value) for value in details.get("partial_missing_list") or ()]
        unexpected = int(details.get("missing_count") or 0)
        of = len(rule.expectation.value_set)  # type: ignore[attr-defined]
    elif "unexpected_count" in details:
        places = details.get("partial_unexpected_index_list") or ()
        examples = [str(place[ROW_ID]) for place in places][:EXAMPLES]
        unexpected = int(details["unexpected_count"])
        of = rows
    else:
        examples, unexpected, of = [], int(not result.success), 1
    mended = not result.success and rule.severity == "mendable" and gaps_are_mended
    message = rule.good
    if not result.success:
        such = f", such as {', '.join(examples)}" if examples else ""
        message = f"{unexpected:,} of {of:,} {rule.counted} {rule.bad}{such}"
    return Check(
        name=rule.name,
        column=rule.column,
        success=bool(result.success) or mended,
        severity=rule.severity,
        mended=mended,
        unexpected=unexpected,
        of=of,
        examples=tuple(examples),
        message=message,
        mend="" if result.success else rule.mend,
    )
