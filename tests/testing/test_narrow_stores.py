"""The suite asks no more than a store declares: two stores with narrow limits pass, and change whatever lies outside.

They are the memory store behind a sink that refuses, drops, rounds or normalises as real stores have been seen to. So
they also show that the codec needs nothing beyond what `limits()` says.
"""

from __future__ import annotations

import math
import re
from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from exitramp import canonical
from exitramp.codec.ids import fits_rule, is_uint64, is_uuid
from exitramp.errors import StoreRejected
from exitramp.ports import DocumentRoom, NameRule, Origin, PayloadLimits, SinkLimits, Store, StoreAdapter
from exitramp.records import CollectionSpec, DType, IdKind, Metric, VectorKind
from exitramp.testing import Outcome, Row, StoreConformance, batch_from_rows, rows_from_batch, run_suite
from exitramp.testing.memory import ADAPTER, LIMITS, MemorySink, MemoryStore
from exitramp.testing.within import name_within
from tests.testing.test_memory import MemoryHarness

TEXT_STORE = SinkLimits(
    id_kinds=frozenset({IdKind.STRING}),
    metrics=frozenset({Metric.COSINE, Metric.DOT, Metric.EUCLIDEAN}),
    payload=PayloadLimits(
        types=frozenset({"bool", "int", "float", "string", "list"}),
        item_types=frozenset({"bool", "int", "float", "string"}),
        negative_zero=False,
        float_digits=15,
        key_pattern=r"(?s)(?!chroma:|[$#]).+",
        empty_payload=False,
    ),
    id_bytes=200,
    names=NameRule(r"[a-zA-Z0-9][a-zA-Z0-9._-]*[a-zA-Z0-9]", 3, 40),
    documents=DocumentRoom.NATIVE,
    rounds=frozenset({Metric.COSINE}),
    vector_magnitude=1e18,
    keeps_origin=True,
    batch_rows=64,
    durable=False,
)
NUMBER_STORE = SinkLimits(
    id_kinds=frozenset({IdKind.UINT64, IdKind.UUID}),
    metrics=frozenset({Metric.COSINE, Metric.DOT, Metric.EUCLIDEAN, Metric.MANHATTAN}),
    payload=PayloadLimits(
        types=frozenset({"null", "bool", "int", "float", "string", "list", "object"}),
        item_types=frozenset({"null", "bool", "int", "float", "string", "list", "object"}),
        mixed_lists=True,
        nested=True,
        empty_lists=True,
        empty_objects=True,
        absent_payload=False,
    ),
    vector_kinds=frozenset({VectorKind.DENSE, VectorKind.SPARSE}),
    dtypes=frozenset({DType.FLOAT32}),
    named_vectors=True,
    dense_fields=2,
    vectors_required=False,
    normalises=frozenset({Metric.COSINE}),
    negative_zero_vectors=False,
    subnormal_vectors=False,
    zero_vectors=False,
    vector_magnitude=1e15,
    keeps_origin=True,
    batch_rows=50,
    durable=False,
)
NO_VECTOR_LESS_RECORD = replace(
    NUMBER_STORE, named_vectors=False, dense_fields=1, vectors_required=True, keeps_origin=False
)

LETTERS_STORE = replace(NUMBER_STORE, names=NameRule(r"[a-z_]+", 1, 20), field_names=NameRule(r"[a-z_]*", 0, 20))
CAPITALS_STORE = replace(
    TEXT_STORE, names=NameRule(r"[A-Z][A-Za-z0-9_]*", 1, 230), unnamed_vector=False, named_vectors=True
)


