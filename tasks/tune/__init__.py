"""Tune: search an algorithm's hyperparameters on Ray, one MLflow run for the study, one for each trial."""
