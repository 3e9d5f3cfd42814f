"""What validation finds in files, texts, boxes and maps, and how the report shows it."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from tasks.data.config import PreprocessConfig, ValidateConfig
from tasks.data.read import shard_tables
from tasks.data.storage.store import DatasetStore
from tasks.data.validation.media_facts import DECODABLE, HEIGHT, MODE, MODES, WIDTH, media_facts
from tasks.data.validation.validate import validate
from tasks.data.validation.validate_report import ValidationReport, render
from tasks.refs import Problem
from tests.helpers.versions_in_pieces import Row, box, image, seg_map, store_media


def report_of(
    store: DatasetStore, rows: dict[str, list[Row]], problem: Problem, classes: list[str], **settings: float
) -> ValidationReport:
    ref = store_media(store, rows, problem, classes)
    config = ValidateConfig.model_validate(settings)
    return validate(ref, store, config, Path(store.url).parent / "docs")


def found(report: ValidationReport, *states: str) -> dict[str, tuple[str, ...]]:
    """The first rows of every check that does not hold, by its name."""
    chosen = states or ("failed", "warned", "mended")
    return {check.name: check.examples for check in report.checks if check.state in chosen}


def sound(seconds: float, rate_hz: int = 8_000, channels: int = 1) -> bytes:
    samples = np.random.default_rng(int(seconds * 1000)).normal(0, 0.1, (int(seconds * rate_hz), channels))
    sink = io.BytesIO()
    soundfile.write(sink, samples, rate_hz, format="WAV")
    return sink.getvalue()


def test_images(store: DatasetStore) -> None:
    photograph = image(5, 64, 48, "RGB", "JPEG")
    rows: list[Row] = [
        ("good.jpg", photograph, 0),
        ("good.png", image(1), 1),
        ("cut.jpg", photograph[: len(photograph) * 2 // 3], 0),
        ("cut.png", image(2, 40, 40)[:400], 1),
        ("empty.png", b"", 1),
        ("wide.png", image(3, 2_001, 5), 0),
        ("thin.png", image(4, 3, 9), 0),
        ("clear.png", image(6, 9, 9, "RGBA"), 1),
    ]
    report = report_of(store, {"train": rows}, Problem.IMAGE_CLASSIFICATION, ["cat", "dog"])
    assert found(report) == {
        "decodable": ("cut.jpg", "cut.png", "empty.png"),
        "image size": ("thin.png",),
        "oversized images": ("wide.png",),
        "colour mode": ("clear.png",),
    }
    (oversized,) = [check for check in report.failures if check.name == "oversized images"]
    assert "the preprocessing resize" in oversized.mend
    modes = next(one for one in report.distributions if one.name == "image mode")
    assert modes.bars == (("L", 4), ("RGB", 2), ("RGBA", 1))
    widths = next(one for one in report.distributions if one.name == "image width")
    assert (widths.smallest, widths.median, widths.largest) == (3, 40, 2001)
    assert sum(count for _, count in widths.bars) == 7


def test_preprocessing_mends_oversized_images(store: DatasetStore, tmp_path: Path) -> None:
    rows: list[Row] = [
        (f"{number}.png", image(number, 2_100 if number else 30, 30), number % 2) for number in range(4)
    ]
    ref = store_media(store, {"train": rows}, Problem.IMAGE_CLASSIFICATION, ["cat", "dog"])
    report = validate(ref, store, ValidateConfig(), tmp_path / "docs", PreprocessConfig())
    assert found(report) == {"oversized images": ("1.png", "2.png", "3.png")}
    assert report.success


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_cut_anywhere_is_found(store: DatasetStore, progressive: bool) -> None:
    """Though only an eighth of its pixels is made: as full decoding finds it."""
    sink = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
    Image.fromarray(noise).save(sink, "JPEG", progressive=progressive)
    whole = sink.getvalue()
    # The last two bytes only say that nothing follows; Pillow does without them.
    cuts = [len(whole) * share // 20 for share in range(4, 20)] + [len(whole) - 40]
    contents = [whole, *(whole[:cut] for cut in cuts)]
    decodes = []
    for content in contents:
        try:
            Image.open(io.BytesIO(content)).load()
            decodes.append(True)
        except OSError:
            decodes.append(False)
    rows: list[Row] = [(str(place), content, 0) for place, content in enumerate(contents)]
    manifest = store.open(store_media(store, {"train": rows}, Problem.IMAGE_CLASSIFICATION, ["cat", "dog"]))
    (table,) = shard_tables(store, manifest, "train")
    facts, _ = media_facts(table, manifest)
    assert facts[DECODABLE].tolist() == decodes
    assert decodes[0]
    assert not any(decodes[1:])
    assert (facts[WIDTH][0], facts[HEIGHT][0], MODES[facts[MODE][0]]) == (160, 120, "RGB")


def test_texts(store: DatasetStore) -> None:
    rows: dict[str, list[Row]] = {
        "train": [("a", "words", 0), ("b", " \n\t", 1), ("c", "more words", 1), ("d", None, 0), ("e", "", 0)],
        "test": [("f", "words", 1)],
    }
    report = report_of(store, rows, Problem.TEXT_CLASSIFICATION, ["good", "bad"])
    assert found(report) == {"texts present": ("b", "d", "e"), "separate splits": ("a", "f")}
    (lengths,) = report.distributions
    assert (lengths.name, lengths.unit, lengths.largest) == ("text length", "characters", 10)


def test_sounds(store: DatasetStore) -> None:
    rows: list[Row] = [
        ("a.wav", sound(0.5), 0),
        ("b.wav", sound(0.25, 16_000, 2), 1),
        ("silent.wav", sound(0), 1),
        ("broken.wav", b"RIFF....WAVEfmt ", 0),
    ]
    report = report_of(store, {"train": rows}, Problem.AUDIO_CLASSIFICATION, ["birds", "rain"])
    assert found(report, "failed") == {"decodable": ("broken.wav",), "sounds present": ("silent.wav",)}
    assert set(found(report, "warned")) == {"sample rate", "channels"}
    (rate,) = [check for check in report.checks if check.name == "sample rate"]
    assert "the preprocessing resample" in rate.mend
    rates = next(one for one in report.distributions if one.name == "sound rate")
    assert rates.bars == (("8,000", 2), ("16,000", 1))


def test_boxes(store: DatasetStore) -> None:
    picture = image(0, 64, 48)
    rows: list[Row] = [
        ("good", picture, [box(0, 1, 1, 5, 5), box(1, 0, 0, 64, 48)]),
        ("rounded", image(1, 64, 48), [box(0, -0.5, -0.5, 65, 49), box(1, 60, 40, 5, 9)]),
        ("over the edge", image(2, 64, 48), [box(0, 60, 40, 10, 5)]),
        ("negative", image(3, 64, 48), [box(0, -5, 40, 10, 5)]),
        ("flat", image(4, 64, 48), [box(1, 5, 5, 0, 5)]),
        ("no number", image(5, 64, 48), [box(1, 5, 5, float("nan"), 5)]),
        ("no class", image(6, 64, 48), [box(7, 5, 5, 5, 5)]),
        ("nothing on it", image(7, 64, 48), []),
        ("unlabelled", image(8, 64, 48), None),
    ]
    report = report_of(store, {"train": rows}, Problem.OBJECT_DETECTION, ["cat", "dog", "cow"])
    assert found(report, "failed") == {
        "labelled": ("unlabelled",),
        "boxes inside": ("over the edge", "negative", "no number"),
        "boxes with area": ("flat", "no number"),
        "known labels": ("no class",),
    }
    assert found(report, "warned") == {"classes present": ("cow",)}
    assert report.rows_by_class == {"train": {"cat": 4, "dog": 4, "cow": 0}}
    assert report.counted == "objects"


def test_outlines(store: DatasetStore) -> None:
    corner = [[1.0, 1, 5, 1, 5, 5]]
    rows: list[Row] = [
        ("polygon", image(0, 64, 48), [box(0, 1, 1, 4, 4, segmentation=corner, rle=None)]),
        (
            "mask",
            image(1, 64, 48),
            [box(0, 1, 1, 4, 4, segmentation=[], rle='{"size": [48, 64], "counts": "1"}')],
        ),
        ("none", image(2, 64, 48), [box(0, 1, 1, 4, 4, segmentation=[], rle=None)]),
        ("a line", image(3, 64, 48), [box(0, 1, 1, 4, 4, segmentation=[[1.0, 1, 5, 5]], rle=None)]),
        ("outside", image(4, 64, 48), [box(0, 1, 1, 4, 4, segmentation=[[1.0, 1, 90, 1, 5, 5]], rle=None)]),
    ]
    report = report_of(store, {"train": rows}, Problem.INSTANCE_SEGMENTATION, ["cat"])
    assert found(report) == {"outlines": ("none", "a line"), "boxes inside": ("outside",)}


def test_maps(store: DatasetStore) -> None:
    rows: list[Row] = [
        ("good", image(0, 4, 4), seg_map([[0, 1, 1, 1]] * 4)),
        ("too wide", image(1, 4, 4), seg_map([[0, 1, 1, 1, 1]] * 4)),
        ("no class", image(2, 4, 4), seg_map([[0, 1, 1, 9]] * 4)),
        ("broken", image(3, 4, 4), b"not an image"),
        ("unlabelled", image(4, 4, 4), None),
    ]
    report = report_of(store, {"train": rows}, Problem.SEMANTIC_SEGMENTATION, ["ground", "sky", "sea"])
    assert found(report, "failed") == {
        "labelled": ("unlabelled",),
        "maps decodable": ("broken",),
        "map sizes": ("too wide",),
        "map values": ("no class",),
    }
    assert found(report, "warned") == {"classes present": ("sea",)}
    assert report.rows_by_class == {"train": {"ground": 3, "sky": 3, "sea": 0}}


def test_a_class_that_is_much_smaller_is_worth_a_look(store: DatasetStore) -> None:
    rows: list[Row] = [(str(number), f"text {number}", 0 if number < 22 else 1) for number in range(24)]
    report = report_of(store, {"train": rows}, Problem.TEXT_CLASSIFICATION, ["many", "few"])
    assert report.success
    (balance,) = report.in_state("warned")
    assert (balance.name, balance.examples, balance.unexpected, balance.of) == (
        "class balance",
        ("few",),
        1,
        2,
    )
    assert "1 is worth a look" in report.verdict
    assert report_of(
        store, {"train": rows}, Problem.TEXT_CLASSIFICATION, ["many", "few"], max_class_imbalance=11
    ).verdict == "All 11 checks passed."  # fmt: skip


def test_the_report_as_markdown(store: DatasetStore) -> None:
    evil = "<img src=x>|[a](http://b)`*\n# title"
    rows: list[Row] = [("a", "x", 0), ("b", "", 1), (evil, " ", 0), ("d", "yy", 1)]
    report = report_of(store, {"train": rows}, Problem.TEXT_CLASSIFICATION, ["good", evil])
    text = render(report, "http://127.0.0.1:1/docs/index.html")
    assert "[Data Docs](http://127.0.0.1:1/docs/index.html)" in text
    assert "2 of 4 rows are empty, or hold white space only, such as b, &lt;img src=x&gt;" in text
    assert "| good | 2 | ████████████████████████ |" in text
    assert "### text length (characters)" in text
    assert "<img" not in text
    assert "](http://b)" not in text
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert all(line.endswith("|") for line in lines)
    assert not [line for line in text.splitlines() if line.startswith("# title")]
