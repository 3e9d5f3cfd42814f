"""Validation of a dataset version with Great Expectations, by partition, and its Data Docs.

Two passes go over the shards, on the workers of a Dask cluster where there is one: the first gathers
facts, the second judges rows. What this process holds in between are small arrays; the verdict, the
counts and the examples are those of one pass over the whole.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from tasks.data.config import PreprocessConfig, ValidateConfig
from tasks.data.manifest import Manifest, pages_folder
from tasks.data.partitions import Progress, map_partitions, silent
from tasks.data.preparation.plan import planned_steps
from tasks.data.storage.store import DatasetStore
from tasks.data.validation.checks import CLASS_BALANCE, CLASS_ROWS, complete_columns, rules_of
from tasks.data.validation.distributions import distributions_of
from tasks.data.validation.docs_pages import publish
from tasks.data.validation.expectations import EXAMPLES, Outcome
from tasks.data.validation.facts import ROW_LABEL, ROW_SPLIT, summarised
from tasks.data.validation.judging import judged, rules_of_suite, words_of
from tasks.data.validation.media_facts import CHANNELS, RATE
from tasks.data.validation.rules import Rule, Scope
from tasks.data.validation.standing import (
    Standing,
    Totals,
    rows_by_class,
    rows_of_classes,
    standings_of,
    totals_of,
)
from tasks.data.validation.validate_report import Check, ValidationReport
from tasks.errors import InvalidSettings
from tasks.refs import DatasetRef

if TYPE_CHECKING:
    from distributed import Client


def validate(
    ref: DatasetRef,
    store: DatasetStore,
    config: ValidateConfig,
    docs_folder: str | os.PathLike[str],
    preprocess: PreprocessConfig | None = None,
    client: Client | None = None,
    progress: Progress = silent,
    suite: str | None = None,
) -> ValidationReport:
    """Check a version and write its Data Docs; failed checks are in the report, not raised.

    Args:
        ref: The version.
        store: The store that holds it.
        config: The limits.
        docs_folder: Folder of the docs site; the page goes to
            `<docs_folder>/datasets/<name>/<version>/<digest of the settings>/index.html`.
        preprocess: The preprocessing that the version goes to next. What it mends is reported and let
            through; without one nothing is let through.
        client: Dask client; this process does it without one.
        progress: Hears of the partitions that are done.
        suite: Expectations of a user, the JSON text of what `config.suite` names.

    Raises:
        InvalidSettings: The suite, or the preprocessing, does not fit the data.
    """
    if config.suite and suite is None:
        raise InvalidSettings(
            f"The suite {config.suite} was not read",
            where="validation.suite",
            mend="pass its text as suite as well: this function reads no files but the version's",
        )
    manifest = store.open(ref)
    steps = None if preprocess is None else planned_steps(manifest.problem, preprocess)
    own_rules = rules_of_suite(suite, manifest.model_copy(update={"files": ()}), client) if suite else []
    shards = store.shards(manifest)
    # Both passes go over the same shards, and the first has the heavier work.
    summaries = map_partitions(summarised, shards, client, lambda done, of: progress(done, 2 * of))
    totals = totals_of(shards, summaries)
    standings = standings_of(shards, summaries, totals)
    del summaries
    rules = [*rules_of(manifest, config, totals, steps), *own_rules]
    outcomes = judged(
        rules,
        shards,
        standings,
        _frames(manifest, totals, standings),
        complete_columns(manifest, totals),
        client,
        lambda done, of: progress(len(shards) + len(shards) * done // of, 2 * len(shards)),
    )
    sentences = words_of(rules, client)
    settings = _settings_digest(config, preprocess, suite)
    checks = tuple(map(_check, rules, outcomes, sentences))
    report = ValidationReport(
        dataset=ref,
        success=all(check.success for check in checks),
        rows=totals.rows,
        checks=checks,
        rows_by_class=rows_by_class(totals, manifest),
        distributions=distributions_of(manifest, standings),
        docs_path=f"{pages_folder(ref.name, ref.version)}/{settings}/index.html",
    )
    publish(report, manifest, Path(docs_folder))
    return report


def _settings_digest(config: ValidateConfig, preprocess: PreprocessConfig | None, suite: str | None) -> str:
    """Eight hex digits: validations of one version under other settings have pages of their own."""
    text = config.model_dump_json() + (preprocess.model_dump_json() if preprocess else "") + (suite or "")
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _frames(
    manifest: Manifest, totals: Totals, standings: Sequence[Standing]
) -> dict[Scope, tuple[pd.DataFrame, pd.Series | None]]:
    """The frames of rules that speak of classes, splits and labels, and not of rows."""
    frames: dict[Scope, tuple[pd.DataFrame, pd.Series | None]] = {
        "splits": (pd.DataFrame({ROW_SPLIT: list(manifest.splits)}), None)
    }
    if manifest.classes:
        counts = np.array(rows_of_classes(totals, manifest))
        some = np.where(counts > 0, counts, np.nan)
        classes = pd.DataFrame({CLASS_ROWS: counts, CLASS_BALANCE: some})
        frames["classes"] = (classes, pd.Series(manifest.classes))
    else:
        ends = pd.Series(totals.label_range or (), dtype=np.float64)
        frames["labels"] = (pd.DataFrame({ROW_LABEL: ends}), None)
    if manifest.problem.modality == "audio":
        kinds = {}
        for name in (RATE, CHANNELS):
            seen = np.unique(np.concatenate([standing.media[name] for standing in standings]))
            kinds[name] = pd.Series(seen[seen > 0])
        frames["sounds"] = (pd.DataFrame(kinds), None)
    return frames


def _check(rule: Rule, outcome: Outcome, expectation: str) -> Check:
    mended = not outcome.success and rule.mended
    counted = outcome.unexpected is not None
    unexpected = outcome.unexpected if outcome.unexpected is not None else int(not outcome.success)
    of = outcome.elements if counted else 1
    message = rule.good
    if not outcome.success:
        message = rule.bad
        if counted:
            such = f", such as {', '.join(outcome.examples)}" if outcome.examples else ""
            message = f"{unexpected:,} of {of:,} {rule.counted} {rule.bad}{such}"
        elif rule.suite:
            seen = f" (found: {outcome.observed})" if outcome.observed else ""
            message = f"The version {rule.bad.replace('are', 'is', 1)}{seen}"
    return Check(
        name=rule.name,
        column=rule.column,
        suite=rule.suite,
        success=outcome.success or mended or rule.warns,
        severity="warning" if rule.warns else "mendable" if rule.mendable else "error",
        mended=mended,
        warned=not outcome.success and not mended and rule.warns,
        unexpected=unexpected,
        of=of,
        examples=outcome.examples[:EXAMPLES],
        message=message,
        mend="" if outcome.success else rule.mend,
        expectation=expectation,
        found=_found(rule, outcome, unexpected, of),
    )


def _found(rule: Rule, outcome: Outcome, unexpected: int, of: int) -> str:
    """What was found, in one line for the details."""
    if outcome.unexpected is None:
        return outcome.observed if rule.scope == "whole" else ""
    share = f"{100 * unexpected / of:.3g} % not as expected" if of else "nothing to judge"
    if not unexpected or not outcome.values:
        return share
    return f"{share}: {'; '.join(dict.fromkeys(outcome.values))}"
