"""The gate: may a version replace the champion? A pure function, so that it can be simulated."""

from __future__ import annotations

import math

from pydantic import BaseModel, ConfigDict, Field

from tasks.errors import InvalidSettings
from tasks.register.config import GateConfig

#: Metrics are means of up to millions of rows; differences below this are rounding.
ROUNDING = 1e-12


class Scored(BaseModel):
    """A version with what was measured of it on held-out rows."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    version: int
    digest: str = Field(description="SHA-256 over the bundle's files, hex.")
    metrics: dict[str, float]
    interval: tuple[float, float] | None = Field(
        default=None, description="95 % interval of the headline metric, where known."
    )
    dataset: str = Field(description="Digest of the dataset version that the rows are of.")
    split: str
    rows: int


class Decision(BaseModel):
    """What the gate said, with every number that it looked at."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    promote: bool
    reasons: list[str] = Field(description="One sentence each; the first one decides.")
    metric: str
    higher_is_better: bool
    gain: float | None = Field(description="Candidate over champion, positive is better; None without one.")
    min_gain: float
    floor: float | None
    candidate: Scored
    champion: Scored | None


def decide(
    candidate: Scored, champion: Scored | None, metric: str, higher_is_better: bool, config: GateConfig
) -> Decision:
    """Hold a candidate against the champion.

    Args:
        candidate: The version that wants to be served.
        champion: The version that is; None where there is none yet.
        metric: Name of the headline metric in both versions' metrics.
        higher_is_better: Its direction.
        config: What must be reached.

    Raises:
        InvalidSettings: The two were not measured on the same rows, or lack the metric.
    """
    _check_comparable(candidate, champion, metric)
    value = candidate.metrics[metric]
    gain: float | None = None
    refused: list[str] = []
    passed: list[str] = []
    name = metric.replace("_", " ")

    if not math.isfinite(value):
        refused.append(f"The {name} of v{candidate.version} is not a number.")
    if config.floor is not None and math.isfinite(value):
        reached = value >= config.floor if higher_is_better else value <= config.floor
        bound = "at least" if higher_is_better else "at most"
        sentence = f"{name} {value:.4f}, where {bound} {config.floor:.4f} is asked for."
        (passed if reached else refused).append(sentence[:1].upper() + sentence[1:])

    if champion is None:
        passed.append("There is no champion yet.")
    elif champion.digest == candidate.digest:
        gain = 0.0
        passed.append(
            f"v{candidate.version} is already the champion."
            if champion.version == candidate.version
            else f"v{candidate.version} is the same model as the champion v{champion.version}."
        )
    elif math.isfinite(value):
        theirs = champion.metrics[metric]
        gain = (value - theirs) if higher_is_better else (theirs - value)
        better = not math.isfinite(theirs) or gain >= config.min_gain - ROUNDING
        how = "better" if gain > ROUNDING else "worse" if gain < -ROUNDING else "no different"
        sentence = (
            f"{name} {value:.4f} against {theirs:.4f} of the champion v{champion.version} on the same "
            f"{candidate.rows:,} rows: {how}"
            + (f" by {abs(gain):.4f}" if how != "no different" else "")
            + (f", a gain of at least {config.min_gain:.4f} is asked for" if config.min_gain else "")
            + "."
        )
        gain = gain if math.isfinite(gain) else None
        (passed if better else refused).append(sentence[:1].upper() + sentence[1:])

    return Decision(
        promote=not refused,
        reasons=refused + passed,
        metric=metric,
        higher_is_better=higher_is_better,
        gain=gain,
        min_gain=config.min_gain,
        floor=config.floor,
        candidate=candidate,
        champion=champion,
    )


def _check_comparable(candidate: Scored, champion: Scored | None, metric: str) -> None:
    for scored in (candidate, champion):
        if scored is not None and metric not in scored.metrics:
            raise InvalidSettings(
                f"v{scored.version} was not measured by {metric}",
                where="gate",
                allowed=", ".join(scored.metrics) or "nothing was measured",
                mend="evaluate it again",
            )
    if champion is None:
        return
    ours = (candidate.dataset, candidate.split, candidate.rows)
    theirs = (champion.dataset, champion.split, champion.rows)
    if ours != theirs:
        raise InvalidSettings(
            f"v{candidate.version} and the champion v{champion.version} were measured on different rows",
            where=f"{ours} and {theirs}",
            allowed="the same split of the same dataset version",
            mend="evaluate the champion on the candidate's rows",
        )
