"""The work: one sub-package a stage. `task.py` in each is where Prefect starts; the rest is plain Python."""
