"""Collection names: those within the declared rule work, others are mapped or refused before anything is written."""

from __future__ import annotations

import pytest

from exitramp.codec.ids import native_name
from exitramp.errors import DataInvalid
from exitramp.ports import NameRule, TransferAccount
from exitramp.testing.conformance.compare import assert_same_records
from exitramp.testing.conformance.harness import Feature, StoreHarness
from exitramp.testing.conformance.steps import (
    NAME,
    limits_of,
    opened,
    origin_of,
    read,
    refusal,
    upsert_rows,
    write,
)
from exitramp.testing.within import name_within, rows_within, spec_within
from exitramp.urls import Address

HARD_NAMES = (
    *("a", "ab", "UPPER", "with space", " lead", "trail ", "dots.in.it", "..", "-dash", "_under", "under_", "1digit"),
    *("größer", "日本語", "🚀", "a/b", "a\\b", "a#b", "a?b", "a%20b", "quote'd", 'quote"d', "semi;colon", "127.0.0.1"),
    *("select", "n" * 63, "n" * 64, "n" * 255, "n" * 256, "n" * 600, "ü" * 200),
)
AT_MOST = 18


class NameConformance:
    def test_names_that_the_store_does_not_take_are_mapped_to_different_ones(self, harness: StoreHarness) -> None:
        limits = limits_of(harness)
        mapped = _mapped(limits.names)
        assert len(set(mapped.values())) == len(mapped), "two collections would be mapped to one"
        inside = [native for name, native in mapped.items() if native == name]
        outside = [native for name, native in mapped.items() if native != name]
        # A store that takes every name need not make them all: each costs a real server a quarter of a second.
        made = [*outside[::2], *inside[: AT_MOST - len(outside[::2])]]
        for native in made:
            spec = spec_within(limits, NAME).renamed(native)
            rows = rows_within(spec, limits, 2, 1)
            write(harness, spec, rows, encoded=False)
            with opened(harness, native) as store:
                assert store.source().describe().name == native
            what = f"the name {native!r}"
            assert_same_records(rows, read(harness, native, encoded=False).rows, spec, limits, what)
        if Feature.RAW_COLLECTIONS not in harness.lacks:
            listed = harness.raw_collections()
            assert sorted(listed) == sorted(made), "the raw SDK lists other collections than were made"

    def test_a_name_outside_the_rule_is_refused_before_anything_is_written(self, harness: StoreHarness) -> None:
        """Whoever asks for it all the same gets the collection whole or an error, never one of another name."""
        limits = limits_of(harness)
        mapped = _mapped(limits.names)
        outside = [name for name in HARD_NAMES if mapped.get(name) != name]
        for name in outside[1::2]:
            spec = spec_within(limits, NAME).renamed(name)
            rows = rows_within(spec, limits, 2, 2)
            before = _listed(harness)
            error = refusal(lambda: write(harness, spec, rows, encoded=False))  # noqa: B023
            if error is None:
                what = f"the name {name!r}, which the rule does not allow"
                assert_same_records(rows, read(harness, name, encoded=False).rows, spec, limits, what)
                continue
            assert not error.retryable, f"the name {name!r} will be refused again, so it is not worth another try"
            assert _listed(harness) == before, f"the name {name!r} was refused, yet a collection was made"

    def test_a_collection_is_made_under_the_addresss_name_whatever_it_was_called(self, harness: StoreHarness) -> None:
        limits = limits_of(harness)
        spec = spec_within(limits, NAME)
        rows = rows_within(spec, limits, 2, 3)
        if Address.parse(harness.address(spec.name)).collection is None:
            pytest.skip("address: it names a place and no collection, which keeps the name that it came with")
        with opened(harness, spec.name) as store:
            sink = store.sink()
            sink.create(spec.renamed(name_within("elsewhere", limits.names)), origin_of(spec))
            upsert_rows(sink, spec, rows)
            sink.flush()
            sink.finish(TransferAccount())
        found = read(harness, spec.name, encoded=False)
        assert found.spec.name == spec.name
        assert_same_records(rows, found.rows, spec, limits, "a collection that was called something else")
        if Feature.RAW_COLLECTIONS not in harness.lacks:
            assert harness.raw_collections() == [spec.name]

    def test_the_rule_for_names_has_room_for_ordinary_ones(self, harness: StoreHarness) -> None:
        """Whatever the codec cannot spell needs a name behind the address's #, so that such a name has to be there."""
        rule: NameRule = limits_of(harness).names
        names = [name_within(name, rule) for name in ("articles", "articles2", "docs-v2")]
        assert len(set(names)) == len(names)


def _mapped(rule: NameRule) -> dict[str, str]:
    """The hard names of which the codec makes a native one, with that."""
    found = {}
    for name in HARD_NAMES:
        try:
            found[name] = native_name(name, rule)
        except DataInvalid:
            continue  # whoever copies it is told to give another one
    return found


def _listed(harness: StoreHarness) -> list[str]:
    return [] if Feature.RAW_COLLECTIONS in harness.lacks else sorted(harness.raw_collections())
