"""What Milvus calls things: its types, metrics and limits by version."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from enum import IntEnum
from typing import Final

from exitramp.ports import NameRule, PayloadLimits, SinkLimits
from exitramp.records import DType, IdKind, Metric


class Kind(IntEnum):
    """A field's type, as schema.proto numbers it."""

    BOOL = 1
    INT8 = 2
    INT16 = 3
    INT32 = 4
    INT64 = 5
    FLOAT = 10
    DOUBLE = 11
    STRING = 20
    VARCHAR = 21
    ARRAY = 22
    JSON = 23
    GEOMETRY = 24
    TEXT = 25
    TIMESTAMPTZ = 26
    BINARY_VECTOR = 100
    FLOAT_VECTOR = 101
    FLOAT16_VECTOR = 102
    BFLOAT16_VECTOR = 103
    SPARSE_VECTOR = 104
    INT8_VECTOR = 105


SCALARS: Final = frozenset(kind for kind in Kind if kind < Kind.BINARY_VECTOR)
VECTOR_TYPES: Final[Mapping[int, DType]] = {
    Kind.BINARY_VECTOR: DType.BINARY,
    Kind.FLOAT_VECTOR: DType.FLOAT32,
    Kind.FLOAT16_VECTOR: DType.FLOAT16,
    Kind.BFLOAT16_VECTOR: DType.FLOAT32,  # the upper half of one, so it holds every such number
    Kind.SPARSE_VECTOR: DType.FLOAT32,
    Kind.INT8_VECTOR: DType.INT8,
}
METRICS: Final[Mapping[str, Metric]] = {
    "COSINE": Metric.COSINE,
    "IP": Metric.DOT,
    "L2": Metric.EUCLIDEAN,
    "HAMMING": Metric.HAMMING,
}
METRIC_NAMES: Final = {metric: name for name, metric in METRICS.items()}
TYPE_OF: Final[Mapping[DType, Kind]] = {
    DType.FLOAT32: Kind.FLOAT_VECTOR,
    DType.FLOAT16: Kind.FLOAT16_VECTOR,
    DType.INT8: Kind.INT8_VECTOR,
    DType.BINARY: Kind.BINARY_VECTOR,
}

SLOTS: Final[Mapping[Kind, str]] = (
    {
        Kind.BOOL: "bool_data",
        Kind.INT8: "int_data",
        Kind.INT16: "int_data",
        Kind.INT32: "int_data",
        Kind.INT64: "long_data",
    }
    | {Kind.FLOAT: "float_data", Kind.DOUBLE: "double_data", Kind.JSON: "json_data"}
    | dict.fromkeys((Kind.VARCHAR, Kind.STRING, Kind.TEXT, Kind.TIMESTAMPTZ), "string_data")
)
"""Where the values of a scalar field stand in a message."""
BYTES: Final[Mapping[int, tuple[str, str]]] = {
    Kind.BINARY_VECTOR: ("binary_vector", "u1"),
    Kind.FLOAT16_VECTOR: ("float16_vector", "<f2"),
    Kind.BFLOAT16_VECTOR: ("bfloat16_vector", "<u2"),
    Kind.INT8_VECTOR: ("int8_vector", "i1"),
}
"""Where the bytes of a vector field stand, and as what numpy reads them."""

ID_BYTES: Final = 1024
# Bytes of a VARCHAR, and of a record's dynamic fields; Milvus takes no more.
MOST_TEXT: Final = 65_535
MOST_META: Final = 65_536
MOST_PIECES: Final = 4096
MOST_ROWS: Final = 16_384
"""Offset and limit of a query or search together."""
BATCH_ROWS: Final = 2000
_TYPES: Final = frozenset({"null", "bool", "int", "float", "string", "list", "object"})
LIMITS: Final = SinkLimits(
    id_kinds=frozenset({IdKind.STRING, IdKind.INT64}),
    id_bytes=ID_BYTES,
    metrics=frozenset({Metric.COSINE, Metric.DOT, Metric.EUCLIDEAN}),
    payload=PayloadLimits(
        types=_TYPES, item_types=_TYPES, mixed_lists=True, nested=True, empty_lists=True, empty_objects=True
    ),
    names=NameRule(r"[A-Za-z_][A-Za-z0-9_]*"),
    field_names=NameRule(r"|(?!(?:id|exitramp_rest)\Z)[A-Za-z_][A-Za-z0-9_]*", 0),
    shared_field_names=False,
    dimensions=32_768,
    named_vectors=True,
    keeps_origin=True,
    batch_rows=BATCH_ROWS,
)


def limits_of(version: str, *, is_lite: bool, integer_keys: bool = False) -> SinkLimits:
    """Of a server of this version. Milvus 2.3 takes one vector field, 2.4 four and half-width numbers, 2.6 int8.

    Its INT64 keys are for those who ask for them, since it has no room for two: it takes 2^63 - 1 and counts it, but no
    answer ever holds it, and it cannot read -2^63 in an expression.
    """
    if is_lite:  # it makes files whose names hold the field's and 80 characters more
        return replace(LIMITS, dense_fields=4, field_names=replace(LIMITS.field_names, maximum=128))
    kinds = frozenset({IdKind.INT64 if integer_keys else IdKind.STRING})
    limits = replace(LIMITS, id_kinds=kinds)
    metrics, dtypes = LIMITS.metrics | {Metric.HAMMING}, {DType.FLOAT32, DType.BINARY}
    number = _version_number(version)
    if number < (2, 4):
        return replace(limits, metrics=metrics, dtypes=frozenset(dtypes), dense_fields=1)
    dtypes |= {DType.FLOAT16} | ({DType.INT8} if number >= (2, 6) else set())
    return replace(limits, metrics=metrics, dtypes=frozenset(dtypes), dense_fields=4)


def _version_number(text: str) -> tuple[int, int]:
    parts = text.lstrip("v").split(".")
    try:
        return int(parts[0]), int(parts[1])
    except (ValueError, IndexError):
        return 0, 0
