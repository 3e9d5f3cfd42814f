from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tasks.errors import InvalidSettings
from tasks.refs import Problem
from tasks.sweep.config import SweepConfig
from tasks.train import algorithms
from tasks.train.algorithms.network_algorithm import ImageHyperparameters, NetworkHyperparameters
from tasks.train.config import TrainConfig
from tasks.trainings.config import RenameConfig
from tasks.tune.config import TuneConfig

ROOT = Path(__file__).resolve().parents[3]


def test_listing_a_flow_imports_nothing_heavy() -> None:
    heavy = ["torch", "sklearn", "pandas", "mlflow", "lightgbm", "ray", "PIL", "matplotlib", "skops"]
    script = (
        "import sys; import tasks.train.config, tasks.train.task, tasks.evaluate.task;"
        f"print([m for m in {heavy!r} if m in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert answer.stdout.strip() == "[]", answer.stderr


def test_the_form_offers_the_algorithms() -> None:
    fields = TrainConfig.model_json_schema()["properties"]
    assert fields["algorithm"]["enum"] == ["auto", *algorithms.names()]
    assert all(field["description"].endswith(".") for field in fields.values())


def test_the_form_names_every_hyperparameter() -> None:
    shown = TrainConfig.model_json_schema()["properties"]["hyperparameters"]["description"]
    told: dict[str, set[str]] = {}
    for part in shown.split(" defaults. ")[1].rstrip(".").split("; "):
        who, names = part.split(": ")
        told[who] = set(names.split(", "))
    for name in algorithms.names():
        settings = algorithms.get(name).Hyperparameters
        named = set(told.get(name, ()))
        if issubclass(settings, NetworkHyperparameters):
            named |= told["networks"]
        if issubclass(settings, ImageHyperparameters):
            named |= told["networks for images besides"]
        assert named == set(settings.model_fields), name


@pytest.mark.parametrize("rows", [150, 100_000])
@pytest.mark.parametrize("problem", list(Problem))
def test_auto_is_an_algorithm_for_every_problem_that_one_learns(problem: Problem, rows: int) -> None:
    if not algorithms.names(problem):
        with pytest.raises(InvalidSettings, match=f"No algorithm of the catalogue learns {problem.value}"):
            TrainConfig().resolve(problem, rows)
        return
    algorithm, settings = TrainConfig().resolve(problem, rows)
    assert problem in algorithm.problems
    assert settings == algorithm.Hyperparameters()


def test_every_hyperparameter_has_help_and_a_default() -> None:
    for name in algorithms.names():
        for field in algorithms.get(name).Hyperparameters.model_fields.values():
            assert field.description
            assert not field.is_required()


def test_bad_settings_are_refused_before_anything_runs() -> None:
    with pytest.raises(InvalidSettings, match="did you mean 'random_forest'"):
        TrainConfig(algorithm="random_forrest")
    with pytest.raises(InvalidSettings, match=r"'treess' is unknown.*did you mean 'trees'"):
        TrainConfig(algorithm="random_forest", hyperparameters={"treess": 3})
    with pytest.raises(InvalidSettings, match="cannot learn table-regression"):
        TrainConfig(algorithm="logistic_regression").resolve(Problem.TABLE_REGRESSION, 150)
    with pytest.raises(InvalidSettings, match=r"max_time_s.*Where: training\.max_time_s"):
        TrainConfig(max_time_s=0)
    with pytest.raises(InvalidSettings, match="at most 10"):
        TrainConfig(tags={str(number): "" for number in range(11)})


def test_all_that_is_wrong_is_told_at_once() -> None:
    settings = {"treess": 3, "max_depth": 0, "column_fraction": float("nan")}
    with pytest.raises(InvalidSettings) as refused:
        TrainConfig.model_validate(
            {
                "algorithm": "random_forest",
                "hyperparameters": settings,
                "max_time_s": 0,
                "seeds": 1,
                "tags": {str(number): "" for number in range(11)},
            }
        )
    (line,) = str(refused.value).splitlines()
    where = "training.max_time_s, training.tags, training.seeds, training.hyperparameters"
    assert refused.value.where == where
    assert "'treess' is unknown (did you mean 'trees'?)" in line
    assert "'max_depth' is 0" in line
    assert "'column_fraction' is nan" in line
    assert "tags: dictionary should have at most 10" in line
    assert "Allowed: hyperparameters: trees, " in line
    with pytest.raises(InvalidSettings, match=r"'alpha' is unknown.*no weights to start from"):
        TrainConfig(start_from="0" * 32, hyperparameters={"alpha": 1}).resolve(Problem.TABLE_REGRESSION, 150)


@pytest.mark.parametrize(
    "tags",
    [
        {"trainyard.status": "succeeded"},
        {"mlflow.runName": "x"},
        {"a/b": "x"},
        {"..": "x"},
        {"": "x"},
        {"a" * 101: "x"},
        {"team": "x" * 501},
        {f"tag{number}": "x" for number in range(11)},
    ],
)
def test_tags_are_ones_own_wherever_they_are_given(tags: dict[str, str]) -> None:
    with pytest.raises(InvalidSettings, match="tag"):
        TrainConfig(tags=tags)
    with pytest.raises(ValidationError, match="tag"):
        RenameConfig(training="0" * 32, tags=tags)
    with pytest.raises(ValidationError, match="tag"):
        TuneConfig(algorithm="mlp", tags=tags)
    with pytest.raises(ValidationError, match="tag"):
        SweepConfig(tags=tags)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"epochs": True}, "'epochs' is True: it should be a number, not true or false"),
        ({"learning_rate": "0.1"}, "'learning_rate' is '0.1': it should be a number, not text"),
        ({"compile": "yes"}, "'compile' is 'yes': it should be true or false"),
        ({"compile": 1}, "'compile' is 1: it should be true or false"),
    ],
)
def test_booleans_numbers_and_words_are_not_each_other(given: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidSettings) as refused:
        TrainConfig(algorithm="mlp", hyperparameters=given)
    assert said in str(refused.value)


def test_null_is_the_default_of_a_hyperparameter() -> None:
    given = {"algorithm": "vit_tiny", "hyperparameters": {"gradient_clip_norm": None, "epochs": 3.0}}
    config = TrainConfig.model_validate(given)
    assert config == TrainConfig(algorithm="vit_tiny", hyperparameters={"epochs": 3})
    settings = algorithms.get("vit_tiny").Hyperparameters
    assert config.resolve(Problem.IMAGE_CLASSIFICATION, 100)[1] == settings.model_validate({"epochs": 3})
    for form in (TrainConfig, TuneConfig):
        field = form.model_json_schema()["properties"]["hyperparameters"]
        assert {"type": "null"} in field["additionalProperties"]["anyOf"]


def test_small_data_is_seen_more_often() -> None:
    settings = algorithms.get("six_layer_cnn").Hyperparameters()
    assert settings.epochs_for(55_000) == 5
    assert settings.epochs_for(1_257) == 14
    assert settings.epochs_for(59) == 100
    assert settings.patience_for(100) == 50
    assert settings.patience_for(14) == 10
