"""What may go wrong with a record on its way into a store, so that a copy is not what it was."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from exitramp.codec.marker import MARKER_KEY
from exitramp.ports import SinkLimits
from exitramp.records import CollectionSpec, VectorField, VectorKind
from exitramp.testing.rows import Row

Numbers = npt.NDArray[Any]


class Damage:
    """Something that goes wrong with one record on its way into the store; `what` says so once it has."""

    def __init__(self, kind: str, place: int) -> None:
        self._kind, self._place = kind, place
        self._seen = 0
        self.what = ""

    def done_to(self, row: Row, spec: CollectionSpec, limits: SinkLimits) -> Row:
        """`row`, or another where the damage is due: the first record from its place on to which it can be done."""
        self._seen += 1
        if self.what or self._seen <= self._place:
            return row
        damaged = DAMAGES[self._kind](row, spec, limits)
        if damaged is None:
            return row
        self.what = f"{self._kind} of {row.id}"
        return damaged


def _other_vector(row: Row, spec: CollectionSpec, limits: SinkLimits, other: Any) -> Row | None:
    """`row` with the first vector replaced for which `other` gives another."""
    for each in spec.vectors:
        value = row.vectors.get(each.column)
        if value is None or (isinstance(value, tuple) and not len(value[1])) or (each.kind is VectorKind.MULTI):
            continue
        numbers = value[1] if isinstance(value, tuple) else value
        if numbers.dtype.kind != "f" or not np.isfinite(numbers).all() or not (np.abs(numbers) > 1e-3).any():
            continue
        found = other(numbers.copy(), each, limits)
        if found is not None:
            changed = (value[0], found) if isinstance(value, tuple) else found
            return replace(row, vectors={**row.vectors, each.column: changed})
    return None


def _negated(numbers: Numbers, field: VectorField, limits: SinkLimits) -> Numbers:
    return -numbers


def _stretched(numbers: Numbers, field: VectorField, limits: SinkLimits) -> Numbers:
    found: Numbers = numbers * numbers.dtype.type(1.5)
    return found


def _nudged(numbers: Numbers, field: VectorField, limits: SinkLimits) -> Numbers:
    place = int(np.abs(numbers).argmax())
    numbers[place] += numbers.dtype.type(60) * np.spacing(numbers[place])
    return numbers


def _without_vector(row: Row, spec: CollectionSpec, limits: SinkLimits) -> Row | None:
    if limits.vectors_required or not row.vectors:
        return None
    return replace(row, vectors=dict(list(row.vectors.items())[1:]))


def _other_value(row: Row, spec: CollectionSpec, limits: SinkLimits) -> Row | None:
    for key, value in (row.payload or {}).items():
        if key != MARKER_KEY and value != "damaged":
            return replace(row, payload={**(row.payload or {}), key: "damaged"})
    return None


def _without_key(row: Row, spec: CollectionSpec, limits: SinkLimits) -> Row | None:
    keys = list(row.payload or {})
    return replace(row, payload={key: (row.payload or {})[key] for key in keys[1:]}) if keys else None


def _more_keys(row: Row, spec: CollectionSpec, limits: SinkLimits) -> Row:
    return replace(row, payload={**(row.payload or {}), "more": 1})


def _other_document(row: Row, spec: CollectionSpec, limits: SinkLimits) -> Row | None:
    return replace(row, document=(row.document or "") + "x") if spec.has_documents else None


DAMAGES: Mapping[str, Callable[[Row, CollectionSpec, SinkLimits], Row | None]] = {
    "negation": lambda row, spec, limits: _other_vector(row, spec, limits, _negated),
    "stretching": lambda row, spec, limits: _other_vector(row, spec, limits, _stretched),
    "nudging": lambda row, spec, limits: _other_vector(row, spec, limits, _nudged),
    "loss of a vector": _without_vector,
    "change of a value": _other_value,
    "loss of a key": _without_key,
    "addition of a key": _more_keys,
    "change of the document": _other_document,
}
