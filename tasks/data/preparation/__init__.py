"""From a dataset version to one that is ready for training."""
