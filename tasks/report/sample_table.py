"""Sample rows as Markdown tables: of tables, texts and sounds."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tasks.data.manifest import AUDIO_COLUMN, ID_COLUMN, TEXT_COLUMN, Manifest
from tasks.markdown import cell, link, number, table
from tasks.report.annotated import captioned
from tasks.report.samples import Samples

COLUMNS = 30
TEXT_CHARACTERS = 300

Keep = Callable[[bytes, str], str]
"""Keeps a file where a browser finds it; takes its content and its suffix, returns its address."""


def render(samples: Samples, keep: Keep) -> str:
    """The rows as a table; two tables where there are rows from before preprocessing."""
    manifest = samples.manifest
    title = f"# Samples of {cell(manifest.name)}\n\nVersion `{manifest.version}`"
    if samples.before is None:
        return f"{title}\n\n{_table(samples.rows, manifest, keep)}"
    return (
        f"{title}\n\n## Before preprocessing\n\n{_table(samples.before, samples.raw, keep)}\n\n"
        f"## After preprocessing\n\n{_table(samples.rows, manifest, keep)}"
    )


def _table(rows: Sequence[Mapping[str, Any]], manifest: Manifest, keep: Keep) -> str:
    modality = manifest.problem.modality
    if modality == "text":
        head = ["id", "label", "text"]
        lines = [[cell(row[ID_COLUMN]), *_label(row, manifest), _short(row[TEXT_COLUMN])] for row in rows]
        return table(head, lines)
    if modality == "audio":
        head = ["sound", "label", "seconds", "sample rate (Hz)", "channels"]
        lines = [_sound(row, manifest, keep) for row in rows]
        return table(head, lines, right=head[2:])
    names = [feature.name for feature in manifest.features]
    shown = names[:COLUMNS]
    head = ["id", *map(cell, [*shown, *manifest.label_columns])]
    lines = [
        [cell(row[ID_COLUMN]), *(_value(row[name]) for name in shown), *_label(row, manifest)] for row in rows
    ]
    rest = f"\n\n{len(names) - COLUMNS} more columns are not shown." if len(names) > COLUMNS else ""
    return table(head, lines) + rest


def _label(row: Mapping[str, Any], manifest: Manifest) -> list[str]:
    return [cell(captioned(row, manifest))] if manifest.label else []


def _value(value: Any) -> str:
    if value is None:
        return "-"
    return number(value) if isinstance(value, float) else cell(value)


def _short(text: str | None) -> str:
    if text is None:
        return "-"
    return cell(text if len(text) <= TEXT_CHARACTERS else text[: TEXT_CHARACTERS - 1] + "…")


def _sound(row: Mapping[str, Any], manifest: Manifest, keep: Keep) -> list[str]:
    import soundfile

    content = row[AUDIO_COLUMN]["bytes"]
    about = soundfile.info(io.BytesIO(content))
    address = keep(content, f".{about.format.lower()}")
    facts = [number(about.duration), number(int(about.samplerate)), number(int(about.channels))]
    return [link(row[ID_COLUMN], address), *_label(row, manifest), *facts]
