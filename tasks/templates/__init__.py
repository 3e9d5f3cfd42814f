"""Templates: finished trainings, with their preprocessing, to be run on other data."""
