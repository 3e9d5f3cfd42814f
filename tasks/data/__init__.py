"""Datasets: ingest, validate, preprocess and read immutable versions.

`task.py` calls `ingest.py`, `validation/validate.py`, `preparation/preprocess.py`, `export.py`, `storage/`.
What these stand on, a package each:

- `sources`: what may be read, and which files are there: folders, globs, archives, S3, samples.
- `layouts`: how files become rows with labels, and rows files again.
- `formats`: what one file must be, how it is decoded and encoded.
- `methods`: the preprocessing methods; `preparation`: dividing rows, fitting the steps and applying them.
- `validation`: expectations, how they are judged by partition, Data Docs.
- `storage`: versions as folders with a manifest, and who may see and change them.

`manifest.py`, `shards.py` and `read.py` say what a version is, and how its rows are written and read;
`row_keys.py` tells equal rows. `partitions.py` and `crashes.py` run work on Dask: a partition is the rows
that a worker has at a time.
"""