class NarrowSink(MemorySink):
    def create(self, spec: CollectionSpec, origin: Origin) -> None:
        limits = self.limits()
        name = self._store.address.require_collection()
        rule = limits.names
        _refuse_unless(re.fullmatch(rule.pattern, name) is not None, "the name")
        _refuse_unless(rule.minimum <= len(name) <= rule.maximum, "the length of the name")
        _refuse_unless(limits.namespaces or not spec.has_namespaces, "namespaces")
        _refuse_unless(limits.documents is DocumentRoom.NATIVE or not spec.has_documents, "documents")
        _refuse_unless(spec.id_kind in limits.id_kinds, "the kind of ids")
        dense = [field for field in spec.vectors if field.kind is VectorKind.DENSE]
        _refuse_unless(limits.dense_fields is None or len(dense) <= limits.dense_fields, "the number of fields")
        for field in spec.vectors:
            _refuse_unless(field.kind in limits.vector_kinds, "the kind of vectors")
            _refuse_unless(field.dtype in limits.dtypes, "the dtype")
            _refuse_unless(field.kind is VectorKind.SPARSE or field.metric in limits.metrics, "the metric")
            _refuse_unless(limits.named_vectors or not field.name, "a named vector")
            _refuse_unless(limits.unnamed_vector or bool(field.name), "a vector without a name")
            _refuse_unless(fits_rule(field.name, limits.field_names), "the name of a field")
        super().create(spec, origin)

    def upsert(self, batch: pa.RecordBatch) -> None:
        spec = self._store.collection().spec
        _refuse_unless(batch.schema.names[0] == "id", "a batch without ids")
        if batch.num_rows and batch.schema.field(batch.num_columns - 1).type != _last_type(spec):
            super().upsert(batch)  # refuses it
        changed = [self._changed(row, spec) for row in rows_from_batch(batch, spec)]
        super().upsert(batch_from_rows(changed, spec))

    def _changed(self, row: Row, spec: CollectionSpec) -> Row:
        limits = self.limits()
        kinds = limits.id_kinds
        _refuse_unless(
            (IdKind.UINT64 in kinds and is_uint64(row.id))
            or (IdKind.UUID in kinds and is_uuid(row.id))
            or (IdKind.STRING in kinds and 0 < len(row.id.encode()) <= (limits.id_bytes or math.inf)),
            "the id",
        )
        vectors = {}
        for field in spec.vectors:
            value = row.vectors.get(field.column)
            if value is None:
                _refuse_unless(not limits.vectors_required, "a record without a vector")
            elif isinstance(value, tuple):
                vectors[field.column] = value
            else:
                _refuse_unless(bool(np.isfinite(value.astype(np.float64)).all()), "a vector that is not finite")
                vectors[field.column] = _vector(value, field.metric, limits)
        return replace(row, payload=_payload(row.payload, limits), vectors=vectors)


def _last_type(spec: CollectionSpec) -> pa.DataType:
    return batch_from_rows([], spec).schema.field(-1).type


def _vector(value: Any, metric: Metric, limits: SinkLimits) -> Any:
    value = value if limits.negative_zero_vectors else value + 0
    with np.errstate(all="ignore"):
        if not limits.subnormal_vectors:
            value = np.where(np.abs(value) < np.finfo(value.dtype).tiny, value.dtype.type(0), value)
        if metric in limits.rounds:
            value = np.nextafter(value, value.dtype.type(np.inf))
        if metric in limits.normalises:
            value = value / np.linalg.norm(value)  # in its own precision, so what is huge is lost
    return value.astype(np.float32)


def _payload(payload: Any, limits: SinkLimits) -> dict[str, Any] | None:
    if not payload:
        return None if limits.payload.absent_payload else {}
    kept: dict[str, Any] = {}
    for key, value in payload.items():
        _refuse_unless(re.fullmatch(limits.payload.key_pattern, key) is not None, "a key")
        kind = canonical.type_name(value)
        if kind in {"null", "nonfinite"} and kind not in limits.payload.types:
            continue  # without a word, as has been seen
        _refuse_unless(kind in limits.payload.types, f"a {kind}")
        kept[key] = _value(value, kind, limits.payload)
    return kept


def _value(value: Any, kind: str, limits: PayloadLimits) -> Any:
    if kind == "list":
        kinds = {canonical.type_name(item) for item in value}
        _refuse_unless(bool(value) or limits.empty_lists, "an empty list")
        _refuse_unless(len(kinds) < 2 or limits.mixed_lists, "a mixed list")
        _refuse_unless(kinds <= limits.item_types, f"a list of {kinds}")
        return [_value(item, canonical.type_name(item), limits) for item in value]
    if kind == "object":
        _refuse_unless(limits.nested, "an object")
        _refuse_unless({canonical.type_name(item) for item in value.values()} <= limits.types, "a nested type")
        return {key: _value(item, canonical.type_name(item), limits) for key, item in value.items()}
    if kind == "int" and not -(2 ** (limits.integer_bits - 1)) <= value < 2 ** (limits.integer_bits - 1):
        return float(value)  # without a word, as has been seen
    if kind == "float" and limits.float_digits is not None:
        _, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
        exact = len(digits) <= limits.float_digits and abs(int(exponent)) <= limits.float_exponent
        value = value if exact or not value else math.nextafter(value, 0.0)
    return value + 0.0 if kind == "float" and not limits.negative_zero else value


def _refuse_unless(fits: bool, what: str) -> None:
    if not fits:
        raise StoreRejected(f"the narrow store does not take {what}")


