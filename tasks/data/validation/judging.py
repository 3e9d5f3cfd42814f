"""Rules on a version: row by row on workers, and in one go what sees the whole of a column."""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa

from tasks.data.manifest import ID_COLUMN, Manifest
from tasks.data.partitions import Progress, map_partitions, silent
from tasks.data.shards import Shard
from tasks.data.validation.expectations import Outcome, merged, run, words
from tasks.data.validation.facts import (
    ROW_ID,
    ROW_SPLIT,
    columns_of_facts,
    facts_frame,
    own_columns,
    own_frame,
    stored_facts,
)
from tasks.data.validation.media_facts import shown
from tasks.data.validation.rules import Rule, Scope
from tasks.data.validation.standing import Standing
from tasks.data.validation.suites import COLUMN_LISTS, columns_of, known_columns, suite_rules

if TYPE_CHECKING:
    from distributed import Client

PARTITION_ROWS = 131_072
"""Rows that are judged together: a run of the library costs a tenth of a second, however few they are."""

UNIQUE = ("expect_column_values_to_be_unique", "expect_compound_columns_to_be_unique")


@dataclass(frozen=True)
class RowPartition:
    """Shards that a worker judges together.

    Attributes:
        shards: The shards.
        standings: How the rows of each stand to all others.
        rules: Rules on facts of the rows, and on columns.
        complete: Feature columns without a gap.
    """

    shards: tuple[Shard, ...]
    standings: tuple[Standing, ...]
    rules: tuple[Rule, ...]
    complete: tuple[str, ...]

    def judge(self) -> list[Outcome]:
        """The outcome of each rule on these rows."""
        by_fact = [rule for rule in self.rules if rule.scope == "rows"]
        by_column = [rule for rule in self.rules if rule.scope == "columns"]
        names = list(dict.fromkeys(name for rule in by_column for name in columns_of(rule)))
        facts, columns = [], []
        for shard, standing in zip(self.shards, self.standings, strict=True):
            own = [name for name in own_columns(shard.manifest) if name in names]
            stored, about = [], []
            for table in shard.groups(dict.fromkeys([*columns_of_facts(shard.manifest), *own])):
                about.append(stored_facts(table, shard.manifest, self.complete))
                stored.append(own_frame(table.select(own), shard.manifest))
            facts.append(facts_frame(shard, pd.concat(about, ignore_index=True), standing))
            columns.append(_columns(shard, names, stored, standing.media))
        frame = pd.concat(facts, ignore_index=True)
        ids = frame.pop(ROW_ID)
        of_facts = iter(run(frame, by_fact, ids))
        of_columns = iter(run(pd.concat(columns, ignore_index=True), by_column, ids))
        return [next(of_facts if rule.scope == "rows" else of_columns) for rule in self.rules]


@dataclass(frozen=True)
class WholeColumns:
    """Rules that see the whole of some columns at once: a mean, an order, values that must not repeat."""

    rules: tuple[Rule, ...]
    shards: tuple[Shard, ...]
    media: tuple[dict[str, np.ndarray], ...] = field(repr=False)

    def judge(self) -> list[Outcome]:
        """The outcome of each rule; only these columns are read, and the ids of the first rows found."""
        manifest = self.shards[0].manifest
        if all(rule.type in COLUMN_LISTS for rule in self.rules):
            return run(pd.DataFrame(columns=known_columns(manifest)), self.rules)
        names = columns_of(self.rules[0]) or [ID_COLUMN]
        stored = [name for name in own_columns(manifest) if name in names]
        parts = []
        for shard, media in zip(self.shards, self.media, strict=True):
            tables = shard.groups(stored) if stored else ()
            part = _columns(shard, names, [own_frame(table, manifest) for table in tables], media)
            parts.append(part.apply(_hashed) if _is_hashed(self.rules[0]) else part)
        frame = pd.concat(parts, ignore_index=True)
        parts.clear()
        outcomes = run(frame, self.rules)
        if _is_hashed(self.rules[0]):
            outcomes = [replace(one, values=()) for one in outcomes]  # hashes say nothing
        return [replace(one, examples=self._ids(one.positions)) for one in outcomes]

    def _ids(self, positions: Sequence[int]) -> tuple[str, ...]:
        ends = np.cumsum([shard.file.rows for shard in self.shards])
        ids = []
        for position in positions:
            place = int(np.searchsorted(ends, position, side="right"))
            first = int(ends[place]) - self.shards[place].file.rows
            ids.append(str(self.shards[place].read([ID_COLUMN])[ID_COLUMN][position - first]))
        return tuple(ids)


@dataclass(frozen=True)
class SmallFrame:
    """Rules on a frame that is small however many rows the version has."""

    rules: tuple[Rule, ...]
    frame: pd.DataFrame
    ids: pd.Series | None = None

    def judge(self) -> list[Outcome]:
        return run(self.frame, self.rules, self.ids)


