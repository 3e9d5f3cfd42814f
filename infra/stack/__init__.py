"""The local stack: Prefect, MLflow, pages and a worker, kept running by one supervisor."""
