"""Modules that networks are made of, and weights that they start from. Imported only to build one."""
