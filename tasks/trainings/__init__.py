"""Trainings as things: groups, drafts, copies, templates, one list of all, rename, delete and restore."""
