"""What a sink declares is what it keeps: just within each limit records come back, beyond it nothing is lost.

What lies beyond is the codec's to keep in another form. What no form helps, too many rows or too large a record, is
refused, by name and before anything of it is written.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest

from exitramp.codec.layout import layout_for
from exitramp.codec.sizes import payload_size_of, size_of
from exitramp.errors import DataInvalid, ExitrampError
from exitramp.ports import NameRule, SinkLimits, TransferAccount, VectorSink
from exitramp.records import CollectionSpec, IdKind, Metric, RecordKey, VectorField, VectorKind
from exitramp.testing.conformance.compare import assert_same_keys, assert_same_records
from exitramp.testing.conformance.harness import Feature, StoreHarness, need_origin
from exitramp.testing.conformance.steps import NAME, limits_of, opened, origin_of, read, refusal, write, writing
from exitramp.testing.edges import id_edges, longest_name, magnitude_edges, payload_edges
from exitramp.testing.rows import NUMPY_TYPE, Row, batch_from_rows
from exitramp.testing.within import combinations, name_within, rows_within, spec_within, text_bytes_within
from exitramp.wrappers.sized import SizedSink

MOST_FIELDS = 8
MOST_DIMENSIONS = 70_000
MOST_ROWS = 20_000


class LimitConformance:
    def test_payload_values_at_the_limits_are_kept_without_the_codec(self, harness: StoreHarness) -> None:
        limits = limits_of(harness)
        spec = spec_within(limits, NAME)
        edges = payload_edges(limits.payload, text_bytes_within(limits))
        rows = [
            replace(row, payload=edge.within, document=None)
            for row, edge in zip(rows_within(spec, limits, len(edges), 1), edges, strict=True)
        ]
        write(harness, spec, rows, encoded=False)
        what = f"of {', '.join(edge.name for edge in edges)}"
        assert_same_records(rows, read(harness, encoded=False).rows, spec, limits, f"{what}, read by the adapter")
        assert_same_records(rows, harness.raw_read(spec.name), spec, limits, f"{what}, read by the raw SDK")

    def test_payload_values_beyond_the_limits_come_back_through_the_codec(self, harness: StoreHarness) -> None:
        limits = limits_of(harness)
        spec = spec_within(limits, NAME)
        edges = [edge for edge in payload_edges(limits.payload, text_bytes_within(limits)) if edge.beyond is not None]
        if not edges:
            pytest.skip("payload: the store declares no limit on values")
        rows = [
            replace(row, payload=edge.beyond, document=None)
            for row, edge in zip(rows_within(spec, limits, len(edges), 2), edges, strict=True)
        ]
        write(harness, spec, rows)
        what = f"beyond {', '.join(edge.name for edge in edges)}"
        assert_same_records(rows, read(harness).rows, spec, limits, what)

    def test_an_id_of_as_many_bytes_as_are_taken_is_the_native_one_and_a_longer_one_comes_back(
        self, harness: StoreHarness
    ) -> None:
        limits = limits_of(harness)
        edges = id_edges(limits)
        if edges is None or IdKind.STRING not in limits.id_kinds:
            pytest.skip("id_bytes: the store declares no limit on the bytes of an id")
        spec = spec_within(limits, NAME, id_kind=IdKind.STRING)
        rows = [replace(row, id=id_) for row, id_ in zip(rows_within(spec, limits, 2, 3), edges, strict=True)]
        write(harness, spec, rows)
        assert_same_records(rows, read(harness).rows, spec, limits, "ids at the limit and beyond")
        assert edges[0] in {row.id for row in harness.raw_read(spec.name)}, "it was not kept as it is"

    def test_the_longest_name_of_a_collection_is_taken(self, harness: StoreHarness) -> None:
        limits = limits_of(harness)
        name = longest_name(limits.names)
        if name is None:
            pytest.skip("names: the store's rule takes no name of plain letters as long as it says")
        spec = spec_within(limits, NAME).renamed(name)
        rows = rows_within(spec, limits, 2, 4)
        write(harness, spec, rows, encoded=False)
        with opened(harness, name) as store:
            assert store.source().describe().name == name
        assert_same_records(rows, harness.raw_read(name), spec, limits, f"the name of {len(name)} characters")

    def test_as_many_vector_fields_as_are_declared_are_held_natively(self, harness: StoreHarness) -> None:
        """Up to eight where any number is; each has the longest name that the rule for fields takes, or a plain one."""
        limits = limits_of(harness)
        if not limits.named_vectors:
            pytest.skip("named_vectors: the store has one field, without a name")
        room = MOST_FIELDS if limits.dense_fields is None else limits.dense_fields
        spec = _with_fields(limits, room)
        rows = rows_within(spec, limits, 3, 5)
        write(harness, spec, rows, encoded=False)
        with opened(harness) as store:
            found = {field.column for field in store.source().describe().vectors}
        assert found == {field.column for field in spec.vectors}
        assert_same_records(rows, read(harness, encoded=False).rows, spec, limits, f"{room} fields")
        assert_same_records(rows, harness.raw_read(spec.name), spec, limits, f"{room} fields, raw")

    def test_a_vector_field_too_many_comes_back_through_the_codec(self, harness: StoreHarness) -> None:
        limits = limits_of(harness)
        need_origin(limits, "it cannot tell which fields the codec keeps")
        room = (limits.dense_fields if limits.named_vectors else 1) or MOST_FIELDS
        plain = spec_within(limits, NAME)
        extra = tuple(replace(plain.vectors[0], name=name) for name in _names(room, limits))
        spec = replace(plain, vectors=(*plain.vectors, *extra))
        rows = rows_within(spec, limits, 3, 6)
        write(harness, spec, rows)
        assert_same_records(rows, read(harness).rows, spec, limits, f"{room + 1} fields")

    def test_vectors_of_as_many_dimensions_as_are_declared_are_kept(self, harness: StoreHarness) -> None:
        limits = limits_of(harness)
        if limits.dimensions is None or limits.dimensions > MOST_DIMENSIONS:
            pytest.skip("dimensions: the store declares no limit that could be tried")
        spec = spec_within(limits, NAME, dimensions=limits.dimensions)
        rows = rows_within(spec, limits, 2, 7)
        write(harness, spec, rows, encoded=False)
        assert_same_records(rows, read(harness, encoded=False).rows, spec, limits, f"{limits.dimensions} dimensions")
        assert_same_records(rows, harness.raw_read(spec.name), spec, limits, f"{limits.dimensions} dimensions, raw")
        self._more_dimensions(harness, limits, limits.dimensions + 1)

    def _more_dimensions(self, harness: StoreHarness, limits: SinkLimits, dimensions: int) -> None:
        """The only field that there is has nowhere else to go, unless the store keeps records without vectors."""
        spec = spec_within(limits, "wider", dimensions=dimensions)
        rows = rows_within(spec, limits, 2, 8)
        before = _listed(harness)
        error = refusal(lambda: write(harness, spec, rows))
        if error is None:
            assert_same_records(rows, read(harness, spec.name).rows, spec, limits, f"{dimensions} dimensions")
            return
        assert isinstance(error, DataInvalid), f"the layout should have refused it: {error}"
        assert _listed(harness) == before, "it was refused, yet a collection was made"

    def test_vectors_at_the_limits_of_magnitude_are_kept_and_those_beyond_come_back(
        self, harness: StoreHarness
    ) -> None:
        limits = limits_of(harness)
        tried = 0
        for dtype, metric in combinations(limits):
            spec, past = (
                spec_within(limits, f"{word}-{dtype.value}-{metric.value}", pair=(dtype, metric))
                for word in ("edge", "past")
            )
            [field] = spec.vectors
            edges = magnitude_edges(field, limits) if NUMPY_TYPE[dtype].kind == "f" else []
            tried += len(edges)
            for made, encoded in ((spec, False), (past, True)):
                rows = [
                    replace(row, vectors={field.column: edge.beyond if encoded else edge.within})
                    for row, edge in zip(rows_within(made, limits, len(edges), 9), edges, strict=True)
                ]
                if rows:
                    write(harness, made, rows, encoded=encoded)
                    what = f"{made.name}: {', '.join(edge.name for edge in edges)}"
                    assert_same_records(rows, read(harness, made.name, encoded=encoded).rows, made, limits, what)
                    if not encoded:
                        assert_same_records(rows, harness.raw_read(made.name), made, limits, f"{what}, raw")
        if not tried:
            pytest.skip("vector_magnitude: the store declares no limit that its types could pass")

    def test_multi_vectors_of_unit_length_are_left_alone_as_declared(self, harness: StoreHarness) -> None:
        limits = limits_of(harness)
        scaled = sorted(limits.normalises)
        if not limits.unit_slack or VectorKind.MULTI not in limits.vector_kinds or not scaled:
            pytest.skip("unit_slack: the store does not declare that it leaves vectors of unit length alone")
        plain = spec_within(limits, NAME)
        dimensions = min(limits.unit_dimensions, 256)
        late = VectorField(
            name_within("late", limits.field_names),
            VectorKind.MULTI,
            plain.vectors[0].dtype,
            Metric(scaled[0]),
            dimensions,
        )
        spec = replace(plain, vectors=(*plain.vectors, late))
        rng = np.random.default_rng(10)
        rows = []
        for row in rows_within(plain, limits, 40, 10):
            wide = rng.standard_normal((3, dimensions))
            unit = (wide / np.linalg.norm(wide, axis=1, keepdims=True)).astype(NUMPY_TYPE[late.dtype])
            away = np.abs(np.linalg.norm(unit.astype(np.float64), axis=1) - 1)
            rows.append(replace(row, vectors={**row.vectors, late.column: unit[away <= limits.unit_slack]}))
        rows = [row for row in rows if len(np.asarray(row.vectors[late.column]))]
        write(harness, spec, rows, encoded=False)
        for got in (read(harness, encoded=False).rows, harness.raw_read(spec.name)):
            found = {row.key: row.vectors[late.column] for row in got}
            for row in rows:
                kept = np.asarray(row.vectors[late.column]).tobytes()
                assert np.asarray(found[row.key]).tobytes() == kept, (
                    f"record {row.key!r}: its unit vectors were changed"
                )

    def test_a_batch_beyond_the_limit_is_taken_whole_or_not_at_all(self, harness: StoreHarness) -> None:
        limits = limits_of(harness)
        if limits.batch_rows > MOST_ROWS:
            pytest.skip(f"batch_rows: {limits.batch_rows} at once are more than are tried")
        spec = spec_within(limits, NAME, dimensions=8)
        rows = rows_within(spec, limits, limits.batch_rows + 1, 11)
        errors: list[ExitrampError | None] = []
        with writing(harness, spec, encoded=False) as sink:
            errors.append(refusal(lambda: sink.upsert(batch_from_rows(rows, spec))))
        [error] = errors
        with opened(harness) as store:
            landed = store.source().count()
        if error is None:
            assert landed == len(rows), f"of {len(rows)} records taken at once, {landed} landed"
            return
        assert not error.retryable, "the same batch will be refused again, so it is not worth another try"
        assert str(limits.batch_rows) in error.message, f"it does not say how many rows are taken: {error.message}"
        assert not landed, f"{landed} records of a batch that was refused are there"

    def test_a_record_as_large_as_declared_is_kept_and_a_larger_one_refused_by_name(
        self, harness: StoreHarness
    ) -> None:
        limits = limits_of(harness)
        most = limits.payload_bytes if limits.record_bytes is None else limits.record_bytes
        if most is None:
            pytest.skip("record_bytes: the store declares no limit on the size of a record")
        spec = replace(spec_within(limits, NAME, dimensions=8), has_documents=True)
        plain = rows_within(spec, limits, 5, 12)
        kept = [*plain[:2], _sized(plain[2], limits, spec, most), *plain[3:]]
        with _writing_sized(harness, spec) as sink:
            sink.upsert(batch_from_rows(kept, spec))
        assert_same_records(kept, read(harness).rows, spec, limits, f"a record of {most} bytes")
        other = replace(spec, name=name_within("larger", limits.names))
        large = [*plain[:2], _sized(plain[2], limits, spec, most + 1), *plain[3:]]
        with _writing_sized(harness, other) as sink:
            error = refusal(lambda: sink.upsert(batch_from_rows(large, other)))
        assert isinstance(error, DataInvalid), f"a record of a byte more was not refused: {error}"
        assert large[2].id in error.message, f"the refusal does not name the record: {error.message}"
        assert harness.raw_read(other.name) == [], "something of a batch that was refused is there"

    def test_as_many_records_as_an_index_needs_are_enough_and_fewer_lose_none(self, harness: StoreHarness) -> None:
        limits = limits_of(harness)
        least = limits.records_least
        if not 1 < least <= MOST_ROWS:
            pytest.skip("records_least: the store declares no number of records that its index needs")
        few = spec_within(limits, "few")
        rows = rows_within(few, limits, least, 13)
        landed: list[RecordKey] = []
        with opened(harness, few.name) as store:
            sink = store.sink()
            sink.create(few, origin_of(few))
            sink.upsert(batch_from_rows(rows[:-1], few))
            sink.flush()
            error = refusal(lambda: sink.finish(TransferAccount()))
            landed = [row.key for row in read(harness, few.name, encoded=False).rows]
        assert error is None or str(least - 1) in error.message, f"it does not say how many there are: {error}"
        assert_same_keys([row.key for row in rows[:-1]], landed, "fewer records than the index needs")
        enough = spec_within(limits, "enough")
        write(harness, enough, rows, encoded=False)
        assert_same_records(rows, harness.raw_read(enough.name), enough, limits, f"{least} records")


@contextmanager
def _writing_sized(harness: StoreHarness, spec: CollectionSpec) -> Iterator[VectorSink]:
    """A sink as everybody above the adapters has it: one that knows how large records are."""
    with opened(harness, spec.name) as store:
        sink = SizedSink(store.sink())
        sink.create(spec, origin_of(spec))
        yield sink
        sink.flush()
        sink.finish(TransferAccount())


def _with_fields(limits: SinkLimits, count: int) -> CollectionSpec:
    plain = spec_within(limits, NAME)
    longest = longest_name(limits.field_names)
    names = _names(count, limits)
    if longest is not None and len(longest) <= 300:
        names[0] = longest
    return replace(plain, vectors=tuple(replace(plain.vectors[0], name=name) for name in names))


def _names(count: int, limits: SinkLimits) -> list[str]:
    """Different names for vector fields, as the store takes them if it takes any."""
    rule = limits.field_names if limits.named_vectors else NameRule()
    letters = "abcdefghijklmnopqrstuvwxyz"
    return [name_within(f"field{letters[number // 26]}{letters[number % 26]}", rule) for number in range(count)]


def _sized(row: Row, limits: SinkLimits, spec: CollectionSpec, size: int) -> Row:
    """The record with a document, or a text in its payload, that makes it, or its payload, just as large as that."""
    layout = layout_for(spec, limits)
    if limits.record_bytes is None:
        row = replace(row, payload={"text": "x"})
        now = payload_size_of(batch_from_rows([row], spec), layout, limits)
        return replace(row, payload={"text": "x" * (1 + size - now)})
    row = replace(row, document="x")
    now = size_of(batch_from_rows([row], spec), layout, limits)
    return replace(row, document="x" * (1 + size - now))


def _listed(harness: StoreHarness) -> list[str]:
    return [] if Feature.RAW_COLLECTIONS in harness.lacks else sorted(harness.raw_collections())
