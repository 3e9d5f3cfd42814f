"""Validation counts what is wrong, says where and how to mend it, and writes pages that need no network."""

from __future__ import annotations

import html
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tasks.data.config import IngestConfig, PreprocessConfig, StepConfig, ValidateConfig
from tasks.data.ingest import ingest
from tasks.data.storage.store import DatasetStore
from tasks.data.validation.validate import validate
from tasks.data.validation.validate_report import Check, ValidationReport
from tasks.errors import InvalidData
from tasks.refs import DatasetRef, Problem
from tests.helpers.versions_in_pieces import Row, image, store_media

from .conftest import encoded, picture

PICTURES = Problem.IMAGE_CLASSIFICATION

TABLE = """age,town,nothing,buys
31,Bern,,yes
,Graz,,no
45,Ulm,,
52,,,yes
29,Bern,,no
61,Ulm,,perhaps
"""


@pytest.fixture
def table(store: DatasetStore, tmp_path: Path) -> DatasetRef:
    (tmp_path / "rows.csv").write_text(TABLE)
    config = IngestConfig(
        source=str(tmp_path / "rows.csv"), name="rows", problem=Problem.TABLE_CLASSIFICATION
    )
    return ingest(config, store)


def images(store: DatasetStore, folder: Path) -> DatasetRef:
    config = IngestConfig(source=str(folder), name="pictures", problem=Problem.IMAGE_CLASSIFICATION)
    return ingest(config, store)


def check(report: ValidationReport, name: str, column: str | None = None) -> Check:
    (found,) = [one for one in report.checks if one.name == name and column in (None, one.column)]
    return found


