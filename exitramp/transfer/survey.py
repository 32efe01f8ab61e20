"""One complete read of a source that measures what the plan must know about a given sink."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from exitramp import canonical
from exitramp.arrow import dense_matrix, record_keys
from exitramp.clock import Clock, SystemClock
from exitramp.codec import FieldLayout, Layout, ragged
from exitramp.codec.ids import native_id
from exitramp.codec.kept import keeps_all_json
from exitramp.codec.layout import layout_for
from exitramp.codec.marker import MARKER_KEY
from exitramp.codec.odd import ABSENT, CLEANED, NEAR, PLACEHOLDER, judge
from exitramp.codec.payload import other_forms, project_key
from exitramp.codec.sizes import Excess, rows_over
from exitramp.errors import DataInvalid, StoreProtocolError
from exitramp.ports import TAGGED_TYPES, SinkLimits, VectorSource
from exitramp.ports.collection_metadata import OwnMetadata, own_metadata
from exitramp.records import CollectionSpec, DType, Metric, RecordKey, VectorField, VectorKind

IDS_SHOWN = 20
_TAGGED = TAGGED_TYPES - {"int", "key"}


@dataclass(slots=True)
class KeySurvey:
    """One top-level payload key: rows that have it, and values the sink would not keep natively as they are.

    `changed` are kept ones that other readers find in another form, and `forms` in which: see `other_forms`.
    """

    rows: int = 0
    encoded: int = 0
    changed: int = 0
    forms: set[tuple[str, str]] = field(default_factory=set)


@dataclass(slots=True)
class VectorSurvey:
    """One vector field. `placeholders`, `absent` and `kept` are records whose vector goes into the marker, with a
    placeholder, nothing, or nearly itself standing natively; `unfound` of the absent ones a search could have found.

    Of the other dense vectors: `exact` whether the sink's dtype holds every number, and the least and the greatest
    length of those that a sink scales, zeros left out.
    """

    rows: int = 0
    null: int = 0
    zero: int = 0
    nonfinite: int = 0
    nonfinite_ids: tuple[str, ...] = ()
    exact: bool = True
    norm_minimum: float | None = None
    norm_maximum: float | None = None
    placeholders: int = 0
    absent: int = 0
    unfound: int = 0
    kept: int = 0


@dataclass(slots=True)
class Survey:
    """What was measured, and the layout it was measured for; `seconds` and `pages` are those of the read itself.

    `too_large` are the records that the sink would not take, for their size, and `excesses` the largest of those, by
    what of them is: the `payload`, or the whole `record`. `metadata` is what the source's user wrote down of the
    collection itself.
    """

    layout: Layout
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
    too_large: int = 0
    too_large_ids: tuple[str, ...] = ()
    excesses: dict[str, Excess] = field(default_factory=dict)
    metadata: OwnMetadata = field(default_factory=dict)

    @property
    def spec(self) -> CollectionSpec:
        """The collection as its source describes it."""
        return self.layout.original


def survey_source(
    source: VectorSource,
    limits: SinkLimits,
    *,
    batch_rows: int,
    name: str | None = None,
    metrics: Mapping[str, Metric] | None = None,
    progress: Callable[[int], None] = lambda rows: None,
    clock: Clock | None = None,
) -> Survey:
    """Read all of `source` once and measure it against `limits`. Memory grows by 16 bytes a record, no more.

    `name` and `metrics` are those of `lay_out`. Raises `DataInvalid` for a collection that cannot be laid out at all
    (before anything is read), and naming the record for a payload that nothing could be done with.
    """
    clock = clock or SystemClock()
    started = clock.monotonic()
    spec = source.describe()
    survey = Survey(
        layout_for(spec, limits, name=name, metrics=metrics),
        vectors={each.column: VectorSurvey() for each in spec.vectors},
        metadata=own_metadata(spec, source.origin()),
    )
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
    _measure_payloads(batch.column("payload").to_pylist(), survey, limits, keys)
    _measure_sizes(batch, survey, limits, keys)
    for each in survey.layout.fields:
        column = batch.column(each.original.column)
        _measure_vectors(column, each, survey.vectors[each.original.column], limits, keys)


def _measure_payloads(
    texts: Sequence[str | None], survey: Survey, limits: SinkLimits, keys: Sequence[RecordKey]
) -> None:
    simple = limits.verbatim or keeps_all_json(limits.payload)
    kept = limits.payload
    # What JSON has a type for stands as it is, unless the sink puts that apart or makes a text of it.
    always = not _TAGGED.issuperset(kept.apart_types | kept.text_types)
    ever = always or bool(kept.tagged_types or kept.tagged_items or kept.apart_types or kept.text_types)
    for text, key in zip(texts, keys, strict=True):
        if text is None or text == "{}":
            comes_back = kept.absent_payload if text is None else kept.empty_payload
            survey.payloads_encoded += not (comes_back or limits.verbatim)
            continue
        tagged = canonical.TAG_PREFIX in text
        for name, value in _decoded(text, key).items():
            found = survey.payload_keys.setdefault(name, KeySurvey())
            found.rows += 1
            if simple and (limits.verbatim or not tagged):
                encoded = name == MARKER_KEY and not limits.verbatim
            else:
                encoded = project_key(name, value, kept).kept != "exact"
            found.encoded += encoded
            if ever and (tagged or always) and not encoded and (forms := other_forms(name, value, kept)):
                found.changed += 1
                found.forms |= forms


def _decoded(text: str, key: RecordKey) -> dict[str, Any]:
    try:
        payload = canonical.loads(text)
    except (DataInvalid, RecursionError) as error:
        raise DataInvalid(
            f"the payload of record '{key}' cannot be read: it is no JSON, or nested too deep",
            hint="mend it at its source; nothing was written",
        ) from error
    if not isinstance(payload, dict):
        raise DataInvalid(
            f"the payload of record '{key}' is no JSON object", hint="mend it at its source; nothing was written"
        )
    return payload


def _measure_sizes(batch: pa.RecordBatch, survey: Survey, limits: SinkLimits, keys: Sequence[RecordKey]) -> None:
    over = rows_over(batch, survey.layout, limits)
    survey.too_large += len(over)
    for each in over.values():
        largest = survey.excesses.get(each.what)
        survey.excesses[each.what] = each if largest is None or each.size > largest.size else largest
    survey.too_large_ids += tuple(str(keys[row]) for row in over)[: IDS_SHOWN - len(survey.too_large_ids)]


def _measure_vectors(
    column: pa.Array, each: FieldLayout, found: VectorSurvey, limits: SinkLimits, keys: Sequence[RecordKey]
) -> None:
    found.rows += len(column) - column.null_count
    found.null += column.null_count
    if column.null_count == len(column):
        return
    if each.original.dtype not in {DType.BINARY, DType.INT8}:
        _count_unusual(column, each.original, found, keys)
    if each.native is None or limits.verbatim:
        return
    odd = judge(column, each.original, each.native, limits, measure=True)
    hows = Counter(odd.rows.values())
    found.placeholders += hows[PLACEHOLDER]
    found.absent += hows[ABSENT]
    found.unfound += odd.unfound
    found.kept += hows[CLEANED] + hows[NEAR]
    found.exact = found.exact and odd.exact
    if odd.norm_minimum is not None and odd.norm_maximum is not None:
        low, high = found.norm_minimum, found.norm_maximum
        found.norm_minimum = odd.norm_minimum if low is None else min(low, odd.norm_minimum)
        found.norm_maximum = odd.norm_maximum if high is None else max(high, odd.norm_maximum)


def _count_unusual(column: pa.Array, each: VectorField, found: VectorSurvey, keys: Sequence[RecordKey]) -> None:
    """What a reader should know of the vectors wherever they go: those that are all zero, or not finite."""
    if each.kind is VectorKind.DENSE:
        matrix = dense_matrix(column)
        places = np.arange(len(column))
        there = np.asarray(column.is_valid())
        found.zero += int((there & (matrix == 0).all(axis=1)).sum())
        finite = np.isfinite(matrix).all(axis=1)
    else:
        values = ragged.read(column, each)
        places, there = values.rows, np.ones(len(values.rows), np.bool_)
        finite = np.isfinite(values.numbers)
        if values.indices is None:
            finite = finite.all(axis=1)
    if finite.all():
        return
    bad = np.unique(places[there & ~finite])
    found.nonfinite += len(bad)
    room = IDS_SHOWN - len(found.nonfinite_ids)
    found.nonfinite_ids += tuple(str(keys[row]) for row in bad[:room].tolist())


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
