"""Pages and pictures of studies say what the trials were, also of odd ones, and are well-formed."""

from __future__ import annotations

import math
import random
import threading
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from blocks.docs_site import DocsSite
from tasks.tune.figures.coordinates import MOST_AXES, coordinates
from tasks.tune.figures.figures import figures
from tasks.tune.figures.history import best_so_far, history
from tasks.tune.figures.importance import FEWEST_TRIALS, MOST_TRIALS, importance
from tasks.tune.figures.scales import scales
from tasks.tune.figures.trial_table import MOST_COLUMNS, trial_table
from tasks.tune.progress import StudyPage
from tasks.tune.records import Study, Trial
from tasks.tune.view import Row, StudyView, of_study

LABEL = "{http://www.w3.org/2000/svg}text"


def _words(picture: str) -> list[str]:
    return [node.text or "" for node in ET.fromstring(picture).iter(LABEL)]


def _view(*rows: Row, **about: Any) -> StudyView:
    return StudyView(
        **{"name": "tune <b> on a&b", "metric": "accuracy", "mode": "max", "rows": rows, **about}
    )


def _searched(count: int, mode: str = "max") -> StudyView:
    """The rate decides; the momentum is there for some only, and the width makes no difference."""
    chance, rows = random.Random(0), []
    for number in range(1, count + 1):
        point: dict[str, Any] = {"rate": 10 ** chance.uniform(-5, -1), "width": chance.choice([32, 64])}
        if number % 3 == 0:
            point["momentum"] = chance.uniform(0.5, 0.9)
        score = 0.9 - 0.05 * abs(math.log10(point["rate"]) + 3)
        rows.append(Row(number, "succeeded", point, score if mode == "max" else 1e6 * (1 - score) ** 9))
    return _view(*rows, mode=mode)


ODD = {
    "none": _view(),
    "one that runs": _view(Row(1, "running", {"rate": 0.1})),
    "all failed": _view(*(Row(n, "failed", {"rate": 0.1}, error="a|b") for n in range(1, 13))),
    "all the same": _view(*(Row(n, "succeeded", {"rate": 0.1}, 0.5) for n in range(1, 13))),
    "no hyperparameters": _view(*(Row(n, "succeeded", {}, n / 10) for n in range(1, 13))),
    "mixed kinds": _view(
        *(Row(n, "killed", {"a": (n, "x", True)[n % 3], "<b>": -n}, float(n)) for n in range(1, 13))
    ),
    "goal far away": _view(Row(1, "succeeded", {"a": 1}, 0.2), Row(2, "succeeded", {"a": 0}, 0.3), goal=1e9),
}


@pytest.mark.parametrize("kind", ODD)
def test_odd_studies_have_a_page_and_pictures_that_are_well_formed(kind: str) -> None:
    view = ODD[kind]
    found = importance(view)
    for picture in figures(view, found).values():
        assert "nan" not in picture
        assert any("tune <b> on a&b" in words for words in _words(picture))
    page = trial_table(view, found)
    assert found.sentence
    assert page.count("| [") + page.count("| trial ") == len(view.rows) + 1
    assert "<b>" not in page


@pytest.mark.parametrize("mode", ["max", "min"])
def test_what_decides_comes_first_and_conditional_ones_are_left_out_in_words(mode: str) -> None:
    found = importance(_searched(30, mode))
    assert next(iter(found.shares)) == "rate"
    assert found.shares["rate"] > 0.8
    assert sum(found.shares.values()) == pytest.approx(1)
    assert "momentum" not in found.shares
    assert "momentum is not in all trials and is left out" in found.sentence


def test_few_trials_are_not_weighed_and_of_many_a_part_is() -> None:
    few = importance(_searched(FEWEST_TRIALS - 1))
    assert few.shares == {}
    assert f"there are {FEWEST_TRIALS - 1}" in few.sentence
    assert "study-importance" not in figures(_searched(5), few)
    assert importance(_searched(FEWEST_TRIALS)).shares
    assert f"how {MOST_TRIALS} trials rank" in importance(_searched(2 * MOST_TRIALS)).sentence


