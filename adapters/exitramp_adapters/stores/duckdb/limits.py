"""What a table of exitramp's own in a DuckDB file holds."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from exitramp.ports import TAGGED_TYPES, DocumentRoom, NameRule, PayloadLimits, SinkLimits
from exitramp.records import DType, IdKind, Metric, VectorKind
from exitramp_adapters.stores.duckdb.catalog import INDEX_KEY

# 20,000 x 384 by batches of 1,000 rows went in at 73k rows/s, of 5,000 at 99k, of 20,000 at 100k.
BATCH_ROWS: Final = 5_000
_SCALARS: Final = ("null", "bool", "int", "float", "nonfinite", "string", "timestamp", "date", "time", "decimal")
_ALL_TYPES: Final = frozenset((*_SCALARS, "uuid", "bytes", "list", "object"))
LIMITS: Final = SinkLimits(
    id_kinds=frozenset(IdKind),
    metrics=frozenset(Metric),
    payload=PayloadLimits(
        types=_ALL_TYPES,
        item_types=_ALL_TYPES,
        mixed_lists=True,
        nested=True,
        empty_lists=True,
        empty_objects=True,
        integer_bits=8192,
        tagged_types=TAGGED_TYPES - {"int"},
    ),
    # `schema.table` where there is a point; in a table's own name there can be none.
    names=NameRule(r"(?s)(?!main\.)[^.\x00]+(\.[^.\x00]+)?", 1, 255),
    vector_kinds=frozenset(VectorKind),
    dtypes=frozenset({DType.FLOAT32, DType.FLOAT64, DType.INT8, DType.BINARY}),
    dimensions=100_000,  # DuckDB's own limit on an array's length
    named_vectors=True,
    dense_fields=None,
    field_names=NameRule(r"(?s)[^\x00]*", 0, 255),
    sparse_metrics=frozenset({Metric.DOT}),
    vectors_required=False,
    vector_free=True,
    namespaces=True,
    documents=DocumentRoom.NATIVE,
    # What DuckDB writes into its file it compresses, runs of equal numbers as one: to it -0.0 equals 0.0, and every NaN
    # every other. Seen with 1.5.5 in vectors of zeros and in those with runs of them; until then they are as they were.
    nonfinite_vectors=False,
    negative_zero_vectors=False,
    keeps_origin=True,
    batch_rows=BATCH_ROWS,
    metadata=(INDEX_KEY, "metadata"),
)
INDEXED_LIMITS: Final = replace(LIMITS, index_settings=frozenset({"m", "ef_construction", "ef_search"}))
"""Those of an address that asks for indexes."""
