"""Trainings as things: what Prefect and MLflow know of each, one list of all, and new names."""
