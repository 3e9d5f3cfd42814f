"""Data Docs: one page for each validation, readable without a network and without scripts.

Great Expectations checks the data and puts its expectations into words. Its own pages load styles and
scripts from elsewhere and carry names from the data as markup, so the page here is our own: every word
that comes from the data is escaped, and a policy in the page forbids it to run or load anything.
"""

from __future__ import annotations

import html
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from tasks.data.manifest import Manifest

if TYPE_CHECKING:
    from great_expectations.core import ExpectationSuiteValidationResult

    from tasks.data.validate import Check, ValidationReport

STYLE = Path(__file__).with_name("data_docs.css")
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
LONGEST_TEXT = 600
"""Characters of one cell; a set of a thousand classes is cut short."""


def publish(
    report: ValidationReport, manifest: Manifest, result: ExpectationSuiteValidationResult, docs_folder: Path
) -> None:
    """Write the page of a validation to `report.docs_path`, in place of an earlier one.

    Args:
        report: What was found.
        manifest: The version.
        result: What Great Expectations returned.
        docs_folder: Folder of the docs site.
    """
    target = docs_folder / report.docs_path
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}-{secrets.token_hex(4)}")
    try:
        aside.write_text(_page(report, manifest, result), "utf-8")
        aside.replace(target)  # a reader sees the old page or the new one
    finally:
        aside.unlink(missing_ok=True)


def _page(report: ValidationReport, manifest: Manifest, result: ExpectationSuiteValidationResult) -> str:
    failed = len(report.failures)
    mended = sum(check.mended for check in report.checks)
    if failed:
        verdict = f"{failed} of {len(report.checks)} checks failed: this data must not be trained on."
    else:
        verdict = f"All {len(report.checks)} checks passed."
        if mended:
            verdict += f" In {mended} of them, gaps are filled by the preprocessing to come."
    order = sorted(report.checks, key=lambda check: (check.success, not check.mended))
    rows = "\n".join(_check_row(check) for check in order)
    splits = "".join(
        f"<div><dt>{html.escape(split)}</dt><dd>{count:,}</dd></div>"
        for split, count in manifest.splits.items()
    )
    details = "\n".join(_detail_rows(result))
    body = f"""
<section class="verdict {"failed" if failed else "passed"}">
<p class="state">{"Failed" if failed else "Passed"}</p><p>{verdict}</p>
</section>
<section><h2>Rows</h2><dl><div><dt>all</dt><dd>{report.rows:,}</dd></div>{splits}</dl>
{_classes_table(report, manifest)}</section>
<section><h2>Checks</h2>
<table class="checks">
<thead><tr><th></th><th>Check</th><th>Column</th><th>Finding</th><th>To mend</th></tr></thead>
<tbody>
{rows}
</tbody></table></section>
<section><h2>Details</h2>
<p>What was expected and what was found, in the words of Great Expectations.</p>
<table class="details">
<thead><tr><th></th><th>Expectation</th><th>Observed</th><th>Unexpected values</th></tr></thead>
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


def _check_row(check: Check) -> str:
    state = "mended" if check.mended else "passed" if check.success else "failed"
    cells = (check.name, check.column, check.message, check.mend)
    return (
        f'<tr class="{state}"><td class="mark" title="{state}"></td>'
        + "".join(f"<td>{_text(cell)}</td>" for cell in cells)
        + "</tr>"
    )


def _classes_table(report: ValidationReport, manifest: Manifest) -> str:
    """Class balance as bars: rows of every class, by split."""
    if not report.rows_by_class or len(manifest.classes) > 200:
        return ""
    splits = list(report.rows_by_class)
    totals = {name: sum(report.rows_by_class[split][name] for split in splits) for name in manifest.classes}
    most = max([*totals.values(), 1])
    lines = "\n".join(
        f"<tr><td>{html.escape(name)}</td>"
        + "".join(f'<td class="number">{report.rows_by_class[split][name]:,}</td>' for split in splits)
        + f'<td class="bar"><span style="width:{100 * totals[name] / most:.1f}%"></span></td></tr>'
        for name in manifest.classes
    )
    head = "".join(f'<th class="number">{html.escape(split)}</th>' for split in splits)
    return (
        f'<table class="classes"><thead><tr><th>Class</th>{head}<th></th></tr></thead>'
        f"<tbody>\n{lines}\n</tbody></table>"
    )


def _detail_rows(result: ExpectationSuiteValidationResult) -> Iterator[str]:
    from great_expectations.render.renderer.inline_renderer import InlineRenderer

    for one in result.results:
        words = {atom.name: atom.value for atom in InlineRenderer(render_object=one).get_rendered_content()}
        state = "passed" if one.success else "failed"
        counts = one.result.get("partial_unexpected_counts") or ()
        found = ", ".join(f"{_value(item['value'])} ({item['count']:,} ×)" for item in counts)
        cells = (
            _sentence(words["atomic.prescriptive.summary"]),
            _sentence(words["atomic.diagnostic.observed_value"]),
            found,
        )
        yield (
            f'<tr class="{state}"><td class="mark" title="{state}"></td>'
            + "".join(f"<td>{_text(cell)}</td>" for cell in cells)
            + "</tr>"
        )


def _sentence(rendered: Any) -> str:
    """A template of Great Expectations with its values put in, as plain text."""
    values = {name: one["value"] for name, one in (rendered.params or {}).items()}
    return Template(rendered.template or "").safe_substitute(values)


def _value(value: object) -> str:
    return "no value" if value is None or value != value else str(value)


def _text(cell: str) -> str:
    """A cell's text, whatever it holds, as HTML."""
    return html.escape(cell if len(cell) <= LONGEST_TEXT else cell[: LONGEST_TEXT - 1] + "…")
