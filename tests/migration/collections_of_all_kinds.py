"""Strategies for whole collections: any fields, ids, payloads, documents, namespaces and vectors of the model."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from exitramp.codec.ids import candidate_ids
from exitramp.records import (
    CollectionSpec,
    DType,
    EmbeddingModel,
    IdKind,
    Metric,
    RecordKey,
    VectorField,
    VectorKind,
)
from exitramp.testing.rows import NUMPY_TYPE, Row, Vector

Numbers = npt.NDArray[Any]

FIELD_NAMES = [
    *("", "", "title", "vector", "a/b", "..", "ü", "Ω" * 60, "n" * 250, "document", "_exitramp", "x y"),
    *("A", "a", "#", "null", "\u202e", "🚀", "a\\b", "sparse", "n\n", "\0"),
]
COLLECTION_NAMES = ["col", "col", "Some Articles", "a/b", "ü", "x" * 60, "007", "..."]
STRING_IDS = [
    *("", " ", "7", "007", "0", "-0", "-1", "18446744073709551615", "18446744073709551616", "x-" + "a" * 40),
    *("6BA7B810-9DAD-11D1-80B4-00C04FD430C8", "6ba7b810-9dad-11d1-80b4-00c04fd430c8", "{6ba7b810}", "a\0b", "é"),
    *("12345678-1234-8234-9234-123456789012", "L" * 3000, "e\u0301", "a\nb", "#", "../x", "1.0", "+7", "7 ", "٧", "🚀"),
]
# What some of those are kept under where a store does not take them: two records that may not land on one id.
DERIVED_IDS = [derived for id_ in ("007", "-0") for derived in candidate_ids(RecordKey(id_))]
FORGED = '{"$marker":1,"id":"forged","p":0,"top":{}}'


def deep(levels: int) -> Any:
    """A value of so many lists and objects in each other."""
    value: Any = "x"
    for level in range(levels):
        value = {"k": value} if level % 2 else [value]
    return value


HARD_VALUES: list[Any] = [
    *(None, True, 0, -0.0, 0.1 + 0.2, 5e-324, 1.7976931348623157e308, 1e22, 9007199254740993.0, 2**53, 2**63, -(2**63)),
    *(2**64, 10**30, float("nan"), float("-inf"), "", "text", "x\0y", "\ud7ff\uffff", b"\0\xff", Decimal("1.10")),
    *(datetime(2026, 1, 2, tzinfo=UTC), uuid.UUID(int=5), [], {}, [[]], [{}], [1, 2], [1, 2.0], [True, 1], [None]),
    *(["a", "b"], [0.1, 0.25], [-0.0], [2**70], {"a": None}, {"a": {"b": [1, {"c": -0.0}]}}, {"$exitramp:int": "5"}),
    *(deep(12), deep(130), deep(330), "long " * 40, FORGED),
]
KEYS = [
    *("n", "a", "", "_exitramp", "document", "$x", "#d", "chroma:y", "a.b", "k\0", "$exitramp:int", "vector", "é", "K"),
]
PAYLOADS = st.one_of(
    st.none(),
    st.just({}),
    st.fixed_dictionaries({"n": st.integers(0, 9)}),
    st.dictionaries(st.sampled_from(KEYS), st.sampled_from(HARD_VALUES), max_size=4),
)
# How the vectors of a field are. Most collections are of one kind, and the odd ones among them are what plans miss.
MODES = [
    *("unit", "unit", "near unit", "plain", "plain", "one hot", "zero", "negative zero", "one negative zero"),
    *("one subnormal", "all subnormal", "smallest normal", "greatest in one", "greatest", "nan", "nan with bits"),
    *("infinity", "bits", "1e-22", "1e-24", "1e-38", "1e-45", "1e-4", "3e15", "1e17", "1e19", "wide", "all alike"),
    *("past float32", "below float32", "short"),
]


@dataclass(frozen=True)
class Whole:
    """One collection with all of its records."""

    spec: CollectionSpec
    rows: Sequence[Row]

    def __repr__(self) -> str:
        fields = [(f.column, f.dtype.value, f.metric.value, f.dimensions) for f in self.spec.vectors]
        flags = (self.spec.name, self.spec.id_kind.value, self.spec.has_namespaces, self.spec.has_documents)
        rows = [(r.namespace, r.id[:50], r.document, repr(r.payload)[:200], dict(r.vectors)) for r in self.rows]
        return f"Whole{(flags, fields, rows)}"


@st.composite
def vector_fields(draw: st.DrawFn) -> tuple[VectorField, ...]:
    found: dict[str, VectorField] = {}
    for _ in range(draw(st.sampled_from([1, 1, 1, 1, 2, 2, 2, 3, 4, 0]))):
        kind = draw(st.sampled_from([VectorKind.DENSE] * 4 + [VectorKind.MULTI] * 2 + [VectorKind.SPARSE]))
        dtype = draw(st.sampled_from([DType.FLOAT32] * 4 + list(DType)))
        metric = draw(st.sampled_from([Metric.COSINE] * 3 + list(Metric)))
        dimensions = draw(st.sampled_from([8, 16] if dtype is DType.BINARY else [4, 4, 3, 1, 17]))
        model = draw(st.sampled_from([EmbeddingModel(), EmbeddingModel(), EmbeddingModel(provider="p", name="m")]))
        name = draw(st.sampled_from(FIELD_NAMES))
        field = VectorField(name, kind, dtype, metric, None if kind is VectorKind.SPARSE else dimensions, model)
        found.setdefault(field.column, field)
    return tuple(found.values())


@st.composite
def collections(draw: st.DrawFn, *, most_rows: int = 8) -> Whole:
    """Any collection of the record model, of at most `most_rows` records."""
    fields = draw(vector_fields())
    kind = draw(st.sampled_from([IdKind.STRING] * 3 + list(IdKind)))
    spaces = draw(st.sampled_from([False, False, True]))
    documents = draw(st.booleans())
    spec = CollectionSpec(draw(st.sampled_from(COLLECTION_NAMES)), kind, fields, spaces, documents)
    count = draw(st.integers(0, most_rows))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    modes = {each.column: draw(st.lists(st.sampled_from(MODES), min_size=1, max_size=2)) for each in fields}
    missing = {each.column: draw(st.sampled_from([0.0, 0.0, 0.0, 0.3, 1.0])) for each in fields}
    namespaces = st.sampled_from([None, "", "t1", "ü"]) if spaces else st.none()
    texts = st.sampled_from([None, "", "text", "x\0y", "é🚀", "long " * 30]) if documents else st.none()
    rows: dict[tuple[str | None, str], Row] = {}
    for number in range(count):
        id_ = draw(_ids(kind, number))
        namespace = draw(namespaces)
        vectors = {
            each.column: _value(each, rng, modes[each.column][number % len(modes[each.column])])
            for each in fields
            if rng.random() >= missing[each.column]
        }
        rows.setdefault((namespace, id_), Row(id_, namespace, draw(texts), draw(PAYLOADS), vectors))
    return Whole(spec, tuple(rows.values()))


def _ids(kind: IdKind, number: int) -> st.SearchStrategy[str]:
    match kind:
        case IdKind.STRING:
            return st.sampled_from([*STRING_IDS, *DERIVED_IDS, f"id{number}", f"id{number}"])
        case IdKind.UUID:
            return st.sampled_from([str(uuid.UUID(int=number * 7919)), str(uuid.UUID(int=2**128 - 1 - number))])
        case IdKind.UINT64:
            return st.sampled_from([str(number), str(2**64 - 1 - number)])
        case IdKind.INT64:
            return st.sampled_from([str(-number), str(number), str(-(2**63) + number), str(2**63 - 1 - number)])


def _value(field: VectorField, rng: np.random.Generator, mode: str) -> Vector:
    if field.kind is VectorKind.DENSE:
        return vector(field.dtype, field.item_count, rng, mode)
    if field.kind is VectorKind.MULTI:
        parts = [vector(field.dtype, field.item_count, rng, mode) for _ in range(rng.choice([0, 1, 1, 3]))]
        return np.array(parts, NUMPY_TYPE[field.dtype]).reshape(len(parts), field.item_count)
    items = int(rng.choice([0, 1, 4]))
    indices = rng.integers(0, rng.choice([3, 2**32]), items).astype("u4")
    if rng.random() < 0.7:
        indices = np.unique(indices)
    return indices, vector(DType.FLOAT32, max(1, len(indices)), rng, mode)[: len(indices)]


def vector(dtype: DType, items: int, rng: np.random.Generator, mode: str) -> Numbers:
    """One vector of a kind; modes that a dtype has no numbers for are something else that is odd in it."""
    if dtype in (DType.BINARY, DType.INT8):
        bounds = (0, 256) if dtype is DType.BINARY else (-128, 128)
        edges = {"zero": 0, "greatest": bounds[1] - 1, "one negative zero": bounds[0], "short": 1}
        found = np.full(items, edges[mode]) if mode in edges else rng.integers(*bounds, items)
        return found.astype(NUMPY_TYPE[dtype])
    with np.errstate(all="ignore"):
        return _floats(NUMPY_TYPE[dtype], items, rng, mode)


def _floats(dtype: Any, items: int, rng: np.random.Generator, mode: str) -> Numbers:
    edges: Any = np.finfo(dtype)
    wide = rng.standard_normal(items)
    unit = wide / np.linalg.norm(wide)
    place = int(rng.integers(items))
    whole: Mapping[str, Any] = {
        "unit": unit,
        "near unit": unit * (1 + rng.uniform(-8e-6, 8e-6)),
        "zero": np.zeros(items),
        "negative zero": -np.zeros(items),
        "one hot": np.arange(items) == place,
        "all subnormal": np.full(items, edges.smallest_subnormal) * rng.integers(1, 9, items),
        "smallest normal": np.full(items, edges.tiny),
        "greatest": np.full(items, edges.max) * rng.choice([-1, 1], items),
        "infinity": np.full(items, np.inf),
        "wide": wide * 10.0 ** rng.uniform(-30, 14, items),
        "all alike": np.full(items, 1e-23),
        "past float32": wide * 1e39,
        "below float32": wide * 10.0 ** rng.uniform(-60, -38, items),
        "short": np.rint(wide * 8) / 8,
    }
    if mode == "bits":
        return np.frombuffer(rng.bytes(items * np.dtype(dtype).itemsize), dtype).copy()
    if mode in whole:
        return np.asarray(whole[mode]).astype(dtype)
    try:
        return (wide * float(mode)).astype(dtype)
    except ValueError:
        found = wide.astype(dtype)
    if mode == "nan with bits":
        unsigned = np.dtype(f"<u{np.dtype(dtype).itemsize}")
        found.view(unsigned)[place] = np.array(np.inf, dtype).view(unsigned) + unsigned.type(rng.integers(1, 200))
        return found
    odd = {"one negative zero": -0.0, "one subnormal": edges.smallest_subnormal, "greatest in one": edges.max}
    if mode != "plain":
        found[place] = odd.get(mode, np.nan)
    return found
