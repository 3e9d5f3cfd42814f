"""Names of the tags that Trainyard sets in MLflow: on runs, logged models and registered versions."""

from __future__ import annotations

STATUS_TAG = "trainyard.status"
"""How a run stands: running, succeeded, failed, aborted; a trial also early stopped and so on."""
KIND_TAG = "trainyard.kind"
"""What a run that is no plain training is: study, sweep, best of study."""
FLOW_RUN_TAG = "trainyard.flow_run_id"
OWNER_TAG = "trainyard.owner"
"""The user whose flow run made it."""
TRAINING_FILE = "training.json"
"""Artifact of a training: its settings, to copy them from."""

DATASET_DIGEST_TAG = "trainyard.dataset_digest"
DATASET_REF_TAG = "trainyard.dataset_ref"

ALGORITHM_TAG = "trainyard.algorithm"
MODEL_URI_TAG = "trainyard.model_uri"
BUNDLE_DIGEST_TAG = "trainyard.bundle_digest"
NOT_SERVED_TAG = "trainyard.not_served"
"""Why the model of a training can be kept but not served."""
ENDED_TAG = "trainyard.ended"
"""Why a fit ended, such as early stopping."""
ERROR_TAG = "trainyard.error"

STUDY_TAG = "trainyard.study"
TRIAL_TAG = "trainyard.trial"
END_REASON_TAG = "trainyard.end_reason"
"""Why a study or a sweep ended."""
REASON_TAG = "trainyard.reason"
"""Why a sweep tried an algorithm."""
BEST_RUN_TAG = "trainyard.best_run"
BEST_TRIAL_TAG = "trainyard.best_trial"
BEST_ALGORITHM_TAG = "trainyard.best_algorithm"

EXAMPLES_TAG = "trainyard.examples"
EVALUATION_TAG = "trainyard.evaluation"
