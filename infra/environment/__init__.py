"""The Python environment: how `.venv` is made and how the lock is written."""
