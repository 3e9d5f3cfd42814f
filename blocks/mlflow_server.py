"""The MLflow tracking server and model registry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefect.blocks.core import Block
from pydantic import Field

if TYPE_CHECKING:
    from mlflow import MlflowClient


class MlflowServer(Block):
    """An MLflow server: experiments, runs, registered models and their aliases."""

    _block_type_name = "MLflow Server"
    _block_type_slug = "mlflow-server"
    _description = "The MLflow server that records runs and holds the model registry."

    tracking_uri: str = Field(
        description="Address of the server's API and pages.", examples=["http://127.0.0.1:5000"]
    )

    def client(self) -> MlflowClient:
        """Point this process's MLflow at the server and return a client of it."""
        import mlflow

        mlflow.set_tracking_uri(self.tracking_uri)
        mlflow.set_registry_uri(self.tracking_uri)
        return mlflow.MlflowClient(self.tracking_uri, self.tracking_uri)
