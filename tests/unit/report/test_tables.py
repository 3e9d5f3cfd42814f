"""Tables and pages in Markdown say what they were given, and user data cannot break them."""

from __future__ import annotations

import pandas as pd
import pytest

from tasks.markdown import bytes_text, cell, number
from tasks.refs import Problem
from tasks.report import evaluation_table, leaderboard, table_summary
from tasks.report.summary import Links, Summary, render
from tasks.sweep.board import Board, BoardEntry


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (float("nan"), "-"), (0.97123, "0.9712"), (12.3456, "12.35"), (1234, "1,234"),
     (0.0, "0.0000"), (1.0, "1.0000"), (123456.7, "123,457"), (1e-6, "1.000e-06"), (float("-inf"), "-inf")],
)  # fmt: skip
def test_numbers_are_short(value: float | None, text: str) -> None:
    assert number(value) == text


def test_user_text_cannot_break_a_table() -> None:
    assert cell("a|b\n<script>") == "a\\|b &lt;script&gt;"
    assert cell("![x](http://a/b.png)") == "!\\[x\\](http\u2060://a/b.png)"
    assert cell("`a\\|") == "\\`a\\\\\\|"
    assert bytes_text(1536) == "1.5 KiB"


def test_table_summary_has_ranges_gaps_and_frequent_values() -> None:
    frame = pd.DataFrame(
        {
            "length": [1.0, None, 3.0],
            "colour": ["red", "red", None],
            "empty": [float("nan")] * 3,
            "ok": [True] * 3,
        }
    )
    length, colour, empty, flag = table_summary.summarise(frame)
    assert (length.missing, length.low, length.mean, length.high) == (1, 1.0, 2.0, 3.0)
    assert colour.type == "categorical"
    assert colour.top == (("red", 2),)
    assert empty.mean is None
    assert flag.type == "categorical"
    text = table_summary.render([length, colour, empty, flag], limit=3)
    assert "no values" in text
    assert "1 more columns are not shown" in text


def test_metrics_table_puts_the_headline_first_with_its_interval() -> None:
    text = evaluation_table.metrics_table(
        {"test": {"f1": 0.9, "accuracy": 0.95}, "train": {"accuracy": 1.0}},
        headline="accuracy",
        interval=(0.93, 0.97),
    )
    header, _, first, second = text.splitlines()
    assert header == "| metric | train | test |"
    assert "**accuracy**" in first
    assert "(0.9300 to 0.9700)" in first
    assert second == "| f1 | - | 0.9000 |"


def test_class_table_keeps_the_columns_given() -> None:
    text = evaluation_table.class_table([{"class": "a|b", "precision": 0.5, "rows": 3}])
    assert text.splitlines()[2] == "| a\\|b | 0.5000 | 3 |"
    assert evaluation_table.class_table([]) == ""


def test_leaderboard_shows_failures_without_a_place() -> None:
    entries = [
        BoardEntry(algorithm="lightgbm", run_id="run", hyperparameters={"learning_rate": 0.12345},
                   validation=0.9, validation_interval=(0.85, 0.95),
                   test=0.8, fit_time_s=1.5, size_bytes=2048),
        BoardEntry(algorithm="mlp", note="ran out of time"),
    ]  # fmt: skip
    board = leaderboard.leaderboard(
        Board(metric="accuracy", higher_is_better=True, entries=entries), lambda run: f"http://x/{run}"
    )
    _, _, first, second = board.splitlines()
    assert "[lightgbm](http://x/run)" in first
    assert "**0.9000 (0.8500 to 0.9500)** | 0.8000 |" in first
    assert "learning_rate 0.1235" in first
    assert "2.0 KiB" in first
    assert second.startswith("| - | mlp")
    assert "ran out of time" in second


def _summary() -> Summary:
    return Summary(
        dataset="iris", dataset_version="20260101-000000-abcdef",
        problem=Problem.TABLE_CLASSIFICATION, algorithm="lightgbm",
        metric="accuracy", value=0.9565, interval=(0.87, 1.0), rows=23, model="iris v2", promoted=False,
        reasons=["accuracy 0.9565 is below the champion's 0.9700"],
        endpoint="http://127.0.0.1:3000/v1/models/iris:predict",
        serving="v1", token_file="/home/a user/token", curl="curl -sS http://127.0.0.1:3000", links=Links(run="http://m/#/r"),
    )  # fmt: skip


def test_summary_says_decision_reasons_and_links() -> None:
    page = render(_summary())
    assert "not promoted: the champion stays" in page
    assert "- accuracy 0.9565 is below" in page
    assert "[Training run in MLflow](http://m/#/r)" in page
    assert "[Data Docs]" not in page
    assert "http://127.0.0.1:3000/readyz" in page
    assert "```bash\ncurl -sS http://127.0.0.1:3000\n```" in page
