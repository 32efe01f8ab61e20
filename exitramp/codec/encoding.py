"""A sink that takes any record: what the real sink cannot hold is encoded on the way in."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from exitramp import canonical
from exitramp.arrow import dense_array, dense_matrix, record_keys, stream_schema, vector_type
from exitramp.codec import marker, payload, vectors
from exitramp.codec.ids import native_id
from exitramp.codec.layout import FieldLayout, Layout, lay_out
from exitramp.errors import DataInvalid
from exitramp.ports import DocumentRoom, Origin, SinkLimits, TransferAccount, VectorSink
from exitramp.records import CollectionSpec, Metric, RecordKey

_DOCUMENT_TEXT = json.dumps(marker.DOCUMENT_KEY) + ":"


class EncodingSink:
    """`VectorSink` around a `VectorSink`. `metrics` replaces metrics by field name (see `lay_out`)."""

    def __init__(self, sink: VectorSink, *, metrics: Mapping[str, Metric] | None = None) -> None:
        self._sink = sink
        self._limits = sink.limits()
        self._metrics = metrics
        self._layout: Layout | None = None

    def limits(self) -> SinkLimits:
        return self._limits

    @property
    def layout(self) -> Layout:
        """How the collection is laid out; known from `create` on."""
        if self._layout is None:
            raise DataInvalid("the collection must be created before it is written to")
        return self._layout

    def create(self, spec: CollectionSpec, origin: Origin) -> None:
        if self._limits.verbatim and not self._metrics:
            self._layout = Layout(spec, spec, tuple(FieldLayout(field, field) for field in spec.vectors))
        else:
            self._layout = lay_out(spec, self._limits, metrics=self._metrics)
        held = {field.original.column: field.native.name if field.native else None for field in self._layout.fields}
        self._sink.create(self._layout.native, replace(origin, fields={} if self._limits.verbatim else held))

    def upsert(self, batch: pa.RecordBatch) -> None:
        """Write `batch`, whose schema is the original collection's, in pieces that the sink takes."""
        for start in range(0, batch.num_rows, self._limits.batch_rows):
            if self._limits.verbatim:
                self._sink.upsert(batch.slice(start, self._limits.batch_rows))
                continue
            self._sink.upsert(encode_batch(batch.slice(start, self._limits.batch_rows), self.layout, self._limits))

    def delete(self, keys: Sequence[RecordKey]) -> None:
        native = list(keys) if self._limits.verbatim else [self._native_key(key) for key in keys]
        for start in range(0, len(native), self._limits.batch_rows):
            self._sink.delete(native[start : start + self._limits.batch_rows])

    def flush(self) -> None:
        self._sink.flush()

    def finish(self, account: TransferAccount) -> None:
        self._sink.finish(account)

    def close(self) -> None:
        self._sink.close()

    def _native_key(self, key: RecordKey) -> RecordKey:
        return RecordKey(native_id(key, self._limits), key.namespace if self._limits.namespaces else None)


def encode_batch(batch: pa.RecordBatch, layout: Layout, limits: SinkLimits) -> pa.RecordBatch:
    """`batch` as the sink takes it: native columns, and a marker in the payload of the rows that need one."""
    spec, native = layout.original, layout.native
    keys = record_keys(batch)
    marks: list[dict[str, Any]] = [{} for _ in keys]
    ids: list[str] = []
    for key, mark in zip(keys, marks, strict=True):
        written = native_id(key, limits)
        ids.append(written)
        if written != key.id:
            mark["id"] = key.id
        if key.namespace is not None and not limits.namespaces:
            mark["ns"] = key.namespace
    columns: dict[str, pa.Array] = {"id": pa.array(ids, pa.string())}
    for field in layout.fields:
        column = batch.column(field.original.column)
        if field.native is None:
            _into_marks(column, field, marks)
        else:
            columns[field.native.column] = _native_column(column, field, limits, marks)
    if native.has_namespaces:
        columns["namespace"] = batch.column("namespace")
    documents: list[str | None] = batch.column("document").to_pylist() if spec.has_documents else [None] * len(keys)
    if native.has_documents:
        columns["document"] = batch.column("document")
        documents = [None] * len(keys)
    texts: list[str | None] = batch.column("payload").to_pylist()
    kept = payload.kept_as_they_stand(batch.column("payload"), limits.payload)
    encoder = _PayloadEncoder(limits)
    columns["payload"] = pa.array(
        [
            encoder.encode(text, document, mark, whole)
            for text, document, mark, whole in zip(texts, documents, marks, kept, strict=True)
        ],
        pa.string(),
    )
    schema = stream_schema(native)
    return pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)


