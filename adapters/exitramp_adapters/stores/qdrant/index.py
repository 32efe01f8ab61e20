"""Whether Qdrant answers from its index or compares every vector, by the counts that it gives.

Tried out on engine 0.6 (qdrant-edge-py 0.9), whose words are the server's:

* `indexed_vectors_count` is 0 until a segment is worth an index (`optimizers.indexing_threshold`), and counts vectors
  that were deleted since; sparse vectors are in it too, deleted ones as well, so it tells nothing where there are any.
* An index whose field holds less than `full_scan_threshold` is passed over: 2,000 x 64 numbers with 2,000 of them
  indexed were found completely at `hnsw_ef` 1, and only to 0.62 with a threshold of 10.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from exitramp.ports import IndexCoverage
from exitramp.records import DType, VectorField, VectorKind

FULL_SCAN_KILOBYTES: Final = 10_000
"""`full_scan_threshold`, where nothing else is said."""
_BYTES: Final[Mapping[DType, int]] = {DType.FLOAT32: 4, DType.FLOAT16: 2}


def coverage(
    fields: Sequence[VectorField],
    *,
    points: int,
    indexed: int,
    full_scan: Mapping[str, int],
    indexing_threshold: int | None,
) -> IndexCoverage:
    """What `points` records of these fields with `indexed` vectors in an index come to.

    full_scan: by field, below how many KiB its index is passed over. indexing_threshold: from how many KiB of vectors
    in a segment on an index is built; 0 for never, None where it is not known.
    """
    dense = [field for field in fields if field.kind is not VectorKind.SPARSE]
    total = points * len(dense)
    if indexed <= 0:
        return IndexCoverage(0, total, _unwanted(indexing_threshold))
    if len(dense) < len(fields):
        return IndexCoverage()
    if all(_is_passed_over(field, min(points, indexed), full_scan[field.name]) for field in dense):
        least = max(full_scan[field.name] for field in dense)
        return IndexCoverage(0, total, f"there is an index, and below {least:,} KiB of vectors it is passed over")
    return IndexCoverage(min(indexed, total), max(0, total - indexed))


def full_scans(vectors: Mapping[str, Any], hnsw: Mapping[str, Any] | None) -> dict[str, int]:
    """`full_scan_threshold` of every field, from the parameters of the vectors and those of the collection."""
    usual = _threshold(hnsw, FULL_SCAN_KILOBYTES)
    named = {"": vectors} if isinstance(vectors.get("size"), int) else vectors
    return {name: _threshold(entry.get("hnsw_config"), usual) for name, entry in named.items()}


def _threshold(hnsw: Mapping[str, Any] | None, usual: int) -> int:
    found = (hnsw or {}).get("full_scan_threshold")
    return usual if found is None else int(found)


def _is_passed_over(field: VectorField, most: int, kilobytes: int) -> bool:
    """Whether `most` vectors stay below the threshold, whatever segments they are in; of a multi field nobody knows."""
    if field.kind is not VectorKind.DENSE:
        return False
    return most * (field.dimensions or 0) * _BYTES.get(field.dtype, 4) < kilobytes * 1024


def _unwanted(threshold: int | None) -> str:
    if threshold == 0:
        return "building one is switched off"
    return "" if threshold is None else f"it builds one from {threshold:,} KiB of vectors in a segment on"
