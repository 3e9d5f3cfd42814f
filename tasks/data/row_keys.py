"""Keys of rows: numbers that are equal where ids or contents are, eight bytes each."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from tasks.data.manifest import Manifest


def id_keys(ids: pa.ChunkedArray) -> np.ndarray:
    """uint64 [n], by the hash of pandas; what is missing counts as an empty text."""
    filled = pc.fill_null(ids, "").to_numpy()
    return np.asarray(pd.util.hash_array(filled.astype(object), categorize=False))


def content_keys(table: pa.Table, manifest: Manifest) -> np.ndarray:
    """uint64 [n], of all features: rows are divided into splits by them, so they must stay as they are."""
    if manifest.problem.is_table:
        frame = table.select([feature.name for feature in manifest.features]).to_pandas()
        return np.asarray(pd.util.hash_pandas_object(frame, index=False).to_numpy(np.uint64))
    column = table[manifest.features[0].name]
    if pa.types.is_struct(column.type):
        column = pc.struct_field(column, "bytes")
    return digest_keys(memoryview(one.as_buffer() or b"") for chunk in column.chunks for one in chunk)


def digest_keys(contents: Iterable[bytes | memoryview]) -> np.ndarray:
    """uint64 [n], the first bytes of SHA-256."""
    return np.frombuffer(b"".join(hashlib.sha256(one).digest()[:8] for one in contents), np.uint64)
