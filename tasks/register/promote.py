"""Promotion: the champion's alias moves to a version that passed its gate, and the decision stays."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from tasks.errors import InvalidSettings, TrainyardError
from tasks.evaluate.examples import EVALUATION_TAG
from tasks.evaluate.records import load_evaluation
from tasks.refs import DatasetRef, EvaluationRef, ModelVersionRef
from tasks.register.config import GateConfig
from tasks.register.gate import Decision, Scored, decide
from tasks.register.register import champion_of
from tasks.train.scores import headline

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflow import MlflowClient

CHAMPION = "champion"
DECISION_TAG = "trainyard.decision"
REASONS_TAG = "trainyard.decision_reasons"
PROMOTED_AT_TAG = "trainyard.promoted_at"
_TAG_LENGTH = 5000


class NothingToServeError(TrainyardError):
    """A version was refused and there is no champion to go on with."""


def hold_against_champion(
    version: ModelVersionRef,
    evaluation: EvaluationRef,
    dataset: DatasetRef,
    config: GateConfig,
    client: MlflowClient,
    evaluate: Callable[[ModelVersionRef, DatasetRef, str], EvaluationRef],
) -> Decision:
    """Score the champion on the candidate's rows where that was not done, and decide.

    Args:
        version: The candidate.
        evaluation: How the candidate did on held-out rows of `dataset`.
        dataset: The dataset version that both are measured on.
        config: What must be reached.
        client: MLflow.
        evaluate: Measures a version on a split of a dataset version.
    """
    if evaluation.dataset.digest != dataset.digest:
        raise InvalidSettings(
            "the candidate's evaluation is on another dataset version",
            where=f"{evaluation.dataset}, gate on {dataset}",
            mend="evaluate the candidate on the dataset that the gate uses",
        )
    metric, higher_is_better = headline(dataset.problem)
    champion = champion_of(client, version.name, CHAMPION)
    scored: Scored | None = None
    if champion is not None:
        same = champion.digest == version.digest
        theirs = (
            evaluation
            if same
            else _evaluation_at_registration(client, champion, evaluation)
            or evaluate(champion, dataset, evaluation.split)
        )
        scored = _scored(champion, theirs, client)
    return decide(_scored(version, evaluation, client), scored, metric, higher_is_better, config)


def promote(
    version: ModelVersionRef, decision: Decision, client: MlflowClient, lock_folder: Path
) -> tuple[ModelVersionRef, bool]:
    """Move the champion's alias if the decision says so, and keep the decision on the version.

    Returns:
        The version that is champion now, and whether the alias moved.

    Raises:
        InvalidSettings: Another champion came while the gate was at work; nothing was moved.
        NothingToServeError: The version was refused and there is no champion.
    """
    lock_folder.mkdir(parents=True, exist_ok=True)
    with FileLock(lock_folder / f"promote-{version.name}.lock", timeout=120):
        champion = champion_of(client, version.name, CHAMPION)
        _keep(client, version, decision)
        if not decision.promote:
            if champion is None:
                raise NothingToServeError(
                    f"{version} did not pass its gate and there is no champion: {' '.join(decision.reasons)}",
                    where=f"model {version.name}",
                    mend="improve the model or the data, or lower the gate's floor",
                )
            return champion, False
        if champion is not None and champion.version == version.version:
            return champion, False
        compared_with = decision.champion.version if decision.champion else None
        now_version = champion.version if champion else None
        if now_version != compared_with:
            raise InvalidSettings(
                f"the champion changed from {_name(compared_with)} to {_name(now_version)} since the gate",
                where=f"model {version.name}",
                mend="run the gate again; nothing was moved",
            )
        at = datetime.now(UTC).isoformat(timespec="seconds")
        client.set_model_version_tag(version.name, str(version.version), PROMOTED_AT_TAG, at)
        # The alias is what endpoints follow: it moves last, when all that explains it is written.
        client.set_registered_model_alias(version.name, CHAMPION, str(version.version))
    return version, True


def _keep(client: MlflowClient, version: ModelVersionRef, decision: Decision) -> None:
    number = str(version.version)
    client.set_model_version_tag(version.name, number, DECISION_TAG, decision.model_dump_json())
    reasons = ("Promoted. " if decision.promote else "Refused. ") + " ".join(decision.reasons)
    client.set_model_version_tag(version.name, number, REASONS_TAG, reasons[:_TAG_LENGTH])


def _evaluation_at_registration(
    client: MlflowClient, champion: ModelVersionRef, evaluation: EvaluationRef
) -> EvaluationRef | None:
    """The champion's own evaluation, where it is on the very same rows and still as it was written."""
    stored = client.get_model_version(champion.name, str(champion.version)).tags.get(EVALUATION_TAG)
    if not stored:
        return None
    ref = EvaluationRef.model_validate_json(stored)
    if (ref.dataset.digest, ref.split) != (evaluation.dataset.digest, evaluation.split):
        return None
    try:
        load_evaluation(client, ref)
    except TrainyardError:
        return None  # written anew since, or gone: it is measured again
    return ref


def _scored(version: ModelVersionRef, evaluation: EvaluationRef, client: MlflowClient) -> Scored:
    return Scored(
        version=version.version,
        digest=version.digest,
        metrics=evaluation.metrics,
        interval=load_evaluation(client, evaluation).interval,
        dataset=evaluation.dataset.digest,
        split=evaluation.split,
        rows=evaluation.rows,
    )


def _name(version: int | None) -> str:
    return "none" if version is None else f"v{version}"
