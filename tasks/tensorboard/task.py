"""The steps that open and close TensorBoard."""

from __future__ import annotations

import os
from pathlib import Path
from typing import cast

from prefect import task
from prefect.artifacts import create_link_artifact
from prefect.logging import get_run_logger

from blocks.endpoint_host import EndpointHost
from blocks.mlflow_server import MlflowServer
from tasks.data.task import asking_user, open_store
from tasks.tensorboard.config import ViewConfig
from tasks.trainings.config import is_flow_run
from tasks.trainings.task import read_run


@task(name="open tensorboard")
def open_tensorboard(config: ViewConfig, site: str = "local") -> str:
    """Start a view, or find the one that is open; publishes and returns its address.

    Raises:
        NotFound: A run or the experiment is not there, or a run is on somebody else's private dataset.
    """
    from tasks.tensorboard.views import open_view

    block = cast(EndpointHost, EndpointHost.load(site))
    client = cast(MlflowServer, MlflowServer.load(site)).client()
    runs = tuple(read_run(one, site).run_id if is_flow_run(one) else one for one in config.runs)
    record = open_view(
        config.model_copy(update={"runs": runs}),
        client,
        _home(block),
        block.host,
        block.first_port,
        tuple(open_store(site).names()),
        asking_user(),
    )
    create_link_artifact(
        record.url,
        link_text=record.title,
        key=record.name,
        description=f"{record.title}. Closes after {record.idle_hours:g} hours without a visit, or by "
        f"the flow close-tensorboard with the view {record.name}.",
    )
    get_run_logger().info("%s is open at %s as the view %s.", record.title, record.url, record.name)
    return record.url


@task(name="close tensorboard")
def close_tensorboard(view: str = "", site: str = "local") -> list[str]:
    """Close a view, or all of one's own; returns their names.

    Raises:
        NotFound: There is no view of that name.
        NotAllowed: It is somebody else's.
    """
    from tasks.tensorboard.views import close_views

    closed = close_views(_home(cast(EndpointHost, EndpointHost.load(site))), view, asking_user())
    get_run_logger().info("Closed: %s.", ", ".join(closed) or "none was open")
    return closed


def _home(block: EndpointHost) -> Path:
    return Path(os.path.expanduser(block.home)).resolve()
