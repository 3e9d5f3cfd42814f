"""How the rows of a version were laid out in files when they came in."""

from __future__ import annotations

from tasks.data.layouts import LAYOUTS
from tasks.data.manifest import Manifest
from tasks.data.storage.store import DatasetStore
from tasks.errors import NotFound

INGESTED = "ingest:"
ADDED = "add:"


def origin_of(store: DatasetStore, manifest: Manifest) -> Manifest:
    """The nearest version that files came into, with the method of the first: that is the layout.

    Where rows were added, the parameters are those of all rows together.
    """
    origin = first = manifest
    try:
        while first.parent is not None:
            first = store.get(first.name, first.parent)
            if not origin.method.startswith((INGESTED, ADDED)):
                origin = first
    except NotFound:
        pass  # it was deleted; told below by its method
    if first.method.startswith(INGESTED):
        return origin.model_copy(update={"method": first.method})
    usual = next(layout for layout in LAYOUTS if layout.reads(manifest.problem))
    return origin.model_copy(update={"method": f"{INGESTED}{usual.name}"})
