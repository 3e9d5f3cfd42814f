"""The Horovod wheel, built from its source distribution."""
