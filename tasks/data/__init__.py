"""Datasets: ingest, validate, preprocess and read immutable versions."""
