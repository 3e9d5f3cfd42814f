"""Metrics on their way to MLflow, and the view of a running fit: neither makes a fit wait."""

from __future__ import annotations

import threading
import time
import xml.etree.ElementTree as ET
from contextlib import suppress
from itertools import count, pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.utils.validation import _validate_metric_name

from tasks.train.algorithms.fit import FitContext, Metrics
from tasks.train.cross_validation import share
from tasks.train.live import MOST_POINTS, Live, Standing
from tasks.train.live_curves import live_curves
from tasks.train.metric_names import metric_name
from tasks.train.metric_stream import MOST_METRICS, MetricStream
from tests.helpers.serving_stack import wait_until


class Server:
    """Takes metrics while it is up; counts the calls."""

    def __init__(self) -> None:
        self.up = threading.Event()
        self.answers = threading.Event()
        self.answers.set()
        self.calls = self.answered = 0
        self.got: list[Metric] = []

    def send(self, metrics: list[Metric]) -> None:
        self.calls += 1
        assert len(metrics) <= MOST_METRICS
        self.answers.wait()
        self.answered += 1
        if not self.up.is_set():
            raise ConnectionError("nobody is there")
        self.got += metrics


@pytest.mark.timeout(60)
def test_putting_does_not_wait_and_what_could_not_be_sent_is_sent_later() -> None:
    server = Server()
    server.answers.clear()  # hangs
    stream = MetricStream(server.send, every_s=0.01)
    stream.put({"loss": 1.0}, 1)
    wait_until(lambda: server.calls)
    for step in range(2, 3001):
        stream.put({"loss": 1 / step, "accuracy": 0.5}, step)
    assert not server.answered, "put waited for the server"
    server.answers.set()  # answers now, and refuses
    wait_until(lambda: server.calls > 2)
    assert not server.got
    server.up.set()
    stream.flush()
    assert [metric.step for metric in server.got if metric.key == "loss"] == list(range(1, 3001))
    stream.close(5)


@pytest.mark.timeout(60)
def test_an_end_without_a_server_raises_where_it_is_asked_for_and_is_soon() -> None:
    server = Server()
    stream = MetricStream(server.send, every_s=60)
    stream.put({"loss": 1.0}, 1)
    with pytest.raises(ConnectionError):
        stream.flush()
    server.answers.clear()
    stream.close(0.3)
    assert server.answered == 1, "the end waited for the server"
    server.answers.set()


def test_what_waits_is_bounded_and_keeps_both_ends_of_a_curve() -> None:
    server = Server()
    stream = MetricStream(server.send, every_s=60, most_waiting=100)
    for step in range(1, 1001):
        stream.put({"loss": 1.0}, step)
    server.up.set()
    stream.flush()
    steps = [metric.step for metric in server.got]
    assert len(steps) <= 101
    assert (steps[0], steps[-1]) == (1, 1000)
    assert steps == sorted(set(steps))


def test_metrics_that_come_in_turn_are_all_thinned_alike() -> None:
    server = Server()
    stream = MetricStream(server.send, every_s=60, most_waiting=100)
    for step in range(1, 501):
        stream.put({"loss": 1.0}, step)
        stream.put({"accuracy": 0.5}, step)
    server.up.set()
    stream.flush()
    of_each = {name: [one.step for one in server.got if one.key == name] for name in ("loss", "accuracy")}
    assert all(len(steps) > 20 and steps[-1] == 500 for steps in of_each.values())


