"""Every figure renders to a readable PNG of bounded size, whatever the data looks like."""

from __future__ import annotations

import io

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from tasks.evaluate.calibration import calibration
from tasks.evaluate.curves import class_curves as curves_of
from tasks.evaluate.importance import ColumnImportance, Importance
from tasks.evaluate.mistakes import Mistake
from tasks.report import style
from tasks.report.class_balance import MAX_CLASSES, class_balance
from tasks.report.class_curves import class_curves
from tasks.report.column_importance import MOST_BARS, column_importance
from tasks.report.confusion_matrix import confusion_matrix
from tasks.report.learning_curves import learning_curves
from tasks.report.mistakes import mistakes_grid, mistakes_table
from tasks.report.predicted_vs_true import predicted_vs_true
from tasks.report.reliability import reliability
from tasks.report.sample_grid import sample_grid


def _opened(card: Figure) -> Image.Image:
    picture = style.png(card)
    assert len(picture) <= style.MAX_PNG_BYTES
    return Image.open(io.BytesIO(picture)).convert("RGB")


def test_class_balance_sums_the_smallest_of_many_classes() -> None:
    counts = {"train": list(range(1, 101)), "test": [1] * 100}
    card = class_balance(counts, [f"class {i}" for i in range(100)], detail="many@1")

    axes = card.axes[0]
    labels = [text.get_text() for text in axes.get_yticklabels()]
    assert len(labels) == MAX_CLASSES
    assert labels[-1] == f"{100 - MAX_CLASSES + 1} smaller classes"
    assert sum(bar.get_width() for bar in axes.patches) == sum(counts["train"]) + 100
    _opened(card)


def test_the_card_is_white_so_that_it_reads_on_a_dark_page() -> None:
    picture = _opened(class_balance({"train": [3, 4]}, ["a", "b"]))
    assert picture.getpixel((0, 0)) == (255, 255, 255)
    assert picture.width == round(style.WIDTH_IN * style.DPI)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "1"])
def test_sample_grid_takes_every_image_mode(mode: str) -> None:
    images = [Image.new(mode, (12, 9)) for _ in range(11)]
    _opened(sample_grid(images, ["a very long class name indeed"] * 11))


def test_sample_grid_stays_light_with_photographs() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (16, 700, 800, 3), dtype=np.uint8)
    images = [Image.fromarray(pixels) for pixels in noise]
    _opened(sample_grid(images, ["noise"] * 16, before=images))


def test_sample_grid_without_samples() -> None:
    _opened(sample_grid([], []))


def test_learning_curves_mark_the_epoch_that_was_kept() -> None:
    curves = {
        "loss": {"train": [(1, 2.0), (2, 1.0), (3, 0.5)], "validation": [(1, 2.1), (2, 0.9), (3, 1.0)]},
        "accuracy": {"validation": [(1, 0.2), (2, 0.9), (3, 0.8)]},
    }
    card = learning_curves(curves, best_epoch=2)
    assert any(text.get_text() == "0.9" for axes in card.axes for text in axes.texts)
    _opened(card)


def test_learning_curves_of_one_point_and_of_none() -> None:
    _opened(learning_curves({"loss": {"train": [(1, 0.3)]}}, best_epoch=1))
    _opened(learning_curves({}))


def test_confusion_matrix_writes_counts_and_leaves_zeros_empty() -> None:
    card = confusion_matrix([[5, 0, 0], [1, 7, 0], [0, 0, 0]], ["a", "b", "c"])
    assert sorted(text.get_text() for text in card.axes[0].texts) == ["1", "5", "7"]
    _opened(card)


def test_confusion_matrix_of_a_hundred_classes_fits() -> None:
    _opened(confusion_matrix(np.diag(range(100)).tolist(), [str(i) for i in range(100)]))


def test_predicted_vs_true_thins_many_points() -> None:
    truth = np.random.default_rng(0).normal(size=20_000)
    _opened(predicted_vs_true(truth, truth + 0.1, label="price"))


@pytest.mark.parametrize("classes", [2, 3, 60])
def test_curves_and_calibration_of_few_and_of_many_classes(classes: int) -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, classes, 2000)
    scores = random.dirichlet(np.ones(classes), 2000).astype(np.float32)
    names = [f"a class with a rather long name {index}" for index in range(classes)]
    curves, _ = curves_of(labels, scores, names)
    card = class_curves(curves, worst_of=classes)
    _opened(card)
    legend = card.axes[0].get_legend()
    assert legend is not None
    assert len(legend.get_texts()) == len(curves)
    assert ("worst 4 of 60" in str(card.get_suptitle())) == (classes == 60)
    _opened(reliability(calibration(labels, scores)))


def test_mistakes_show_what_it_is_and_what_it_was_taken_for() -> None:
    mistakes = [Mistake(id=f"{i}.png", true="cat", predicted="dog", score=0.9) for i in range(16)]
    pictures = {mistake.id: Image.new("RGB", (40, 30)) for mistake in mistakes[:-1]}
    card = mistakes_grid(mistakes, pictures, detail="test")
    _opened(card)
    assert sum(axes.get_title() == "cat" for axes in card.axes) == 15, "one picture is gone"
    text = mistakes_table([Mistake(id="a|b", true=1.0, predicted=3.0, score=2.0)], {"a|b": {"x|y": None}})
    assert "a\\|b" in text
    assert "error" in text
    assert mistakes_table([], {}) == ""


def test_columns_are_drawn_up_to_a_number() -> None:
    columns = [ColumnImportance(name=f"column {i}", importance=1 / (i + 1)) for i in range(40)]
    both = Importance(metric="accuracy", rows=100, repeats=3, permutation=columns, native=columns[:3])
    card = column_importance(both)
    assert [len(axes.patches) for axes in card.axes] == [MOST_BARS, 3]
    _opened(card)
    alone = column_importance(
        Importance(metric="rmse", rows=9, repeats=1, permutation=columns[:1], native=[])
    )
    assert len(alone.axes) == 1
    _opened(alone)
