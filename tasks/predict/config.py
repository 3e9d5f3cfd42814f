"""Settings of batch inference."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tasks.settings import Settings


class PredictConfig(Settings):
    """Which model answers for which inputs, and where the answers go."""

    model: str = Field(min_length=1, max_length=100, description="Registered model to predict with.")
    version: str = Field(
        default="champion",
        pattern=r"^[A-Za-z0-9_-]{1,63}$",
        description="An alias of the model, such as champion, or a version number.",
    )
    source: str = Field(
        min_length=1,
        max_length=4096,
        description="File, folder or glob, a path or s3:// URL: CSV, TSV, Parquet, JSON, JSONL, or images.",
    )
    include: list[str] = Field(
        default_factory=list,
        max_length=100,
        description="Globs of files to take, relative to the source folder; empty takes all.",
    )
    exclude: list[str] = Field(
        default_factory=list,
        max_length=100,
        description="Globs of files to leave out; they win over include.",
    )
    output: str = Field(
        min_length=1, max_length=4096, description="New folder for the results: a local path or a URL."
    )
    format: Literal["jsonl", "parquet"] = Field(default="jsonl", description="Format of the results.")
    batch_size: int = Field(default=512, ge=1, le=100_000, description="Inputs that go to a worker together.")
    max_time_s: int | None = Field(
        default=None,
        ge=1,
        le=30 * 24 * 3600,
        description="Longest time in seconds; then it ends without results. Empty is no limit.",
    )


class PredictionResult(Settings):
    """What batch inference left."""

    url: str = Field(description="Folder of the results.")
    model: str
    version: int
    rows: int
    errors: int = Field(description="Rows without a prediction; their records say why.")
    parts: int
    seconds: float
