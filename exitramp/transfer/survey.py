"""One complete read of a source that measures what the plan must know about a given sink."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from exitramp import canonical
from exitramp.arrow import dense_matrix, record_keys
from exitramp.clock import Clock, SystemClock
from exitramp.codec import vectors
from exitramp.codec.ids import native_id
from exitramp.codec.layout import native_dtype
from exitramp.codec.payload import keeps_all_json, project_key
from exitramp.errors import StoreProtocolError
from exitramp.ports import SinkLimits, VectorSource
from exitramp.records import CollectionSpec, DType, RecordKey, VectorField, VectorKind

IDS_SHOWN = 20


@dataclass(slots=True)
class KeySurvey:
    """One top-level payload key: rows that have it, and values the sink would not keep natively as they are."""

    rows: int = 0
    encoded: int = 0


@dataclass(slots=True)
class VectorSurvey:
    """One vector field. `placeholders` and `cleaned` are vectors that go into the marker; norms are of finite ones."""

    rows: int = 0
    null: int = 0
    norm_minimum: float | None = None
    norm_maximum: float | None = None
    zero: int = 0
    nonfinite: int = 0
    nonfinite_ids: tuple[str, ...] = ()
    fits_float32: bool = True
    placeholders: int = 0
    cleaned: int = 0


@dataclass(slots=True)
class Survey:
    """What was measured; `seconds` and `pages` are those of the read itself."""

    spec: CollectionSpec
    rows: int = 0
    pages: int = 0
    bytes_read: int = 0
    seconds: float = 0.0
    documents: int = 0
    rows_in_namespaces: int = 0
    ids_mapped: int = 0
    payloads_encoded: int = 0
    payload_keys: dict[str, KeySurvey] = field(default_factory=dict)
    vectors: dict[str, VectorSurvey] = field(default_factory=dict)
    duplicates: int = 0
    duplicate_ids: tuple[str, ...] = ()
    collisions: int = 0
    collision_ids: tuple[str, ...] = ()


def survey_source(
    source: VectorSource,
    limits: SinkLimits,
    *,
    batch_rows: int,
    progress: Callable[[int], None] = lambda rows: None,
    clock: Clock | None = None,
) -> Survey:
    """Read all of `source` once and measure it against `limits`. Memory grows by 16 bytes a record, no more."""
    clock = clock or SystemClock()
    started = clock.monotonic()
    spec = source.describe()
    survey = Survey(spec, vectors={each.column: VectorSurvey() for each in spec.vectors})
    ids = _IdCheck(limits)
    for partition in source.partitions(1):
        last = False
        for page in source.scan(partition, batch_rows=batch_rows):
            last = page.last
            survey.pages += 1
            if page.batch.num_rows:
                _measure(page.batch, survey, limits, ids)
                progress(survey.rows)
        if not last:
            raise StoreProtocolError("the source's scan stopped without its end signal; it was not measured completely")
    survey.seconds = clock.monotonic() - started
    _repeats(survey, ids, source, batch_rows)
    return survey


def _measure(batch: pa.RecordBatch, survey: Survey, limits: SinkLimits, ids: _IdCheck) -> None:
    rows = batch.num_rows
    survey.rows += rows
    survey.bytes_read += batch.nbytes
    keys = record_keys(batch)
    survey.ids_mapped += ids.take(keys)
    if survey.spec.has_documents:
        survey.documents += rows - batch.column("document").null_count
    if survey.spec.has_namespaces:
        survey.rows_in_namespaces += rows - batch.column("namespace").null_count
    _measure_payloads(batch.column("payload").to_pylist(), survey, limits)
    for each in survey.spec.vectors:
        _measure_vectors(batch.column(each.column), each, survey.vectors[each.column], limits, keys)


def _measure_payloads(texts: Sequence[str | None], survey: Survey, limits: SinkLimits) -> None:
    simple = limits.verbatim or keeps_all_json(limits.payload)
    for text in texts:
        if text is None or text == "{}":
            kept = limits.payload.absent_payload if text is None else limits.payload.empty_payload
            survey.payloads_encoded += not (kept or limits.verbatim)
            continue
        payload = canonical.loads(text)
        for key, value in payload.items():
            found = survey.payload_keys.setdefault(key, KeySurvey())
            found.rows += 1
            if simple and (limits.verbatim or canonical.TAG_PREFIX not in text):
                found.encoded += key == "_exitramp" and not limits.verbatim
            else:
                found.encoded += project_key(key, value, limits.payload).kept != "exact"


def _measure_vectors(
    column: pa.Array, each: VectorField, found: VectorSurvey, limits: SinkLimits, keys: Sequence[RecordKey]
) -> None:
    found.rows += len(column) - column.null_count
    found.null += column.null_count
    if each.kind is not VectorKind.DENSE or each.dtype is DType.BINARY or column.null_count == len(column):
        return
    matrix = dense_matrix(column)
    valid = np.asarray(column.is_valid())
    wide: npt.NDArray[Any] = matrix[valid] if column.null_count else matrix
    with np.errstate(all="ignore"):
        norms = np.sqrt(np.einsum("ij,ij->i", wide, wide, dtype=np.float64))
    finite = norms[np.isfinite(norms)]
    if len(finite):
        low, high = float(finite.min()), float(finite.max())
        found.norm_minimum = low if found.norm_minimum is None else min(low, found.norm_minimum)
        found.norm_maximum = high if found.norm_maximum is None else max(high, found.norm_maximum)
        found.zero += int((finite == 0).sum())
    if each.dtype is DType.INT8:
        return
    if len(finite) < len(norms):
        bad = np.flatnonzero(valid)[~np.isfinite(wide).all(axis=1)]
        found.nonfinite += len(bad)
        room = IDS_SHOWN - len(found.nonfinite_ids)
        found.nonfinite_ids += tuple(str(keys[row]) for row in bad[:room].tolist())
    if each.dtype is DType.FLOAT64 and found.fits_float32:
        found.fits_float32 = _fits_float32(wide)
    held_as = None if limits.verbatim else native_dtype(each.dtype, limits)
    if held_as is not None:
        native = replace(each, dtype=held_as)
        odd = vectors.odd_rows(matrix, valid, limits, native)
        placeholders = sum(how == vectors.PLACEHOLDER for how in odd.values())
        found.placeholders += placeholders
        found.cleaned += len(odd) - placeholders


def _fits_float32(matrix: npt.NDArray[np.float64]) -> bool:
    with np.errstate(all="ignore"):
        narrow = matrix.astype(np.float32).astype(np.float64)
    return bool(((narrow == matrix) | (np.isnan(narrow) & np.isnan(matrix))).all())


class _IdCheck:
    """Eight bytes of hash for each key and for each native id: enough to find those that may stand twice."""

    def __init__(self, limits: SinkLimits) -> None:
        self._limits = limits
        self._keys: list[npt.NDArray[np.int64]] = []
        self._natives: list[npt.NDArray[np.int64]] = []

    def take(self, keys: Sequence[RecordKey]) -> int:
        """Note the keys of a batch; returns how many of them the sink keeps under another id."""
        natives = [self.native(key) for key in keys]
        self._keys.append(np.fromiter((hash((key.namespace, key.id)) for key in keys), np.int64, len(keys)))
        self._natives.append(np.fromiter(map(hash, natives), np.int64, len(keys)))
        return sum(native[1] != key.id for native, key in zip(natives, keys, strict=True))

    def native(self, key: RecordKey) -> tuple[str | None, str]:
        if self._limits.verbatim:
            return key.namespace, key.id
        return (key.namespace if self._limits.namespaces else None), native_id(key, self._limits)

    def repeated(self) -> tuple[set[int], set[int]]:
        """Hashes that stand more than once among the keys, and among the native ids."""
        return _repeated(self._keys), _repeated(self._natives)


def _repeated(parts: list[npt.NDArray[np.int64]]) -> set[int]:
    if not parts:
        return set()
    values = np.sort(np.concatenate(parts))
    return set(values[1:][values[1:] == values[:-1]].tolist())


def _repeats(survey: Survey, ids: _IdCheck, source: VectorSource, batch_rows: int) -> None:
    """Equal hashes are looked at once more by name: only equal keys are duplicates, only equal native ids collide."""
    keys_twice, natives_twice = ids.repeated()
    if not keys_twice and not natives_twice:
        return
    seen_keys: dict[RecordKey, int] = {}
    seen_natives: dict[tuple[str | None, str], set[RecordKey]] = {}
    for partition in source.partitions(1):
        for page in source.scan(partition, batch_rows=batch_rows):
            for key in record_keys(page.batch):
                if hash((key.namespace, key.id)) in keys_twice:
                    seen_keys[key] = seen_keys.get(key, 0) + 1
                native = ids.native(key)
                if hash(native) in natives_twice:
                    seen_natives.setdefault(native, set()).add(key)
    doubled = [key for key, times in seen_keys.items() if times > 1]
    survey.duplicates = len(doubled)
    survey.duplicate_ids = tuple(map(str, doubled[:IDS_SHOWN]))
    collided = [key for keys in seen_natives.values() if len(keys) > 1 for key in sorted(keys, key=str)]
    survey.collisions = len(collided)
    survey.collision_ids = tuple(map(str, collided[:IDS_SHOWN]))
