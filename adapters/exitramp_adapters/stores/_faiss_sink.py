"""Writing a FAISS collection: rows and deletions are collected, and a flush writes both files anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa

from exitramp import canonical
from exitramp.arrow import record_keys, require_schema
from exitramp.errors import CollectionExists, DataInvalid, StoreRejected, UsageError
from exitramp.ports import DocumentRoom, NameRule, Origin, PayloadLimits, SinkLimits, TransferAccount, difference_of
from exitramp.records import CollectionSpec, DType, IdKind, Metric, RecordKey, VectorKind
from exitramp_adapters.stores._faiss_files import Loaded, save, side_car_path, signature, table_schema
from exitramp_adapters.stores._faiss_index import LARGEST, build_index, lists_of
from exitramp_adapters.stores._faiss_records import Opened, changed

if TYPE_CHECKING:
    from exitramp_adapters.stores.faiss import FaissStore

_SCALARS: Final = ("null", "bool", "int", "float", "nonfinite", "string", "timestamp", "date", "time", "decimal")
_ALL_TYPES: Final = frozenset((*_SCALARS, "uuid", "bytes", "list", "object"))
PAGE_ROWS: Final = 10_000
_BUFFER_BYTES: Final = 256 * 2**20


class FaissSink:
    """Collects rows and deletions, and writes both files anew in `flush`."""

    def __init__(self, store: FaissStore) -> None:
        self._store = store
        self._opened: Opened | None = None
        self._forget()

    def limits(self) -> SinkLimits:
        metrics = {Metric.COSINE, Metric.DOT, Metric.EUCLIDEAN}
        return SinkLimits(
            id_kinds=frozenset(IdKind),
            # The other index types take L1 only in part, so that it is left to the flat one.
            metrics=frozenset(metrics | {Metric.MANHATTAN} if self._flat else metrics),
            payload=PayloadLimits(
                types=_ALL_TYPES,
                item_types=_ALL_TYPES,
                mixed_lists=True,
                nested=True,
                empty_lists=True,
                empty_objects=True,
                integer_bits=8192,
            ),
            names=NameRule(maximum=10_000),
            namespaces=True,
            documents=DocumentRoom.NATIVE,
            # Graphs and clusterings compare by squares: what overflows there ends the process inside FAISS.
            nonfinite_vectors=self._flat,
            vector_magnitude=None if self._flat else LARGEST,
            keeps_origin=True,
            batch_rows=PAGE_ROWS,
            records_least=lists_of(self._store.factory or ""),
            files=(str(self._store.path), str(side_car_path(self._store.path))),
        )

    @property
    def _flat(self) -> bool:
        return self._store.factory in (None, "Flat")

    def create(self, spec: CollectionSpec, origin: Origin) -> None:
        self._store.require_open()
        if len(spec.vectors) != 1 or spec.vectors[0].name or spec.vectors[0].kind is not VectorKind.DENSE:
            raise StoreRejected(f"{self._store.address}: an index file holds one unnamed dense vector field")
        [field] = spec.vectors
        if field.metric not in self.limits().metrics or field.dtype is not DType.FLOAT32:
            raise StoreRejected(
                f"{self._store.address}: an index of {field.dtype} under {field.metric} is not made here"
            )
        spec = replace(spec, name=self._store.address.collection or spec.name, index={})
        if any(signature(self._store.path)):
            self._accept(spec)
            held = self._collection().held
            if not len(held.matrix):  # what was told of records that are gone explains no others
                save(self._store.path, replace(held, origin=origin))
                self._opened = self._store.opened()
            return
        held = Loaded(
            spec,
            origin,
            self._store.factory or "Flat",
            build_index("Flat", field.metric, np.zeros((0, field.item_count), np.float32)),
            np.zeros(0, np.int64),
            np.zeros((0, field.item_count), np.float32),
            table_schema().empty_table(),
            True,
        )
        save(self._store.path, held)
        self._opened = self._store.opened()

    def _accept(self, spec: CollectionSpec) -> None:
        held = self._store.opened().held
        if not held.has_side_car:
            raise CollectionExists(
                f"{self._store.path} is an index without a side-car: exitramp did not make it, or its side-car is lost",
                hint=f"put {side_car_path(self._store.path)} back if there is one, or write to another path",
            )
        different = difference_of(held.spec, spec)
        if different:
            raise CollectionExists(f"{self._store.path} is there already and {different}")
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
        keys = record_keys(batch)
        if batch.column("vector").null_count:
            row = batch.column("vector").is_valid().index(False).as_py()
            raise DataInvalid(f"{where}: the record '{keys[row]}' has no vector, and every row of an index is one")
        if len(set(keys)) != len(keys):
            raise DataInvalid(f"{where}: an id stands twice in one batch")
        self._batches.append(_with_canonical_payloads(batch, keys))
        self._latest.update({key: (len(self._batches) - 1, row) for row, key in enumerate(keys)})
        self._buffered_bytes += batch.nbytes
        if self._buffered_bytes > _BUFFER_BYTES:
            self.flush()

    def delete(self, keys: Sequence[RecordKey]) -> None:
        self._collection()
        self._latest.update(dict.fromkeys(keys))

    def flush(self) -> None:
        opened = self._collection()
        if self._latest:
            self._write(changed(opened, self._batches, self._latest), "Flat")
            self._forget()

    def _forget(self) -> None:
        self._batches: list[pa.RecordBatch] = []
        self._latest: dict[RecordKey, tuple[int, int] | None] = {}  # batch and row, or None for a deletion
        self._buffered_bytes = 0

    def finish(self, account: TransferAccount) -> None:
        """Build the index that the factory names, if it is not the flat one that is there."""
        self.flush()
        held = self._collection().held
        factory = self._store.factory or held.factory
        if factory != "Flat" and len(held.matrix):
            self._write(replace(held, factory=factory), factory)

    def _write(self, held: Loaded, factory: str) -> None:
        if signature(self._store.path) != self._collection().signature:
            raise StoreRejected(
                f"{self._store.path} was written by somebody else meanwhile; nothing was overwritten",
                hint="let one writer at a time work on an index file, then run this again",
            )
        save(self._store.path, replace(held, index=build_index(factory, held.spec.vectors[0].metric, held.matrix)))
        self._opened = self._store.opened()

    def close(self) -> None:
        """What was not flushed is lost."""
        self._forget()
        self._opened = None


def _with_canonical_payloads(batch: pa.RecordBatch, keys: Sequence[RecordKey]) -> pa.RecordBatch:
    """Payloads may come in any order of keys and are kept in the canonical one."""
    texts: list[str | None] = []
    for key, text in zip(keys, batch.column("payload").to_pylist(), strict=True):
        try:
            texts.append(None if text is None else canonical.dumps(canonical.parse(text)))
        except DataInvalid as error:
            raise DataInvalid(f"the payload of the record '{key}' is {error.message}") from error
    spot = batch.schema.get_field_index("payload")
    return batch.set_column(spot, batch.schema.field(spot), pa.array(texts, pa.string()))
