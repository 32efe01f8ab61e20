"""Payloads and documents come back as they were, and an application's own edit wins over what the codec kept."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from exitramp import canonical
from exitramp.testing.conformance.compare import assert_same_records
from exitramp.testing.conformance.harness import Feature, StoreHarness, need
from exitramp.testing.conformance.steps import NAME, Reading, limits_of, read, write, write_batches
from exitramp.testing.data import hard_records
from exitramp.testing.hard_values import HARD_PAYLOADS, hard_payloads
from exitramp.testing.rows import Row, rows_from_batch
from exitramp.testing.within import rows_within, spec_within, text_bytes_within

MARKER_KEY = "_exitramp"
EDITED = "edited by the application"


class PayloadConformance:
    def test_every_payload_type_comes_back_through_the_codec(self, harness: StoreHarness) -> None:
        limits = limits_of(harness)
        spec = spec_within(limits, NAME)
        bare = [replace(row, document=None) for row in rows_within(spec, limits, len(HARD_PAYLOADS), 1)]
        payloads = hard_payloads(text_bytes_within(limits))
        names = dict(zip([row.id for row in bare], payloads, strict=True))
        rows = [replace(row, payload=payloads[names[row.id]]) for row in bare]
        write(harness, spec, rows)
        found = read(harness).by_id()
        changed = [
            f"{names[row.id]} (came back as {_short(found[row.id])})" if row.id in found else f"{names[row.id]} (lost)"
            for row in rows
            if row.id not in found or found[row.id].payload_text != row.payload_text
        ]
        assert not changed, f"{len(changed)} of {len(rows)} payloads changed: {'; '.join(changed)}"

    def test_payloads_beside_documents_and_namespaces_come_back(self, harness: StoreHarness) -> None:
        limits = limits_of(harness)
        spec = replace(spec_within(limits, NAME), has_documents=True, has_namespaces=True)
        batches = list(hard_records(spec, 400, seed=2, batch_rows=150, text_bytes=text_bytes_within(limits)))
        write_batches(harness, spec, batches)
        expected = [row for batch in batches for row in rows_from_batch(batch, spec)]
        assert_same_records(expected, read(harness).rows, spec, limits, "hard records")

    def test_payloads_within_the_limits_need_no_codec(self, harness: StoreHarness) -> None:
        limits = limits_of(harness)
        spec = spec_within(limits, NAME)
        rows = rows_within(spec, limits, 12, 3)
        write(harness, spec, rows, encoded=False)
        assert_same_records(rows, read(harness, encoded=False).rows, spec, limits, "read by the adapter")
        assert_same_records(rows, harness.raw_read(spec.name), spec, limits, "read by the raw SDK")

    def test_what_the_raw_sdk_wrote_is_read_as_it_is(self, harness: StoreHarness) -> None:
        limits = limits_of(harness)
        spec = spec_within(limits, NAME)
        rows = rows_within(spec, limits, 12, 4)
        harness.raw_seed(spec.name, spec, rows)
        assert_same_records(rows, read(harness, encoded=False).rows, spec, limits, "read by the adapter")
        reading = read(harness)
        assert_same_records(rows, reading.rows, reading.spec, limits, "read through the codec")
        assert not reading.findings, f"nothing was edited, yet there are findings: {reading.findings}"

    def test_documents_absent_empty_and_unicode_come_back(self, harness: StoreHarness) -> None:
        limits = limits_of(harness)
        spec = replace(spec_within(limits, NAME), has_documents=True)
        documents = (
            None,
            "",
            " ",
            "plain",
            "größer 日本語 🏳️‍🌈 e\u0301\u202e",
            "line\r\nline\t",
            "null",
            ("long " * 20_000)[: text_bytes_within(limits)],
        )
        payloads: tuple[dict[str, Any] | None, ...] = (None, {}, {"document": "theirs"}, {"document": 7})
        plain = rows_within(spec, limits, len(documents) * len(payloads), 5)
        rows = [
            replace(row, document=documents[place % len(documents)], payload=payloads[place // len(documents)])
            for place, row in enumerate(plain)
        ]
        write(harness, spec, rows)
        assert_same_records(rows, read(harness).rows, spec, limits, "documents")

    def test_an_edit_by_the_application_wins_and_is_named(self, harness: StoreHarness) -> None:
        need(harness, Feature.RAW_EDIT)
        limits = limits_of(harness)
        spec = spec_within(limits, NAME)
        payload = {
            "text": "as written",
            "when": datetime(2024, 1, 1, tzinfo=UTC),
            "price": Decimal("9.90"),
            "ratio": 0.1 + 0.2,
            "ref": uuid.UUID(int=7),
            "nested": {"a": 1, "b": None, "c": [1, None]},
            "list": [1, None, "x"],
        }
        plain = rows_within(spec, limits, len(payload), 6)
        rows = {key: replace(row, document=None, payload=payload) for key, row in zip(payload, plain, strict=True)}
        write(harness, spec, list(rows.values()))
        natives = {row.id: row.payload or {} for row in harness.raw_read(spec.name)}
        assert set(natives) == {row.id for row in rows.values()}, "the raw SDK shows other ids than were written"
        edited = [key for key, row in rows.items() if key in natives[row.id]]
        if not edited:
            pytest.skip("the store keeps none of the values natively, so an application has nothing to edit")
        for key in edited:
            harness.raw_edit(spec.name, rows[key].id, key, EDITED)
        reading = read(harness)
        found = reading.by_id()
        for key, row in rows.items():
            wanted = canonical.dumps(payload | {key: EDITED} if key in edited else payload)
            assert found[row.id].payload_text == wanted, f"the edit of '{key}' did not win, or changed other keys"
            # Where the native value is not the original one, the codec holds an original that the edit contradicts.
            if key in edited and canonical.dumps(natives[row.id][key]) != canonical.dumps(payload[key]):
                assert _names(reading, row.id), f"the edit of '{key}' is in no finding"

    def test_a_value_that_the_application_removed_stays_removed(self, harness: StoreHarness) -> None:
        """The neighbour of an edit: a payload that the application wrote anew keeps nothing of the old."""
        limits = limits_of(harness)
        spec = spec_within(limits, NAME)
        [row] = rows_within(spec, limits, 1, 7)
        odd = replace(row, payload={"ratio": 0.1 + 0.2, "nothing": None, "list": []})
        write(harness, spec, [odd])
        assert read(harness).by_id()[row.id].payload_text == odd.payload_text
        need(harness, Feature.CHANGES)
        write(harness, spec, [row])
        assert read(harness).by_id()[row.id].payload_text == row.payload_text


def _names(reading: Reading, id_: str) -> bool:
    return any(id_ in finding.ids for finding in reading.findings)


def _short(row: Row) -> str:
    text = row.payload_text
    return "none" if text is None else text if len(text) <= 200 else f"{text[:200]}…"
