"""How a PyTorch network is trained: the one loop, and what goes into it, one matter a file."""
