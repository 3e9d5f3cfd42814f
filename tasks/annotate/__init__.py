"""Annotate: hand unlabelled items to people, take their labels back into a new dataset version."""
