"""Sets and grids of settings, and how a change finds its place among parameters."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from tasks.errors import InvalidSettings
from tasks.launch.changes import applied, digest, expanded, said
from tasks.launch.config import MOST_SETS, GroupConfig

NAMES = ("dataset", "training", "site")
BASE = {"dataset": {"name": "iris"}, "training": {"algorithm": "mlp", "hyperparameters": {"epochs": 5}}}


def test_a_grid_is_every_combination_and_sets_multiply_it() -> None:
    grid = GroupConfig(name="g", grid={"seed": [0, 1], "epochs": [1, 2, 3]})
    assert expanded(grid)[:2] == [{"seed": 0, "epochs": 1}, {"seed": 0, "epochs": 2}]
    assert len(expanded(grid)) == 6
    both = grid.model_copy(update={"sets": ({"algorithm": "mlp"}, {"algorithm": "lightgbm"})})
    assert len(expanded(both)) == 12
    assert expanded(both)[6] == {"algorithm": "lightgbm", "seed": 0, "epochs": 1}


def test_a_group_is_bounded_and_says_something() -> None:
    with pytest.raises(InvalidSettings, match=f"1,000 trainings.*up to {MOST_SETS}"):
        expanded(GroupConfig(name="g", grid={"seed": list(range(1000))}))
    with pytest.raises(InvalidSettings, match="No values are given for epochs"):
        expanded(GroupConfig(name="g", grid={"epochs": []}))
    with pytest.raises(ValidationError, match="nothing to start"):
        GroupConfig(name="g")


def test_names_find_their_places_and_the_base_stays() -> None:
    changed = applied(
        BASE, {"learning_rate": 0.1, "seed": 3, "dataset.name": "wine", "training.tags.team": "a"}, NAMES
    )
    assert changed == {
        "dataset": {"name": "wine"},
        "training": {
            "algorithm": "mlp",
            "hyperparameters": {"epochs": 5, "learning_rate": 0.1},
            "seed": 3,
            "tags": {"team": "a"},
        },
    }
    assert BASE["training"] == {"algorithm": "mlp", "hyperparameters": {"epochs": 5}}


def test_a_change_by_a_name_of_transformers_replaces_ours_and_the_other_way_round() -> None:
    by_theirs = applied(BASE, {"num_train_epochs": 9}, NAMES)
    assert by_theirs["training"]["hyperparameters"] == {"num_train_epochs": 9}
    by_ours = applied(by_theirs, {"training.hyperparameters.epochs": 2}, NAMES)
    assert by_ours["training"]["hyperparameters"] == {"epochs": 2}
    assert applied(BASE, {"num_train_epochs": None}, NAMES)["training"]["hyperparameters"] == {}
    own = {"training": {"own_code": {"source": "/code"}, "hyperparameters": {"epochs": 5}}}
    changed = applied(own, {"num_train_epochs": 9}, NAMES)  # own code may have both
    assert changed["training"]["hyperparameters"] == {"epochs": 5, "num_train_epochs": 9}


def test_none_takes_out_and_lists_are_counted() -> None:
    assert applied(BASE, {"epochs": None}, NAMES)["training"]["hyperparameters"] == {}
    base = {"preprocessing": {"steps": [{"method": "resize", "parameters": {"width_px": 28}}]}}
    changed = applied(base, {"preprocessing.steps.0.parameters.width_px": 64}, ("preprocessing",))
    assert changed["preprocessing"]["steps"][0]["parameters"]["width_px"] == 64


def test_names_that_lead_nowhere_are_all_named() -> None:
    with pytest.raises(
        InvalidSettings, match=r"'data\.name' is no parameter.*'dataset\.name\.x' leads nowhere"
    ):
        applied(BASE, {"data.name": "x", "dataset.name.x": 1}, NAMES)
    with pytest.raises(InvalidSettings, match="'learning_rate' is no parameter"):
        applied({}, {"learning_rate": 1}, ("data", "tuning"))


def test_equal_parameters_have_one_digest() -> None:
    assert digest({"a": 1, "b": {"c": 2}}) == digest({"b": {"c": 2}, "a": 1}) != digest({"a": 1})
    assert said({"training.seed": 1, "algorithm": "mlp"}) == "seed=1, algorithm=mlp"