def test_the_history_knows_the_best_so_far_and_shows_values_that_are_far_away_at_the_edge() -> None:
    values = [0.5, 0.4, 1e9, 0.3, None, 0.35, 0.3]
    view = _view(*(Row(n, "succeeded", {}, value) for n, value in enumerate(values, 1)), mode="min", goal=0.2)
    assert best_so_far(view) == [(1, 0.5), (2, 0.4), (4, 0.3)]
    assert history(view).count("<path") == 1, "the value that is far away"
    words = _words(history(view))
    assert "best 0.3, trial 4" in words
    assert "goal 0.2" in words
    assert "no value" in words
    assert not any("e+" in word for word in words), "one value made the others a line"


def test_coordinates_show_what_is_not_set_and_how_many_axes_had_no_room() -> None:
    view = _searched(12)
    assert scales(view)["rate"].log
    words = _words(coordinates(view, ["width"]))
    assert words.index("width") < words.index("rate"), "the order asked for is kept"
    assert "not set" in words
    assert {"32", "64"} <= set(words)
    wide = _view(*(Row(n, "succeeded", {f"h{i}": n for i in range(MOST_AXES + 3)}, float(n)) for n in (1, 2)))
    assert any("3 hyperparameters have no room" in word for word in _words(coordinates(wide)))


def test_the_table_has_a_column_a_hyperparameter_and_the_best_first() -> None:
    rows = [
        Row(1, "early stopped", {"rate": 0.1}, 0.5, 2, 1.25, "http://x/#/runs/1"),
        Row(2, "succeeded", {"rate": 0.2, "momentum": 0.9}, 0.7, 3, 1234.5, "http://x/#/runs/2"),
        Row(3, "failed", {"rate": 0.3}, error="no room"),
        Row(4, "running", {"rate": 0.4}),
    ]
    page = trial_table(_view(*rows, planned=9, goal=0.9), importance(_view(*rows)))
    lines = [line for line in page.splitlines() if line.startswith("|")]
    assert lines[0] == "| trial | status | accuracy | epochs | seconds | rate | momentum | error |"
    assert (
        lines[2] == "| [trial 2](http://x/#/runs/2) | succeeded | **0.7000** | 3 | 1,234.5 | 0.2 | 0.9 |  |"
    )
    assert [line.split("|")[2].strip() for line in lines[2:]] == [
        "succeeded", "early stopped", "running", "failed",
    ]  # fmt: skip
    assert "Running: 3 of 9 trials ended." in page
    assert "Goal: at least 0.9000." in page
    many = _view(Row(1, "succeeded", {f"h{i}": i for i in range(MOST_COLUMNS + 2)}, 1.0))
    assert f"h{MOST_COLUMNS} {MOST_COLUMNS}, h{MOST_COLUMNS + 1}" in trial_table(many, importance(many))


def test_a_live_study_is_seen_by_the_number_of_its_trials() -> None:
    study = Study("accuracy", "max", planned=3, goal=0.9)
    study.trials = {
        "b": Trial("b", 2, {"rate": 0.2}, "run-2", "running", 0.6, epoch=4),
        "a": Trial("a", 1, {"rate": 0.1}, "run-1", "succeeded", 0.5, epoch=7),
    }
    view = of_study(study, "tune mlp", lambda run: f"http://x/{run}", {"a": 1.5})
    assert [(row.number, row.seconds, row.run_url) for row in view.rows] == [
        (1, 1.5, "http://x/run-1"),
        (2, None, "http://x/run-2"),
    ]
    assert (view.finished, view.planned, view.goal, view.ranked[0].epochs) == (1, 3, 0.9, 4)


def test_a_page_that_cannot_be_shown_is_told_and_does_not_end_the_study(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    asked = threading.Event()

    def look() -> StudyView:
        asked.set()
        raise OSError("MLflow is away")

    with StudyPage(look, DocsSite(folder=str(tmp_path), url="http://x"), every_s=0.01):
        assert asked.wait(10)
    assert "could not be shown: MLflow is away" in caplog.text
