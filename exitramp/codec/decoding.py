"""A source that gives records back as they were before a sink's limits changed their form."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from exitramp import canonical
from exitramp.arrow import dense_array, dense_matrix, record_keys, stream_schema, vector_type
from exitramp.codec import payload, ragged, vectors
from exitramp.codec.ids import candidate_ids, is_derived
from exitramp.codec.layout import FieldLayout, Layout, restored_spec
from exitramp.codec.marked import marks_in
from exitramp.codec.noticed import Noticed
from exitramp.codec.views import View, keys_behind, seen, seen_spec
from exitramp.errors import DataInvalid
from exitramp.ports import Cursor, Origin, Page, Partition, StoreIdentity, VectorSource
from exitramp.records import CollectionSpec, DType, Finding, RecordKey, VectorKind


class DecodingSource:
    """`VectorSource` around a `VectorSource`. `findings()` names what the application changed since it was written.

    `verbatim` says that the store takes every record as it is: nothing in it is a marker of ours, and a payload that
    looks like one is the user's own. `views` are what the records are seen through from here on, in this order. `peeks`
    says that where the store keeps no origin, the first records may be read to see whether they have markers of ours,
    but not of a store that charges for reading, which keeps the origin of whatever was written to it.
    """

    def __init__(
        self, source: VectorSource, *, verbatim: bool = False, views: Sequence[View] = (), peeks: bool = True
    ) -> None:
        self._source = source
        self._peeks = peeks
        self._verbatim = verbatim
        self._views = tuple(views)
        self._layout: Layout | None = None
        self._noticed = Noticed()

    def identity(self) -> StoreIdentity:
        return self._source.identity()

    def origin(self) -> Origin | None:
        return self._source.origin()

    def describe(self) -> CollectionSpec:
        return seen_spec(self._views, self.layout.original)

    @property
    def layout(self) -> Layout:
        """How the store's own fields stand to the records that come out."""
        if self._layout is None and self._verbatim:
            spec = self._source.describe()
            self._layout = Layout(spec, spec, tuple(FieldLayout(field, field) for field in spec.vectors))
        if self._layout is None:
            self._layout = restored_spec(self._source.describe(), self._source.origin())
            if self._peeks:
                self._layout = _with_marks_seen(self._source, self._layout)
        return self._layout

    def count(self) -> int:
        return self._source.count()

    def partitions(self, wanted: int) -> Sequence[Partition]:
        return self._source.partitions(wanted)

    def scan(self, partition: Partition, *, batch_rows: int, after: Cursor | None = None) -> Iterator[Page]:
        for page in self._source.scan(partition, batch_rows=batch_rows, after=after):
            yield Page(seen(self._views, self._decoded(page.batch)), page.cursor, page.last)

    def fetch(self, keys: Sequence[RecordKey]) -> pa.RecordBatch:
        """The records with these keys, whatever native ids they are kept under."""
        keys = keys_behind(self._views, keys)
        if self._verbatim:
            return seen(self._views, self._source.fetch(keys))
        namespaces = self.layout.native.has_namespaces
        natives = [RecordKey(id_, key.namespace if namespaces else None) for key in keys for id_ in candidate_ids(key)]
        batch = self._decoded(self._source.fetch(list(dict.fromkeys(natives))))
        wanted = set(keys)
        keep = [index for index, key in enumerate(record_keys(batch)) if key in wanted]
        return seen(self._views, batch.take(pa.array(keep, pa.int64())))

    def _decoded(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        return batch if self._verbatim else decode_batch(batch, self.layout, self._noticed)

    def close(self) -> None:
        self._source.close()

    def findings(self) -> list[Finding]:
        """What was noticed in the records read so far."""
        return self._noticed.findings()


def decode_batch(batch: pa.RecordBatch, layout: Layout, noticed: Noticed) -> pa.RecordBatch:
    """`batch` of the native collection as one of the original collection."""
    schema = stream_schema(layout.original)
    marks = marks_in(batch, noticed)
    if not marks and _is_verbatim(layout) and batch.schema.equals(schema, check_metadata=True):
        return batch  # to make it anew of its own columns took 40 us, of 500 for 1,000 rows of a matrix
    columns: dict[str, pa.Array] = {
        name: batch.column(name) for name in ("id", "namespace", "document", "payload") if name in batch.schema.names
    }
    rows = batch.num_rows
    for name in ("namespace", "document"):
        if name in schema.names and name not in columns:
            columns[name] = pa.nulls(rows, pa.string())
    for field in layout.fields:
        if field.native is None:
            columns[field.original.column] = pa.nulls(rows, vector_type(field.original))
        else:
            kept = {row for row, (entries, _) in marks.items() if field.original.column in entries.get("vec", {})}
            columns[field.original.column] = _restore_dtype(batch, field, kept, noticed)
    if marks:
        _apply(columns, marks, layout, batch, noticed)
    return pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)


