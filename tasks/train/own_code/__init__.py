"""Train with code of the user's own: a script in a process of its own, by a contract of variables."""
