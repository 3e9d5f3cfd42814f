"""Experiments in Katib's form are studies, and what cannot be honoured is refused by name."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from tasks.errors import InvalidSettings
from tasks.refs import Problem
from tasks.tune import ranges
from tasks.tune.config import SearchDimension, TuneConfig

SPEC: dict[str, Any] = {
    "objective": {
        "type": "maximize",
        "goal": "0.99",
        "objectiveMetricName": "Validation-accuracy",
        "additionalMetricNames": ["Train-accuracy", "loss"],
    },
    "algorithm": {
        "algorithmName": "bayesianoptimization",
        "algorithmSettings": [{"name": "random_state", "value": "10"}],
    },
    "earlyStopping": {
        "algorithmName": "medianstop",
        "algorithmSettings": [
            {"name": "min_trials_required", "value": "4"},
            {"name": "start_step", "value": "5"},
        ],
    },
    "parallelTrialCount": 1,
    "maxTrialCount": 12,
    "maxFailedTrialCount": 2,
    "parameters": [
        {
            "name": "--lr",
            "parameterType": "double",
            "feasibleSpace": {"min": "0.01", "max": "0.03", "distribution": "logUniform"},
        },
        {
            "name": "hidden-layers",
            "parameterType": "int",
            "feasibleSpace": {"min": "1", "max": "5", "step": "2"},
        },
        {
            "name": "optimizer",
            "parameterType": "categorical",
            "feasibleSpace": {"list": ["sgd", "adamw"]},
        },
        {
            "name": "batch_size",
            "parameterType": "discrete",
            "feasibleSpace": {"list": ["16", "32"]},
        },
        {
            "name": "dropout",
            "parameterType": "double",
            "feasibleSpace": {"min": 0, "max": 0.5, "step": 0.25},
        },
    ],
    "trialTemplate": {"trialSpec": {"kind": "Job"}},
}
EXPERIMENT = {
    "apiVersion": "kubeflow.org/v1beta1",
    "kind": "Experiment",
    "metadata": {"name": "x"},
    "spec": SPEC,
}


@pytest.mark.parametrize(
    "given",
    [{"katib": SPEC}, {"katib": EXPERIMENT}, SPEC, EXPERIMENT],
    ids=["field", "whole", "bare", "pasted"],
)
def test_an_experiment_is_a_study(given: dict[str, Any]) -> None:
    config = TuneConfig.model_validate(given)
    assert (config.mode, config.metric, config.goal) == ("max", "validation_accuracy", 0.99)
    assert config.metrics == ["train_accuracy", "validation_loss"]
    assert (config.searcher, config.seed) == ("tpe", 10)
    assert (config.scheduler, config.min_trials, config.grace_epochs) == ("median", 4, 5)
    assert (config.max_parallel, config.max_trials, config.max_failed) == (1, 12, 2)
    assert TuneConfig.model_validate(config.model_dump()) == config

    tuned = config.model_copy(update={"algorithm": "mlp"})
    algorithm, space = ranges.resolve(tuned, Problem.TABLE_CLASSIFICATION, 150)
    assert algorithm == "mlp"
    assert space == [
        SearchDimension(name="learning_rate", kind="log", low=0.01, high=0.03),
        SearchDimension(name="hidden_layers", kind="int", low=1, high=5, step=2),
        SearchDimension(name="optimizer", kind="choice", choices=["sgd", "adamw"]),
        SearchDimension(name="batch_size_per_rank", kind="choice", choices=[16, 32]),
        SearchDimension(name="dropout", kind="float", low=0, high=0.5, step=0.25),
    ]


@pytest.mark.parametrize(
    ("theirs", "ours"), [("random", "random"), ("grid", "grid"), ("tpe", "tpe"), ("cmaes", "evolution")]
)
def test_names_of_algorithms(theirs: str, ours: str) -> None:
    config = TuneConfig.model_validate({"katib": {**SPEC, "algorithm": {"algorithmName": theirs}}})
    assert config.searcher == ours


def _with(space: dict[str, Any], kind: str = "double") -> dict[str, Any]:
    return {"parameters": [{"name": "dropout", "parameterType": kind, "feasibleSpace": space}]}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"parameters": []}, "parameters must be a list of at least one"),
        ({"parameters": ["dropout"]}, r"parameters\[0\] is 'dropout'"),
        (_with({"min": "a", "max": 1}), "min in the feasibleSpace of dropout is 'a'"),
        (_with({"min": 0.5, "max": 2}, "int"), "min in the feasibleSpace of dropout is 0.5.*whole"),
        (_with({"min": 0}), "has no max"),
        (_with({"min": 0, "max": 1}, "categorical"), "has no list"),
        (_with({"min": 0, "max": 1}, "boolean"), "parameterType of dropout is 'boolean'"),
        (_with({"min": 0, "list": [1]}), "has min beside a list"),
        (_with({"min": 1, "max": 2, "distribution": "normal"}), "distribution .* is 'normal'"),
        (_with({"min": 1, "max": 2, "step": 1, "distribution": "logUniform"}), "logUniform with a step"),
        (_with({"min": 1, "max": 2, "distribution": "logUniform"}, "int"), "logUniform for whole numbers"),
        ({"algorithm": {"algorithmName": "hyperband"}}, "algorithmName is 'hyperband'.*ASHA"),
        (
            {"algorithm": {"algorithmName": "tpe", "algorithmSettings": [{"name": "gamma", "value": "1"}]}},
            "gamma in algorithmSettings of tpe cannot be honoured",
        ),
        ({"objective": {"type": "best", "objectiveMetricName": "loss"}}, "type of the objective is 'best'"),
        ({"objective": {"type": "minimize"}}, "objectiveMetricName is None"),
        ({"earlyStopping": {"algorithmName": "other"}}, "algorithmName of earlyStopping is 'other'"),
        ({"maxTrialCount": 0}, "maxTrialCount is 0.*at least 1"),
        ({"maxTrialCount": "many"}, "maxTrialCount is 'many'"),
        ({"nasConfig": {"graphConfig": {}}}, "nasConfig in spec cannot be honoured"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(change: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidSettings, match=words):
        TuneConfig(katib={**SPEC, **change})


def test_a_field_that_contradicts_the_document_is_refused() -> None:
    with pytest.raises(InvalidSettings, match=r"form has 5 for max_trials, and .* has 12"):
        TuneConfig(katib=SPEC, max_trials=5)
    with pytest.raises(InvalidSettings, match="objective is given beside katib"):
        TuneConfig.model_validate({"katib": SPEC, "objective": SPEC["objective"]})


def test_ranges_of_the_document_are_checked_like_others() -> None:
    with pytest.raises(ValidationError, match="low 2 is above high 1"):
        TuneConfig(katib=_with({"min": 2, "max": 1}))
    with pytest.raises(ValidationError, match="starts above 0"):
        TuneConfig(katib=_with({"min": 0, "max": 1, "distribution": "logUniform"}))
    wrong = {**SPEC, "objective": {"type": "minimize", "objectiveMetricName": "accuracy"}}
    with pytest.raises(InvalidSettings, match="validation_accuracy is better the larger"):
        ranges.resolve(TuneConfig(katib=wrong), Problem.TABLE_CLASSIFICATION, 150)
