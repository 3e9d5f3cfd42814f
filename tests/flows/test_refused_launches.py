"""What is refused before a training exists: all of it at once, of each set by its number."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from prefect import tags
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags
from prefect.client.schemas.objects import StateType
from prefect.flows import load_flow_from_entrypoint

from flows import drafts, groups
from tasks.data.config import DatasetChoice
from tasks.data.storage.access import DatasetCard
from tasks.data.storage.store import DatasetStore
from tasks.errors import InvalidSettings, NotFound
from tasks.launch import task as launch_stage
from tasks.launch.config import DraftConfig, GroupConfig
from tasks.launch.place import Place
from tasks.train.config import TrainConfig
from tasks.train.own_code.config import OwnCode
from tests.helpers.trained import iris_dataset
from tests.helpers.training_site import IRIS, QUICK, SITE, end, group_of


def test_a_group_with_faults_says_all_of_them_and_starts_nothing(
    home: Path, prefect: SyncPrefectClient
) -> None:
    faulty = GroupConfig(
        name="faulty",
        sets=(
            {"algorithm": "mlp", "learning_rate": -1},
            {"algorithm": "mlp", "epohcs": 3, "dataset.name": "nowhere"},
            {"dataset.name": "nowhere"},
            {"algorithm": "six_layer_cnn", "seed": -1, "resources": "cpu2"},
            {"seed": 1},
            {"seed": 1},
        ),
    )
    with pytest.raises(InvalidSettings) as told:
        groups.start_group(faulty, IRIS, TrainConfig(), SITE)
    assert str(told.value).startswith("5 of 6 sets cannot be run: set 1 (")
    faults = _by_set(told.value)
    assert sorted(faults) == [1, 2, 3, 4, 6]
    assert "'learning_rate' is -1" in faults[1]
    for part in ("did you mean 'epochs'", "no dataset named nowhere"):
        assert part in faults[2]
    assert "no dataset named nowhere" in faults[3]
    for part in ("training.seed", "no preset 'cpu2'", "cannot learn table-classification"):
        assert part in faults[4]
    assert "it is the same as set 5" in faults[6]
    with pytest.raises(NotFound, match=r"no work queue fast.*Allowed: default, low"):
        groups.start_group(GroupConfig(name="faulty", sets=({"seed": 1},), queue="fast"), IRIS, QUICK, SITE)
    with pytest.raises(InvalidSettings, match="trains nothing"):
        groups.start_group(GroupConfig(name="faulty", sets=({},), deployment="ingest/step"), site=SITE)
    with pytest.raises(NotFound, match=r"Allowed: .*train/step"):
        groups.start_group(GroupConfig(name="faulty", sets=({},), deployment="train/none"), site=SITE)
    assert group_of(prefect, "faulty") == []


def test_what_is_not_at_the_site_is_refused_for_built_ins_and_own_code_alike(
    home: Path, prefect: SyncPrefectClient, tmp_path: Path
) -> None:
    store = str(home / "store")
    iris_dataset(DatasetStore(store, new_card=DatasetCard(owner="ada", visibility="private")), name="hers")
    taken = tmp_path / "taken.zip"
    taken.touch()
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "train.py").write_text("import not_there_at_all\n")
    (tmp_path / "code" / "broken.py").write_text("def :\n")
    code = {"source": str(tmp_path / "code")}
    loss = {"loss": {"pattern": "loss (\\d+)", "sample_line": "nothing of the kind"}}
    elsewhere = {
        "resources": "cpu2",
        "start_from": "nothing-of-ours",
        "checkpoint_folder": str(taken),
        "output": str(taken),
    }
    sets: tuple[dict[str, Any], ...] = (
        {"dataset.name": "hers", **elsewhere},
        {"own_code": code, "dataset.name": "hers", **elsewhere},
        {"own_code": {**code, "entry_point": "trian.py", "datasets": {"MORE": {"name": "nowhere"}}}},
        {"own_code": {**code, "entry_point": "broken.py"}, "max_time_s": -1},
        {"own_code": {"source": str(tmp_path / "gone"), "metrics": loss}, "dataset.name": "nowhere"},
        {"seed": 1},
    )
    with tags("user:eve"), pytest.raises(InvalidSettings, match=r"^5 of 6 sets") as told:
        groups.start_group(GroupConfig(name="absent", sets=sets), IRIS, TrainConfig(), SITE)
    faults = _by_set(told.value)
    for number in (1, 2):
        for part in (
            "no dataset named hers",
            "no preset 'cpu2'",
            "names no weights",
            "checkpoints cannot be written",
            "a file at",
        ):
            assert part.lower() in faults[number].lower(), part
    assert "imports not_there_at_all" in faults[2]
    for part in ("no trian.py", "no dataset named nowhere"):
        assert part in faults[3]
    for part in ("syntax error", "training.max_time_s"):
        assert part in faults[4]
    for part in ("finds nothing in its sample line", "There is no", "gone", "no dataset named nowhere"):
        assert part in faults[5]
    assert group_of(prefect, "absent") == []

    own = TrainConfig(own_code=OwnCode(source=str(tmp_path / "gone")))
    with tags("user:frank"), pytest.raises(InvalidSettings, match=r"no dataset named nowhere.*There is no /"):
        drafts.draft_training(DatasetChoice(name="nowhere"), own, DraftConfig(), SITE)
    of_frank = FlowRunFilter(tags=FlowRunFilterTags(all_=["user:frank"]))
    assert len(prefect.read_flow_runs(flow_run_filter=of_frank)) == 1  # the one that refused


def test_a_set_that_has_written_its_output_is_not_in_its_own_way(
    home: Path, prefect: SyncPrefectClient, tmp_path: Path
) -> None:
    output = tmp_path / "model.zip"
    config = GroupConfig(name="written", sets=({"output": str(output)},))
    (first,) = groups.start_group(config, IRIS, QUICK, SITE)
    end(prefect, first, StateType.COMPLETED)
    output.touch()
    more = config.model_copy(update={"sets": (*config.sets, {"seed": 1})})
    again = groups.start_group(more, IRIS, QUICK, SITE)
    assert (again[0], len(again)) == (first, 2)
    with pytest.raises(InvalidSettings, match="a file at"):
        groups.start_group(config.model_copy(update={"name": "anew"}), IRIS, QUICK, SITE)


@pytest.mark.parametrize(
    ("entrypoint", "parameters", "told"),
    [
        (
            "flows.tune.tune_model",
            {"dataset": {"name": "nowhere"}, "tuning": {"algorithm": "mlp"}},
            ["no dataset named nowhere"],
        ),
        (
            "flows.tune.tune_model",
            {
                "dataset": {"name": "iris"},
                "tuning": {
                    "algorithm": "mlp",
                    "search": [{"name": "epohcs", "kind": "int", "low": 1, "high": 2}],
                },
            },
            ["did you mean 'epochs'"],
        ),
        (
            "flows.sweep.sweep_algorithms",
            {"dataset": {"name": "iris"}, "sweeping": {"algorithms": ["mlp", "six_layer_cnn", "k_means"]}},
            ["Six-layer CNN cannot learn", "k-means cannot learn"],
        ),
        (
            "flows.retrain.retrain",
            {
                "data": {"source": "/nowhere", "name": "hers-alone", "problem": "table-classification"},
                "training": {"algorithm": "six_layer_cnn", "resources": "cpu2"},
            },
            [
                "dataset hers-alone",
                "read from /nowhere",
                "no preset 'cpu2'",
                "cannot learn table-classification",
            ],
        ),
        (
            "flows.retrain.retrain",
            {"data": {"source": "sample:irsi", "name": "new"}, "training": {"resources": "cpu2"}},
            ["no preset 'cpu2'", "irsi"],
        ),
        (
            "flows.templates.train_from_template",
            {
                "data": {"name": "iris"},
                "problem": "image-classification",
                "preprocessing": {},
                "training": {"start_from": "nothing-of-ours"},
            },
            ["the template is for image-classification", "names no weights"],
        ),
    ],
)
def test_every_flow_that_trains_is_checked_before_it_runs(
    home: Path, entrypoint: str, parameters: Mapping[str, Any], told: list[str]
) -> None:
    store = str(home / "store")
    if not DatasetStore(store).versions("hers-alone"):
        iris_dataset(DatasetStore(store, new_card=DatasetCard(owner="ada")), name="hers-alone")
    deployment: Any = None  # only what is checked before one is asked for anything
    place = Place(deployment, load_flow_from_entrypoint(entrypoint), "low", {}, here=True)
    with pytest.raises(InvalidSettings) as refused:
        launch_stage._checked(place, {**parameters, "site": SITE}, [{}], SITE)
    for part in told:
        assert part.lower() in str(refused.value).lower()


def _by_set(error: InvalidSettings) -> dict[int, str]:
    """What is told of each set, by its number."""
    lines = str(error).partition(" cannot be run: ")[2].split("\n")
    return {int(line.removeprefix("- ").split()[1]): line for line in lines}