def _is_verbatim(layout: Layout) -> bool:
    """Whether every field stands in the store under its own name and in its own numbers."""
    return all(
        field.native is not None
        and field.native.column == field.original.column
        and (field.original.dtype is field.native.dtype or field.original.kind is VectorKind.SPARSE)
        for field in layout.fields
    )


def _apply(
    columns: dict[str, pa.Array],
    marks: dict[int, tuple[dict[str, Any], dict[str, Any]]],
    layout: Layout,
    batch: pa.RecordBatch,
    noticed: Noticed,
) -> None:
    ids = columns["id"].to_pylist()
    payloads = columns["payload"].to_pylist()
    namespaces = columns["namespace"].to_pylist() if "namespace" in columns else None
    documents = columns["document"].to_pylist() if "document" in columns else None
    restored: dict[str, dict[int, Any]] = {}
    for row, (entries, native) in marks.items():
        if "id" in entries:
            _restore_key(row, entries, ids, namespaces, noticed)
        if "doc" in entries:
            _restore_document(row, entries["doc"], native, documents, ids[row], noticed)
        done = payload.restore_keys(native, entries.get("top", {}))
        for key in done.edited:
            noticed.edited(f"payload key {key!r}", ids[row])
        payloads[row] = None if entries.get("p") == 0 and not done.payload else canonical.dumps(done.payload)
        for column in entries.get("null", ()):
            restored.setdefault(column, {})[row] = None
        for column, entry in entries.get("vec", {}).items():
            restored.setdefault(column, {})[row] = entry
    columns["id"] = pa.array(ids, pa.string())
    columns["payload"] = pa.array(payloads, pa.string())
    if namespaces is not None:
        columns["namespace"] = pa.array(namespaces, pa.string())
    if documents is not None:
        columns["document"] = pa.array(documents, pa.string())
    for field in layout.fields:
        column = field.original.column
        if column in restored:
            found = None if field.native is None else batch.column(field.native.column)
            columns[column] = _restore_vectors(columns[column], found, restored.pop(column), field, ids, noticed)
    for column, left in restored.items():
        for place in (place for place, entry in left.items() if entry is not None):
            noticed.unread(f"vector field {column!r}", ids[place])


def _restore_key(
    row: int, entries: Mapping[str, Any], ids: list[str], namespaces: list[str | None] | None, noticed: Noticed
) -> None:
    """The record's own id and namespace, if the one under which it stands was made of them: an application that copies
    a record under another id copies its marker too, and two records must not come out as one."""
    id_, namespace = entries["id"], entries.get("ns")
    if not is_derived(ids[row], id_, namespace):
        noticed.edited("the id", ids[row])
    elif namespace is None:
        ids[row] = id_
    elif namespaces is None:
        noticed.unread("the namespace", ids[row])
    elif namespaces[row] is not None:
        noticed.edited("the namespace", ids[row])
    else:
        ids[row], namespaces[row] = id_, namespace


def _restore_document(
    row: int,
    entry: Mapping[str, Any],
    native: dict[str, Any],
    documents: list[str | None] | None,
    id_: str,
    noticed: Noticed,
) -> None:
    """The document out of the marker, or out of the payload key under which the marker says that it stands."""
    if documents is None:
        if "o" in entry:
            noticed.unread("the document", id_)
        return  # what stands under a key of its own stays there
    found = entry.get("o") if "o" in entry else native.get(entry["k"])
    if documents[row] is not None or not isinstance(found, str):
        # The application put something else there, which stays where it is.
        noticed.edited("the document", id_)
        return
    if "k" in entry:
        del native[entry["k"]]
    documents[row] = found


