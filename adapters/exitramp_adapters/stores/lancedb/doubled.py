"""Ids that stand in more than one row of a LanceDB table, which its `add` allows: looked for before a scan begins.

The id's column alone is read. Ids that ascend from row to row, as those of a table do that was filled in their order,
cannot repeat, and nothing is held of them. Of others 64-bit hashes are held until they are sorted, 8 bytes a row;
where two of those are equal, a second look tells whether the ids are. So none is missed, and none is wrongly told.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from exitramp_adapters.stores.lancedb.layout import hashes_of
from exitramp_adapters.stores.lancedb.tables import View, id_texts


def doubled_keys(view: View) -> list[str]:
    """In the order in which they repeat. 0.2 us for each row whose ids ascend, else 0.3. Raises `DataInvalid` for a row
    that has no id."""
    if _ascend(keys_of(view)):
        return []
    hashes = np.empty(int(view.table.count_rows()), np.int64)
    row = 0
    for keys in keys_of(view):
        hashes[row : row + len(keys)] = hashes_of(keys)
        row += len(keys)
    hashes.sort()  # where they are: a sorted copy, and the pieces before it, took 24 bytes a row together
    twice = np.unique(hashes[1:][hashes[1:] == hashes[:-1]])
    del hashes
    return _seen_again(view, twice) if len(twice) else []


def keys_of(view: View) -> Iterator[pa.Array]:
    """What no two rows may have alike, as texts: the id, with its namespace where there are some."""
    space = None if view.ours else view.roles.namespace
    names = [view.key] if space is None else [view.key, space]
    row = 0
    for batch in view.table.search().select(names).to_batches():
        ids = id_texts(batch.column(view.key), view.schema.field(view.key), row)
        row += batch.num_rows
        if space is not None:
            pairs = zip(batch.column(space).to_pylist(), ids.to_pylist(), strict=True)
            ids = pa.array([repr(pair) for pair in pairs], pa.string())
        yield ids


def _ascend(parts: Iterator[pa.Array]) -> bool:
    """Whether each key is greater than the one before it. Arrow compares the bytes, which order as Python's texts do:
    UTF-8 keeps the order of code points."""
    last: str | None = None
    for keys in parts:
        if not len(keys):
            continue
        if last is not None and not last < keys[0].as_py():
            return False
        if not pc.all(pc.less(keys[:-1], keys[1:])).as_py():
            return False
        last = keys[-1].as_py()
    return True


def _seen_again(view: View, hashes: np.ndarray[tuple[int], np.dtype[np.int64]]) -> list[str]:
    """Of the keys with one of these hashes those that come more than once."""
    seen: set[str] = set()
    doubled: dict[str, None] = {}
    for keys in keys_of(view):
        for place in np.flatnonzero(np.isin(hashes_of(keys), hashes)).tolist():
            key = keys[place].as_py()
            if key in seen:
                doubled[key] = None
            seen.add(key)
    return list(doubled)
