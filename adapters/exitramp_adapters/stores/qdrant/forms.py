"""What both Qdrant stores share: what Qdrant can hold, its ids, and its own JSON for vector fields.

Nothing here imports an SDK. What Qdrant keeps exactly was tried out on engine 0.6 (qdrant-edge-py 0.9):

* Integers in [-2^63, 2^64) are kept, beyond that they become floats. Floats are written in full but read back by a
  parser that rounds twice: those of at most 15 digits within 10^±22 come back as they were (300,000 tried), of the
  others every third to tenth one or two ulp off, and again a little with each rewrite of its segment.
* null, empty lists and objects, mixed lists, the empty key, dots, quotes, NUL, 200 KB texts: all kept. No payload and
  an empty one are the same thing and come back as an empty one. Objects and lists are kept 120 deep; one 124 deep was
  acknowledged, and the collection could not be opened any more, since the log's reader stops there.
* Vectors under dot, Euclid and Manhattan: bit for bit, subnormals, -0.0 and the largest included. Cosine scales to
  unit length, the vectors of a multi field too: what is within 4e-7 of it (of at most 4,000 numbers) is left alone, so
  is what is shorter than 3.4e-4, and where the squared norm overflows (a norm past 1e19) all numbers become zeros.
  Quiet NaN and infinities survive in process; a signalling NaN is made quiet, cosine spreads a NaN over the row, and
  JSON has no NaN at all: so `nonfinite_vectors` is False and the codec keeps such rows beside.
* A multi vector without vectors makes the engine panic; an index that stands twice in a sparse one is taken in process
  and refused over the wire. Dense, multi and sparse fields share one name space; sparse ones know no metric but dot.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

import numpy as np

from exitramp.errors import DataInvalid, UsageError
from exitramp.ports import Cursor, NameRule, PayloadLimits, Query, SinkLimits, read_cursor
from exitramp.records import CollectionSpec, DType, IdKind, Metric, RecordKey, VectorField, VectorKind

DISTANCES: Final[Mapping[Metric, str]] = {
    Metric.COSINE: "Cosine",
    Metric.DOT: "Dot",
    Metric.EUCLIDEAN: "Euclid",
    Metric.MANHATTAN: "Manhattan",
}
METRICS: Final = {distance: metric for metric, distance in DISTANCES.items()}
_DATATYPES: Final = {DType.FLOAT32: "float32", DType.FLOAT16: "float16"}
_STORED_AS: Final = frozenset({"float32", "float16", "uint8", "turbo4", "turbo8", "turbo16"})
PointId = int | str

_TYPES = frozenset({"null", "bool", "int", "float", "string", "list", "object"})
_PAYLOAD = PayloadLimits(
    types=_TYPES,
    item_types=_TYPES,
    mixed_lists=True,
    nested=True,
    empty_lists=True,
    empty_objects=True,
    integer_bits=64,
    integer_maximum=2**64 - 1,
    float_digits=15,
    float_exponent=22,
    depth=100,
    absent_payload=False,
)
# The engine adds up squares in float32: of 65,536 numbers the length came out 9e-6 off at worst, of 200,000 5e-5.
_DIMENSIONS: Final = 65_536
# It uses a field's name in that of a folder, unescaped, of which 200 bytes are safe; ".." it refuses.
_FIELD_NAMES: Final = NameRule(r"(?s)(?!\.\.\Z)(?:[\x01-\x2e\x30-\x5b\x5d-\x7f]{0,200}|[^/\\\x00]{0,50})", 0, 200)

_DECIMAL = re.compile(r"0|[1-9][0-9]{0,19}")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def sink_limits(*, names: NameRule, dimensions: int | None, batch_rows: int, keeps_origin: bool) -> SinkLimits:
    """What Qdrant holds; see the module's text for how it was found."""
    return SinkLimits(
        id_kinds=frozenset({IdKind.UINT64, IdKind.UUID}),
        metrics=frozenset(DISTANCES),
        payload=_PAYLOAD,
        names=names,
        vector_kinds=frozenset(VectorKind),
        dtypes=frozenset(_DATATYPES),
        dimensions=_DIMENSIONS if dimensions is None else min(dimensions, _DIMENSIONS),
        named_vectors=True,
        field_names=_FIELD_NAMES,
        shared_field_names=False,
        sparse_metrics=frozenset({Metric.DOT}),
        dense_fields=None,
        vectors_required=False,
        vector_free=False,
        normalises=frozenset({Metric.COSINE}),
        nonfinite_vectors=False,
        # With 65,536 numbers of 7e16 the squared norm overflows.
        vector_magnitude=1e16,
        magnitude_metrics=frozenset({Metric.COSINE}),
        unit_slack=2e-7,
        unit_dimensions=1024,
        empty_multi=False,
        sparse_duplicates=False,
        keeps_origin=keeps_origin,
        batch_rows=batch_rows,
        index_settings=frozenset({"m", "ef_construction"}),
    )


