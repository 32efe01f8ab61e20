"""Records between a stream's columns and Chroma's: ids, embeddings, documents, metadatas and uris."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from exitramp.arrow import dense_array, dense_matrix, empty_batch, stream_schema
from exitramp.errors import DataInvalid, UsageError
from exitramp.payloads import decoded_payloads, payload_array
from exitramp.ports import Query, SearchSettings
from exitramp.records import UNKNOWN, CollectionSpec, EmbeddingModel, Metric, RecordKey, VectorField
from exitramp_adapters.stores.chroma.limits import GREATEST_NORM, LEAST_NORM, LIMITS

EVERYTHING: Final = ["embeddings", "documents", "metadatas", "uris"]
_PLAIN: Final = frozenset({str, bool, int, float, list, dict, type(None)})
URI_KEY: Final = "chroma:uri"
"""The payload key for a record's URI: Chroma's own name for it, which no metadata of a user can have."""


def records_batch(ids: Sequence[str], columns: Mapping[str, Any], spec: CollectionSpec) -> pa.RecordBatch:
    """What `get` or `query` gave (embeddings [rows, dimensions], documents, metadatas, uris) in the order of ids."""
    if not ids:
        return empty_batch(spec)
    order = sorted(range(len(ids)), key=ids.__getitem__)
    # Over HTTP a NaN, which only cosine can have made, arrives as a null; it becomes one again here.
    matrix = np.asarray(columns["embeddings"]).astype(np.float32)[order]
    metadatas, uris, documents = columns["metadatas"], columns["uris"], columns["documents"]
    payloads: list[dict[str, Any] | None] = []
    for row in order:
        metadata = _plain(metadatas[row])
        if uris[row] is not None:
            metadata = (metadata or {}) | {URI_KEY: uris[row]}
        payloads.append(metadata)
    return pa.RecordBatch.from_arrays(
        [
            pa.array([ids[row] for row in order], pa.string()),
            pa.array([documents[row] for row in order], pa.string()),
            payload_array(payloads),
            dense_array(matrix, spec.vectors[0]),
        ],
        schema=stream_schema(spec),
    )


def _plain(metadata: dict[str, Any] | None) -> dict[str, Any] | None:
    """Metadata as JSON has it: a sparse vector, which only Chroma Cloud keeps, as it goes over the wire."""
    if metadata is None or _PLAIN.issuperset(map(type, metadata.values())):
        return metadata
    return {key: value if type(value) in _PLAIN else value.to_dict() for key, value in metadata.items()}


@dataclass(frozen=True, slots=True)
class Columns:
    """A batch as Chroma takes it; `embeddings` is [rows, dimensions]."""

    ids: list[str]
    embeddings: npt.NDArray[np.float32]
    metadatas: list[dict[str, Any] | None]
    documents: list[str | None]

    def arguments(self) -> dict[str, Any]:
        """As the collection's methods want them."""
        return {name: getattr(self, name) for name in self.__slots__}

    def part(self, start: int, stop: int) -> Columns:
        rows = slice(start, stop)
        return Columns(self.ids[rows], self.embeddings[rows], self.metadatas[rows], self.documents[rows])

    def only(self, rows: list[int]) -> Columns:
        return Columns(
            [self.ids[row] for row in rows],
            self.embeddings[rows],
            [self.metadatas[row] for row in rows],
            [self.documents[row] for row in rows],
        )

    def replacing(self, there: Mapping[str, Any]) -> tuple[Columns, list[int]]:
        """The same for a call that merges with what is `there` (a `get` of metadatas, documents and uris): each key
        that must go is given as None. And the rows of which something would stay all the same."""
        old = zip(there["metadatas"], there["documents"], there["uris"], strict=True)
        before = dict(zip(there["ids"], old, strict=True))
        metadatas, stubborn = list(self.metadatas), []
        for row, id_ in enumerate(self.ids):
            metadata, document, uri = before.get(id_, (None, None, None))
            new = self.metadatas[row]
            if metadata:
                metadatas[row] = dict.fromkeys(metadata) | (new or {})
            gone = metadata is not None and new is None, document is not None and self.documents[row] is None
            if any(gone) or uri is not None:
                stubborn.append(row)
        return replace(self, metadatas=metadatas), stubborn

    def differing_lists(self, there: Mapping[str, Any]) -> list[int]:
        """The rows that have another list than was written, or a key that was not, by a `get` of their metadatas.
        Numbers are not compared: Chroma rounds some by itself."""
        found = dict(zip(there["ids"], there["metadatas"], strict=True))
        return [
            row
            for row, (id_, written) in enumerate(zip(self.ids, self.metadatas, strict=True))
            if id_ in found and _lists(found[id_]) != _lists(written)
        ]


