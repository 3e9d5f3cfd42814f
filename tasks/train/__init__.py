"""From a dataset version to a trained bundle: algorithms, the training loop, and what a model is kept as."""

import os

# Threads that wait for each other in a busy loop make training several times slower on a machine that
# has anything else to do. OpenMP reads this once, when torch or LightGBM is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# MLflow draws progress bars and prints links, which only clutter the log of a flow run.
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
