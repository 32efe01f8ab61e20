"""Writing an index file with its side-car: rows and deletions are collected, and a flush writes both files anew."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from exitramp.arrow import record_keys, require_schema
from exitramp.errors import CollectionExists, DataInvalid, StoreRejected, UsageError
from exitramp.ports.gathered import Gathered
from exitramp.ports.reading import Origin
from exitramp.ports.side_car import Signature, side_car_path, signature, write_both, written_meanwhile
from exitramp.ports.side_car_columns import KEYS, TEXTS, lying, schema_of
from exitramp.ports.side_car_records import (
    PAGE_ROWS,
    Held,
    IndexContent,
    Opened,
    changed,
    in_order,
    load,
    side_car_of,
)
from exitramp.ports.side_car_rows import Pieces
from exitramp.ports.side_car_vectors import Later, Matrix
from exitramp.ports.writing import (
    TAGGED_TYPES,
    DocumentRoom,
    NameRule,
    PayloadLimits,
    SinkLimits,
    TransferAccount,
    difference_of,
)
from exitramp.records import CollectionSpec, DType, IdKind, Metric, RecordKey, VectorKind

if TYPE_CHECKING:
    from exitramp.ports.side_car_store import SideCarStore

_SCALARS: Final = ("null", "bool", "int", "float", "nonfinite", "string", "timestamp", "date", "time", "decimal")
_ALL_TYPES: Final = frozenset((*_SCALARS, "uuid", "bytes", "list", "object"))
_BUFFER_BYTES: Final = 256 * 2**20


class SideCarSink:
    """Collects rows and deletions, and writes both files anew in `flush`."""

    def __init__(self, store: SideCarStore) -> None:
        self._store = store
        self._engine = store.engine
        self._opened: Opened | None = None
        self._forget()

    def limits(self) -> SinkLimits:
        path = self._store.path
        return self._engine.limits(
            SinkLimits(
                id_kinds=frozenset(IdKind),
                metrics=frozenset(),
                payload=PayloadLimits(
                    types=_ALL_TYPES,
                    item_types=_ALL_TYPES,
                    mixed_lists=True,
                    nested=True,
                    empty_lists=True,
                    empty_objects=True,
                    integer_bits=8192,
                    tagged_types=TAGGED_TYPES,
                ),
                names=NameRule(maximum=10_000),
                namespaces=True,
                documents=DocumentRoom.NATIVE,
                keeps_origin=True,
                batch_rows=PAGE_ROWS,
                flush_rows=50_000,  # a flush writes both files anew
                files=(str(path), str(side_car_path(path))),
            )
        )

    def create(self, spec: CollectionSpec, origin: Origin) -> None:
        store = self._store
        store.require_open()
        if len(spec.vectors) != 1 or spec.vectors[0].name or spec.vectors[0].kind is not VectorKind.DENSE:
            raise StoreRejected(f"{store.address}: an index file holds one unnamed dense vector field")
        [field] = spec.vectors
        limits = self.limits()
        bits = (field.dtype is DType.BINARY) == (field.metric is Metric.HAMMING)
        if field.metric not in limits.metrics or field.dtype not in limits.dtypes or not bits:
            raise StoreRejected(f"{store.address}: an index of {field.dtype} under {field.metric} is not made here")
        told = spec.index
        spec = replace(spec, name=store.address.collection or spec.name, index={})
        before = signature(store.path)
        if any(before):
            self._accept(spec)
            held = self._collection().held
            if not len(held.labels):  # what was told of records that are gone explains no others
                self._save(replace(held, origin=origin), held.content.index, self._collection().signature)
            return
        index, factory = self._engine.empty(field, told)
        matrix = np.zeros((0, field.item_count), numpy_type(field.dtype))
        labels = np.zeros(0, np.int64)
        content = IndexContent(index, labels, matrix, field, spec.id_kind, {}, "")
        keys, texts = schema_of(KEYS).empty_table(), Pieces(schema_of(TEXTS), [])
        self._save(Held(spec, origin, factory, content, labels, matrix, keys, texts, True), index, before)

    def _accept(self, spec: CollectionSpec) -> None:
        path = self._store.path
        held = self._store.opened().held
        if not held.has_side_car:
            raise CollectionExists(
                f"{path} is an index without a side-car: exitramp did not make it, or its side-car is lost",
                hint=f"put {side_car_path(path)} back if there is one, or write to another path",
            )
        different = difference_of(held.spec, spec)
        if different:
            raise CollectionExists(f"{path} is there already and {different}", hint="write to another path")
        self._opened = self._store.opened()

    def _collection(self) -> Opened:
        if self._opened is None:
            self._opened = self._store.opened()
            if not self._opened.held.has_side_car:
                self._accept(self._opened.held.spec)
        self._store.require_open()
        return self._opened

    def upsert(self, batch: pa.RecordBatch) -> None:
        spec, where = self._collection().held.spec, str(self._store.address)
        require_schema(batch, spec, where=where)
        if batch.num_rows > PAGE_ROWS:
            raise UsageError(f"{where}: {batch.num_rows} rows at once, of at most {PAGE_ROWS}")
        if batch.column("vector").null_count:
            row = batch.column("vector").is_valid().index(False).as_py()
            key = record_keys(batch)[row]
            raise DataInvalid(f"{where}: the record '{key}' has no vector, and every row of an index is one")
        self._gathered.add(batch, where=where)
        if self._gathered.nbytes > _BUFFER_BYTES:
            self.flush()

    def delete(self, keys: Sequence[RecordKey]) -> None:
        self._collection()
        self._gathered.remove(keys)

    def flush(self) -> None:
        opened = self._collection()
        if self._gathered:
            change = changed(opened, self._gathered, labelled=self._engine.labelled)
            self._write(change.after, lambda: self._engine.follow(self._store.path, change))
            self._forget()

    def _forget(self) -> None:
        self._gathered = Gathered(self._store.path.parent)

    def finish(self, account: TransferAccount) -> None:
        """Build the index that is wanted in the end, if it is not the one that is there."""
        self.flush()
        held = self._collection().held
        wanted = self._engine.finished(self._store.path, held)
        if wanted is not None:
            index, factory = wanted
            self._write(replace(held, factory=factory), lambda: index)

    def _write(self, held: Held, made: Callable[[], Any]) -> None:
        self._save(held, made(), self._collection().signature)

    def _save(self, held: Held, index: Any, before: Signature) -> None:
        engine = self._engine
        told = side_car_of(held, labelled=engine.labelled, originals=not engine.gives_back(held))
        written = write_both(self._store.path, lambda path: engine.write(index, path), told, before)
        # Whoever reads reads the files; this one goes on from what it wrote, of which it holds the keys alone. To read
        # all of it again took half of a flush.
        self._opened = in_order(self._as_written(held, written), written)
        self._store.forget()

    def _as_written(self, held: Held, written: Signature) -> Held:
        """The same, with texts and vectors where the files have them."""
        path, shape = self._store.path, held.matrix.shape
        texts, matrix = lying(side_car_path(path))

        def again() -> Matrix:
            if signature(path) != written:
                raise written_meanwhile(path)
            return load(self._engine, path, None).matrix

        if matrix is None:
            matrix = self._engine.lying(path, written[0], held)
        if matrix is None:
            matrix = Later(again, shape, held.matrix.dtype)
        labels, kind = np.zeros(0, np.int64), held.spec.id_kind
        nothing = IndexContent(None, labels, np.zeros((0, 0), held.matrix.dtype), held.field, kind, {}, "")
        return replace(held, content=nothing, matrix=matrix, texts=texts)

    def close(self) -> None:
        """What was not flushed is lost."""
        self._forget()
        self._opened = None


def numpy_type(dtype: DType) -> npt.DTypeLike:
    return np.uint8 if dtype is DType.BINARY else np.dtype(dtype.value)
