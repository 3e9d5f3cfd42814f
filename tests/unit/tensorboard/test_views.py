"""Trainings in a real TensorBoard under a real supervisor, fed from a real MLflow."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from mlflow import MlflowClient
from pydantic import ValidationError

from tasks.errors import NotAllowed, NotFound, Unavailable
from tasks.programs import Supervisor
from tasks.tensorboard.config import ViewConfig
from tasks.tensorboard.events import EventFile, tag
from tasks.tensorboard.export import Export
from tasks.tensorboard.record import ViewPlace, ViewRecord, views
from tasks.tensorboard.views import close_views, open_view
from tests.helpers.serving_stack import free_port, short_folder, supervisor, wait_until


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    with short_folder() as folder, supervisor(folder):
        yield folder


def _run(client: MlflowClient, experiment: str, name: str, steps: int, status: str = "FINISHED") -> str:
    found = client.get_experiment_by_name(experiment)
    experiment_id = found.experiment_id if found else client.create_experiment(experiment)
    run_id: str = client.create_run(experiment_id, run_name=name).info.run_id
    client.log_param(run_id, "learning_rate", 0.1)
    for step in range(1, steps + 1):
        client.log_metric(run_id, "train_loss", 1 / step, step=step)
        client.log_metric(run_id, "validation_loss", 2 / step, step=step)
    if status != "RUNNING":
        client.set_terminated(run_id, status)
    return run_id


def _scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard's own reader finds in the event files of a folder."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    reader: Any = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    reader.Reload()
    return {
        name: [(event.step, round(event.value, 4)) for event in reader.Scalars(name)]
        for name in reader.Tags()["scalars"]
    }


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("train_loss", "loss/train"),
        ("validation_accuracy", "accuracy/validation"),
        ("best_validation_loss", "best loss/validation"),
        ("step_train_loss", "steps loss/train"),
        ("evaluated_train_f1", "evaluated f1/train"),
        ("test_roc_auc", "roc_auc/test"),
        ("system/cpu_utilization_percentage", "system/cpu_utilization_percentage"),
        ("learning_rate", "learning_rate"),
        ("train", "train"),
        ("best_epoch", "best_epoch"),
    ],
)
def test_metrics_of_one_quantity_are_in_one_group(metric: str, expected: str) -> None:
    assert tag(metric) == expected


def test_histories_become_event_files_and_go_on_while_a_run_does(
    client: MlflowClient, tmp_path: Path
) -> None:
    run_id = _run(client, "followed", "the run/1", 3, "RUNNING")
    export = Export(client, tmp_path / "logs", [run_id])
    assert export.update(), "it still runs"
    [folder] = (tmp_path / "logs").iterdir()
    assert folder.name == f"the run_1 {run_id[:8]}"
    assert _scalars(folder)["loss/train"] == [(1, 1.0), (2, 0.5), (3, 0.3333)]

    client.log_metric(run_id, "train_loss", 0.25, step=4)
    client.log_metric(run_id, "accuracy", 0.9, step=1)
    assert export.update()
    found = _scalars(folder)
    assert [step for step, _ in found["loss/train"]] == [1, 2, 3, 4]
    assert found["accuracy"] == [(1, 0.9)]
    size = sum(file.stat().st_size for file in folder.iterdir())
    assert export.update()
    assert sum(file.stat().st_size for file in folder.iterdir()) == size, "written twice"
    client.set_terminated(run_id)
    assert not export.update()


def test_epochs_that_were_recorded_late_stand_in_their_order(client: MlflowClient, tmp_path: Path) -> None:
    run_id = _run(client, "late", "taken up again", 0, "RUNNING")
    for timestamp, step in ((1_000, 1), (2_000, 3), (3_000, 2)):
        client.log_metric(run_id, "train_loss", 1 / step, timestamp=timestamp, step=step)
    Export(client, tmp_path / "logs", [run_id]).update()
    [folder] = (tmp_path / "logs").iterdir()
    assert [step for step, _ in _scalars(folder)["loss/train"]] == [1, 2, 3]


def test_event_files_of_own_code_are_shown(client: MlflowClient, tmp_path: Path) -> None:
    run_id = _run(client, "own code", "mine", 1)
    own = EventFile(tmp_path / "written" / "train")
    own.scalars("my/score", [(time.time(), 7, 0.5)])
    own.close()
    client.log_artifacts(run_id, str(tmp_path / "written"), "tensorboard")
    Export(client, tmp_path / "logs", [run_id]).update()
    [folder] = (tmp_path / "logs").iterdir()
    assert _scalars(folder / "own" / "train") == {"my/score": [(7, 0.5)]}


def test_an_experiment_shows_runs_that_came_later(client: MlflowClient, tmp_path: Path) -> None:
    _run(client, "growing", "first", 1)
    experiment = client.get_experiment_by_name("growing")
    assert experiment is not None
    export = Export(client, tmp_path / "logs", (), experiment.experiment_id)
    export.update()
    _run(client, "growing", "second", 1)
    assert export.update()
    assert sorted(folder.name.split()[0] for folder in (tmp_path / "logs").iterdir()) == ["first", "second"]


def test_a_run_that_is_gone_keeps_no_other_back(
    client: MlflowClient, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run_id = _run(client, "some gone", "there", 1, "RUNNING")
    export = Export(client, tmp_path / "logs", ["0" * 32, run_id])
    assert export.update(), "the other still runs"
    client.log_metric(run_id, "train_loss", 0.5, step=2)
    assert export.update()
    [folder] = (tmp_path / "logs").iterdir()
    assert [step for step, _ in _scalars(folder)["loss/train"]] == [1, 2]
    assert caplog.text.count("could not be brought up to date") == 1


def _open_event_files(folder: Path) -> list[Path]:
    links = Path("/proc/self/fd").iterdir()
    opened = [link.readlink() for link in links if link.is_symlink()]
    return [path for path in opened if path.is_relative_to(folder)]


def test_event_files_of_ended_runs_are_closed_and_opened_again_with_the_run(
    client: MlflowClient, tmp_path: Path
) -> None:
    run_id = _run(client, "resumed", "again", 2, "KILLED")
    export = Export(client, tmp_path / "logs", [run_id])
    export.update()
    assert _open_event_files(tmp_path) == []
    client.update_run(run_id, status="RUNNING")
    client.log_metric(run_id, "train_loss", 0.1, step=3)
    assert export.update()
    assert len(_open_event_files(tmp_path)) == 1
    [folder] = (tmp_path / "logs").iterdir()
    assert [step for step, _ in _scalars(folder)["loss/train"]] == [1, 2, 3]


def test_an_experiment_shows_only_runs_on_datasets_that_the_asker_sees(
    client: MlflowClient, tmp_path: Path
) -> None:
    for dataset in ("open", "secret"):
        search = _run(client, "mixed", f"search on {dataset}", 1)
        client.set_tag(search, "trainyard.dataset", f"{dataset}@1")
        client.set_tag(_run(client, "mixed", f"trial on {dataset}", 1), "mlflow.parentRunId", search)
    circle = _run(client, "mixed", "circle", 1)
    client.set_tag(circle, "mlflow.parentRunId", circle)
    client.set_tag(_run(client, "mixed", "orphan", 1), "mlflow.parentRunId", "0" * 32)
    _run(client, "mixed", "no dataset", 1)
    experiment = client.get_experiment_by_name("mixed")
    assert experiment is not None
    Export(client, tmp_path / "logs", (), experiment.experiment_id, ("open",)).update()
    shown = {folder.name[:-9] for folder in (tmp_path / "logs").iterdir()}
    assert shown == {"search on open", "trial on open", "no dataset"}


def test_a_view_that_cannot_be_started_leaves_nothing(
    client: MlflowClient, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise Unavailable("the supervisor went away")

    config = ViewConfig(runs=(_run(client, "unstarted", "x", 1),))
    monkeypatch.setattr(Supervisor, "ensure", refused)
    with pytest.raises(Unavailable, match="went away"):
        open_view(config, client, home, "127.0.0.1", free_port() - 200)
    assert views(home) == []
    assert list((home / "supervisor.d").glob("tensorboard-*")) == []


def test_a_view_is_opened_once_followed_and_closed(client: MlflowClient, home: Path) -> None:
    run_id = _run(client, "seen", "live", 2, "RUNNING")
    first_port = free_port() - 200
    config = ViewConfig(runs=(run_id,))
    record = open_view(config, client, home, "127.0.0.1", first_port, user="ada")
    assert open_view(config, client, home, "127.0.0.1", first_port, user="ada") == record

    def points() -> int:
        answer = httpx.get(
            f"{record.url}data/plugin/scalars/scalars",
            params={"run": f"live {run_id[:8]}", "tag": "loss/train"},
            trust_env=False,
        )
        return len(answer.json()) if answer.status_code == 200 else 0

    wait_until(lambda: points() == 2, timeout_s=60)
    client.log_metric(run_id, "train_loss", 0.1, step=3)
    wait_until(lambda: points() == 3, timeout_s=60)

    place = ViewPlace(home, record.name)
    with pytest.raises(NotAllowed, match="its owner ada"):
        close_views(home, record.name, "eve")
    assert close_views(home, user="eve") == []
    assert points() == 3
    assert close_views(home, user="ada") == [record.name]
    with pytest.raises(httpx.ConnectError):
        httpx.get(record.url, trust_env=False)
    assert not place.folder.exists()
    assert not place.conf_file.exists()
    assert Supervisor(home).state(record.name) == "ABSENT"
    with pytest.raises(NotFound, match="no open view"):
        close_views(home, record.name, "ada")


def test_a_view_that_nobody_looks_at_closes_itself(client: MlflowClient, home: Path) -> None:
    run_id = _run(client, "unseen", "idle", 1)
    config = ViewConfig(runs=(run_id,), idle_hours=1 / 3600)
    record: ViewRecord = open_view(config, client, home, "127.0.0.1", free_port() - 200)
    wait_until(lambda: Supervisor(home).state(record.name) in ("EXITED", "ABSENT"), timeout_s=60)
    assert views(home) == []
    assert not ViewPlace(home, record.name).conf_file.exists(), "it would come up with the stack"


def test_what_cannot_be_shown_is_refused_in_words(client: MlflowClient, home: Path) -> None:
    with pytest.raises(NotFound, match="no run 0000"):
        open_view(ViewConfig(runs=("0" * 32,)), client, home, "127.0.0.1", 3000)
    with pytest.raises(NotFound, match="no experiment named 'nothing'"):
        open_view(ViewConfig(experiment="nothing"), client, home, "127.0.0.1", 3000)
    secret = _run(client, "private", "hers", 1)
    client.set_tag(secret, "trainyard.dataset", "secret@1")
    with pytest.raises(NotFound, match=f"no run {secret}"):
        open_view(ViewConfig(runs=(secret,)), client, home, "127.0.0.1", 3000, ("iris",), "eve")
    with pytest.raises(ValidationError, match="runs"):
        ViewConfig(runs=("../x",))
    with pytest.raises(ValidationError, match="either runs or an experiment"):
        ViewConfig()
    assert views(home) == []
