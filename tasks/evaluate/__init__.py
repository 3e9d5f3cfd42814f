"""How good a model is: predictions on held-out rows, metrics with their uncertainty, costs."""
