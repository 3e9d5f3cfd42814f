"""Settings of templates: the forms of their flows."""

from __future__ import annotations

from pydantic import Field

from tasks.containers.reference import IMAGE_HELP
from tasks.data.config import NAME_PATTERN as DATASET_PATTERN
from tasks.settings import Settings
from tasks.trainings.config import NAME_PATTERN, TrainingId


class TemplateConfig(Settings):
    """A finished training that becomes a template."""

    training: TrainingId
    name: str = Field(
        pattern=NAME_PATTERN, description="Name of the template: lowercase letters, digits and dashes."
    )
    description: str = Field(
        default="", max_length=2_000, description="What it is good for; where it came from is added."
    )
    image: str = Field(
        default="", max_length=500, description=f"{IMAGE_HELP} Empty takes that of the training."
    )
    replace: bool = Field(default=False, description="Replace a template of one's own of this name.")


class TemplateData(Settings):
    """The data that a template is run on."""

    name: str = Field(
        pattern=DATASET_PATTERN,
        description="The stored dataset to train on; with a source, the name that its data gets.",
    )
    source: str = Field(
        default="",
        max_length=2_048,
        description="Empty takes the stored dataset. Otherwise new data to ingest first: a folder, archive, "
        "CSV or Parquet file, such as sample:digits.",
    )
    version: str = Field(
        default="latest-raw",
        pattern=r"^(latest-raw|\d{8}-\d{6}-[0-9a-f]{6})$",
        description="Version of the stored dataset; latest-raw for the newest as it came in.",
    )
