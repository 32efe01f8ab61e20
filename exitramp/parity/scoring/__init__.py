"""How near records' vectors are to queries, for each kind of vector: exactly, and fast enough for every pair."""

from __future__ import annotations

from exitramp.parity.scoring.dense import DENSE
from exitramp.parity.scoring.kind import Block, Floats, Kind, Mask, Matrix, Pairs, Queries, tie_width
from exitramp.parity.scoring.multi import MULTI
from exitramp.parity.scoring.sparse import SPARSE
from exitramp.records import VectorKind

__all__ = ["Block", "Floats", "Kind", "Mask", "Matrix", "Pairs", "Queries", "kind_of", "tie_width"]


def kind_of(kind: VectorKind) -> Kind:
    """What there is to know of one kind of vector, to compare neighbours by it."""
    match kind:
        case VectorKind.DENSE:
            return DENSE
        case VectorKind.SPARSE:
            return SPARSE
        case VectorKind.MULTI:
            return MULTI
