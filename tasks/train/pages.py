"""Addresses of MLflow's pages."""

from __future__ import annotations


def run_page(tracking_uri: str, experiment_id: str, run_id: str) -> str:
    """Address of a run's page."""
    return f"{tracking_uri.rstrip('/')}/#/experiments/{experiment_id}/runs/{run_id}"