def point_id(text: str) -> PointId | None:
    """Qdrant's id for the id `text`: an int, a lower-case UUID, or None where Qdrant has no such id.

    Only the one spelling that comes back is taken: "007", upper-case and `urn:uuid:` forms would land on the
    record of another id.
    """
    if _DECIMAL.fullmatch(text) and int(text) < 2**64:
        return int(text)
    return text if _UUID.fullmatch(text) else None


def require_point_id(text: str, *, where: str) -> PointId:
    found = point_id(text)
    if found is None:
        raise DataInvalid(f"{where}: the id {text!r} is neither an unsigned 64-bit number nor a lower-case UUID")
    return found


def known_ids(keys: Sequence[RecordKey]) -> list[Any]:
    """The ids of `keys` that a Qdrant store can hold, each once; a record with any other is not there."""
    found = [point_id(key.id) for key in dict.fromkeys(keys) if key.namespace is None]
    return [each for each in found if each is not None]


def cursor_id(after: Cursor | None) -> str | None:
    """The last id before a cursor, None for the beginning."""
    if after is None:
        return None
    key = read_cursor(after)
    if "after" not in key:
        raise UsageError("this cursor belongs to another kind of store")
    found: str | None = key["after"]
    return found


def id_text(native: Any) -> str:
    """The canonical text of an id as an SDK gives it."""
    return str(native) if isinstance(native, int | UUID) else str(UUID(native))


def id_order(native: Any) -> tuple[bool, int]:
    """Qdrant's order of ids: numbers before UUIDs."""
    return (False, native) if isinstance(native, int) else (True, UUID(str(native)).int)


def id_after(text: str) -> PointId | None:
    """The least id behind `text` in Qdrant's order, numbers before UUIDs; None behind the greatest."""
    here = require_point_id(text, where="cursor")
    if isinstance(here, int):
        return here + 1 if here + 1 < 2**64 else str(UUID(int=0))
    number = UUID(here).int + 1
    return str(UUID(int=number)) if number < 2**128 else None


def seen_id_kind(first_from: Callable[[PointId | None], Any], *, otherwise: IdKind) -> IdKind:
    """The kind of the ids that are there: `string` where numbers and UUIDs are mixed, `otherwise` where none is.

    `first_from(start)` gives the first id at or behind `start`, or None.
    """
    first = first_from(None)
    if first is None:
        return otherwise
    if not isinstance(first, int):
        return IdKind.UUID
    return IdKind.UINT64 if first_from(str(UUID(int=0))) is None else IdKind.STRING


def params_from_spec(spec: CollectionSpec) -> dict[str, dict[str, Any]]:
    """`vectors` and `sparse_vectors` of Qdrant's configuration, both by name. Raises `DataInvalid`."""
    vectors: dict[str, Any] = {}
    sparse: dict[str, Any] = {}
    for field in spec.vectors:
        _require_field_name(field)
        if field.kind is VectorKind.SPARSE:
            sparse[field.name] = {}
            continue
        if field.metric not in DISTANCES or field.dtype not in _DATATYPES:
            raise DataInvalid(f"Qdrant has no {field.dtype.value} vectors under {field.metric.value}: {field.column!r}")
        vectors[field.name] = {"size": field.dimensions, "distance": DISTANCES[field.metric]}
        if field.dtype is not DType.FLOAT32:
            vectors[field.name]["datatype"] = _DATATYPES[field.dtype]
        if field.kind is VectorKind.MULTI:
            vectors[field.name]["multivector_config"] = {"comparator": "max_sim"}
    if len(vectors) + len(sparse) != len(spec.vectors):
        raise DataInvalid(f"collection {spec.name!r}: Qdrant has one name space for all its vector fields")
    if not vectors and not sparse:
        raise DataInvalid(f"collection {spec.name!r} has no vector field; Qdrant's engine needs one at least")
    return {"vectors": vectors, "sparse_vectors": sparse}


def _require_field_name(field: VectorField) -> None:
    # The engine uses the name in the name of a folder, unescaped.
    if len(field.name.encode("utf-8")) > 200 or any(char in field.name for char in "/\\\0"):
        raise DataInvalid(f"Qdrant takes no vector field named {field.name!r}", hint="rename it at its source")


