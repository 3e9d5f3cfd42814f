"""Open trainings in TensorBoard, and close it again."""

from __future__ import annotations

from prefect import flow

from tasks.tensorboard import task as tensorboard_stage
from tasks.tensorboard.config import ViewConfig


@flow(name="open-tensorboard", flow_run_name="open TensorBoard")
def open_tensorboard(view: ViewConfig, site: str = "local") -> str:
    """Show trainings in TensorBoard, running ones live; the address is on this run's page.

    Args:
        view: The runs or the experiment to show.
        site: Which set of blocks to run on.
    """
    return tensorboard_stage.open_tensorboard(view, site)


@flow(name="close-tensorboard", flow_run_name="close TensorBoard")
def close_tensorboard(view: str = "", site: str = "local") -> list[str]:
    """Close one's own views of TensorBoard; trainings and their metrics stay.

    Args:
        view: Name of the view, as the run that opened it says; empty closes all of one's own.
        site: Which set of blocks to run on.
    """
    return tensorboard_stage.close_tensorboard(view, site)
