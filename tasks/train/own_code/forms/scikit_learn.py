"""Estimators and pipelines of scikit-learn, saved with skops."""

from __future__ import annotations

from tasks.train.models.own_scikit_learn import OwnScikitLearnModel, read_estimator
from tasks.train.models.own_scores import Kind, Scores
from tasks.train.models.pixel_input import PixelInput
from tasks.train.own_code.saved_model import NotServed, Saved
from tasks.train.own_code.trial import Adopted, Trial, all_columns, inputs_of, pixels_of, scores_of, tried


def adopt(saved: Saved, trial: Trial) -> Adopted:
    """See `tasks.train.own_code.adopting.adopt`."""
    estimator = read_estimator(saved.path)
    kind: Kind = "values"
    if trial.classes:
        if hasattr(estimator, "predict_proba"):
            kind = "probabilities"
        elif hasattr(estimator, "decision_function"):
            kind = "positive logit" if len(getattr(estimator, "classes_", ())) == 2 else "logits"
        else:
            raise NotServed(f"{type(estimator).__name__} gives no probabilities")
    elif not hasattr(estimator, "predict"):
        raise NotServed(f"{type(estimator).__name__} does not predict")
    named = tuple(map(str, getattr(estimator, "feature_names_in_", ())))
    pixels: PixelInput | None = None
    columns: tuple[str, ...] = ()
    if trial.table is None:
        pixels = PixelInput.model_validate(
            pixels_of(saved.path.parent, trial, 0).model_dump() | {"layout": "flat"}
        )
        named = ()
    elif named:
        lacking = [name for name in named if name not in trial.table.columns]
        if lacking:
            raise NotServed(f"it was fitted on columns that the data does not have: {', '.join(lacking[:5])}")
        columns = named
    else:
        columns = all_columns(trial, int(getattr(estimator, "n_features_in_", 0)))
    model = OwnScikitLearnModel(estimator, Scores(kind=kind), named, pixels)
    raw = tried(lambda: model.raw(inputs_of(model, trial, columns)))
    own = tuple(map(str, getattr(estimator, "classes_", ()))) if trial.classes else ()
    model.scores = scores_of(raw, kind, own or saved.classes, trial)
    return Adopted(model, columns)