def _lists(metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    """The keys of a metadata, with the values of those that are lists of anything but floats."""
    told = metadata or {}
    return {key: _shape(value) if isinstance(value, list) else None for key, value in told.items()}


def _shape(values: list[Any]) -> Any:
    return len(values) if isinstance(values[0], float) else values


def columns_of(batch: pa.RecordBatch, field: VectorField, *, where: str) -> Columns:
    """Everything is looked at before anything is written. Raises `DataInvalid` naming the record."""
    ids: list[str] = batch.column("id").to_pylist()
    for row, id_ in enumerate(ids):
        if not id_:
            raise DataInvalid(f"{where}: row {row} of the batch has an empty id, which Chroma does not take")
    payloads = decoded_payloads(batch.column("payload"))
    metadatas = [_metadata(payload, f"{where}: record {id_!r}") for payload, id_ in zip(payloads, ids, strict=True)]
    documents = batch.column("document").to_pylist() if "document" in batch.schema.names else [None] * len(ids)
    return Columns(ids, _matrix(batch.column(field.column), ids, field, where=where), metadatas, documents)


def _metadata(payload: dict[str, Any] | None, where: str) -> dict[str, Any] | None:
    """A payload as Chroma's metadata. What Chroma would change, drop or choke on later is refused here: a NaN in a list
    is taken, and makes an embedded collection unreadable for good."""
    if payload is None:
        return None
    for key, value in payload.items():
        if not _is_kept(value) or re.fullmatch(LIMITS.payload.key_pattern, key) is None:
            raise DataInvalid(f"{where}: Chroma does not keep the payload's {key!r} as it is")
    if not payload:
        raise DataInvalid(f"{where}: Chroma does not keep an empty payload")
    return payload


def _is_kept(value: Any) -> bool:
    if isinstance(value, str | bool):
        return True
    if isinstance(value, int):
        return -(2**63) <= value < 2**63
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, list):
        return len({type(item) for item in value}) == 1 and not isinstance(value[0], list) and all(map(_is_kept, value))
    return False


def _matrix(column: pa.Array, ids: list[str], field: VectorField, *, where: str) -> npt.NDArray[np.float32]:
    if column.null_count:
        row = column.is_null().index(True).as_py()
        raise DataInvalid(f"{where}: record {ids[row]!r} has no vector, which Chroma needs for every record")
    matrix = dense_matrix(column).astype(np.float32, copy=False)
    if matrix.shape[1] != field.dimensions:
        raise DataInvalid(f"{where}: vectors of {matrix.shape[1]} numbers where {field.dimensions} are expected")
    bad = _rows(~np.isfinite(matrix))
    why = "a vector with NaN or an infinity in it"
    if field.metric is Metric.COSINE and not bad.any():
        norms = np.linalg.norm(matrix.astype(np.float64), axis=1)
        # A row with subnormal numbers is beyond the limits, so that the codec has it whole.
        tiny = (norms > 0) & (norms < LEAST_NORM) & ~_rows(_subnormal(matrix))
        bad = tiny | (norms > GREATEST_NORM)
        why = f"a vector whose norm is outside {LEAST_NORM:g} to {GREATEST_NORM:g} under cosine"
    if bad.any():
        raise DataInvalid(f"{where}: record {ids[int(bad.argmax())]!r}: Chroma does not keep {why}")
    return matrix


def _subnormal(matrix: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    magnitudes = np.abs(matrix)
    return (magnitudes > 0) & (magnitudes < np.finfo(np.float32).tiny)


def _rows(matrix: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """bool[rows]: in which rows any is true."""
    return np.asarray(matrix.any(axis=1))


def query_vector(
    query: Query, dimensions: int | None, *, k: int, settings: SearchSettings, own: Mapping[str, Any]
) -> npt.NDArray[np.float32]:
    """float32[dimensions] to search with. Raises `UsageError` for whatever Chroma cannot honour: `own` is what the
    collection is searched by, and a search may only ask for just that."""
    if settings.exact:
        raise UsageError("Chroma has no exact search", hint="it answers from its index alone")
    for option, value in settings.options.items():
        if option not in own:
            raise UsageError(f"Chroma has no search option {option!r}", hint=f"it has: {', '.join(own) or 'none'}")
        if value != own[option] or isinstance(value, bool):
            raise UsageError(
                f"the collection is searched with its own {option}, {own[option]}, and no search has another",
                hint=f"change the collection: collection.modify(configuration={{'hnsw': {{'{option}': …}}}})",
            )
    if query.field or query.dense is None or query.multi is not None or query.sparse is not None:
        raise UsageError("Chroma is asked with one dense vector, for its only field ''")
    if k < 1:
        raise UsageError(f"{k} neighbours cannot be asked for")
    vector = np.asarray(query.dense).astype(np.float32)
    if vector.ndim != 1 or (dimensions is not None and len(vector) != dimensions):
        raise UsageError(f"a query of shape {vector.shape} where the collection's vectors have {dimensions} numbers")
    if not np.isfinite(vector).all():
        raise UsageError("a query with NaN or an infinity in it")
    return vector


def embedding_model(function: dict[str, Any]) -> EmbeddingModel:
    """The model of a collection's embedding function. "default" stands there whenever nobody named one, also where
    the vectors were made elsewhere, and so says nothing."""
    name = function.get("name")
    if function.get("type") != "known" or not name or name == "default":
        return EmbeddingModel()
    model = (function.get("config") or {}).get("model_name")
    return EmbeddingModel(provider=str(name), name=model if isinstance(model, str) else UNKNOWN)


def native_ids(keys: Sequence[RecordKey]) -> list[str]:
    """Each id once, as Chroma wants them; it has no namespaces and no empty id."""
    return list(dict.fromkeys(key.id for key in keys if key.namespace is None and key.id))