def test_threads_that_put_at_once_share_one_sender(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    both_start = threading.Barrier(2, timeout=0.5)  # passed where two threads start a sender each

    class Watched(threading.Thread):
        def __init__(self, **settings: Any) -> None:
            made.append(settings["name"])
            with suppress(threading.BrokenBarrierError):
                both_start.wait()
            super().__init__(**settings)

    server = Server()
    server.up.set()
    stream = MetricStream(server.send, every_s=0.01)
    putting = [threading.Thread(target=stream.put, args=({"loss": 1.0}, step)) for step in (1, 2)]
    monkeypatch.setattr(threading, "Thread", Watched)
    for thread in putting:
        thread.start()
    for thread in putting:
        thread.join()
    assert made == ["metrics to MLflow"]
    stream.close(5)
    assert len(server.got) == 2


def test_what_is_left_goes_at_the_end() -> None:
    server = Server()
    server.up.set()
    stream = MetricStream(server.send, every_s=60)
    stream.put({"loss": 1.0}, 1)
    stream.close(5)
    assert len(server.got) == 1


def test_a_metric_that_is_refused_keeps_no_other_back(caplog: pytest.LogCaptureFixture) -> None:
    calls, got = 0, []

    def send(metrics: list[Metric]) -> None:
        nonlocal calls
        calls += 1
        if any("(" in metric.key for metric in metrics):
            raise MlflowException("Invalid value for the name", INVALID_PARAMETER_VALUE)
        got.extend((metric.key, metric.step) for metric in metrics)

    stream = MetricStream(send, every_s=60)
    for step in range(1, 2001):
        stream.put({"loss": 1.0} | ({"acc (%)": 0.5} if step % 2 else {}), step)
    stream.flush()
    assert got == [("loss", step) for step in range(1, 2001)]
    assert calls < 40
    stream.put({"acc (%)": 0.5, "other (%)": 0.5, "loss": 0.5}, 2001)
    stream.flush()
    assert got[-1] == ("loss", 2001)
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert [warning.split("'")[1] for warning in warnings] == ["acc (%)", "other (%)"]
    stream.close(5)


@given(st.text(max_size=300))
@example("a" * 246 + "/..." + "b")
@example("a\n")
@example(". /../ ")
def test_any_text_gives_a_name_that_mlflow_takes(text: str) -> None:
    name = metric_name(text)
    _validate_metric_name(name)
    assert 1 <= len(name) <= 250
    assert metric_name(name) == name


def test_a_fit_is_shown_while_it_runs_and_as_it_ended() -> None:
    shown: list[Standing] = []
    with Live(shown.append, every_s=0.02) as live:
        live(1, 9, {"train_loss": 1.0})
        wait_until(lambda: shown)
        for epoch in range(2, 10):
            live(epoch, 9, {"train_loss": 1 / epoch})
    assert not shown[0].ended
    assert shown[-1].ended
    assert shown[-1].finished
    assert shown[-1].epoch == 9
    assert [epoch for epoch, _ in shown[-1].curves] == list(range(1, 10))
    assert len(shown) <= 10


def test_a_view_that_fails_or_hangs_does_not_reach_the_fit() -> None:
    def show(standing: Standing) -> None:
        calls.append(standing.epoch)
        if all_told.wait(60):
            raise OSError("the page is away")

    calls: list[int] = []
    all_told = threading.Event()
    with Live(show, every_s=0.01) as live:
        live(1, 50_000, {"train_loss": 1.0})
        wait_until(lambda: calls)
        for epoch in range(2, 50_001):
            live(epoch, 50_000, {"train_loss": 1.0})
        assert calls == [1], "hearing waited for the page"
        all_told.set()
    assert calls[-1] == 50_000


def test_a_slow_page_is_shown_less_often() -> None:
    began: list[float] = []
    ended: list[float] = []

    def show(standing: Standing) -> None:
        began.append(time.monotonic())
        time.sleep(0.005)
        ended.append(time.monotonic())

    with Live(show, every_s=0.01) as live:
        for epoch in count(1):
            live(epoch, 0, {"train_loss": 1.0})
            if len(ended) == 2:
                break
            time.sleep(0.001)
    # It takes a hundredth of the time; a host that is busy makes the pause longer, never shorter.
    assert began[1] - ended[0] >= 99 * (ended[0] - began[0])


@pytest.mark.parametrize("steps", [1, 100], ids=["epochs", "steps by hundreds"])
def test_long_curves_are_thinned(steps: int) -> None:
    shown: list[Standing] = []
    with Live(shown.append) as live:
        for epoch in range(1, 10_001):
            live(steps * epoch, 0, {"train_loss": 1.0})
            live(steps * epoch, 0, {"train_accuracy": 0.5})
    kept = [epoch for epoch, _ in shown[-1].curves]
    assert kept[-1] == steps * 10_000
    assert all(len(metrics) == 2 for _, metrics in shown[-1].curves)
    assert MOST_POINTS // 3 < len(kept) <= MOST_POINTS + 1
    gaps = {b - a for a, b in pairwise(kept[:-1])}
    assert len(gaps) == 1, "not even"


@pytest.mark.parametrize(
    "values", [[1.0, 0.5, 0.2], [0.0, 0.0], [3e-9, 2e-9], [-5.0, 40.0], [float("nan"), 1.0, 2.0], [7.0, 7.0]]
)
def test_curves_so_far_are_a_picture(values: list[float]) -> None:
    epochs: list[tuple[int, Metrics]] = [
        (epoch, {"train_loss": value, "validation_loss": value / 2, "train_accuracy": 0.5})
        for epoch, value in enumerate(values, start=1)
    ]
    root = ET.fromstring(live_curves(epochs, 10, "a <b> & c"))
    lines = root.findall(".//{http://www.w3.org/2000/svg}polyline")
    assert len(lines) == 3
    for line in lines:
        points = [tuple(map(float, point.split(","))) for point in line.attrib["points"].split()]
        assert len(points) >= 2
        assert all(0 <= x <= 480 and 0 <= y <= 270 for x, y in points)


def test_own_code_has_its_own_names_and_no_known_end() -> None:
    """A panel for each of the first metrics that have a line; metrics of one step come one by one."""
    shown: list[Standing] = []
    with Live(shown.append) as live:
        for step in range(3):
            live(step, 0, {"f1 <x>": 0.1 * step})
            live(step, 0, {"loss": 1.0 / (step + 1)})
        live(2, 0, {"validation_accuracy": 0.9})  # once, by the model that it left
    assert shown[-1].metrics == {"f1 <x>": 0.2, "loss": 1 / 3, "validation_accuracy": 0.9}
    root = ET.fromstring(live_curves(shown[-1].curves, 0))
    texts = [one.text for one in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "Learning curves after step 2" in texts
    assert [text for text in texts if text in ("f1 <x>", "loss", "accuracy")] == ["f1 <x>", "loss"]
    lines = root.findall(".//{http://www.w3.org/2000/svg}polyline")
    points = [
        [tuple(map(float, point.split(","))) for point in one.attrib["points"].split()] for one in lines
    ]
    assert [len(one) for one in points] == [3, 3]
    assert all(58 <= x <= 480 for one in points for x, _ in one)


def test_one_epoch_has_no_curve() -> None:
    assert live_curves([(1, {"train_loss": 1.0})], 5) == ""


def test_folds_have_a_line_each_and_the_running_one_stands_out() -> None:
    told: list[tuple[int, Metrics]] = []
    context = FitContext(report=lambda epoch, epochs, metrics: told.append((epoch, metrics)))
    for fold in range(2):
        report = share(context, fold, 4, 0.0).report
        for epoch in range(1, 6 if fold == 0 else 3):
            report(epoch, 5, {"train_loss": 1 / epoch, "validation_loss": 2 / epoch})
    assert [epoch for epoch, _ in told] == [1, 2, 3, 4, 5, 6, 7]
    root = ET.fromstring(live_curves(told, 20))
    assert "after 2 of 5 epochs, fold 2 of 3" in "".join(root.itertext())
    lines = [line for line in root.iter() if line.tag.endswith("polyline")]
    assert [len(line.attrib["points"].split()) for line in lines] == [5, 2, 5, 2]
    assert ["stroke-opacity" in line.attrib for line in lines] == [True, False, True, False]
    starts = {line.attrib["points"].split(",")[0] for line in lines}
    assert len(starts) == 1  # each fold begins at its first epoch

    whole = share(context, 3, 4, 0.0).report  # no fold is left out: no validation
    for epoch in (1, 2, 3):
        whole(epoch, 5, {"train_loss": 1 / epoch})
    root = ET.fromstring(live_curves(told, 20))
    assert "after 3 of 5 epochs, all rows" in "".join(root.itertext())
    lines = [line for line in root.iter() if line.tag.endswith("polyline")]
    assert ["stroke-opacity" in line.attrib for line in lines] == [True, True, False, True, True]
    assert sum(one.tag.endswith("circle") for one in root.iter()) == 1


def test_folds_that_are_one_call_have_no_curves() -> None:
    told: list[tuple[int, Metrics]] = []
    context = FitContext(report=lambda epoch, epochs, metrics: told.append((epoch, metrics)))
    for fold in range(6):
        share(context, fold, 6, 0.0).report(1, 1, {"train_loss": 0.1, "validation_loss": 0.2})
    assert len(told) == 6
    assert live_curves(told, 6) == ""