class _PayloadEncoder:
    def __init__(self, limits: SinkLimits) -> None:
        self._limits = limits.payload
        self._in_payload = limits.documents is DocumentRoom.PAYLOAD

    def encode(self, text: str | None, document: str | None, mark: dict[str, Any], kept: bool) -> str | None:
        """The native payload's JSON text (order of keys not promised), or None for no payload at all.

        `kept` says that nothing in `text` needs another form, but perhaps the key that a document would take.
        """
        limits = self._limits
        plain = text is None or (kept and (document is None or _DOCUMENT_TEXT not in text))
        native: dict[str, Any] = {}
        if not plain and text is not None:
            native, top = payload.encode_keys(canonical.loads(text), limits)
            if top:
                mark["top"] = top
            plain = not top  # everything stands as it was: its text will do, and writing it anew would cost 4 us
        added: dict[str, str] = {}
        if document is not None:
            done = payload.project_key(marker.DOCUMENT_KEY, document, limits)
            if done.kept == "exact" and marker.DOCUMENT_KEY not in native:
                added[marker.DOCUMENT_KEY] = document
                mark["doc"] = {"k": marker.DOCUMENT_KEY}
            else:
                mark["doc"] = {"o": document}
        if text is None and (mark or added or not limits.absent_payload):
            mark["p"] = 0
        if text == "{}" and not mark and not limits.empty_payload:
            mark["p"] = 1
        if mark:
            added[marker.MARKER_KEY] = marker.write(mark)
        if not plain:
            return canonical.dumps(native | added, keys_are_text=True)
        if not added:
            return text
        # Splicing into the text saves parsing it, which costs as much as all the rest of a row's encoding.
        head = json.dumps(added, ensure_ascii=False, separators=(",", ":"))
        return head if text is None or text == "{}" else head[:-1] + "," + text[1:]


def _into_marks(column: pa.Array, field: FieldLayout, marks: Sequence[dict[str, Any]]) -> None:
    for row, mark in enumerate(marks):
        value = vectors.row_value(column, row, field.original)
        if value is not None:
            mark.setdefault("vec", {})[field.original.column] = vectors.pack(value, field.original, None)


def _native_column(
    column: pa.Array, field: FieldLayout, limits: SinkLimits, marks: Sequence[dict[str, Any]]
) -> pa.Array:
    original, native = field.original, field.native
    assert native is not None
    if not vectors.is_dense(original):
        return column.cast(vector_type(native)) if column.type != vector_type(native) else column
    matrix = dense_matrix(column)
    valid = np.asarray(column.is_valid())
    odd = vectors.odd_rows(matrix, valid, limits, native)
    fill = limits.vectors_required and not bool(valid.all())
    if native.dtype is original.dtype and not odd and not fill:
        return column
    with np.errstate(over="ignore", invalid="ignore"):
        written = matrix.astype(vectors.NUMPY[native.dtype])
    change = vectors.change_under(native.metric, limits)
    for row, how in odd.items():
        marks[row].setdefault("vec", {})[original.column] = vectors.pack(matrix[row], original, how, change)
        written[row] = vectors.stand_in(matrix[row], how)
    if fill:
        unit = vectors.stand_in(np.zeros(written.shape[1], written.dtype), vectors.PLACEHOLDER)
        for row in np.flatnonzero(~valid).tolist():
            marks[row].setdefault("null", []).append(original.column)
            written[row] = unit
        valid = np.ones_like(valid)
    return dense_array(written, native, valid=valid)
