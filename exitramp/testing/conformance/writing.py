"""Writing replaces whole records, once; creating is repeatable; what the sink says of itself is so."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from exitramp.codec import EncodingSink
from exitramp.errors import CollectionExists
from exitramp.records import EmbeddingModel, IdKind, RecordKey
from exitramp.testing.conformance.compare import assert_same_keys, assert_same_records
from exitramp.testing.conformance.harness import Feature, StoreHarness, need, need_origin
from exitramp.testing.conformance.steps import (
    NAME,
    decoding_source,
    limits_of,
    opened,
    origin_of,
    read,
    upsert_rows,
    write,
    writing,
)
from exitramp.testing.data import hard_records
from exitramp.testing.hard_values import hard_payloads
from exitramp.testing.rows import Row, batch_from_rows, rows_from_batch
from exitramp.testing.within import combinations, rows_within, spec_within, text_bytes_within, wide_spec

OLD = "of-the-old-record"


class WritingConformance:
    def test_an_upsert_replaces_the_whole_record(self, harness: StoreHarness) -> None:
        need(harness, Feature.CHANGES)
        limits = limits_of(harness)
        spec = spec_within(limits, NAME)
        plain = rows_within(spec, limits, 5, 1)
        old = [_marked_old(row, natively="string" in limits.payload.types) for row in plain]
        fewer = {"kept": "new"} if "string" in limits.payload.types else None
        nothing = None if limits.payload.absent_payload else {} if limits.payload.empty_payload else fewer
        new = [
            replace(plain[0], payload=fewer, document=None),
            replace(plain[1], payload=nothing, document=None),
            replace(plain[2], payload=fewer),
            replace(plain[3], document=None, vectors=plain[0].vectors),
            plain[4],
        ]
        write(harness, spec, old, encoded=False)
        write(harness, spec, new, encoded=False)
        assert_same_records(new, read(harness, encoded=False).rows, spec, limits, "read by the adapter")
        raw = harness.raw_read(spec.name)
        _assert_nothing_old(raw)
        assert_same_records(new, raw, spec, limits, "read by the raw SDK")

    def test_an_upsert_through_the_codec_keeps_nothing_of_the_old(self, harness: StoreHarness) -> None:
        need(harness, Feature.CHANGES)
        limits = limits_of(harness)
        plain_spec = replace(spec_within(limits, NAME), has_documents=True)
        spec = replace(wide_spec(limits, NAME), has_namespaces=limits.namespaces) if limits.keeps_origin else plain_spec
        plain = rows_within(plain_spec, limits, 5, 2)
        [batch] = hard_records(spec, len(plain), seed=2)
        many = [row.vectors for row in rows_from_batch(batch, spec)]
        odd: dict[str, Any] = {
            "nothing": None,
            "list": [],
            "ratio": 0.1 + 0.2,
            "nested": {"was": OLD},
            "text": OLD,
            "_exitramp": OLD,
        }
        old = [
            replace(row, payload=odd, document=f"document {OLD}", vectors=vectors)
            for row, vectors in zip(plain, many, strict=True)
        ]
        new = [
            replace(plain[0], payload={}, document=None),
            replace(plain[1], payload=None, document=None),
            replace(plain[2], payload={"text": "new"}),
            replace(plain[3], payload={"nested": {}}, document="", vectors={}),
            plain[4],
        ]
        write(harness, spec, old)
        assert_same_records(old, read(harness).rows, spec, limits, "before")
        write(harness, spec, new)
        assert_same_records(new, read(harness).rows, spec, limits, "after")
        _assert_nothing_old(harness.raw_read(spec.name))

    def test_writing_a_record_again_doubles_nothing(self, harness: StoreHarness) -> None:
        limits = limits_of(harness)
        spec = spec_within(limits, NAME)
        rows = rows_within(spec, limits, 9, 3)
        with writing(harness, spec, encoded=False) as sink:
            upsert_rows(sink, spec, rows)
            upsert_rows(sink, spec, rows[4:])
            sink.flush()
            upsert_rows(sink, spec, rows[:4])
        with opened(harness) as store:
            assert store.source().count() == len(rows)
        assert_same_records(rows, harness.raw_read(spec.name), spec, limits, "written twice")

    def test_the_last_of_several_writes_before_a_flush_wins(self, harness: StoreHarness) -> None:
        limits = limits_of(harness)
        spec = spec_within(limits, NAME)
        first, second = rows_within(spec, limits, 4, 4), rows_within(spec, limits, 4, 5)
        with writing(harness, spec, encoded=False) as sink:
            upsert_rows(sink, spec, first)
            upsert_rows(sink, spec, [replace(row, id=old.id) for row, old in zip(second, first, strict=True)])
        expected = [replace(row, id=old.id) for row, old in zip(second, first, strict=True)]
        assert_same_records(expected, harness.raw_read(spec.name), spec, limits, "the later write")

    def test_deleted_records_are_gone_and_absent_ones_ignored(self, harness: StoreHarness) -> None:
        need(harness, Feature.CHANGES)
        limits = limits_of(harness)
        spec = spec_within(limits, NAME)
        rows = rows_within(spec, limits, 12, 6)
        absent = [row.key for row in rows_within(spec, limits, 15, 6)[12:]]
        write(harness, spec, rows[:10], encoded=False)
        with writing(harness, spec, encoded=False) as sink:
            sink.delete([])
            sink.delete([rows[0].key, *absent, rows[3].key])
            sink.delete(absent)
            sink.upsert(batch_from_rows(rows[10:], spec))
            sink.delete([rows[10].key])
        left = [row for place, row in enumerate(rows) if place not in (0, 3, 10)]
        assert_same_records(left, harness.raw_read(spec.name), spec, limits, "after deleting")
        with opened(harness) as store:
            assert store.source().count() == len(left)
        with writing(harness, spec, encoded=False) as sink:
            upsert_rows(sink, spec, [rows[0]])
        assert_same_keys([rows[0].key, *(row.key for row in left)], [row.key for row in read(harness).rows], "again")

    def test_records_are_deleted_through_the_codec_by_their_own_ids(self, harness: StoreHarness) -> None:
        need(harness, Feature.CHANGES)
        limits = limits_of(harness)
        spec = replace(spec_within(limits, NAME), id_kind=IdKind.STRING)
        rows = [
            replace(row, id=id_)
            for row, id_ in zip(rows_within(spec, limits, 6, 7), ("7", "007", "x" * 300, "é", "a/b", "🚀"), strict=True)
        ]
        write(harness, spec, rows)
        with writing(harness, spec) as sink:
            sink.delete([row.key for row in rows[::2]] + [RecordKey("never there")])
        assert_same_records(rows[1::2], read(harness).rows, spec, limits, "after deleting")

    def test_any_history_of_writes_and_deletions_ends_as_a_plain_dictionary_would(self, harness: StoreHarness) -> None:
        """Seeded: upserts and deletions overlap before and after flushes, and the store is opened anew in between."""
        need(harness, Feature.CHANGES)
        limits = limits_of(harness)
        spec = replace(spec_within(limits, NAME), has_documents=True)
        rng = random.Random(2718)
        pool = [rows_within(spec, limits, 14, seed=version) for version in range(4)]
        payloads = list(hard_payloads(text_bytes_within(limits)).values())
        model: dict[RecordKey, Row] = {}
        for chapter in range(4):
            with writing(harness, spec) as sink:
                for _ in range(8):
                    places = rng.sample(range(14), rng.randint(1, 6))
                    match rng.choice(("upsert", "upsert", "upsert", "delete", "flush")):
                        case "upsert":
                            rows = [replace(rng.choice(pool)[place], payload=rng.choice(payloads)) for place in places]
                            rows = [replace(row, id=pool[0][place].id) for row, place in zip(rows, places, strict=True)]
                            upsert_rows(sink, spec, rows)
                            model |= {row.key: row for row in rows}
                        case "delete":
                            gone = [pool[0][place].key for place in places]
                            sink.delete(gone)
                            model = {key: row for key, row in model.items() if key not in gone}
                        case _:
                            sink.flush()
            found = read(harness).rows
            assert_same_records(list(model.values()), found, spec, limits, f"after chapter {chapter} of seed 2718")

    def test_what_was_flushed_is_there_before_the_end(self, harness: StoreHarness) -> None:
        """Checkpoints advance at a flush: what is only written at the end would be missing from a resumed transfer."""
        limits = limits_of(harness)
        spec = spec_within(limits, NAME)
        rows = rows_within(spec, limits, 8, 13)
        with opened(harness) as store:
            sink = store.sink()
            sink.create(spec, origin_of(spec))
            upsert_rows(sink, spec, rows[:5])
            sink.flush()
            seen = read(harness, encoded=False).rows
            upsert_rows(sink, spec, rows[5:])
            sink.flush()
        assert_same_keys([row.key for row in rows[:5]], [row.key for row in seen], "after the first flush")
        assert_same_records(rows, harness.raw_read(spec.name), spec, limits, "after the last flush")

    def test_collections_of_one_store_stay_apart(self, harness: StoreHarness) -> None:
        limits = limits_of(harness)
        specs = [spec_within(limits, name) for name in ("first-one", "second-one")]
        rows = [rows_within(spec, limits, 6, seed) for seed, spec in enumerate(specs, start=14)]
        for spec, held in zip(specs, rows, strict=True):
            with opened(harness, spec.name) as store:
                sink = store.sink()
                sink.create(spec, origin_of(replace(spec, name=f"once {spec.name}")))
                upsert_rows(sink, spec, held)
                sink.flush()
        if Feature.CHANGES not in harness.lacks:
            with opened(harness, specs[0].name) as store:
                store.sink().create(specs[0], origin_of(specs[0]))
                sink = store.sink()
                sink.delete([row.key for row in rows[0][:4]])
                sink.flush()
            rows[0] = rows[0][4:]
        for spec, held in zip(specs, rows, strict=True):
            assert_same_records(held, harness.raw_read(spec.name), spec, limits, spec.name)
            with opened(harness, spec.name) as store:
                origin = store.source().origin()
                assert store.source().count() == len(held), f"{spec.name}: other records were counted too"
            if limits.keeps_origin:
                assert origin is not None, f"{spec.name} has forgotten its origin"
                assert origin.spec.name == f"once {spec.name}", f"{spec.name} has the origin of {origin.spec.name!r}"

    def test_a_batch_of_the_limit_is_taken_at_once(self, harness: StoreHarness) -> None:
        limits = limits_of(harness)
        spec = spec_within(limits, NAME, dimensions=8)
        rows = rows_within(spec, limits, min(limits.batch_rows, 6000), 8)
        with writing(harness, spec, encoded=False) as sink:
            sink.upsert(batch_from_rows(rows, spec))
        with opened(harness) as store:
            landed = store.source().count()
        assert landed == len(rows), f"of {len(rows)} records written at once, {landed} landed"

    def test_creating_again_keeps_what_is_there(self, harness: StoreHarness) -> None:
        need(harness, Feature.CHANGES)
        limits = limits_of(harness)
        spec = spec_within(limits, NAME)
        rows = rows_within(spec, limits, 8, 9)
        write(harness, spec, rows[:5], encoded=False)
        write(harness, spec, rows[5:], encoded=False)
        assert_same_records(rows, harness.raw_read(spec.name), spec, limits, "created twice")

    def test_creating_with_other_fields_is_refused_and_changes_nothing(self, harness: StoreHarness) -> None:
        limits = limits_of(harness)
        spec = spec_within(limits, NAME)
        rows = rows_within(spec, limits, 3, 10)
        write(harness, spec, rows, encoded=False)
        others = [spec_within(limits, NAME, dimensions=24)]
        [field] = spec.vectors
        others += [
            spec_within(limits, NAME, pair=pair) for pair in combinations(limits) if pair != (field.dtype, field.metric)
        ]
        for other in others:
            with opened(harness) as store, pytest.raises(CollectionExists) as caught:
                store.sink().create(other, origin_of(other))
                pytest.fail(f"{other.vectors[0]} was accepted although the collection has {field}")
            assert caught.value.hint, f"it does not say what to do next: {caught.value.message}"
        assert_same_records(rows, harness.raw_read(spec.name), spec, limits, "after the refusals")

    def test_what_was_created_is_what_is_described(self, harness: StoreHarness) -> None:
        """Metric fidelity: no metric of the limits may come back as another, and none may become a default."""
        limits = limits_of(harness)
        for dtype, metric in combinations(limits):
            spec = spec_within(limits, f"described-{dtype.value}-{metric.value}", pair=(dtype, metric))
            write(harness, spec, rows_within(spec, limits, 2, 11), encoded=False)
            with opened(harness, spec.name) as store:
                found = store.source().describe()
            assert found.name == spec.name
            wanted = [(field.column, field.dtype, field.metric, field.dimensions) for field in spec.vectors]
            got = [(field.column, field.dtype, field.metric, field.dimensions) for field in found.vectors]
            assert got == wanted, f"created with {wanted}, described as {got}"

    def test_a_raw_collection_is_described_as_it_was_made(self, harness: StoreHarness) -> None:
        limits = limits_of(harness)
        for dtype, metric in combinations(limits):
            spec = spec_within(limits, f"raw-{dtype.value}-{metric.value}", pair=(dtype, metric))
            harness.raw_seed(spec.name, spec, rows_within(spec, limits, 2, 12))
            with opened(harness, spec.name) as store:
                source = store.source()
                [field] = source.describe().vectors
                assert source.origin() is None, "nobody told this collection where it comes from"
            assert (field.metric, field.dtype, field.dimensions) == (metric, dtype, spec.vectors[0].dimensions)

    def test_the_origin_comes_back(self, harness: StoreHarness) -> None:
        limits = limits_of(harness)
        need_origin(limits, "it cannot give it back")
        model = EmbeddingModel("local", "größer 'v1'", "sha256:00ff", "query: ", "", "mean", "none", "512")
        wide = wide_spec(limits, NAME)
        vectors = (replace(wide.vectors[0], model=model), *wide.vectors[1:])
        spec = replace(wide, vectors=vectors, index={"ef": [1, None]})
        origin = origin_of(replace(spec, name="its first name 🚀"))
        with opened(harness) as store:
            sink = EncodingSink(store.sink())
            sink.create(spec, origin)
            sink.flush()
        with opened(harness) as store:
            found = store.source().origin()
            assert found is not None, "keeps_origin is declared, and there is no origin"
            # The codec adds under which names the sink holds the fields.
            told = replace(origin, fields=found.fields)
            assert found == told, f"keeps_origin is declared; told {origin}, it says {found}"
            described = decoding_source(store).describe()
        assert described.vectors[0].model == model
        assert {field.column for field in described.vectors} == {field.column for field in spec.vectors}
        assert (described.has_documents, described.has_namespaces) == (True, True)

    def test_limits_are_the_same_on_every_call_and_make_sense(self, harness: StoreHarness) -> None:
        with opened(harness) as store:
            limits = store.sink().limits()
            assert store.sink().limits() == limits
        with opened(harness) as store:
            assert store.sink().limits() == limits
        assert limits.id_kinds
        assert limits.batch_rows > 0
        assert combinations(limits), "no dtype and metric that go together"
        assert limits.normalises <= limits.metrics
        assert limits.rounds <= limits.metrics
        assert not limits.normalises & limits.rounds, "a metric is either normalised or rounded"
        assert limits.unnamed_vector or limits.named_vectors
        kept = limits.payload
        assert kept.item_types <= kept.types | {"list", "object"}
        assert kept.tagged_types | kept.text_types | kept.apart_types <= kept.types | {"key"}, "of kept values only"
        assert kept.tagged_items <= kept.item_types | {"key"}, "of kept values only"


def _marked_old(row: Row, *, natively: bool) -> Row:
    """The row with traces that must vanish with it."""
    payload = None if row.payload is None else dict(row.payload)
    if natively:
        payload = (payload or {}) | {"gone": OLD, "kept": OLD}
    return replace(row, payload=payload, document=None if row.document is None else f"{row.document} {OLD}")


def _assert_nothing_old(raw: Sequence[Row]) -> None:
    left = [row.id for row in raw if OLD in repr((row.document, row.payload))]
    assert not left, f"records keep something of what they were before: {left}"
