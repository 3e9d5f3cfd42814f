"""What runs: the commands, the local stack, the Python environment, the Horovod build."""
