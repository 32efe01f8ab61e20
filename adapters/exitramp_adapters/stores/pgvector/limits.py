"""What a table in PostgreSQL with pgvector holds, measured on PostgreSQL 18 with pgvector 0.8.1."""

from __future__ import annotations

from typing import Final

from exitramp.ports import DocumentRoom, NameRule, PayloadLimits, SinkLimits
from exitramp.records import DType, IdKind, Metric, VectorField, VectorKind
from exitramp_adapters.stores.pgvector.fields import CLASSES
from exitramp_adapters.stores.pgvector.shape import EXTRA

_EVERYTHING: Final = frozenset(
    {
        *("null", "bool", "int", "float", "nonfinite", "string", "list", "object"),
        *("timestamp", "date", "time", "decimal", "uuid", "bytes"),
    }
)
# 63 bytes: so many characters of ASCII, or any fifteen.
_PLAIN: Final = r'(?!")(?:[\x01-\x2d\x2f-\x7f]{1,63}|[^.\x00]{1,15})'
_QUOTED: Final = r'"(?:(?:[\x01-\x21\x23-\x7f]|""){1,63}|(?:[^"\x00]|""){1,15})"'
_PART: Final = f"(?:{_PLAIN}|{_QUOTED})"
_TAKEN: Final = ("id", "namespace", "document", "payload", EXTRA, "tableoid", "xmin", "cmin", "xmax", "cmax", "ctid")

DIMENSIONS: Final = 16_000
KEY_BYTES: Final = 2_600
SPARSE_DIMENSIONS: Final = 1_000_000_000
SPARSE_NUMBERS: Final = 16_000
INDEXED_DIMENSIONS: Final = {DType.FLOAT32: 2_000, DType.FLOAT16: 4_000, DType.BINARY: 64_000}
BATCH_ROWS: Final = 2_000

LIMITS: Final = SinkLimits(
    id_kinds=frozenset(IdKind),
    # An entry of a B-tree takes 2,704 bytes at most, and a namespace stands in it too.
    id_bytes=1_600,
    id_pattern=r"[^\x00]+",
    names=NameRule(rf"(?s){_PART}(?:\.{_PART})?", 1, 257),
    metrics=frozenset(Metric),
    sparse_metrics=frozenset(Metric) - {Metric.HAMMING},
    # jsonb's numbers have up to 131,072 digits before the point; Python reads 4,300.
    payload=PayloadLimits(
        types=_EVERYTHING,
        item_types=_EVERYTHING,
        mixed_lists=True,
        nested=True,
        empty_lists=True,
        empty_objects=True,
        integer_bits=8_192,
        text_types=_EVERYTHING - {"null", "bool", "int", "float", "string", "list", "object"},
    ),
    vector_kinds=frozenset(VectorKind),
    dtypes=frozenset({DType.FLOAT32, DType.FLOAT16, DType.BINARY}),
    dimensions=DIMENSIONS,
    named_vectors=True,
    dense_fields=None,
    field_names=NameRule(rf"(?s)(?!(?:{'|'.join(_TAKEN)})\Z)(?:[\x01-\x7f]{{1,63}}|[^\x00]{{1,15}})?", 0, 63),
    shared_field_names=False,
    vectors_required=False,
    vector_free=True,
    namespaces=True,
    documents=DocumentRoom.NATIVE,
    keeps_origin=True,
    adopts_empty=False,  # what an application made stays its own
    index_settings=frozenset({"m", "ef_construction"}),
    batch_rows=BATCH_ROWS,
    durable=True,
)


def type_name(field: VectorField) -> str:
    """pgvector's type for the numbers of a field, or PostgreSQL's own."""
    if field.kind is VectorKind.SPARSE:
        return "sparsevec"
    return {DType.FLOAT32: "vector", DType.FLOAT16: "halfvec", DType.BINARY: "bit"}[field.dtype]


def operator_class(field: VectorField, *, method: str) -> str | None:
    """The class of an index on this field, None where pgvector has none: bits have one metric, numbers the others."""
    if field.kind is VectorKind.MULTI or (field.dtype is DType.BINARY) != (field.metric is Metric.HAMMING):
        return None
    if field.kind is VectorKind.DENSE and (field.dimensions or 0) > INDEXED_DIMENSIONS[field.dtype]:
        return None
    if method == "ivfflat" and (field.metric is Metric.MANHATTAN or field.kind is VectorKind.SPARSE):
        return None
    return f"{type_name(field)}_{CLASSES[field.metric]}_ops"
