"""Keys and vectors straight out of the bytes of a usearch file, for files that are known to be whole.

usearch copies the vectors when it loads a file, and makes an array of each when it gives them: 55 ms for 20,000 x 384,
where this takes 2. The file, as usearch 2 writes it: the number of rows and the bytes of each as uint32; the vectors,
slot by slot; a head of 64 bytes, `_HEAD`; the graph's head, `_GRAPH`; the level of each slot as int16; then slot by
slot its key as uint64, its level again, and for each level from 0 to its own how many neighbours it has and room for
them as uint32. Whatever does not look so is left to usearch itself.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from exitramp.ports.index_bytes import Bytes

VECTORS_AT: Final = 8
"""Behind the two counts, if they are of four bytes each; otherwise it is not `parsed`."""
_COUNTS: Final = struct.Struct("<II")
_HEAD: Final = struct.Struct("<7s3H4B3Q?")
"""Magic, version, the kinds of metric, scalar, key and slot, how many are present and deleted, dimensions, multi."""
_HEAD_BYTES: Final = 64
_GRAPH: Final = struct.Struct("<5Q")
"""Slots, the room for neighbours above level 0 and on it, the highest level, the slot where a walk begins."""
_VERSION: Final = 2
_KEY_U64: Final = 14
_SLOT_U32: Final = 15
_DELETED: Final = np.uint64(2**64 - 1)


@dataclass(frozen=True, slots=True)
class Parsed:
    """keys [rows] in the order of the slots, vectors [rows, bytes of each]: a part of the file's bytes where no slot is
    free. metric, scalar: usearch's numbers for them."""

    keys: npt.NDArray[np.uint64]
    vectors: npt.NDArray[np.uint8]
    metric: int
    scalar: int
    dimensions: int
    version: str
    deleted: int
    connectivity: int


def parsed(data: Bytes) -> Parsed | None:
    """What the file holds; None where it is not as described, or holds several vectors for a key.

    Nothing is read beyond `data`, and nothing in it is believed that would lead there.
    """
    size, buffer = len(data), data.data
    if size < VECTORS_AT + _HEAD_BYTES + _GRAPH.size:
        return None
    rows, width = _COUNTS.unpack_from(buffer, 0)
    at = VECTORS_AT + rows * width
    if at + _HEAD_BYTES + _GRAPH.size + 2 * rows > size or not rows or not width:
        return None
    magic, *version, metric, scalar, key, slot, present, deleted, dimensions, multi = _HEAD.unpack_from(buffer, at)
    if (magic, version[0], key, slot, multi) != (b"usearch", _VERSION, _KEY_U64, _SLOT_U32, False):
        return None
    slots, above, base, highest, _ = _GRAPH.unpack_from(buffer, at + _HEAD_BYTES)
    at += _HEAD_BYTES + _GRAPH.size
    levels = data[at : at + 2 * rows].view("<i2").astype(np.int64)
    if slots != rows or present + deleted != rows or not (levels >= 0).all() or levels.max() != highest:
        return None
    at += 2 * rows
    if max(above, base) * 4 * (rows + int(levels.sum())) > 2 * size:  # before it is reckoned with in int64
        return None
    node_bytes = 10 + 4 + 4 * base + levels * (4 + 4 * above)
    if at + int(node_bytes.sum()) != size:
        return None
    begins = at + np.cumsum(node_bytes) - node_bytes
    nodes = data[begins[:, None] + np.arange(10)]
    if not np.array_equal(np.ascontiguousarray(nodes[:, 8:]).view("<i2").reshape(-1), levels):
        return None
    keys = np.ascontiguousarray(nodes[:, :8]).view("<u8").reshape(-1)
    vectors = data[VECTORS_AT : VECTORS_AT + rows * width].reshape(rows, width)
    there = keys != _DELETED
    if int(there.sum()) != present:
        return None
    if deleted:
        keys, vectors = keys[there], vectors[there]
    if len(np.unique(keys)) != len(keys):
        return None
    return Parsed(keys, vectors, metric, scalar, dimensions, ".".join(map(str, version)), deleted, above)


class Lazy:
    """The index as usearch sees it in these bytes, once something is asked of it: reading needs only the bytes."""

    def __init__(self, made: Any, data: Bytes) -> None:
        self._made, self._data, self._index = made, data, None

    @property
    def index(self) -> Any:
        if self._index is None:
            index = self._made()
            index.view(self._data)  # not copied; they are nobody else's, unlike those of a file
            self._index = index
        return self._index
