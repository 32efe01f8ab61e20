"""A scan yields every record once, at any page size, from any cursor, in any process, whatever happens to others."""

from __future__ import annotations

import pickle
from itertools import pairwise

import pytest

from exitramp.arrow import record_keys
from exitramp.errors import CollectionMissing
from exitramp.ports import Partition, read_cursor
from exitramp.records import CollectionSpec, RecordKey
from exitramp.testing.child import resumed_keys
from exitramp.testing.conformance.compare import assert_same_keys, assert_same_records
from exitramp.testing.conformance.harness import Feature, StoreHarness, need
from exitramp.testing.conformance.steps import NAME, keys_of, limits_of, opened, origin_of, pages, upsert_rows, write
from exitramp.testing.rows import Row, batch_from_rows, rows_from_batch
from exitramp.testing.within import rows_within, spec_within

FEW = 23


def seed(harness: StoreHarness, count: int = FEW, name: str = NAME) -> tuple[CollectionSpec, list[Row]]:
    """A collection that the raw SDK made."""
    limits = limits_of(harness)
    spec = spec_within(limits, name)
    rows = rows_within(spec, limits, count, seed=21)
    harness.raw_seed(spec.name, spec, rows)
    return spec, rows


class PagingConformance:
    @pytest.mark.parametrize("batch_rows", [1, 7, FEW - 1, FEW, FEW + 1, 10 * FEW])
    def test_paging_loses_and_doubles_nothing(self, harness: StoreHarness, batch_rows: int) -> None:
        _, rows = seed(harness)
        with opened(harness) as store:
            found = keys_of(pages(store.source(), Partition(), batch_rows))
        assert_same_keys([row.key for row in rows], found, f"pages of {batch_rows}")

    def test_paging_at_and_above_the_page_limit_loses_and_doubles_nothing(self, harness: StoreHarness) -> None:
        limits = limits_of(harness)
        most = min(limits.batch_rows, 6000)
        spec = spec_within(limits, NAME, dimensions=8)
        rows = rows_within(spec, limits, most + 37, seed=22)
        write(harness, spec, rows, encoded=False)
        with opened(harness) as store:
            source = store.source()
            assert source.count() == len(rows)
            for batch_rows in (most, most + 1, 4 * most):
                found = keys_of(pages(source, Partition(), batch_rows))
                assert_same_keys([row.key for row in rows], found, f"pages of {batch_rows}")

    @pytest.mark.parametrize("wanted", [1, 2, 5])
    def test_partitions_are_disjoint_and_together_everything(self, harness: StoreHarness, wanted: int) -> None:
        _, rows = seed(harness)
        with opened(harness) as store:
            source = store.source()
            parts = pickle.loads(pickle.dumps(list(source.partitions(wanted))))
            assert 1 <= len(parts) <= wanted, f"{len(parts)} partitions where {wanted} were wanted"
            assert [(part.index, part.of) for part in parts] == [(n, len(parts)) for n in range(len(parts))]
            found = [key for part in parts for key in keys_of(pages(source, part, 7))]
        assert_same_keys([row.key for row in rows], found, f"{len(parts)} partitions")

    def test_a_scan_resumes_after_each_cursor_without_loss_or_repeat(self, harness: StoreHarness) -> None:
        seed(harness)
        with opened(harness) as store:
            for partition in store.source().partitions(2):
                whole = pages(store.source(), partition, 4)
                assert all(read_cursor(page.cursor) is not None for page in whole), "a cursor is versioned"
                for done, page in enumerate(whole, start=1):
                    with opened(harness) as again:
                        rest = keys_of(pages(again.source(), partition, 3, after=page.cursor))
                    assert_same_keys(keys_of(whole[done:]), rest, f"after page {done}")

    def test_a_scan_resumes_after_each_cursor_in_a_new_process(self, harness: StoreHarness) -> None:
        need(harness, Feature.NEW_PROCESS)
        spec, _ = seed(harness)
        with opened(harness) as store:
            partitions = list(store.source().partitions(2))
            wholes = [pages(store.source(), partition, 4) for partition in partitions]
        for partition, whole in zip(partitions, wholes, strict=True):
            rests = resumed_keys(harness.address(spec.name), partition, [page.cursor for page in whole], 3)
            assert len(rests) == len(whole)
            for done, rest in enumerate(rests, start=1):
                assert_same_keys(keys_of(whole[done:]), rest, f"after page {done}, in a new process")

    def test_a_scan_survives_deletes_and_inserts_of_other_records(self, harness: StoreHarness) -> None:
        need(harness, Feature.CHANGES)
        spec, rows = seed(harness, 60)
        limits = limits_of(harness)
        newcomers = rows_within(spec, limits, 90, seed=23)[60:]
        with opened(harness) as store:
            source, sink = store.source(), store.sink()
            sink.create(spec, origin_of(spec))
            scan = source.scan(Partition(), batch_rows=5)
            found = [next(scan), next(scan)]
            seen = set(keys_of(found))
            assert not any(page.last for page in found)
            unseen = [row.key for row in rows if row.key not in seen]
            gone = [*list(seen)[:8], *unseen[::4]]
            sink.delete(gone)
            upsert_rows(sink, spec, newcomers)
            sink.flush()
            found += list(scan)
        assert [page.last for page in found].index(True) == len(found) - 1
        got = keys_of(found)
        doubled = {key for key in got if got.count(key) > 1}
        assert not doubled, f"records were yielded twice: {sorted(map(repr, doubled))[:5]}"
        lost = {row.key for row in rows} - set(gone) - set(got)
        assert not lost, (
            f"{len(lost)} records that were there all the time were not yielded: {sorted(map(repr, lost))[:5]}"
        )
        strange = set(got) - {row.key for row in rows} - {row.key for row in newcomers}
        assert not strange, f"records that never were: {sorted(map(repr, strange))[:5]}"

    def test_records_are_fetched_by_key_and_absent_ones_left_out(self, harness: StoreHarness) -> None:
        spec, rows = seed(harness)
        limits = limits_of(harness)
        absent = rows_within(spec, limits, FEW + 2, seed=21)[FEW:]
        wanted = rows[3:19:3]
        elsewhere = RecordKey(rows[4].id, "of another tenant")
        with opened(harness) as store:
            batch = store.source().fetch([*(row.key for row in [*wanted, *absent]), elsewhere])
            nothing = store.source().fetch([])
            twice = store.source().fetch([wanted[0].key, wanted[0].key])
        assert_same_records(wanted, rows_from_batch(batch, spec), spec, limits, "fetched")
        assert nothing.num_rows == 0
        assert twice.num_rows == 1, "a key that was asked for twice is one record"

    def test_as_many_records_as_the_store_takes_at_once_are_fetched_at_once(self, harness: StoreHarness) -> None:
        """Whoever compares two stores fetches hundreds by key; a request has a limit that nobody outside knows."""
        limits = limits_of(harness)
        spec = spec_within(limits, NAME, dimensions=8)
        rows = rows_within(spec, limits, 1100, seed=24)
        write(harness, spec, rows, encoded=False)
        with opened(harness) as store:
            found = record_keys(store.source().fetch([row.key for row in rows]))
        assert_same_keys([row.key for row in rows], found, "fetched at once")

    def test_a_count_is_of_now(self, harness: StoreHarness) -> None:
        need(harness, Feature.CHANGES)
        spec, rows = seed(harness)
        with opened(harness) as store:
            source, sink = store.source(), store.sink()
            sink.create(spec, origin_of(spec))
            counts = [source.count()]
            sink.delete([rows[0].key, rows[1].key])
            sink.flush()
            counts.append(source.count())
            upsert_rows(sink, spec, rows[:1])
            sink.flush()
            counts.append(source.count())
        assert counts == [FEW, FEW - 2, FEW - 1], f"counted {counts} while records were deleted and written"

    def test_reading_changes_nothing(self, harness: StoreHarness) -> None:
        spec, rows = seed(harness)
        limits = limits_of(harness)
        with opened(harness) as store:
            source = store.source()
            source.identity(), source.describe(), source.origin(), source.count()
            pages(source, Partition(), 5)
        assert_same_records(rows, harness.raw_read(spec.name), spec, limits, "after reading")

    def test_an_empty_collection_is_one_last_page(self, harness: StoreHarness) -> None:
        limits = limits_of(harness)
        spec = spec_within(limits, NAME)
        write(harness, spec, [], encoded=False)
        with opened(harness) as store:
            source = store.source()
            assert source.count() == 0
            for partition in source.partitions(3):
                [page] = pages(source, partition, 10)
                assert (page.batch.num_rows, page.last) == (0, True)
                assert not keys_of(pages(source, partition, 10, after=page.cursor))

    def test_a_missing_collection_is_named_and_not_made_by_looking(self, harness: StoreHarness) -> None:
        missing = spec_within(limits_of(harness), "not-there").name
        with opened(harness, missing) as store:
            source = store.source()
            for look in (
                source.describe,
                source.count,
                lambda: list(source.scan(Partition(), batch_rows=5)),
                lambda: source.fetch([RecordKey("1")]),
            ):
                with pytest.raises(CollectionMissing):
                    look()
        with opened(harness, missing) as store, pytest.raises(CollectionMissing):
            store.source().describe()
        if Feature.RAW_COLLECTIONS not in harness.lacks:
            assert missing not in harness.raw_collections(), "reading made the collection"

    def test_pages_resume_in_the_order_they_came(self, harness: StoreHarness) -> None:
        """Two scans of an unchanged collection agree, or a checkpoint of one would mean something else in the other."""
        seed(harness)
        with opened(harness) as store:
            first = pages(store.source(), Partition(), 5)
        with opened(harness) as store:
            second = pages(store.source(), Partition(), 5)
        assert [record_keys(page.batch) for page in first] == [record_keys(page.batch) for page in second]
        assert len({page.cursor for page in first}) == len(first), "two pages have the same cursor"
        assert all(not set(keys_of([one])) & set(keys_of([two])) for one, two in pairwise(first))

    def test_an_empty_batch_writes_nothing(self, harness: StoreHarness) -> None:
        limits = limits_of(harness)
        spec = spec_within(limits, NAME)
        with opened(harness) as store:
            sink = store.sink()
            sink.create(spec, origin_of(spec))
            sink.upsert(batch_from_rows([], spec))
            sink.flush()
        assert harness.raw_read(spec.name) == []