def fields_from_params(params: Mapping[str, Any], *, where: str) -> tuple[VectorField, ...]:
    """The vector fields that `params` (with `vectors` and `sparse_vectors`) describes, in the order of their names.

    A field stored as uint8 or quantised reads as float32, which its numbers are when they come out; the raw
    configuration says what it is. Raises `DataInvalid` for a distance or a datatype that is not known.
    """
    fields: list[VectorField] = []
    for name, entry in sorted(by_name(params.get("vectors")).items()):
        metric = METRICS.get(entry["distance"])
        if metric is None:
            raise DataInvalid(f"{where}: the vector field {name!r} has the unknown distance {entry['distance']!r}")
        kind = VectorKind.MULTI if entry.get("multivector_config") else VectorKind.DENSE
        stored_as = entry.get("datatype") or "float32"
        if stored_as not in _STORED_AS:
            raise DataInvalid(f"{where}: the vector field {name!r} has the unknown datatype {stored_as!r}")
        dtype = DType.FLOAT16 if stored_as == "float16" else DType.FLOAT32
        fields.append(VectorField(name, kind, dtype, metric, entry["size"]))
    for name in sorted(params.get("sparse_vectors") or {}):
        fields.append(VectorField(name, VectorKind.SPARSE, DType.FLOAT32, Metric.DOT, None))
    return tuple(fields)


def difference(there: Mapping[str, Any], wanted: Mapping[str, Any]) -> str | None:
    """In which vector field two configurations differ, in words; None if in none."""
    have, want = _comparable(there), _comparable(wanted)
    for name in sorted(have.keys() | want.keys()):
        if have.get(name) != want.get(name):
            return f"its vector field {name!r} is {_words(have.get(name))}, not {_words(want.get(name))}"
    return None


def _comparable(params: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    found: dict[str, tuple[Any, ...]] = {
        name: (
            "multi" if entry.get("multivector_config") else "dense",
            entry["size"],
            entry["distance"],
            entry.get("datatype") or "float32",
        )
        for name, entry in by_name(params.get("vectors")).items()
    }
    return found | dict.fromkeys(params.get("sparse_vectors") or {}, ("sparse",))


def _words(field: tuple[Any, ...] | None) -> str:
    return "missing" if field is None else " ".join(str(part) for part in field)


def by_name(vectors: Any) -> dict[str, Any]:
    """Qdrant writes a single unnamed field without its name."""
    if not vectors:
        return {}
    return {"": vectors} if isinstance(vectors.get("size"), int) else dict(vectors)


def query_vector(query: Query, spec: CollectionSpec, *, k: int) -> Any:
    """What is searched for: float32 [items], float32 [n, items] or a sparse pair.

    Raises `UsageError` for a query of another kind than the field's, `DataInvalid` for one of another length.
    """
    if k < 1:
        raise UsageError(f"the {k} nearest records cannot be found")
    field = spec.vector(query.field)
    given = {VectorKind.DENSE: query.dense, VectorKind.MULTI: query.multi, VectorKind.SPARSE: query.sparse}
    wanted: Any = given.pop(field.kind)
    if wanted is None or any(other is not None for other in given.values()):
        raise UsageError(f"the field {field.column!r} is searched with one {field.kind.value} vector")
    if field.kind is VectorKind.SPARSE:
        return np.asarray(wanted[0], np.uint32), np.asarray(wanted[1], np.float32)
    wanted = np.ascontiguousarray(wanted, np.float32)
    if wanted.shape[-1] != field.item_count:
        raise DataInvalid(f"a query of {wanted.shape[-1]} numbers for {field.column!r} of {field.item_count}")
    if not np.isfinite(wanted).all():
        raise UsageError(f"a query for {field.column!r} holds a NaN or an infinity")
    return wanted


def hnsw_ef(options: Mapping[str, Any]) -> int | None:
    """The one search option there is. Raises `UsageError` for any other."""
    for name, value in options.items():
        if name != "hnsw_ef":
            raise UsageError(f"qdrant has no search option {name!r}", hint="its option is: hnsw_ef")
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise UsageError("qdrant: hnsw_ef is a number of candidates, at least 1")
    return options.get("hnsw_ef")


_EF_CONSTRUCT: Final = 100
"""What Qdrant builds a graph with where a collection says nothing."""


def search_options(hnsw: Mapping[str, Any] | None) -> dict[str, Any]:
    """The search option there is, with what a walk through the graph does without it: as many as it was built with."""
    return {"hnsw_ef": (hnsw or {}).get("ef_construct", _EF_CONSTRUCT)}
