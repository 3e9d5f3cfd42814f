"""How the ranks of one training talk to each other; one way a file, behind one interface."""
