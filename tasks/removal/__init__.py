"""Deletion of trainings and experiments, and its undoing."""
