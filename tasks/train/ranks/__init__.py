"""Training on several devices: ranks as child processes of Dask workers, all of them or none."""
