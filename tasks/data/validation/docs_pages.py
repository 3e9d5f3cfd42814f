"""Data Docs: one page for each validation, readable without a network and without scripts.

Great Expectations checks the data and puts its expectations into words. Its own pages load styles and
scripts from elsewhere and carry names from the data as markup, so the page here is our own: every word
that comes from the data is escaped, and a policy in the page forbids it to run or load anything.
"""

from __future__ import annotations

import html
from datetime import UTC, datetime
from pathlib import Path

from tasks.data.manifest import Manifest
from tasks.data.storage.files import appearing
from tasks.data.validation.distributions import Distribution
from tasks.data.validation.validate_report import Check, ValidationReport, ends

STYLE = Path(__file__).with_name("data_docs.css")
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
LONGEST_TEXT = 600
"""Characters of one cell; a set of a thousand classes is cut short."""
MOST_CLASSES = 200


def publish(report: ValidationReport, manifest: Manifest, docs_folder: Path) -> None:
    """Write the page of a validation to `report.docs_path`, in place of an earlier one.

    Args:
        report: What was found.
        manifest: The version.
        docs_folder: Folder of the docs site.
    """
    with appearing(docs_folder / report.docs_path) as file:  # a reader sees the old page or the new one
        file.write(_page(report, manifest).encode())


def _page(report: ValidationReport, manifest: Manifest) -> str:
    order = [
        check
        for state in ("failed", "warned", "mended", "passed")
        for check in report.in_state(state)  # type: ignore[arg-type]
    ]
    rows = "\n".join(_row(check, _name(check), check.column, check.message, check.mend) for check in order)
    details = "\n".join(_row(check, check.expectation, check.found) for check in report.checks)
    splits = "".join(
        f"<div><dt>{html.escape(split)}</dt><dd>{count:,}</dd></div>"
        for split, count in manifest.splits.items()
    )
    left_out = "".join(
        f"<div><dt>left out: {html.escape(reason)}</dt><dd>{count:,}</dd></div>"
        for reason, count in manifest.left_out.items()
    )
    files = "\n".join(map(_distribution, report.distributions))
    body = f"""
<section class="verdict {"passed" if report.success else "failed"}">
<p class="state">{"Passed" if report.success else "Failed"}</p><p>{html.escape(report.verdict)}</p>
</section>
<section><h2>Rows</h2><dl><div><dt>all</dt><dd>{report.rows:,}</dd></div>{splits}{left_out}</dl>
{_classes_table(report, manifest)}</section>
{f'<section><h2>Files</h2><div class="distributions">{files}</div></section>' if files else ""}
<section><h2>Checks</h2>
<table class="checks">
<thead><tr><th></th><th>Check</th><th>Column</th><th>Finding</th><th>To mend</th></tr></thead>
<tbody>
{rows}
</tbody></table></section>
<section><h2>Details</h2>
<p>What was expected, in the words of Great Expectations, and what was found.</p>
<table class="details">
<thead><tr><th></th><th>Expectation</th><th>Found</th></tr></thead>
<tbody>
{details}
</tbody></table></section>"""
    written = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    name, version = html.escape(manifest.name), html.escape(manifest.version)
    problem, source = html.escape(manifest.problem.value), html.escape(manifest.source)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{name} · validation</title>
<style>
{STYLE.read_text("utf-8")}</style>
</head>
<body>
<header><p class="brand">Trainyard Data Docs</p><h1>{name}</h1>
<p>Version {version} · {problem} · from {source} · written {written}</p>
</header>
<main>{body}
</main>
<footer>Digest {html.escape(manifest.digest)}</footer>
</body>
</html>
"""


def _row(check: Check, *cells: str) -> str:
    return (
        f'<tr class="{check.state}"><td class="mark" title="{check.state}"></td>'
        + "".join(f"<td>{_text(cell)}</td>" for cell in cells)
        + "</tr>"
    )


def _name(check: Check) -> str:
    return f"{check.name} ({check.suite})" if check.suite else check.name


def _classes_table(report: ValidationReport, manifest: Manifest) -> str:
    """Class balance as bars: rows of every class, by split."""
    if not report.rows_by_class or len(manifest.classes) > MOST_CLASSES:
        return ""
    splits = list(report.rows_by_class)
    totals = {name: sum(report.rows_by_class[split][name] for split in splits) for name in manifest.classes}
    most = max([*totals.values(), 1])
    lines = "\n".join(
        f"<tr><td>{_text(name)}</td>"
        + "".join(f'<td class="number">{report.rows_by_class[split][name]:,}</td>' for split in splits)
        + _bar(totals[name], most)
        + "</tr>"
        for name in manifest.classes
    )
    head = "".join(f'<th class="number">{html.escape(split)}</th>' for split in splits)
    counted = "" if report.counted == "rows" else f" ({report.counted})"
    return (
        f'<table class="classes"><thead><tr><th>Class{counted}</th>{head}<th></th></tr></thead>'
        f"<tbody>\n{lines}\n</tbody></table>"
    )


def _distribution(one: Distribution) -> str:
    """One property of the files: its ends in words, and a bar for each stretch of values."""
    most = max([count for _, count in one.bars] or [1])
    lines = "\n".join(
        f'<tr><td>{_text(label)}</td><td class="number">{count:,}</td>{_bar(count, most)}</tr>'
        for label, count in one.bars
    )
    unit = f" ({html.escape(one.unit)})" if one.unit else ""
    summary = f"<p>{html.escape(ends(one))}</p>" if ends(one) else ""
    return (
        f"<div><h3>{html.escape(one.name)}{unit}</h3>{summary}"
        f'<table class="classes"><tbody>\n{lines}\n</tbody></table></div>'
    )


def _bar(count: int, most: int) -> str:
    return f'<td class="bar"><span style="width:{100 * count / most:.1f}%"></span></td>'


def _text(cell: str) -> str:
    """A cell's text, whatever it holds, as HTML."""
    return html.escape(cell if len(cell) <= LONGEST_TEXT else cell[: LONGEST_TEXT - 1] + "…")
