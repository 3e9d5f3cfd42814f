"""Preprocessing of texts, sounds, objects in images and segmentation maps."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tasks.data.config import PreprocessConfig
from tasks.data.formats.audio import decoded
from tasks.data.formats.images import png
from tasks.data.formats.rle import encode
from tasks.data.manifest import Feature
from tasks.data.methods.method import Geometry
from tasks.data.preparation.geometry import moved_objects
from tasks.data.preparation.preprocess import preprocess
from tasks.data.read import preprocessing_of, shard_tables
from tasks.data.shards import media_table, schema
from tasks.data.storage.store import DatasetStore
from tasks.errors import InvalidData, InvalidSettings
from tasks.refs import DatasetRef, Problem

CLASSES = ("cat", "dog")
LABELS = {
    Problem.OBJECT_DETECTION: "objects",
    Problem.INSTANCE_SEGMENTATION: "objects",
    Problem.SEMANTIC_SEGMENTATION: "seg_map",
}
Row = tuple[str, Any, Any]


def config(*steps: tuple[str, dict[str, Any]], size: int = 28, **split: Any) -> PreprocessConfig:
    chosen = [{"method": name, "parameters": given} for name, given in steps]
    return PreprocessConfig.model_validate({"steps": chosen, "split": split, "input_size_px": size})


def stored(store: DatasetStore, problem: Problem, **splits: list[Row]) -> DatasetRef:
    """A version of rows (id, content, label), one shard a split."""
    modality = problem.modality
    assert modality != "table"
    features = (Feature(name=modality, type=modality),)
    label = LABELS.get(problem, "label")
    layout = schema(problem, features, label, CLASSES)
    with store.writer("media") as writer:
        files = []
        for split, given_rows in splits.items():
            ids, contents, labels = (list(column) for column in zip(*given_rows, strict=True))
            files.append(writer.target.write(split, 0, 1, media_table(layout, ids, contents, labels)))
        return writer.commit(
            files, problem=problem, features=features, label=label, classes=CLASSES, parent=None,
            method="ingest:test", parameters={}, preprocessing=(), source="test",
        )  # fmt: skip


def rows_of(store: DatasetStore, ref: DatasetRef) -> dict[str, dict[str, dict[str, Any]]]:
    """By split, by id, the columns."""
    manifest = store.open(ref)
    return {
        split: {row["id"]: row for table in shard_tables(store, manifest, split) for row in table.to_pylist()}
        for split in manifest.splits
    }


def texts(count: int, start: int = 0) -> list[Row]:
    return [(f"{row}.txt", f" Word{row} ", row % 2) for row in range(start, start + count)]


def test_equal_texts_stay_once_and_the_training_split_comes_first(store: DatasetStore) -> None:
    train = [*texts(4), ("a.txt", "word0", 1), ("b.txt", None, None)]
    raw = stored(
        store, Problem.TEXT_CLASSIFICATION, train=train,
        validation=[*texts(3, 2), ("c.txt", "New", 0)], test=[*texts(3, 4), ("d.txt", " new", 1)],
    )  # fmt: skip
    ref = preprocess(raw, config(("strip", {}), ("lower-case", {}), ("deduplicate", {})), store)
    manifest, found = store.open(ref), rows_of(store, ref)
    assert manifest.left_out == {"copies": 5, "unlabelled": 1}
    assert {split: [row["text"] for row in rows.values()] for split, rows in found.items()} == {
        "train": ["word0", "word1", "word2", "word3"],
        "validation": ["word4", "new"],
        "test": ["word5", "word6"],
    }
    served = preprocessing_of(store, ref)
    assert served.texts([" Word4 ", " Word4 "]) == ["word4", "word4"]


def test_texts_need_no_step_and_are_divided(store: DatasetStore) -> None:
    raw = stored(store, Problem.TEXT_CLASSIFICATION, train=[*texts(40), ("x.txt", " Word1 ", 0)])
    ref = preprocess(raw, config(folds=4), store)
    found = rows_of(store, ref)
    assert set(found) == {"train", "test"}
    assert {key for rows in found.values() for key in rows} == {row[0] for row in texts(40)} | {"x.txt"}
    together = [key in found["test"] for key in ("1.txt", "x.txt")]
    assert together[0] == together[1]
    with pytest.raises(InvalidSettings, match="resize is not for texts"):
        preprocess(raw, config(("resize", {})), store)


def test_a_split_of_copies_alone_is_refused(store: DatasetStore) -> None:
    raw = stored(store, Problem.TEXT_CLASSIFICATION, train=texts(9), validation=texts(2), test=texts(3, 20))
    with pytest.raises(InvalidData, match="Every row of validation is a copy of a row in another split"):
        preprocess(raw, config(("deduplicate", {})), store)


def wav(seed: int, rate_hz: int, channels: int, subtype: str = "PCM_16") -> bytes:
    samples = np.random.default_rng(seed).normal(0, 0.3, (rate_hz // 10, channels)).clip(-1, 1)
    sink = io.BytesIO()
    soundfile.write(sink, samples, rate_hz, format="WAV", subtype=subtype)
    return sink.getvalue()


def test_sounds_get_one_channel_and_one_rate_and_are_served_as_stored(store: DatasetStore) -> None:
    kinds = [(8_000, 1, "PCM_16"), (44_100, 2, "PCM_24"), (16_000, 2, "FLOAT"), (16_000, 1, "PCM_16")]
    rows = [(f"{row}.wav", wav(row, *kinds[row % 4]), row % 2) for row in range(24)]
    raw = stored(store, Problem.AUDIO_CLASSIFICATION, train=rows)
    ref = preprocess(raw, config(("trim", {"longest_s": 0.05})), store)
    manifest = store.open(ref)
    assert [step.method for step in manifest.preprocessing] == ["mono", "trim", "resample"]
    contents = {key: content for key, content, _ in rows}
    served = preprocessing_of(store, ref)
    for found in rows_of(store, ref).values():
        for key, row in found.items():
            info = soundfile.info(io.BytesIO(row["audio"]["bytes"]))
            assert (info.format, info.subtype, info.channels, info.samplerate) == (
                "FLAC",
                "PCM_16",
                1,
                16_000,
            )
            assert 0 < info.frames <= 800
            (sound,) = served.sounds([decoded(contents[key])])
            assert np.array_equal(sound.samples, decoded(row["audio"]["bytes"]).samples)


def block(mask: np.ndarray, category: int, *, polygon: bool = True, crowd: bool = False) -> dict[str, Any]:
    """An object as COCO describes it, from its mask."""
    rows, columns = np.nonzero(mask)
    left, top, right, bottom = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    corners = [left, top, right, top, right, bottom, left, bottom]
    return {
        "bbox": [float(value) for value in (left, top, right - left, bottom - top)],
        "category": category,
        "area": float(mask.sum()),
        "iscrowd": crowd,
        "segmentation": [[float(value) for value in corners]] if polygon else None,
        "rle": None if polygon else encode(mask),
    }


def scene(seed: int, count: int = 2) -> tuple[np.ndarray, list[dict[str, Any]], np.ndarray]:
    """A picture of 60 × 40 with blocks, each of a brightness of its own; its objects; its map."""
    random = np.random.default_rng(seed)
    numbers = np.zeros((40, 60), np.uint8)
    for index in range(count):
        top, left = random.integers(0, 25), random.integers(0, 40)
        numbers[top : top + random.integers(6, 14), left : left + random.integers(6, 18)] = index + 1
    objects = [
        block(numbers == index, index % 2, polygon=index % 2 == 0, crowd=index % 2 == 1)
        for index in range(1, count + 1)
        if (numbers == index).any()
    ]
    return np.where(numbers > 0, 255, 0).astype(np.uint8), objects, numbers


MOVES: list[list[tuple[str, dict[str, Any]]]] = [
    [("flip", {"direction": "both"}), ("resize", {"width_px": 120, "height_px": 40})],
    [("pad", {}), ("rotate", {"angle_degrees": 90}), ("centre-crop", {"width_px": 50, "height_px": 30})],
    [("rotate", {"angle_degrees": 37, "expand": True}), ("resize", {"width_px": 96, "height_px": 80})],
]


@pytest.mark.parametrize("moves", MOVES)
def test_segmentation_maps_follow_their_images(
    store: DatasetStore, moves: list[tuple[str, dict[str, Any]]]
) -> None:
    rows = []
    for seed in range(12):
        picture, _, numbers = scene(seed)
        rows.append((f"{seed}.png", png(Image.fromarray(picture)), png(Image.fromarray(numbers))))
    ref = preprocess(stored(store, Problem.SEMANTIC_SEGMENTATION, train=rows), config(*moves), store)
    for found in rows_of(store, ref).values():
        for row in found.values():
            picture = np.asarray(Image.open(io.BytesIO(row["image"]["bytes"])))
            seg_map = np.asarray(Image.open(io.BytesIO(row["seg_map"]["bytes"])))
            assert seg_map.shape == picture.shape
            assert set(np.unique(seg_map)) <= {0, 1, 2}
            assert ((seg_map > 0) != (picture > 127)).mean() < 0.02


def test_a_palette_and_a_16_bit_map_keep_their_numbers(store: DatasetStore) -> None:
    numbers = np.arange(16, dtype=np.uint8).reshape(4, 4)
    palette = Image.fromarray(numbers, "P")
    palette.putpalette([value for index in range(256) for value in (255 - index, 0, 0)])
    sink, wide = io.BytesIO(), io.BytesIO()
    palette.save(sink, "PNG")
    Image.fromarray(numbers.astype(np.uint16) * 1000).save(wide, "PNG")
    blank = [png(Image.fromarray(np.full((4, 4), seed, np.uint8))) for seed in range(9)]
    maps = [sink.getvalue(), wide.getvalue()]
    rows = [(f"{seed}.png", blank[seed], maps[seed % 2]) for seed in range(9)]
    steps = ("flip", {}), ("resize", {"width_px": 8, "height_px": 8})
    ref = preprocess(stored(store, Problem.SEMANTIC_SEGMENTATION, train=rows), config(*steps), store)
    expected = np.kron(numbers[:, ::-1], np.ones((2, 2))).astype(int)
    for found in rows_of(store, ref).values():
        for key, row in found.items():
            seg_map = np.asarray(Image.open(io.BytesIO(row["seg_map"]["bytes"])))
            assert (seg_map == expected * (1000 if int(key[0]) % 2 else 1)).all()


@pytest.mark.parametrize("moves", MOVES)
@pytest.mark.parametrize("problem", [Problem.OBJECT_DETECTION, Problem.INSTANCE_SEGMENTATION])
def test_objects_follow_their_images(
    store: DatasetStore, problem: Problem, moves: list[tuple[str, dict[str, Any]]]
) -> None:
    rows = []
    for seed in range(12):
        picture, objects, _ = scene(seed, 1)
        if problem is Problem.OBJECT_DETECTION:
            objects = [{k: v for k, v in one.items() if k not in ("segmentation", "rle")} for one in objects]
        rows.append((f"{seed}.png", png(Image.fromarray(picture)), objects if seed else []))
    ref = preprocess(stored(store, problem, train=rows), config(*moves), store)
    turned = any(given.get("angle_degrees") == 37 for _, given in moves)
    seen = 0
    for found in rows_of(store, ref).values():
        for row in found.values():
            picture = np.asarray(Image.open(io.BytesIO(row["image"]["bytes"]))) > 127
            if not picture.any() or row["id"] == "0.png":
                assert row["objects"] == [] or row["id"] != "0.png"
                continue
            seen += 1
            (one,) = row["objects"]
            ys, xs = np.nonzero(picture)
            x, y, width, height = one["bbox"]
            edges = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
            assert np.abs(np.array([x, y, x + width, y + height]) - edges).max() <= (2 if turned else 1e-6)
            assert one["area"] == pytest.approx(picture.sum(), rel=0.1 if turned else 1e-6)
            assert x >= 0
            assert y >= 0
            assert x + width <= picture.shape[1] + 1e-9
            assert y + height <= picture.shape[0] + 1e-9
    assert seen > 5


def test_objects_that_leave_the_image_are_left_out_and_counted(store: DatasetStore) -> None:
    corner = {"bbox": [0.0, 0.0, 4.0, 4.0], "category": 0, "area": 16.0, "iscrowd": False}
    middle = {"bbox": [20.0, 10.0, 20.0, 20.0], "category": 1, "area": 400.0, "iscrowd": False}
    edge = {"bbox": [10.0, 0.0, 20.0, 10.0], "category": 1, "area": 100.0, "iscrowd": False}
    rows = [
        (f"{seed}.png", png(Image.fromarray(scene(seed)[0])), [corner, middle, edge]) for seed in range(10)
    ]
    raw = stored(store, Problem.OBJECT_DETECTION, train=rows)
    ref = preprocess(raw, config(("centre-crop", {"width_px": 30, "height_px": 30})), store)
    manifest = store.open(ref)
    assert manifest.left_out == {"objects outside the image": 10}
    assert manifest.rows == 10
    for found in rows_of(store, ref).values():
        for row in found.values():
            assert [one["bbox"] for one in row["objects"]] == [[5, 5, 20, 20], [0, 0, 15, 5]]
            assert [one["area"] for one in row["objects"]] == pytest.approx([400, 37.5])


def test_images_without_objects_are_labelled_and_those_without_label_are_not(store: DatasetStore) -> None:
    rows = [
        (f"{seed}.png", png(Image.fromarray(scene(seed)[0])), None if seed == 3 else []) for seed in range(10)
    ]
    ref = preprocess(stored(store, Problem.OBJECT_DETECTION, train=rows), config(), store)
    assert store.open(ref).left_out == {"unlabelled": 1}
    assert store.open(ref).rows == 9


@pytest.mark.parametrize("steps", [[], [("normalise", {})]])
def test_a_file_that_cannot_be_decoded_is_named(
    store: DatasetStore, steps: list[tuple[str, dict[str, Any]]]
) -> None:
    picture = png(Image.fromarray(scene(0)[0]))
    rows = [(f"{seed}.png", picture if seed != 4 else picture[:90], seed % 2) for seed in range(10)]
    splits = dict.fromkeys(("train", "validation", "test"), rows)
    with pytest.raises(InvalidData, match=r"A file cannot be decoded.*Where: 4\.png"):
        preprocess(stored(store, Problem.IMAGE_CLASSIFICATION, **splits), config(*steps), store)
    sounds = [(f"{seed}.wav", wav(seed, 8_000, 1) if seed != 7 else b"RIFF", 0) for seed in range(20)]
    with pytest.raises(InvalidData, match=r"A file cannot be decoded.*Where: 7\.wav"):
        preprocess(stored(store, Problem.AUDIO_CLASSIFICATION, train=sounds), config(), store)


@given(
    st.lists(st.tuples(st.floats(-50, 150), st.floats(-50, 150)), min_size=3, max_size=7),
    st.floats(-360, 360),
)
@settings(max_examples=100, deadline=None)
def test_whatever_is_left_of_an_object_lies_in_the_image(
    points: list[tuple[float, float]], angle: float
) -> None:
    cosine, sine = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    geometry = Geometry(np.array([[cosine, sine, 3], [-sine, cosine, -7]]), (100, 80))
    low, high = np.min(points, axis=0), np.max(points, axis=0)
    one = {
        "bbox": [*low, *(high - low)], "category": 0, "area": 50.0, "iscrowd": False,
        "segmentation": [[value for point in points for value in point]],
    }  # fmt: skip
    kept, gone = moved_objects([one], geometry)
    assert len(kept) + gone == 1
    for left in kept:
        x, y, width, height = left["bbox"]
        assert 0 <= x <= x + width <= 100 + 1e-9
        assert 0 <= y <= y + height <= 80 + 1e-9
        assert width > 0
        assert height > 0
        assert 0 <= left["area"] <= 50 + 1e-9
        for polygon in left["segmentation"]:
            assert len(polygon) >= 6
            assert min(polygon) >= 0
            assert max(polygon[::2]) <= 100
            assert max(polygon[1::2]) <= 80
