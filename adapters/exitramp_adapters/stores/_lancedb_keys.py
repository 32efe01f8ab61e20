"""What tells a record of a LanceDB table from the others: as a column, in SQL, and as a hash."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from exitramp.records import RecordKey


class KnownKeys:
    """Which keys may be there, by 64-bit hashes in sorted runs that double in size. None that is there is missed."""

    def __init__(self) -> None:
        self._runs: list[npt.NDArray[np.int64]] = []

    def add(self, hashes: npt.NDArray[np.int64]) -> None:
        if not len(hashes):
            return
        run = np.sort(hashes)
        while self._runs and len(self._runs[-1]) <= 2 * len(run):
            run = np.sort(np.concatenate([self._runs.pop(), run]), kind="stable")
        self._runs.append(run)

    def has(self, hashes: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        found = np.zeros(len(hashes), np.bool_)
        for run in self._runs:
            at = np.minimum(np.searchsorted(run, hashes), len(run) - 1)
            found |= run[at] == hashes
        return found


def hashes_of(keys: Any) -> npt.NDArray[np.int64]:
    """Python's own hashes of a column of texts: 0.15 us each, and the same only within this process."""
    texts = keys.to_pylist()
    return np.fromiter(map(hash, texts), np.int64, len(texts))


def sql_texts(texts: Sequence[str]) -> str:
    return ",".join("'" + text.replace("'", "''") + "'" for text in texts)


def key_text(key: RecordKey) -> str:
    """As `key_column` writes it: `/ID` in no namespace, else `LENGTH:NAMESPACE/ID`, which no two records share."""
    return f"/{key.id}" if key.namespace is None else f"{len(key.namespace)}:{key.namespace}/{key.id}"


def key_column(namespaces: pa.Array, ids: pa.Array) -> pa.Array:
    lengths = pc.utf8_length(namespaces).cast(pa.string())
    spaces = pc.binary_join_element_wise(lengths, namespaces, ":")
    return pc.binary_join_element_wise(pc.fill_null(spaces, ""), ids, "/")
