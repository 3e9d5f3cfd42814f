"""Tags of flow runs and deployments that say what a training is to others."""

from __future__ import annotations

GROUP_TAG = "group:"
"""Prefix: the group that a training is of."""
SET_TAG = "set:"
"""Prefix: what sets it apart in its group."""
COPY_TAG = "copy-of:"
"""Prefix: the run that it is a copy of."""
DELETED_TAG = "training-deleted"
"""The training of this flow run was deleted."""
TEMPLATE_TAG = "template"
"""The deployment is a template."""
FROM_RUN_TAG = "from-run:"
"""Prefix: the MLflow run that a template was made from."""
PROBLEM_TAG = "problem:"
"""Prefix: what the models of a template do."""
