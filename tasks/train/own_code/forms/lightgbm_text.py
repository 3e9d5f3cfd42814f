"""Boosters in LightGBM's text format."""

from __future__ import annotations

import lightgbm

from tasks.train.models.own_lightgbm import OwnLightgbmModel
from tasks.train.models.own_scores import Kind, Scores
from tasks.train.own_code.saved_model import NotServed, Saved
from tasks.train.own_code.trial import (
    Adopted,
    Trial,
    all_columns,
    inputs_of,
    scores_of,
    told_by_values,
    tried,
)


def adopt(saved: Saved, trial: Trial) -> Adopted:
    """See `tasks.train.own_code.adopting.adopt`."""
    if trial.table is None:
        raise NotServed("LightGBM models are served for tables only")
    try:
        booster = lightgbm.Booster(model_file=str(saved.path))
    except lightgbm.basic.LightGBMError as error:
        raise NotServed(f"LightGBM cannot open it: {error}") from error
    model = OwnLightgbmModel(booster, Scores(kind="values"))
    names = {str(name).replace(" ", "_"): str(name) for name in trial.table.columns}
    wanted = booster.feature_name()
    if all(name in names for name in wanted):
        columns = tuple(names[name] for name in wanted)
    else:
        columns = all_columns(trial, len(wanted))
    raw = tried(lambda: model.raw(inputs_of(model, trial, columns)))
    kind: Kind = "values"
    if trial.classes:
        kind = told_by_values(raw)
        if kind not in ("probabilities", "positive"):
            raise NotServed("its objective gives no probabilities; train with binary or multiclass")
    model.scores = scores_of(raw, kind, saved.classes, trial)
    return Adopted(model, columns)
