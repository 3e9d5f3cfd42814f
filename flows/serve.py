"""Put a registered model behind an address, or take it away."""

from __future__ import annotations

from prefect import flow

from tasks.refs import EndpointRef
from tasks.register import task as register_stage
from tasks.serve import task as serve_stage
from tasks.serve.config import ServeConfig
from tasks.workspace.queue import take_slots


@flow(name="serve", flow_run_name="serve {model}")
def serve_model(model: str, serving: ServeConfig = ServeConfig(), site: str = "local") -> EndpointRef:
    """Start the endpoint of a model, or bring it to the version that its alias names.

    Args:
        model: The registered model.
        serving: The endpoint and the alias that it follows.
        site: Which set of blocks to run on.
    """
    take_slots(None, site, model=model, serving=serving)
    version = register_stage.find_version(model, serving.alias, site)
    return serve_stage.serve_model(version, serving, site)


@flow(name="stop-endpoint", flow_run_name="stop {endpoint}")
def stop_endpoint(endpoint: str, delete: bool = False, site: str = "local") -> None:
    """Stop an endpoint; with delete, remove its address and token as well.

    Args:
        endpoint: The endpoint's name.
        delete: Remove the endpoint instead of only switching it off.
        site: Which set of blocks to run on.
    """
    if delete:
        serve_stage.delete_endpoint(endpoint, site)
    else:
        serve_stage.stop_endpoint(endpoint, site)
