"""Report: what people look at. Figures and tables rendered plainly, published as artifacts by task.py."""
