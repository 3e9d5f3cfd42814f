"""The model registry: versions, the gate against the champion, promotion by alias."""
