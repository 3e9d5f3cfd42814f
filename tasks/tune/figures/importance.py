"""Which hyperparameters decide how well a trial does, by Optuna's fANOVA.

It is fitted to the ranks of the trials, not to their values: one trial that diverged would outweigh the
others. PED-ANOVA would take less time and also conditional hyperparameters, but needs some hundred trials:
with 30 it often puts one first that has no influence at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tasks import svg
from tasks.tune.figures.scales import Scale, scales
from tasks.tune.view import RUNNING, Row, StudyView

FEWEST_TRIALS = 10
"""With fewer trials that have a value nothing can be said."""
MOST_TRIALS = 150
"""Of more trials as many are weighed, evenly from first to last: the time grows with their square."""
_TREES = 32
_WIDTH, _LEFT, _RIGHT, _BAR = 960, 200, 80, 26
_MOST_BARS = 15


@dataclass(frozen=True)
class Importance:
    """How much each hyperparameter decides.

    Attributes:
        sentence: What the shares say, or why there are none.
        shares: By hyperparameter, the most important first; they sum to 1. Empty where nothing can be said.
    """

    sentence: str
    shares: dict[str, float] = field(default_factory=dict)


def importance(view: StudyView) -> Importance:
    """Weigh the hyperparameters that all trials have, by the trials that have ended with a value."""
    ranked = [row for row in view.ranked if row.status not in RUNNING]
    if len(ranked) < FEWEST_TRIALS:
        there = "there is 1" if len(ranked) == 1 else f"there are {len(ranked)}"
        return Importance(
            f"Which hyperparameters matter can be told from {FEWEST_TRIALS} ended trials on; {there}."
        )
    values = [row.best for row in ranked]
    if values[0] == values[-1]:
        return Importance("All trials have the same value: no hyperparameter made a difference.")
    in_all = {name: scale for name, scale in scales(view).items() if all(name in row.point for row in ranked)}
    varied = {name: scale for name, scale in in_all.items() if scale.varies}
    if not varied:
        return Importance(
            "No hyperparameter has different values in all trials: there is nothing to compare."
        )
    ranks = {row.number: values.index(row.best) for row in ranked}
    by_number = sorted(ranked, key=lambda row: row.number)
    taken = by_number[:: -(-len(ranked) // MOST_TRIALS)]
    shares = _shares(taken, ranks, varied)
    if not shares:
        return Importance("The ranks of the trials follow no hyperparameter.")
    sentence = f"Share in how {len(taken)} trials rank (fANOVA): what matters, not which values are good."
    left_out = [name for name in view.hyperparameters if name not in in_all]
    if left_out:
        are = "are not in all trials and are" if len(left_out) > 1 else "is not in all trials and is"
        sentence += f" {', '.join(left_out)} {are} left out."
    return Importance(sentence, shares)


def importance_picture(found: Importance, view: StudyView) -> str:
    """Draw a bar a hyperparameter.

    Returns:
        SVG; empty where nothing can be said.
    """
    if not found.shares:
        return ""
    shown = list(found.shares.items())[:_MOST_BARS]
    most = max(found.shares.values())
    parts = []
    for place, (name, share) in enumerate(shown):
        y = 12 + place * _BAR
        length = (_WIDTH - _LEFT - _RIGHT) * share / most
        parts.append(svg.text(_LEFT - 10, y + 14, _cut(name), anchor="end", fill=svg.INK))
        parts.append(
            f'<rect x="{_LEFT}" y="{y}" width="{max(length, 1):.1f}" height="{_BAR - 8}" fill="{svg.BLUE}"/>'
        )
        parts.append(svg.text(_LEFT + length + 8, y + 14, f"{share:.2f}"))
    bottom = 12 + len(shown) * _BAR
    more = len(found.shares) - len(shown)
    more_words = f" {more} smaller ones are not shown." if more else ""
    parts.append(svg.text(12, bottom + 18, found.sentence + more_words))
    return svg.card(_WIDTH, bottom + 30, "What matters", view.name, parts)


def _shares(trials: Sequence[Row], ranks: dict[int, int], varied: dict[str, Scale]) -> dict[str, float]:
    import optuna
    from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

    def distribution(scale: Scale) -> BaseDistribution:
        if scale.choices:
            return CategoricalDistribution(scale.choices)
        return FloatDistribution(scale.low, scale.high, log=scale.log)

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study()
    distributions = {name: distribution(scale) for name, scale in varied.items()}
    for row in trials:
        params = {n: row.point[n] if scale.choices else float(row.point[n]) for n, scale in varied.items()}
        study.add_trial(
            optuna.trial.create_trial(
                params=params, distributions=distributions, value=float(ranks[row.number])
            )
        )
    evaluator = optuna.importance.FanovaImportanceEvaluator(n_trees=_TREES, seed=0)
    found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {name: float(share) for name, share in found.items()} if any(found.values()) else {}


def _cut(name: str, length: int = 28) -> str:
    return name if len(name) <= length else f"{name[: length - 1]}…"
