"""Searches: the server's own, looked at once more under a filter, and all vectors compared where that is asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from exitramp.arrow import dense_matrix
from exitramp.errors import DataInvalid, UsageError
from exitramp.filters import Filter, matches
from exitramp.payloads import decoded_payloads
from exitramp.ports import DEFAULT_SETTINGS, Hits, IndexCoverage, IndexState, Query, SearchSettings
from exitramp.records import DType, Metric, RecordKey, VectorField, VectorKind
from exitramp_adapters.stores.milvus.client import Refused
from exitramp_adapters.stores.milvus.column_types import METRIC_NAMES, MOST_ROWS, Kind
from exitramp_adapters.stores.milvus.filters import prefilter
from exitramp_adapters.stores.milvus.schema import Collection, described_indexes, pairs
from exitramp_adapters.stores.milvus.wait import GROWING, STRONG, count, segments

if TYPE_CHECKING:
    from exitramp_adapters.stores.milvus.adapter import MilvusSource, MilvusStore

_OPTIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "HNSW": ("ef",),
    "HNSW_SQ": ("ef",),
    "AUTOINDEX": ("ef",),
    "IVF_FLAT": ("nprobe",),
    "IVF_SQ8": ("nprobe",),
    "IVF_PQ": ("nprobe",),
    "BIN_IVF_FLAT": ("nprobe",),
    "SCANN": ("nprobe", "reorder_k"),
    "DISKANN": ("search_list",),
}
_FLAT: Final = frozenset({"FLAT", "BIN_FLAT", "BRUTE_FORCE"})
# A growing segment of so many rows (39 for each of 128 lists) has an index of its own for as long as it grows.
_INTERIM_ROWS: Final = 128 * 39
# Of milvus.proto's PlaceholderType.
_PLACEHOLDERS: Final = dict.fromkeys((Kind.FLOAT_VECTOR, Kind.BFLOAT16_VECTOR), 101) | {
    Kind.BINARY_VECTOR: 100,
    Kind.FLOAT16_VECTOR: 102,
    Kind.SPARSE_VECTOR: 104,
    Kind.INT8_VECTOR: 105,
}
_PAGE_ROWS: Final = 2000


class MilvusSearch:
    """Asks the index."""

    def __init__(self, store: MilvusStore, source: MilvusSource) -> None:
        self._store = store
        self._source = source
        self._found: Collection | None = None

    def _collection(self) -> Collection:
        """Asked for once: three calls, where a search is one."""
        if self._found is None:
            self._found = self._store.collection()
        return self._found

    def index_state(self) -> IndexState:
        """Whether an index waits for rows that were cut off for it. Rows that still grow are always searched."""
        found = described_indexes(self._store, self._collection().name)
        if any(each.state == 4 for each in found):
            return IndexState.UNKNOWN  # failed: what answers then is not said
        return IndexState.BUILDING if any(each.pending_index_rows for each in found) else IndexState.READY

    def coverage(self) -> IndexCoverage:
        """By the segments that the server has loaded, of the records that there are."""
        collection = self._collection()
        kinds = {collection.indexes.get(name, {}).get("index_type", "") for name in collection.roles.vectors}
        if self._store.is_lite and not kinds <= _FLAT:
            return IndexCoverage()
        total, fields = count(self._store), len(collection.roles.vectors)
        if kinds <= _FLAT:
            return IndexCoverage(0, total * fields, "its index is FLAT")
        indexed = sum(each.num_rows for each in segments(self._store) if _has_index(each))
        indexed = min(indexed, total)
        note = "" if indexed else "Milvus indexes no segment of fewer than 1,024 records"
        return IndexCoverage(indexed * fields, (total - indexed) * fields, note)

    def search_options(self) -> Mapping[str, Any]:
        """What Milvus does by itself depends on its version, and it does not tell."""
        collection = self._collection()
        kinds = [collection.indexes.get(name, {}).get("index_type", "") for name in collection.roles.vectors]
        return {option: None for kind in kinds for option in _OPTIONS.get(kind, ())}

    def search(
        self,
        query: Query,
        *,
        k: int,
        where: Filter | None = None,
        settings: SearchSettings = DEFAULT_SETTINGS,
        with_records: bool = False,
    ) -> Hits:
        collection = self._collection()
        vector = collection.spec().vector(query.field)
        asked = _Asked(self._store, self._source, collection, vector, query, k, settings.options)
        found = asked.compared(k, where) if settings.exact else asked.nearest(k, where)
        keys = tuple(key for key, _ in found)
        records = self._source.fetch_from(collection, keys) if with_records else None
        return Hits(keys, tuple(score for _, score in found), records)


class _Asked:
    """One query of one field, as often as it has to be asked."""

    def __init__(
        self,
        store: MilvusStore,
        source: MilvusSource,
        collection: Collection,
        vector: VectorField,
        query: Query,
        k: int,
        options: Mapping[str, Any],
    ) -> None:
        if k < 1:
            raise UsageError(f"the {k} nearest records cannot be found")
        self._store, self._source, self._collection, self._vector = store, source, collection, vector
        self._k = k
        self._field = collection.field_of(vector)
        self._index = collection.indexes.get(self._field, {})
        self._options = _checked(options, self._index.get("index_type", ""))
        self._dense = None if query.dense is None else np.asarray(query.dense)
        self._blob = self._written(query)

    def nearest(self, k: int, where: Filter | None) -> list[tuple[RecordKey, float]]:
        """Asks for more until k are left by `where`, and at last for a comparison with every vector."""
        if k > MOST_ROWS or self._collection.partitioned:
            return self.compared(k, where)
        expression = "" if where is None else prefilter(where, self._collection)
        # Only ids come back, and a graph that has to find twenty times as many misses fewer of the nearest.
        wanted = k if where is None else min(MOST_ROWS, max(20 * k, 100))
        passing: dict[RecordKey, bool] = {}
        while True:
            try:
                found = self._ask(expression, wanted)
            except Refused:
                if not expression:
                    raise
                expression = ""  # of a version that does not know a part of it: it only spares looking at more
                continue
            if where is None:
                left = found
            else:
                new = [key for key, _ in found if key not in passing]
                passing |= self._passing(new, where)
                left = [(key, score) for key, score in found if passing.get(key)]
            if len(left) >= k or (len(found) < wanted and self._has_all(expression, len(found))):
                return left[:k]
            if len(found) < wanted or wanted == MOST_ROWS:
                return self.compared(k, where)
            wanted = min(MOST_ROWS, wanted * 8)

    def _has_all(self, expression: str, found: int) -> bool:
        """Whether so many are all that pass the expression: an index's walk may end before it has met them.

        An index of sparse vectors names those that share an index with the query, and those are all that it has.
        """
        if self._index.get("index_type") in _FLAT or self._vector.kind is VectorKind.SPARSE:
            return True
        return found >= count(self._store, expression)

    def _passing(self, keys: Sequence[RecordKey], where: Filter) -> dict[RecordKey, bool]:
        found: dict[RecordKey, bool] = {}
        for first in range(0, len(keys), _PAGE_ROWS):
            batch = self._source.fetch_from(self._collection.without_vectors(), keys[first : first + _PAGE_ROWS])
            found |= dict(_judged(batch, where))
        return found

    def _ask(self, expression: str, wanted: int) -> list[tuple[RecordKey, float]]:
        from pymilvus.grpc_gen import milvus_pb2 as pb

        params = dict(self._options)
        kind = self._index.get("index_type", "")
        if "ef" in params or (wanted > self._k and "ef" in _OPTIONS.get(kind, ())):
            params["ef"] = max(params.get("ef", 0), wanted)  # a server demands it, milvus-lite would stop short
        namespace = self._collection.roles.namespace
        metric = self._index.get("metric_type") or METRIC_NAMES[self._vector.metric]
        request = pb.SearchRequest(
            collection_name=self._store.name,
            dsl=expression,
            dsl_type=1,
            placeholder_group=self._blob,
            output_fields=[] if namespace is None else [namespace],
            nq=1,
            consistency_level=STRONG,
            search_params=pairs(
                anns_field=self._field,
                topk=wanted,
                params=json.dumps(params),
                metric_type=metric,
                round_decimal=-1,
                ignore_growing=False,
            ),
        )
        answer = self._store.call("Search", request).results
        ids = answer.ids.int_id.data if self._collection.is_integer else answer.ids.str_id.data
        spaces: Sequence[Any] = [None] * len(ids)
        if namespace is not None:
            [column] = [each for each in answer.fields_data if each.field_name == namespace]
            spaces = list(column.scalars.string_data.data)
        return [
            (RecordKey(str(id_), space), float(score))
            for id_, space, score in zip(ids, spaces, answer.scores, strict=True)
        ]

    def compared(self, k: int, where: Filter | None) -> list[tuple[RecordKey, float]]:
        """By a comparison with every vector, here: Milvus has no such search where there is an index."""
        if self._dense is None:
            raise UsageError(f"{self._store.address}: sparse vectors are not compared one by one")
        best: list[tuple[float, RecordKey]] = []
        larger = self._vector.metric in (Metric.COSINE, Metric.DOT)
        for batch in self._batches("" if where is None else prefilter(where, self._collection)):
            keys, scores = self._scored(batch, where)
            best += zip(scores.tolist(), keys, strict=True)
            best.sort(key=lambda each: -each[0] if larger else each[0])
            del best[k:]
        return [(key, score) for score, key in best]

    def _batches(self, expression: str) -> Iterator[pa.RecordBatch]:
        try:
            yield from self._source.matching(self._collection, expression, _PAGE_ROWS)
        except Refused:
            if not expression:
                raise
            yield from self._source.matching(self._collection, "", _PAGE_ROWS)

    def _scored(self, batch: pa.RecordBatch, where: Filter | None) -> tuple[list[RecordKey], npt.NDArray[np.float64]]:
        rows = batch.column(self._vector.column).is_valid().to_numpy(zero_copy_only=False)
        if where is not None:
            rows &= np.array([passes for _, passes in _judged(batch, where)], dtype=bool)
        keys = [key for (key, _), taken in zip(_judged(batch, None), rows, strict=True) if taken]
        matrix = dense_matrix(batch.column(self._vector.column))[rows]
        assert self._dense is not None
        return keys, _scores(self._vector, self._dense, matrix)

    def _written(self, query: Query) -> bytes:
        from pymilvus.grpc_gen import common_pb2

        address, vector = self._store.address, self._vector
        if vector.kind is VectorKind.SPARSE:
            if query.sparse is None:
                raise UsageError(f"{address}: the field {vector.name!r} is searched with one sparse vector")
            indices, values = (np.asarray(each) for each in query.sparse)
            order = np.argsort(indices)
            cells = np.empty(len(order), np.dtype([("index", "<u4"), ("value", "<f4")]))
            cells["index"], cells["value"] = indices[order], values[order]
            blob = cells.tobytes()
        else:
            if self._dense is None or query.multi is not None or query.sparse is not None:
                raise UsageError(f"{address}: the field {vector.name!r} is searched with one dense vector")
            if self._dense.shape != (vector.item_count,):
                raise DataInvalid(f"a query of {self._dense.size} numbers for {vector.item_count}")
            item = {DType.FLOAT16: "<f2", DType.INT8: "i1", DType.BINARY: "u1"}.get(vector.dtype, "<f4")
            blob = self._dense.astype(item).tobytes()
        kind = _PLACEHOLDERS[self._collection.fields[self._field].data_type]
        value = common_pb2.PlaceholderValue(tag="$0", type=kind, values=[blob])
        return bytes(common_pb2.PlaceholderGroup(placeholders=[value]).SerializeToString())


def _judged(batch: pa.RecordBatch, where: Filter | None) -> Iterator[tuple[RecordKey, bool]]:
    ids = batch.column("id").to_pylist()
    spaces = batch.column("namespace").to_pylist() if "namespace" in batch.schema.names else [None] * len(ids)
    payloads = [None] * len(ids) if where is None else decoded_payloads(batch.column("payload"))
    for id_, space, payload in zip(ids, spaces, payloads, strict=True):
        yield RecordKey(id_, space), where is None or matches(where, payload)


def _scores(vector: VectorField, query: npt.NDArray[Any], matrix: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """In Milvus's own units: similarities, squared distances, differing bits."""
    if vector.dtype is DType.BINARY:
        return np.asarray(np.bitwise_count(matrix ^ query.astype(np.uint8)).sum(axis=1), np.float64)
    one, many = query.astype(np.float64), matrix.astype(np.float64)
    if vector.metric is Metric.EUCLIDEAN:
        return np.asarray(((many - one) ** 2).sum(axis=1))
    scores = many @ one
    if vector.metric is Metric.COSINE:
        norms = np.linalg.norm(many, axis=1) * np.linalg.norm(one)
        scores = np.divide(scores, norms, out=np.zeros_like(scores), where=norms > 0)
    return np.asarray(scores)


def _checked(options: Mapping[str, Any], kind: str) -> dict[str, int]:
    known = _OPTIONS.get(kind, ())
    for name, value in options.items():
        if name not in known:
            hint = f"its options are: {', '.join(known)}" if known else "it has none"
            raise UsageError(f"milvus: an index {kind or 'of no kind'} has no search option {name!r}", hint=hint)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise UsageError(f"milvus: {name} is a whole number, at least 1")
    return dict(options)


def _has_index(segment: Any) -> bool:
    return bool(segment.num_rows >= _INTERIM_ROWS if segment.state == GROWING else segment.indexID)
