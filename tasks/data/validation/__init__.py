"""Whether a dataset version may be trained on."""