class _Tags(HTMLParser):
    """The tags of a page with their attributes, as a browser would see them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: dict[str, set[str]] = {}
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            self.attributes.setdefault(name, set()).add(value or "")
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def assert_plain(page: Path) -> str:
    """Nothing in the page runs or is fetched from elsewhere; returns its text."""
    text = page.read_text()
    found = _Tags(text)
    assert not found.open
    assert found.tags.isdisjoint({"script", "img", "link", "iframe", "a", "b", "form", "svg", "object"})
    assert not [name for name in found.attributes if name.startswith("on") or name in ("href", "src")]
    assert any(policy.startswith("default-src 'none';") for policy in found.attributes["content"])
    return text


def test_good_images_pass(store: DatasetStore, image_folder: Callable[..., Path], tmp_path: Path) -> None:
    report = validate(images(store, image_folder()), store, ValidateConfig(), tmp_path / "docs")
    assert report.success
    assert not report.failures
    assert report.rows == 24
    assert report.rows_by_class["test"] == {"cat": 4, "dog": 4}
    report.require_success()
    text = assert_plain(tmp_path / "docs" / report.docs_path)
    assert "All 14 checks passed" in text
    assert "row label values must belong to this set: cat dog." in text
    assert [(one.name, one.bars) for one in report.distributions] == [
        ("image width", (("8", 24),)),
        ("image height", (("8", 24),)),
        ("image mode", (("L", 24),)),
    ]
    assert ValidationReport.model_validate_json(report.model_dump_json()) == report


def test_images_that_must_not_be_trained_on(
    store: DatasetStore, image_folder: Callable[..., Path], tmp_path: Path
) -> None:
    folder = image_folder()
    for split in ("train", "test"):
        (folder / split / "cat" / "copy.png").write_bytes(encoded(picture(900)))
    (folder / "test" / "bird").mkdir()
    (folder / "test" / "bird" / "tiny.png").write_bytes(encoded(picture(901, 2, 8)))
    report = validate(images(store, folder), store, ValidateConfig(), tmp_path / "docs")
    assert {one.name for one in report.failures} == {
        "class size",
        "classes in training",
        "image size",
        "separate splits",
    }
    copies = check(report, "separate splits")
    assert (copies.unexpected, copies.of) == (2, 27)
    assert set(copies.examples) == {"train/cat/copy.png", "test/cat/copy.png"}
    assert check(report, "image size").examples == ("test/bird/tiny.png",)
    with pytest.raises(InvalidData) as caught:
        report.require_success("http://127.0.0.1:1/docs")
    assert "1 of 27 rows belong to a class that has no training row, such as test/bird/tiny.png" in str(
        caught.value
    )
    assert caught.value.where == "http://127.0.0.1:1/docs"
    text = assert_plain(tmp_path / "docs" / report.docs_path)
    assert "3.7 % not as expected: 2<" in text, "the side that is too short, among the details"


def test_gaps_are_let_through_only_where_preprocessing_fills_them(
    store: DatasetStore, table: DatasetRef, tmp_path: Path
) -> None:
    for preprocess, mended in (
        (None, False),
        (PreprocessConfig(), True),
        (PreprocessConfig(steps=(StepConfig(method="encode"),)), False),
    ):
        report = validate(table, store, ValidateConfig(), tmp_path / "docs", preprocess)
        ages = check(report, "values present", "age")
        assert (ages.unexpected, ages.of, ages.examples) == (1, 6, ("rows.csv#2",))
        assert (ages.success, ages.mended, ages.severity) == (mended, mended, "mendable")
        assert "impute" in ages.mend


def test_what_no_preprocessing_mends(store: DatasetStore, table: DatasetRef, tmp_path: Path) -> None:
    report = validate(table, store, ValidateConfig(), tmp_path / "docs", PreprocessConfig())
    assert not report.success
    assert check(report, "labelled").mended, "preprocessing leaves these rows out"
    assert check(report, "class size").examples == ("rows.csv#6",)
    empty = check(report, "values present", "nothing")
    assert (empty.success, empty.severity, empty.unexpected) == (False, "error", 6)
    assert "drop-columns" in empty.mend
    with pytest.raises(InvalidData) as caught:
        report.require_success()
    assert "1 of 6 rows belong to a class of fewer than 2 rows, such as rows.csv#6" in str(caught.value)
    assert "add rows of these classes, or leave the classes out" in str(caught.value)
    with pytest.raises(InvalidData, match=r"1 of 6 rows have no label, such as rows.csv#3"):
        validate(table, store, ValidateConfig(), tmp_path / "docs").require_success()


def test_unlabelled_images_stop_unless_preprocessing_leaves_them_out(
    store: DatasetStore, tmp_path: Path
) -> None:
    rows: list[Row] = [(f"{number}.png", image(number), number % 2) for number in range(4)]
    ref = store_media(store, {"train": [*rows, ("4.png", image(4), None)]}, PICTURES, ["cat", "dog"])
    report = validate(ref, store, ValidateConfig(), tmp_path / "docs")
    (failure,) = report.failures
    assert failure.message == "1 of 5 rows have no label, such as 4.png"
    report = validate(ref, store, ValidateConfig(), tmp_path / "docs", PreprocessConfig())
    assert report.success
    (mended,) = report.in_state("mended")
    assert (mended.name, mended.unexpected, mended.examples) == ("labelled", 1, ("4.png",))


def test_data_without_any_label_is_stopped_always(store: DatasetStore, tmp_path: Path) -> None:
    rows: list[Row] = [(f"{number}.png", image(number), None) for number in range(4)]
    ref = store_media(store, {"train": rows}, PICTURES, ["cat", "dog"])
    report = validate(ref, store, ValidateConfig(), tmp_path / "docs", PreprocessConfig())
    assert {one.name for one in report.failures} == {"labelled", "classes present"}
    assert check(report, "labelled").mend == "label them"


def test_names_of_classes_without_rows(
    store: DatasetStore, image_folder: Callable[..., Path], tmp_path: Path
) -> None:
    folder = image_folder()
    (folder / "label_names.json").write_text('["dog", "cat", "unicorn"]')
    ref = images(store, folder)
    assert store.open(ref).classes == ("dog", "cat", "unicorn")
    report = validate(ref, store, ValidateConfig(), tmp_path / "docs")
    (failure,) = report.failures
    assert failure.message == "1 of 3 classes have no row, such as unicorn"


def test_a_column_that_is_dropped_may_have_gaps(
    store: DatasetStore, table: DatasetRef, tmp_path: Path
) -> None:
    steps = (
        StepConfig(method="drop-columns", parameters={"columns": ["nothing"]}),
        StepConfig(method="impute"),
    )
    report = validate(table, store, ValidateConfig(), tmp_path / "docs", PreprocessConfig(steps=steps))
    assert check(report, "values present", "nothing").mended
    assert [one.name for one in report.failures] == ["class size"]


def test_a_regression_and_a_second_run(store: DatasetStore, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("a,b\n1,2\n2,2\n3,2\n")
    config = IngestConfig(source=str(tmp_path / "rows.csv"), name="flat", problem=Problem.TABLE_REGRESSION)
    ref = ingest(config, store)
    report = validate(ref, store, ValidateConfig(), tmp_path / "docs")
    assert [one.name for one in report.failures] == ["label varies"]
    assert validate(ref, store, ValidateConfig(), tmp_path / "docs") == report
    assert (
        len(list((tmp_path / "docs" / "datasets" / "flat" / ref.version).rglob("*"))) == 2
    )  # a folder with a page


def test_other_limits_leave_the_page_of_the_first_validation(
    store: DatasetStore, table: DatasetRef, tmp_path: Path
) -> None:
    docs = tmp_path / "docs"
    first = validate(table, store, ValidateConfig(), docs)
    before = (docs / first.docs_path).read_text()
    paths = {
        validate(table, store, ValidateConfig(min_rows_per_class=1), docs).docs_path,
        validate(table, store, ValidateConfig(), docs, PreprocessConfig()).docs_path,
    }
    assert len(paths | {first.docs_path}) == 3
    assert (docs / first.docs_path).read_text() == before


HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.mark.parametrize("evil", [HOSTILE, "<script>alert(1)</script>", "</style><b onclick=x>$name"])
def test_markup_in_a_table_stays_text(store: DatasetStore, tmp_path: Path, evil: str) -> None:
    path = tmp_path / f"{evil.replace('/', '')}.csv"
    path.write_text(f"{evil},town,b\n1,{evil},{evil}\n,,x\n3,{evil},{evil}\n4,{evil},y{evil}\n")
    config = IngestConfig(source=str(path), name="evil", problem=Problem.TABLE_CLASSIFICATION)
    report = validate(ingest(config, store), store, ValidateConfig(), tmp_path / "docs")
    assert not report.success, "so that examples and unexpected values are shown as well"
    text = assert_plain(tmp_path / "docs" / report.docs_path)
    assert f"{html.escape(evil)} values must never be null" in text


def test_markup_in_names_of_classes_and_files_stays_text(
    store: DatasetStore, image_folder: Callable[..., Path], tmp_path: Path
) -> None:
    folder = image_folder().rename(tmp_path / f"{HOSTILE} source")
    (folder / "test" / HOSTILE).mkdir()
    (folder / "test" / HOSTILE / f"{HOSTILE}.png").write_bytes(encoded(picture(901, 2, 8)))
    report = validate(images(store, folder), store, ValidateConfig(), tmp_path / "docs")
    assert check(report, "image size").examples == (f"test/{HOSTILE}/{HOSTILE}.png",)
    text = assert_plain(tmp_path / "docs" / report.docs_path)
    assert text.count(html.escape(HOSTILE)) > 4