class NarrowHarness(MemoryHarness):
    limits: SinkLimits

    def adapter(self) -> StoreAdapter:
        changed = sorted(self.limits.normalises | self.limits.rounds)
        fidelity = f"bit-exact; not under {', '.join(changed)}" if changed else "bit-exact"
        return replace(ADAPTER, fidelity=fidelity, vector_kinds=tuple(self.limits.vector_kinds))

    def open(self, collection: str) -> Store:
        return _NarrowStore(self.name, collection, limits=self.limits)


class _NarrowStore(MemoryStore):
    def sink(self) -> NarrowSink:
        return NarrowSink(self)


class TextHarness(NarrowHarness):
    limits = TEXT_STORE


class NumberHarness(NarrowHarness):
    limits = NUMBER_STORE


class OneVectorHarness(NarrowHarness):
    limits = NO_VECTOR_LESS_RECORD


class LettersHarness(NarrowHarness):
    limits = LETTERS_STORE


class CapitalsHarness(NarrowHarness):
    limits = CAPITALS_STORE


class VerbatimHarness(MemoryHarness):
    def open(self, collection: str) -> Store:
        return MemoryStore(self.name, collection, limits=replace(LIMITS, verbatim=True))


class TestVerbatimStore(StoreConformance):
    """The other extreme: a store that takes every record as it is, so that the codec has nothing to do."""

    @pytest.fixture
    def harness(self) -> VerbatimHarness:
        return VerbatimHarness()


class TestTextStore(StoreConformance):
    @pytest.fixture
    def harness(self) -> TextHarness:
        return TextHarness()


class TestNumberStore(StoreConformance):
    @pytest.fixture
    def harness(self) -> NumberHarness:
        return NumberHarness()


class TestOneVectorStore(StoreConformance):
    @pytest.fixture
    def harness(self) -> OneVectorHarness:
        return OneVectorHarness()


class TestLettersStore(StoreConformance):
    """Its names hold no hyphen and no digit, so the suite's own have to do without them too."""

    @pytest.fixture
    def harness(self) -> LettersHarness:
        return LettersHarness()


class TestCapitalsStore(StoreConformance):
    """Its names begin with a capital letter."""

    @pytest.fixture
    def harness(self) -> CapitalsHarness:
        return CapitalsHarness()


def test_names_are_spelt_as_a_rule_takes_them_and_stay_different() -> None:
    names = ["articles", "coded-uint64", "coded-uint32", "described-float32-euclidean", "described-float32-cosine", "a"]
    for rule in (LETTERS_STORE.names, CAPITALS_STORE.names, NameRule("[A-Z]+", 1, 12), NameRule("[a-z]+[0-9]?", 1, 9)):
        spelt = [name_within(name, rule) for name in names]
        assert all(fits_rule(name, rule) for name in spelt), spelt
        assert len(set(spelt)) == len(names)
    assert [name_within(name, TEXT_STORE.names) for name in names[:5]] == names[:5], "what is taken stays as it is"
    with pytest.raises(AssertionError, match="takes no plain name"):
        name_within("articles", NameRule("[A-Z]+", 1, 3))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id_kinds", frozenset({IdKind.STRING})),
        ("normalises", frozenset()),
        ("negative_zero_vectors", True),
        ("subnormal_vectors", True),
        ("vectors_required", False),
        ("keeps_origin", True),
    ],
)
def test_a_store_that_declares_more_than_it_keeps_does_not_pass(field: str, value: Any) -> None:
    class Boaster(NarrowHarness):
        limits = replace(NO_VECTOR_LESS_RECORD, **{field: value})

        def open(self, collection: str) -> Store:
            truth, boast = NO_VECTOR_LESS_RECORD, self.limits

            class Sink(NarrowSink):
                def limits(self) -> SinkLimits:
                    return boast if self._boasting else truth

                _boasting = True

                def create(self, spec: CollectionSpec, origin: Origin) -> None:
                    self._truly(lambda: NarrowSink.create(self, spec, origin))

                def upsert(self, batch: pa.RecordBatch) -> None:
                    self._truly(lambda: NarrowSink.upsert(self, batch))

                def _truly(self, action: Any) -> None:
                    self._boasting = False
                    try:
                        action()
                    finally:
                        self._boasting = True

            class Opened(MemoryStore):
                def sink(self) -> NarrowSink:
                    return Sink(self)

            return Opened(self.name, collection, limits=truth)

    def matters(test: str) -> bool:
        return any(word in test for word in ("vector", "id_kind", "origin", "limits"))

    outcomes: list[Outcome] = run_suite(lambda folder: Boaster(), only=matters)
    assert "failed" in {outcome.outcome for outcome in outcomes}, f"{field}={value} was believed"