def judged(
    rules: Sequence[Rule],
    shards: Sequence[Shard],
    standings: Sequence[Standing],
    frames: Mapping[Scope, tuple[pd.DataFrame, pd.Series | None]],
    complete: Sequence[str],
    client: Client | None,
    progress: Progress,
) -> list[Outcome]:
    """The outcome of each rule.

    Args:
        rules: The rules.
        shards: The shards of the version.
        standings: The standing of the rows of each shard.
        frames: The frames that are no frames of rows, and what their lines are called.
        complete: Feature columns without a gap.
        client: Dask client; this process does it without one.
        progress: Hears of what is done.
    """
    by_row = [place for place, rule in enumerate(rules) if rule.scope in ("rows", "columns")]
    partitions = _partitions(shards, standings, tuple(rules[place] for place in by_row), tuple(complete))
    jobs: list[tuple[list[int], WholeColumns | SmallFrame]] = []
    for scope, (frame, ids) in frames.items():
        places = [place for place, rule in enumerate(rules) if rule.scope == scope]
        jobs.append((places, SmallFrame(tuple(rules[place] for place in places), frame, ids)))
    media = tuple(standing.media for standing in standings)
    groups: dict[tuple[object, ...], list[int]] = {}
    for place, rule in enumerate(rules):
        if rule.scope == "whole":
            kind = rule.type in COLUMN_LISTS, _is_hashed(rule)
            groups.setdefault((*kind, *columns_of(rule)), []).append(place)
    for places in groups.values():
        whole = tuple(rules[place] for place in places)
        jobs.append((places, WholeColumns(whole, tuple(shards), media)))
    work: list[RowPartition | WholeColumns | SmallFrame] = [*(job for _, job in jobs), *partitions]
    results = map_partitions(_judge, work, client, progress)
    outcomes: dict[int, Outcome] = {}
    for (places, _), found in zip(jobs, results, strict=False):
        outcomes.update(zip(places, found, strict=True))
    parts = results[len(jobs) :]
    outcomes.update(
        {place: merged(rules[place], [part[k] for part in parts]) for k, place in enumerate(by_row)}
    )
    return [outcomes[place] for place in range(len(rules))]


def rules_of_suite(suite: str, manifest: Manifest, client: Client | None) -> list[Rule]:
    """The rules of a user's suite."""
    (rules,) = map_partitions(_read_suite, [(suite, manifest)], client, silent)
    return rules


def words_of(rules: Sequence[Rule], client: Client | None) -> list[str]:
    """What each rule expects, in the words of the library."""
    (sentences,) = map_partitions(words, [list(rules)], client, silent)
    return sentences


def _read_suite(given: tuple[str, Manifest]) -> list[Rule]:
    return suite_rules(*given)


def _judge(work: RowPartition | WholeColumns | SmallFrame) -> list[Outcome]:
    try:
        return work.judge()
    finally:
        # The library's contexts are rings that hold their frame until they are collected.
        gc.collect()
        pa.default_memory_pool().release_unused()


def _partitions(
    shards: Sequence[Shard], standings: Sequence[Standing], rules: tuple[Rule, ...], complete: tuple[str, ...]
) -> list[RowPartition]:
    """Consecutive shards of up to `PARTITION_ROWS` rows together."""
    groups: list[list[int]] = []
    rows = PARTITION_ROWS
    for place, shard in enumerate(shards):
        if rows + shard.file.rows > PARTITION_ROWS:
            groups.append([])
            rows = 0
        groups[-1].append(place)
        rows += shard.file.rows
    return [
        RowPartition(
            tuple(shards[place] for place in group),
            tuple(standings[place] for place in group),
            rules,
            complete,
        )
        for group in groups
    ]


def _is_hashed(rule: Rule) -> bool:
    """Whether a rule only asks which values are equal; a condition asks more."""
    return rule.type in UNIQUE and not rule.kwargs.get("row_condition")


def _hashed(column: pd.Series) -> pd.Series:
    """Numbers that are equal where the texts are: millions of texts take gigabytes to compare."""
    if column.dtype.kind in "fiub":
        return column
    hashes = pd.Series(pd.util.hash_array(column.fillna("").to_numpy(object), categorize=False))
    return hashes.astype("UInt64").mask(column.isna())


def _columns(
    shard: Shard, names: Sequence[str], stored: Sequence[pd.DataFrame], media: Mapping[str, np.ndarray]
) -> pd.DataFrame:
    """The columns of a shard that expectations name: as stored, and what is known of the files."""
    index = pd.RangeIndex(shard.file.rows)
    frame = pd.concat(stored, ignore_index=True) if stored else pd.DataFrame(index=index)
    facts = shown(dict(media))
    more: dict[str, Any] = {name: facts[name] for name in names if name not in frame and name in facts}
    if ROW_SPLIT in names and ROW_SPLIT not in frame:
        more[ROW_SPLIT] = shard.file.split
    return pd.concat([frame, pd.DataFrame(more, index=index)], axis=1) if more else frame
