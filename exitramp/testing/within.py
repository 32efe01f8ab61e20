"""What a sink with given limits holds by itself: collection specs and records for use without the codec."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import numpy as np

from exitramp.codec.ids import fits_rule, name_hash
from exitramp.ports import DocumentRoom, NameRule, PayloadLimits, SinkLimits
from exitramp.records import CollectionSpec, DType, EmbeddingModel, IdKind, Metric, VectorField, VectorKind
from exitramp.testing.data import hard_ids, ordinary_matrix
from exitramp.testing.rows import Row, Vector

DIMENSIONS: Final = 16
UNKNOWN_MODEL: Final = EmbeddingModel()
_KIND_ORDER: Final = (IdKind.STRING, IdKind.UUID, IdKind.UINT64, IdKind.INT64)
_SAMPLES: Final[Mapping[str, Any]] = {
    "bool": True,
    "int": 7,
    "float": 0.5,
    "string": "text",
    "null": None,
    "nonfinite": float("inf"),
    "timestamp": datetime(2024, 2, 29, 12, 30, tzinfo=UTC),
    "date": date(2024, 2, 29),
    "time": time(12, 30),
    "decimal": Decimal("1.10"),
    "uuid": UUID("6ba7b810-9dad-41d1-80b4-00c04fd430c8"),
    "bytes": b"\x00\xff",
}


def name_within(name: str, rule: NameRule) -> str:
    """`name` where the rule takes it, else its letters and eight more that stand for its hash, spelt as the rule takes.

    Two names that differ in more than case stay different. Raises `AssertionError` where no spelling is taken: such a
    rule has no room for the name of an ordinary collection.
    """
    if fits_rule(name, rule):
        return name
    words = re.findall("[a-z]+", name.lower())
    tail = "".join(chr(ord("a") + int(digit, 16)) for digit in name_hash(name)[:8])
    for joiner, spelt in itertools.product(("-", "_", ""), (str.lower, str.capitalize, str.upper)):
        room = max(0, rule.maximum - len(joiner) - len(tail))
        cut = joiner.join(words)[:room].rstrip("-_")
        for made in (name if name.isalpha() else "", f"{cut}{joiner}{tail}"):
            if fits_rule(spelt(made), rule):
                return spelt(made)
    raise AssertionError(f"the rule {rule.pattern!r}, {rule.minimum} to {rule.maximum} characters, takes no plain name")


def text_bytes_within(limits: SinkLimits) -> int | None:
    """How long a text may be that lies in a payload, and perhaps in the codec's marker too; None: as long as any."""
    return None if limits.payload_bytes is None else limits.payload_bytes // 4


def combinations(limits: SinkLimits) -> list[tuple[DType, Metric]]:
    """The pairs of dtype and metric to test: hamming for binary vectors, the others for numbers."""
    return [
        (dtype, metric)
        for dtype in DType
        for metric in Metric
        if dtype in limits.dtypes and metric in limits.metrics and (dtype is DType.BINARY) == (metric is Metric.HAMMING)
    ]


def gentlest(limits: SinkLimits) -> tuple[DType, Metric]:
    """The pair that changes vectors least: exact before rounding before normalising, float32 first."""

    def harm(pair: tuple[DType, Metric]) -> tuple[bool, bool, bool]:
        return pair[1] in limits.normalises, pair[1] in limits.rounds, pair[0] is not DType.FLOAT32

    return min(combinations(limits), key=harm)


def spec_within(
    limits: SinkLimits,
    name: str,
    *,
    id_kind: IdKind | None = None,
    pair: tuple[DType, Metric] | None = None,
    dimensions: int = DIMENSIONS,
    model: EmbeddingModel = UNKNOWN_MODEL,
) -> CollectionSpec:
    """A collection of one dense field that the sink holds as it is, with all the room it has beside vectors.

    Its name is `name` or, where the sink does not take that, one made of it.
    """
    dtype, metric = pair or gentlest(limits)
    kind = id_kind or next(kind for kind in _KIND_ORDER if kind in limits.id_kinds)
    called = "" if limits.unnamed_vector else name_within("body", limits.field_names)
    field = VectorField(called, VectorKind.DENSE, dtype, metric, dimensions, model)
    native_documents = limits.documents is DocumentRoom.NATIVE
    return CollectionSpec(
        name_within(name, limits.names),
        kind,
        (field,),
        has_namespaces=limits.namespaces,
        has_documents=native_documents,
    )


