"""Files of each kind: what they must be, and how they are read and written."""
