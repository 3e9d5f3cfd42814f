"""Layouts that ingest reads, one a file. A new one is a module here and a line in `LAYOUTS`."""

from __future__ import annotations

from tasks.data.config import IngestConfig
from tasks.data.layouts.coco import Coco
from tasks.data.layouts.label_folders import LabelFolders
from tasks.data.layouts.labels_csv import LabelsCsv
from tasks.data.layouts.layout import Layout
from tasks.data.layouts.seg_maps import SegMaps
from tasks.data.layouts.table import Table
from tasks.data.layouts.text_table import TextTable
from tasks.data.sources.source import Source
from tasks.errors import InvalidData, InvalidSettings
from tasks.refs import Problem

LAYOUTS: tuple[Layout, ...] = (LabelFolders(), LabelsCsv(), Coco(), SegMaps(), Table(), TextTable())

_FORMER_NAMES = {"image-folder": "label-folders", "image-csv": "labels-csv"}
"""Versions that were made before the layouts had these names are still exported."""


def layout_of(source: Source, config: IngestConfig) -> Layout:
    """The layout that a source is in.

    Raises:
        InvalidData: It is in none.
    """
    for layout in LAYOUTS:
        if layout.matches(source, config):
            return layout
    wanted = "; or ".join(layout.describes for layout in LAYOUTS if layout.reads(config.problem))
    shown = ", ".join(source.paths[:3])
    raise InvalidData(
        f"The source {source.given} is in no layout known for {config.problem.value}",
        where=f"{len(source.paths):,} files: {shown}{', …' if len(source.paths) > 3 else ''}",
        allowed=wanted,
        mend="arrange the files in one of these ways (a template shows each), or choose another problem",
    )


def layout_named(name: str, problem: Problem) -> Layout:
    """A layout by its name.

    Raises:
        InvalidSettings: There is none of that name for this problem.
    """
    name = _FORMER_NAMES.get(name, name)
    able = {layout.name: layout for layout in LAYOUTS if layout.reads(problem)}
    if name not in able:
        raise InvalidSettings(
            f"There is no layout {name} for {problem.value}", where="layout", allowed=", ".join(able)
        )
    return able[name]
