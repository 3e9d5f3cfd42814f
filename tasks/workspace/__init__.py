"""Workspaces: a queue, an experiment and a folder each, and the jobs that run in them."""
