"""Sweep: try every algorithm that fits the problem, under one time budget, and rank them."""