def wide_spec(limits: SinkLimits, name: str) -> CollectionSpec:
    """A collection that uses the whole record model: the first field within the limits, the others whatever they are.

    Only the codec brings such a collection into most stores.
    """
    first = spec_within(limits, name).vectors[0]
    metric = first.metric if first.metric is not Metric.HAMMING else Metric.DOT
    dense, multi, sparse = VectorKind.DENSE, VectorKind.MULTI, VectorKind.SPARSE
    others = (
        VectorField("title", dense, DType.FLOAT32, metric, 8),
        VectorField("wide", dense, DType.FLOAT64, Metric.EUCLIDEAN, 4),
        VectorField("half", dense, DType.FLOAT16, Metric.MANHATTAN, 4),
        VectorField("small", dense, DType.INT8, Metric.DOT, 4),
        VectorField("bits", dense, DType.BINARY, Metric.HAMMING, 32),
        VectorField("late", multi, DType.FLOAT32, Metric.DOT, 4),
        VectorField("words", sparse, DType.FLOAT32, Metric.DOT, None),
    )
    taken = name_within(name, limits.names)
    return CollectionSpec(taken, IdKind.STRING, (first, *others), has_namespaces=True, has_documents=True)


def rows_within(spec: CollectionSpec, limits: SinkLimits, count: int, seed: int) -> list[Row]:
    """`count` records of `spec` that need no codec: ids, payloads, documents and vectors that the sink keeps."""
    rng = np.random.default_rng(seed)
    matrices = {field.column: ordinary_matrix(field, count, rng) for field in spec.vectors}
    rows = []
    for number, id_ in enumerate(_tame_ids(spec.id_kind, count, limits)):
        vectors: dict[str, Vector] = {column: matrix[number] for column, matrix in matrices.items()}
        namespace = (None, "tenant-a", "tenant-b")[number % 3] if spec.has_namespaces else None
        document = (None, f"Document {number}: größer 🚀", "plain")[number % 3] if spec.has_documents else None
        rows.append(Row(id_, namespace, document, payload_within(limits.payload, number), vectors))
    return rows


def payload_within(limits: PayloadLimits, number: int) -> dict[str, Any] | None:
    """A payload that a sink with these limits keeps exactly, with a value of every type it keeps."""
    payload: dict[str, Any] = {f"a_{kind}": value for kind, value in _SAMPLES.items() if kind in limits.types}
    if "int" in limits.types:
        payload["number"] = number
    if "string" in limits.types:
        payload["text"] = f"text {number}: größer 🚀"
    if "list" in limits.types:
        kept = {kind: value for kind, value in _SAMPLES.items() if kind in limits.item_types and kind != "nonfinite"}
        payload |= {f"list_of_{kind}": [value, value] for kind, value in kept.items()}
        if limits.mixed_lists:
            payload["list_mixed"] = list(kept.values())
        if limits.empty_lists:
            payload["list_empty"] = []
    if "object" in limits.types and limits.nested:
        payload["object"] = {"inside": dict(list(payload.items())[:4])}
        if limits.empty_objects:
            payload["object_empty"] = {}
    payload = {key: value for key, value in payload.items() if re.fullmatch(limits.key_pattern, key)}
    if not payload and not limits.empty_payload:
        return None
    return payload


def _tame_ids(kind: IdKind, count: int, limits: SinkLimits) -> list[str]:
    if kind is IdKind.STRING:
        # In no order: a store that gives records in the order of writing and resumes by id would pass on sorted ones.
        return [f"row-{number * 7919 % 1_000_003:06d}" for number in range(count)]
    return hard_ids(kind, count)
