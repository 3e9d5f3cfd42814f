"""Versions from a real registry: fetched, checked, swapped in, kept when the next one is bad."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tasks.errors import Damaged, NotFound, Unavailable
from tasks.serve.follower import Follower
from tasks.serve.registry import Registry
from tasks.serve.requestlog import RequestLog
from tasks.serve.versions import KEPT_VERSIONS, VersionStore
from tasks.train.bundle import Bundle
from tests.helpers.serving_stack import free_port, register

ROW = [6.8, 2.8, 4.8, 1.4]


class Following:
    """A follower with its parts at hand, stepped by the test."""

    def __init__(self, folder: Path, model: str, tracking_uri: str) -> None:
        self.store = VersionStore(folder / "versions", model)
        self.stream = io.StringIO()
        self.log = RequestLog({}, self.stream)
        self.follower = Follower(model, "champion", self.store, Registry(tracking_uri), self.log)

    def step(self) -> int | None:
        self.follower.step()
        return self.follower.active.version if self.follower.active else None

    def messages(self) -> list[str]:
        self.log.flush()
        return [json.loads(line)["message"] for line in self.stream.getvalue().splitlines()]


def examples(bundle_folder: Path, shift: float = 0.0) -> dict[str, Any]:
    scores = Bundle.load(bundle_folder).predict_table([ROW]) + shift
    return {"instances": [ROW], "scores": scores.tolist()}


def test_the_registry_answers_with_the_version_of_an_alias(stack: Any) -> None:
    ref = register(stack.mlflow.uri, "asked", stack.bundles["iris"])
    with Registry(stack.mlflow.uri) as registry:
        found = registry.version_of("asked", "champion")
        assert (found.version, found.run_id, found.digest) == (ref.version, ref.run_id, ref.digest)
        with pytest.raises(NotFound):
            registry.version_of("asked", "challenger")
        with pytest.raises(NotFound):
            registry.version_of("unheard-of", "champion")
    with Registry(f"http://127.0.0.1:{free_port()}") as registry, pytest.raises(Unavailable):
        registry.version_of("asked", "champion")


def test_a_version_is_fetched_once_and_opened_as_it_was_registered(stack: Any, tmp_path: Path) -> None:
    register(stack.mlflow.uri, "fetched", stack.bundles["iris"], examples=examples(stack.bundles["iris"]))
    store = VersionStore(tmp_path, "fetched")
    with Registry(stack.mlflow.uri) as registry:
        version = registry.version_of("fetched", "champion")
        store.place(version, registry)
        placed = (tmp_path / "1" / "version.json").stat().st_mtime_ns
        store.place(version, registry)
    assert (tmp_path / "1" / "version.json").stat().st_mtime_ns == placed
    assert not [path for path in tmp_path.iterdir() if path.is_dir() and path.name.startswith(".")]
    loaded = store.load(1)
    assert loaded.bundle.digest == version.digest
    assert loaded.predict([ROW]).shape == (1, 3)


def test_files_that_changed_on_disk_are_not_served(stack: Any, tmp_path: Path) -> None:
    register(stack.mlflow.uri, "changed", stack.bundles["iris"])
    store = VersionStore(tmp_path, "changed")
    with Registry(stack.mlflow.uri) as registry:
        store.place(registry.version_of("changed", "champion"), registry)
    description = tmp_path / "1" / "bundle" / "bundle.json"
    description.write_text(description.read_text().replace("setosa", "sativa"))
    with pytest.raises(Damaged, match="not the model that was registered"):
        store.load(1)


def test_a_better_version_takes_over_and_a_bad_one_does_not(stack: Any, tmp_path: Path) -> None:
    good, weaker = stack.bundles["iris"], stack.bundles["iris-weaker"]
    register(stack.mlflow.uri, "swapped", good, examples=examples(good))
    following = Following(tmp_path, "swapped", stack.mlflow.uri)
    assert following.step() == 1
    before = following.follower.active
    assert following.step() == 1
    assert following.follower.active is before  # nothing new, nothing loaded
    register(stack.mlflow.uri, "swapped", weaker, examples=examples(weaker))
    assert following.step() == 2
    register(stack.mlflow.uri, "swapped", good, digest="f" * 64)
    assert following.step() == 2
    register(stack.mlflow.uri, "swapped", good, examples=examples(good, shift=0.01))
    assert following.step() == 2
    assert following.follower.refused is not None
    assert following.follower.refused.version == 4
    assert following.step() == 2  # not tried again at every poll
    assert following.store.last_serving() == 2
    messages = following.messages()
    assert messages[:2] == ["serving v1", "serving v2 instead of v1"]
    assert "v3 was not put to work" in messages[2]
    assert "differ from those at registration by 0.01" in messages[3]
    assert len(messages) == 4
    stack.mlflow.client().set_registered_model_alias("swapped", "champion", "2")
    assert following.step() == 2
    assert following.follower.refused is None


def test_without_mlflow_the_last_good_version_answers(stack: Any, tmp_path: Path) -> None:
    good = stack.bundles["iris"]
    register(stack.mlflow.uri, "kept", good)
    assert Following(tmp_path, "kept", stack.mlflow.uri).step() == 1
    away = Following(tmp_path, "kept", f"http://127.0.0.1:{free_port()}")
    assert away.step() == 1
    assert away.step() == 1
    messages = away.messages()
    assert "MLflow does not answer" in messages[0]
    assert messages[1:] == ["serving v1"]


def test_a_lost_alias_keeps_the_version_that_answers(stack: Any, tmp_path: Path) -> None:
    register(stack.mlflow.uri, "unnamed", stack.bundles["iris"])
    following = Following(tmp_path, "unnamed", stack.mlflow.uri)
    assert following.step() == 1
    client = stack.mlflow.client()
    client.delete_registered_model_alias("unnamed", "champion")
    assert following.step() == 1
    assert "champion" in following.follower.trouble
    client.set_registered_model_alias("unnamed", "champion", "1")
    assert following.step() == 1
    assert following.follower.trouble == ""


def test_a_bad_first_version_is_replaced_by_the_last_good_one(stack: Any, tmp_path: Path) -> None:
    register(stack.mlflow.uri, "restarted", stack.bundles["iris"])
    assert Following(tmp_path, "restarted", stack.mlflow.uri).step() == 1
    register(stack.mlflow.uri, "restarted", stack.bundles["iris"], digest="f" * 64)
    assert Following(tmp_path, "restarted", stack.mlflow.uri).step() == 1


def test_old_versions_leave_the_disk(stack: Any, tmp_path: Path) -> None:
    following = Following(tmp_path, "pruned", stack.mlflow.uri)
    for number in range(1, 6):
        register(stack.mlflow.uri, "pruned", stack.bundles["iris"])
        assert following.step() == number
    kept = sorted(int(path.name) for path in (tmp_path / "versions").iterdir() if path.name.isdigit())
    assert kept == [3, 4, 5]
    assert len(kept) == KEPT_VERSIONS


def test_a_registry_made_anew_is_noticed(stack: Any, tmp_path: Path) -> None:
    register(stack.mlflow.uri, "anew", stack.bundles["iris"])
    following = Following(tmp_path, "anew", stack.mlflow.uri)
    assert following.step() == 1
    stack.mlflow.client().delete_registered_model("anew")
    register(stack.mlflow.uri, "anew", stack.bundles["iris-weaker"])
    assert following.step() == 1
    assert following.follower.active is not None
    assert following.follower.active.bundle.digest == Bundle.load(stack.bundles["iris-weaker"]).digest


def test_a_half_placed_version_is_placed_again(stack: Any, tmp_path: Path) -> None:
    register(stack.mlflow.uri, "half", stack.bundles["iris"])
    store = VersionStore(tmp_path, "half")
    with Registry(stack.mlflow.uri) as registry:
        version = registry.version_of("half", "champion")
        store.place(version, registry)
        (tmp_path / "1" / "version.json").unlink()
        store.place(version, registry)
    assert store.load(1).version == 1
    shutil.rmtree(tmp_path / "1")
    with pytest.raises(NotFound):
        store.load(1)
