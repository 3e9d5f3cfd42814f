"""How a retraining ended, on one page: the numbers, the decision, and where to go from here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tasks.markdown import cell, link, number, table
from tasks.refs import Problem


@dataclass(frozen=True)
class Links:
    """Pages to open; an empty address shows as plain text."""

    run: str = ""
    model: str = ""
    data_docs: str = ""


@dataclass(frozen=True)
class Summary:
    """Everything that the page says.

    Args:
        dataset: Name of the dataset.
        dataset_version: Version that the model was trained on.
        problem: What the model does.
        algorithm: Algorithm that was trained.
        metric: Name of the headline metric.
        value: Its value on the held-out rows.
        interval: 95 % interval of the value.
        rows: Held-out rows.
        model: Registered model, such as `digits v3`.
        promoted: Whether this version is now the champion.
        reasons: Why it was promoted or refused, one sentence each.
        endpoint: Address that clients post to; empty where nothing is served.
        serving: Version that the endpoint answers with, such as `v3`.
        token_file: File that holds the endpoint's token.
        example: What to post: an instance as JSON, or an image file in base64 (empty: too large to show).
        links: Pages to open.
        duration_s: Seconds that the whole job took.
    """

    dataset: str
    dataset_version: str
    problem: Problem
    algorithm: str
    metric: str
    value: float
    interval: tuple[float, float] | None
    rows: int
    model: str
    promoted: bool
    reasons: Sequence[str]
    endpoint: str = ""
    serving: str = ""
    token_file: str = ""
    curl: str = ""
    links: Links = field(default_factory=Links)
    duration_s: float | None = None


def render(summary: Summary) -> str:
    """The page as Markdown."""
    value = f"**{number(summary.value)}**"
    if summary.interval is not None:
        value += f" (95 % between {number(summary.interval[0])} and {number(summary.interval[1])})"
    decision = "promoted to champion" if summary.promoted else "not promoted: the champion stays"
    rows: list[list[str]] = [
        ["data", cell(f"{summary.dataset}, version {summary.dataset_version}")],
        ["algorithm", cell(summary.algorithm)],
        [f"{cell(summary.metric)} on {number(summary.rows)} held-out rows", value],
        ["model", link(summary.model, summary.links.model)],
        ["decision", f"**{decision}**"],
    ]
    if summary.endpoint:
        serving = f" (answers with {cell(summary.serving)})" if summary.serving else ""
        rows.append(["endpoint", f"`{summary.endpoint}`{serving}"])
        rows.append(["token", f"`{summary.token_file}`"])
    if summary.duration_s is not None:
        rows.append(["took", f"{summary.duration_s:.0f} s"])
    headed = f"# {cell(summary.model)}: {cell(summary.metric)} {number(summary.value)}"
    parts = [headed, table(["", ""], rows)]
    if summary.reasons:
        parts += ["## Why", "\n".join(f"- {cell(reason)}" for reason in summary.reasons)]
    if summary.curl:
        parts += ["## Ask it", f"```bash\n{summary.curl}\n```"]
    pages = [
        ("Training run in MLflow", summary.links.run),
        ("Registered model in MLflow", summary.links.model),
        ("Data Docs", summary.links.data_docs),
    ]
    shown = [f"- {link(text, address)}" for text, address in pages if address]
    if summary.endpoint:
        health = summary.endpoint.split("/v1/")[0] + "/readyz"
        shown.append(f"- {link('Endpoint, ready or not', health)}")
    if shown:
        parts += ["## Look further", "\n".join(shown)]
    return "\n\n".join(parts)
