"""Layouts that ingest reads, one a file. A new one is a module here and a line in `LAYOUTS`."""

from __future__ import annotations

from tasks.data.config import IngestConfig
from tasks.data.layouts.image_csv import ImageCsv
from tasks.data.layouts.image_folder import ImageFolder
from tasks.data.layouts.layout import Contents, Layout
from tasks.data.layouts.table import Table
from tasks.data.sources import Source
from tasks.errors import InvalidData

LAYOUTS: tuple[Layout, ...] = (ImageFolder(), ImageCsv(), Table())


def layout_of(source: Source, config: IngestConfig) -> Layout:
    """The layout that a source is in.

    Raises:
        InvalidData: It is in none.
    """
    for layout in LAYOUTS:
        if layout.matches(source, config):
            return layout
    wanted = "; or ".join(layout.describes for layout in LAYOUTS if layout.reads(config.problem))
    shown = ", ".join(file.path for file in source.files[:3])
    raise InvalidData(
        f"The source {source.given} is in no layout known for {config.problem.value}",
        where=f"{len(source.files):,} files: {shown}{', …' if len(source.files) > 3 else ''}",
        allowed=wanted,
        mend="arrange the files in one of these ways, or choose another problem",
    )


__all__ = ["LAYOUTS", "Contents", "Layout", "layout_of"]
