"""The memory store behind a sink of any limits, which refuses whatever they do not allow and changes all that they let
it change: as real stores do, and harder."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from hypothesis import strategies as st

from exitramp import canonical
from exitramp.codec.ids import is_int64, is_uint64, is_uuid
from exitramp.codec.marker import MARKER_KEY
from exitramp.errors import StoreRejected
from exitramp.ports import DocumentRoom, NameRule, Origin, PayloadLimits, SinkLimits
from exitramp.records import CollectionSpec, DType, IdKind, Metric, VectorField, VectorKind
from exitramp.testing.memory import ALL_TYPES, MemorySink, MemoryStore
from exitramp.testing.rows import Row, batch_from_rows, rows_from_batch
from tests.migration.damages import Damage

Numbers = npt.NDArray[Any]


class HarshStore(MemoryStore):
    def __init__(self, name: str, collection: str | None, *, limits: SinkLimits, damage: Damage | None = None) -> None:
        super().__init__(name, collection, limits=limits)
        self.damage = damage

    def sink(self) -> HarshSink:
        return HarshSink(self)


class HarshSink(MemorySink):
    def create(self, spec: CollectionSpec, origin: Origin) -> None:
        limits = self.limits()
        _unless(_fits(self._store.address.require_collection(), limits.names), "the collection's name")
        _unless(limits.namespaces or not spec.has_namespaces, "namespaces")
        _unless(limits.documents is DocumentRoom.NATIVE or not spec.has_documents, "documents")
        _unless(spec.id_kind in limits.id_kinds, "the kind of ids")
        dense = [each for each in spec.vectors if each.kind is VectorKind.DENSE]
        room = limits.dense_fields if limits.named_vectors else 1
        _unless(room is None or len(dense) <= room, "so many dense fields")
        _unless(bool(spec.vectors) or limits.vector_free, "no field at all")
        _unless(bool(dense) or not limits.vectors_required or limits.vector_free, "no dense field")
        names = [each.name for each in spec.vectors]
        _unless(limits.shared_field_names or len(set(names)) == len(names), "one name for two fields")
        for each in spec.vectors:
            _unless(each.kind in limits.vector_kinds, "the kind of vectors")
            _unless(each.dtype in limits.dtypes, "the dtype")
            known = limits.sparse_metrics if each.kind is VectorKind.SPARSE else limits.metrics
            _unless(each.metric in known, "the metric")
            _unless(limits.named_vectors or not each.name, "a name")
            _unless(limits.unnamed_vector or bool(each.name) or each.kind is not VectorKind.DENSE, "no name")
            _unless(_fits(each.name, limits.field_names), "the field's name")
            _unless(limits.dimensions is None or (each.dimensions or 0) <= limits.dimensions, "so many dimensions")
        super().create(spec, origin)

    def upsert(self, batch: pa.RecordBatch) -> None:
        spec = self._store.collection().spec
        changed = [self._changed(row, spec) for row in rows_from_batch(batch, spec)]
        damage = self._store.damage if isinstance(self._store, HarshStore) else None
        if damage is not None:
            changed = [damage.done_to(row, spec, self.limits()) for row in changed]
        super().upsert(batch_from_rows(changed, spec))

    def _changed(self, row: Row, spec: CollectionSpec) -> Row:
        limits = self.limits()
        kinds = limits.id_kinds
        _unless(
            (IdKind.UINT64 in kinds and is_uint64(row.id))
            or (IdKind.INT64 in kinds and is_int64(row.id))
            or (IdKind.UUID in kinds and is_uuid(row.id))
            or (IdKind.STRING in kinds and 0 < len(row.id.encode()) <= (limits.id_bytes or math.inf)),
            "the id",
        )
        vectors: dict[str, Any] = {}
        for each in spec.vectors:
            value = row.vectors.get(each.column)
            if value is None:
                required = limits.vectors_required and each.kind is VectorKind.DENSE
                _unless(not required, "a record without a vector")
            elif isinstance(value, tuple):
                twice = len(np.unique(value[0])) < len(value[0])
                _unless(limits.sparse_duplicates or not twice, "an index twice")
                numbers = _vector(value[1], each, limits) if len(value[1]) else value[1]
                vectors[each.column] = (value[0], numbers)
            elif each.kind is VectorKind.MULTI:
                _unless(limits.empty_multi or bool(len(value)), "a list of no vectors")
                parts = [_vector(part, each, limits) for part in value]
                vectors[each.column] = np.array(parts, value.dtype).reshape(value.shape)
            else:
                vectors[each.column] = _vector(value, each, limits)
        return replace(row, payload=_payload(row.payload, limits.payload), vectors=vectors)


def _vector(value: Numbers, field: VectorField, limits: SinkLimits) -> Numbers:
    """`value` as this store gives it back."""
    if value.dtype.kind != "f":
        return value
    edges: Any = np.finfo(value.dtype)
    sparse = field.kind is VectorKind.SPARSE
    with np.errstate(all="ignore"):
        finite = bool(np.isfinite(value).all())
        _unless(limits.nonfinite_vectors or finite, "a vector that is not finite")
        if not finite:
            return value  # to the bit, as it declares
        _unless(limits.zero_vectors or sparse or bool(value.any()), "a vector of zeros")
        found = value.copy()
        if not limits.negative_zero_vectors:
            found = found + value.dtype.type(0)
        if not limits.subnormal_vectors:
            found[(np.abs(found) < edges.tiny) & (found != 0)] = 0
        if limits.magnitude_metrics is None or field.metric in limits.magnitude_metrics:
            greatest = np.abs(value).max()
            if limits.vector_magnitude is not None and greatest > limits.vector_magnitude:
                return np.full_like(value, np.nan)
            if limits.vector_magnitude_least is not None and 0 < greatest < limits.vector_magnitude_least:
                return np.zeros_like(value)
        length = np.sqrt((found.astype("f8") ** 2).sum())
        if field.metric in limits.normalises and 0 < length < np.inf:
            kept = limits.unit_slack and len(value) <= limits.unit_dimensions and abs(length - 1) <= limits.unit_slack
            found = found if kept and field.kind is VectorKind.MULTI else (found / length).astype(value.dtype)
        elif field.metric in limits.rounds:
            found = _rounded(found, 1 if len(value) % 2 else -2)
            if not limits.subnormal_vectors:
                found[(np.abs(value) < edges.tiny * max(1.0, length)) & (value != 0)] = 0
    return found


def _rounded(value: Numbers, ulp: int) -> Numbers:
    """Some units in the last place off, where there is room."""
    edges: Any = np.finfo(value.dtype)
    found = value
    for _ in range(abs(ulp)):
        found = np.nextafter(found, value.dtype.type(np.copysign(np.inf, ulp)))
    normal = (np.abs(value) > edges.tiny * 4) & (np.abs(value) < edges.max / 4)
    return np.where(normal, found, value)


def _payload(payload: Any, limits: PayloadLimits) -> dict[str, Any] | None:
    if payload is None:
        return None if limits.absent_payload else {}
    if not payload:
        return {} if limits.empty_payload else None
    kept: dict[str, Any] = {}
    for key, value in payload.items():
        if key != MARKER_KEY:
            _unless(re.fullmatch(limits.key_pattern, key) is not None, "a key")
        kept[key] = _value(value, limits, 0, limits.types)
    return kept


def _value(value: Any, limits: PayloadLimits, depth: int, types: frozenset[str]) -> Any:
    kind = canonical.type_name(value)
    _unless(kind in types, f"a {kind}")
    if kind in {"list", "object"}:
        _unless(limits.depth is None or depth < limits.depth, "what is nested so deep")
        _unless(depth == 0 or limits.nested, "what is nested")
    if kind == "list":
        kinds = {canonical.type_name(item) for item in value}
        _unless(bool(value) or limits.empty_lists, "an empty list")
        _unless(len(kinds) < 2 or limits.mixed_lists, "a mixed list")
        return [_value(item, limits, depth + 1, limits.item_types) for item in value]
    if kind == "object":
        _unless(limits.nested, "an object")
        _unless(bool(value) or limits.empty_objects, "an empty object")
        return {key: _value(item, limits, depth + 1, limits.types) for key, item in value.items()}
    if kind == "int":
        most = 2 ** (limits.integer_bits - 1) - 1 if limits.integer_maximum is None else limits.integer_maximum
        _unless(-(2 ** (limits.integer_bits - 1)) <= value <= most, "so great an integer")
    if kind == "float":
        value = value if limits.negative_zero else value + 0.0
        digits = len(repr(abs(value)).replace(".", "").split("e")[0].strip("0"))
        short = digits <= (limits.float_digits or 17) and 1e-7 <= abs(value) <= 1e22
        if value and limits.float_digits is not None and not short:
            value = math.nextafter(value, 0.0)
    return value


def _fits(name: str, rule: NameRule) -> bool:
    return rule.minimum <= len(name) <= rule.maximum and re.fullmatch(rule.pattern, name) is not None


def _unless(fits: bool, what: str) -> None:
    if not fits:
        raise StoreRejected(f"the harsh store does not take {what}")


def _subset(values: Any, *, least: Any = ()) -> st.SearchStrategy[frozenset[Any]]:
    return st.sets(st.sampled_from(sorted(values))).map(lambda found: frozenset(found) | frozenset(least))


@st.composite
def payload_limits(draw: st.DrawFn) -> PayloadLimits:
    nested = draw(st.booleans())
    types = draw(_subset(ALL_TYPES, least={"string"}))
    return PayloadLimits(
        types=types,
        item_types=draw(_subset(types)),
        mixed_lists=draw(st.booleans()),
        nested=nested,
        empty_lists=draw(st.booleans()),
        empty_objects=draw(st.booleans()),
        negative_zero=draw(st.booleans()),
        integer_bits=draw(st.sampled_from([8192, 64, 53])),
        float_digits=draw(st.sampled_from([None, 15])),
        key_pattern=draw(st.sampled_from([r"(?s).*", r"(?s)(?![$#]).+", r"[a-z_]+"])),
        depth=draw(st.sampled_from([None, 1, 5])),
        empty_payload=draw(st.booleans()),
        absent_payload=draw(st.booleans()),
    )


@st.composite
def sink_limits(draw: st.DrawFn) -> SinkLimits:
    """What a store could declare, within reason: it takes float32 or a wider type, and texts."""
    few = _subset(Metric, least={draw(st.sampled_from([Metric.COSINE, Metric.DOT]))})
    metrics = draw(few | st.just(frozenset(Metric)) | st.just(frozenset(Metric)))
    changed = draw(_subset(metrics))
    normalises = draw(st.booleans())
    named = draw(st.sampled_from([0, 1, 2]))  # unnamed fields only, both, named ones only
    ids = draw(_subset(IdKind, least={draw(st.sampled_from([IdKind.STRING, IdKind.UUID, IdKind.INT64]))}))
    return SinkLimits(
        id_kinds=ids,
        metrics=metrics,
        payload=draw(payload_limits()),
        id_bytes=draw(st.sampled_from([None, 64])),
        names=draw(st.sampled_from([NameRule(), NameRule(r"[a-z0-9-]+", 3, 63)])),
        vector_kinds=draw(_subset(VectorKind, least={VectorKind.DENSE}) | st.just(frozenset(VectorKind))),
        dtypes=draw(_subset(DType, least={draw(st.sampled_from([DType.FLOAT32, DType.FLOAT64, DType.FLOAT32]))})),
        dimensions=draw(st.sampled_from([None, 16])),
        unnamed_vector=named < 2,
        named_vectors=named > 0,
        dense_fields=draw(st.sampled_from([None, 1, 2])),
        field_names=draw(st.sampled_from([NameRule(r"(?s).*", 0, 255), NameRule(r"[a-z0-9-]*", 0, 40)])),
        shared_field_names=draw(st.booleans()),
        sparse_metrics=draw(_subset(Metric, least={Metric.DOT})),
        vectors_required=draw(st.sampled_from([False, False, True])),
        vector_free=draw(st.booleans()),
        namespaces=draw(st.booleans()),
        documents=draw(st.sampled_from(DocumentRoom)),
        normalises=changed if normalises else frozenset(),
        rounds=frozenset() if normalises else changed,
        nonfinite_vectors=draw(st.booleans()),
        negative_zero_vectors=draw(st.booleans()),
        subnormal_vectors=draw(st.booleans()),
        vector_magnitude=draw(st.sampled_from([None, 1e15, 100.0])),
        vector_magnitude_least=draw(st.sampled_from([None, 1e-21])),
        magnitude_metrics=draw(st.sampled_from([None, frozenset({Metric.COSINE})])),
        unit_slack=draw(st.sampled_from([0.0, 2e-7])),
        unit_dimensions=16,
        zero_vectors=draw(st.booleans()),
        empty_multi=draw(st.booleans()),
        sparse_duplicates=draw(st.booleans()),
        keeps_origin=draw(st.sampled_from([True] * 7 + [False])),
        batch_rows=draw(st.sampled_from([3, 1000])),
        durable=False,
    )
