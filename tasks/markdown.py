"""Markdown as an artifact page shows it: tables, links and numbers that cannot break the page."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence


def cell(value: object) -> str:
    """User data in one line: it is shown as it is, never taken for Markdown, HTML, a link or an image."""
    text = number(value) if isinstance(value, float) else str(value)
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([\\|`\[\]*~]|(?<![^\W_])_|_(?![^\W_]))", r"\\\1", " ".join(text.split()))
    # Addresses would become links by themselves.
    return re.sub(r"(https?|ftp|www)([:.])", "\\1\u2060\\2", text)


def number(value: float | None, digits: int = 4) -> str:
    """A number for people: four significant digits, thousands separated, a dash for none."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "-" if value is None or math.isnan(value) else ("inf" if value > 0 else "-inf")
    if isinstance(value, int):
        return f"{value:,}"
    if value != 0 and (abs(value) >= 1e7 or abs(value) < 1e-4):
        return f"{value:.{digits - 1}e}"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value)))) if abs(value) > 1 else digits
    return f"{value:,.{decimals}f}"


def table(header: Sequence[str], rows: Sequence[Sequence[object]], *, right: Sequence[str] = ()) -> str:
    """A Markdown table.

    Args:
        header: Column names.
        rows: One sequence of values a row; strings are taken as ready Markdown made by `cell` or `link`.
        right: Columns to align right, which numbers should be.
    """
    rule = ["---:" if name in right else "---" for name in header]
    lines = [_row(header), _row(rule)]
    lines += [_row([value if isinstance(value, str) else cell(value) for value in row]) for row in rows]
    return "\n".join(lines)


def link(text: str, address: str) -> str:
    """A link; text alone where there is no address."""
    return f"[{cell(text)}]({address})" if address else cell(text)


def bytes_text(size: int) -> str:
    """A size for people, in binary units."""
    amount = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def _row(values: Sequence[str]) -> str:
    return "| " + " | ".join(values) + " |"