def _restore_dtype(batch: pa.RecordBatch, field: FieldLayout, kept: set[int], noticed: Noticed) -> pa.Array:
    """The field in its own dtype again. Rows in `kept` have their original in the marker and need no judging here."""
    original, native = field.original, field.native
    assert native is not None
    column = batch.column(native.column)
    if original.dtype is native.dtype or original.kind is VectorKind.SPARSE:
        return column
    dense = vectors.is_dense(original)
    values = None if dense else ragged.read(column, native)
    matrix = dense_matrix(column) if values is None else values.numbers
    valid = np.asarray(column.is_valid())
    with np.errstate(all="ignore"):
        # A store that rounds gives 6.9999995 for a 7: the nearest is meant, not the next below.
        nearest = np.rint(matrix) if original.dtype is DType.INT8 else matrix
        narrow = nearest.astype(vectors.NUMPY[original.dtype])
        if original.dtype is not DType.FLOAT64:
            least = float(np.finfo(narrow.dtype).smallest_subnormal) if narrow.dtype.kind == "f" else 0.0
            near = np.isclose(narrow.astype(matrix.dtype), matrix, rtol=1e-5, atol=least, equal_nan=True).all(axis=1)
            rows = np.flatnonzero(~near) if values is None else np.unique(values.rows[~near])
            for row in rows.tolist():
                if valid[row] and row not in kept:
                    text = f"vector field {original.column!r} (rounded to {original.dtype})"
                    noticed.edited(text, batch.column("id")[row].as_py())
    if values is None:
        return dense_array(narrow, original, valid=valid)
    return ragged.column(replace(values, numbers=narrow), original)


def _restore_vectors(
    column: pa.Array,
    native: pa.Array | None,
    entries: dict[int, Any],
    field: FieldLayout,
    ids: Sequence[str],
    noticed: Noticed,
) -> pa.Array:
    """`column` in the field's own dtype with the marker's vectors in it, where `native` still is what was written."""
    original = field.original
    taken: dict[int, Any] = {}
    for row, entry in entries.items():
        try:
            value = None if entry is None else vectors.unpack(entry, original, where=f"record {ids[row]!r}")
        except DataInvalid:  # of another field's length or type: nothing that was written for this one
            notice = noticed.unread if native is None else noticed.edited
            notice(f"vector field {original.column!r}", ids[row])
            continue
        if native is None or _is_as_written(native, row, value, entry, field):
            taken[row] = value
        else:
            noticed.edited(f"vector field {original.column!r}", ids[row])
    if not taken:
        return column
    if not vectors.is_dense(original):
        added = ragged.column(ragged.of_rows(list(taken.values()), original), original)
        places = np.arange(len(column))
        places[list(taken)] = len(column) + np.arange(len(taken))
        return pa.concat_arrays([column, added]).take(pa.array(places))
    valid = np.array(column.is_valid())
    matrix = np.array(dense_matrix(column)) if native is not None else _blank(len(column), field)
    for row, value in taken.items():
        valid[row] = value is not None
        if value is not None:
            matrix[row] = value
    return dense_array(matrix, original, valid=valid)


def _is_as_written(native: pa.Array, row: int, value: Any, entry: dict[str, Any] | None, field: FieldLayout) -> bool:
    """Whether nobody has touched what stands natively for a record whose vector the marker has (None: it has none)."""
    assert field.native is not None
    found = vectors.row_value(native, row, field.native)
    if entry is not None and entry.get("n") == vectors.ABSENT:
        return found is None
    # Nothing is written like that for a field that the store holds: no vector where it is not dense, and one without a
    # word on how it stands.
    never = not vectors.is_dense(field.native) if entry is None else "n" not in entry
    if found is None or never:
        return False
    if entry is None:
        unit = vectors.stand_in(np.zeros_like(found), vectors.PLACEHOLDER)
        return vectors.is_untouched(found, unit, vectors.CLEANED, vectors.ROUNDED)
    same = vectors.is_untouched if field.original.kind is not VectorKind.SPARSE else vectors.is_sparse_untouched
    return same(found, value, entry["n"], entry["c"])


def _blank(rows: int, field: FieldLayout) -> Any:
    return np.zeros((rows, field.original.item_count), vectors.NUMPY[field.original.dtype])


def _with_marks_seen(source: VectorSource, layout: Layout) -> Layout:
    """Where a store had no room for the origin, the first records' markers tell whether documents and namespaces
    are kept in them."""
    if source.origin() is not None:
        return layout
    for partition in source.partitions(1)[:1]:
        for page in source.scan(partition, batch_rows=64):
            marks = marks_in(page.batch, Noticed())
            documents = any("doc" in entries or "d" in entries.get("has", "") for entries, _ in marks.values())
            namespaces = any("ns" in entries or "n" in entries.get("has", "") for entries, _ in marks.values())
            return _widened(layout, documents=documents, namespaces=namespaces)
    return layout


def _widened(layout: Layout, *, documents: bool, namespaces: bool) -> Layout:
    spec = layout.original
    original = CollectionSpec(
        spec.name,
        spec.id_kind,
        spec.vectors,
        spec.has_namespaces or namespaces,
        spec.has_documents or documents,
        spec.index,
    )
    return Layout(original, layout.native, layout.fields)
