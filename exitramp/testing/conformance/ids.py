"""Ids come back as they were, whatever they look like, and records in different namespaces stay apart."""

from __future__ import annotations

from dataclasses import replace

from exitramp.codec.ids import fits_text
from exitramp.records import IdKind, RecordKey
from exitramp.testing.conformance.compare import assert_same_keys, assert_same_records
from exitramp.testing.conformance.harness import Feature, StoreHarness, need
from exitramp.testing.conformance.steps import NAME, decoding_source, limits_of, opened, read, write, writing
from exitramp.testing.data import hard_ids
from exitramp.testing.rows import rows_from_batch
from exitramp.testing.within import rows_within, spec_within


class IdConformance:
    def test_every_id_kind_the_store_takes_comes_back_without_the_codec(self, harness: StoreHarness) -> None:
        limits = limits_of(harness)
        for kind in sorted(limits.id_kinds):
            spec = spec_within(limits, f"ids-{kind.value}", id_kind=kind)
            ids = [id_ for id_ in hard_ids(kind, 60) if kind is not IdKind.STRING or fits_text(id_, limits)]
            rows = [replace(row, id=id_) for row, id_ in zip(rows_within(spec, limits, len(ids), 1), ids, strict=True)]
            write(harness, spec, rows, encoded=False)
            assert_same_records(rows, read(harness, spec.name, encoded=False).rows, spec, limits, f"{kind.value} ids")
            assert_same_keys(
                [row.key for row in rows], [row.key for row in harness.raw_read(spec.name)], f"{kind.value} ids, raw"
            )

    def test_every_id_kind_comes_back_through_the_codec(self, harness: StoreHarness) -> None:
        limits = limits_of(harness)
        for kind in IdKind:
            spec = replace(spec_within(limits, f"coded-{kind.value}"), id_kind=kind)
            ids = hard_ids(kind, 80)
            rows = [replace(row, id=id_) for row, id_ in zip(rows_within(spec, limits, len(ids), 2), ids, strict=True)]
            write(harness, spec, rows)
            reading = read(harness, spec.name)
            assert_same_records(rows, reading.rows, spec, limits, f"{kind.value} ids")
            if limits.keeps_origin:
                assert reading.spec.id_kind is kind, f"ids of kind {kind.value} came back as {reading.spec.id_kind}"

    def test_ids_that_look_alike_are_different_records(self, harness: StoreHarness) -> None:
        limits = limits_of(harness)
        spec = replace(spec_within(limits, NAME), id_kind=IdKind.STRING)
        alike = ["7", "007", "+7", "7.0", " 7", "7 ", "٧", "a", "A", "é", "e\u0301", "ß", "ss", "SS"]
        rows = [replace(row, id=id_) for row, id_ in zip(rows_within(spec, limits, 14, 3), alike, strict=True)]
        write(harness, spec, rows)
        assert_same_records(rows, read(harness).rows, spec, limits, "ids that look alike")

    def test_records_are_fetched_by_their_own_ids_through_the_codec(self, harness: StoreHarness) -> None:
        limits = limits_of(harness)
        spec = replace(spec_within(limits, NAME), id_kind=IdKind.STRING, has_namespaces=True)
        ids = hard_ids(IdKind.STRING, 60)
        spaces = (None, "", "tenant-a")
        rows = [
            replace(row, id=id_, namespace=spaces[place % 3])
            for place, (row, id_) in enumerate(zip(rows_within(spec, limits, len(ids), 6), ids, strict=True))
        ]
        write(harness, spec, rows)
        absent = [RecordKey("never there"), RecordKey(ids[0], "of another tenant"), RecordKey("9" * 18)]
        with opened(harness) as store:
            source = decoding_source(store)
            described = source.describe()
            batch = source.fetch([*(row.key for row in rows[1::2]), *absent])
            assert source.fetch(absent).num_rows == 0, "records were fetched that are not there"
        assert_same_records(rows[1::2], rows_from_batch(batch, described), spec, limits, "fetched")

    def test_one_id_in_several_namespaces_is_several_records(self, harness: StoreHarness) -> None:
        limits = limits_of(harness)
        spec = replace(spec_within(limits, NAME), has_namespaces=True)
        spaces = (None, "", "tenant-a", "tenant-b", "mandant ü/#?")
        plain = rows_within(spec, limits, len(spaces), 4)
        rows = [replace(row, id=plain[0].id, namespace=space) for row, space in zip(plain, spaces, strict=True)]
        write(harness, spec, rows)
        assert_same_records(rows, read(harness).rows, spec, limits, "one id in several namespaces")

    def test_deleting_in_one_namespace_leaves_the_same_id_in_others(self, harness: StoreHarness) -> None:
        need(harness, Feature.CHANGES)
        limits = limits_of(harness)
        spec = replace(spec_within(limits, NAME), has_namespaces=True)
        plain = rows_within(spec, limits, 3, 5)
        rows = [replace(row, id="7", namespace=space) for row, space in zip(plain, "abc", strict=True)]
        write(harness, spec, rows)
        with writing(harness, spec) as sink:
            sink.delete([RecordKey("7", "b")])
        assert_same_keys([rows[0].key, rows[2].key], [row.key for row in read(harness).rows], "after the deletion")
