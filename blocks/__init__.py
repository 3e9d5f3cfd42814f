"""Where things are: one Prefect block a file. Settings and a client, no logic."""
