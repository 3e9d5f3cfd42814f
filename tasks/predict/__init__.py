"""Batch inference: a registered model on files of rows or images, by partition on Dask."""
