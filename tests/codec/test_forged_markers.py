"""Under the marker's key may stand anything: a user's own value, what somebody forged, or a marker of ours on a record
that the application has copied or changed. None of it is lost without a word, and nothing stumbles over it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exitramp.codec import marker
from exitramp.migration import migrate
from exitramp.migration.moving import read_digests
from exitramp.parity.alignment import read_all
from exitramp.ports import Origin
from exitramp.records import CollectionSpec, DType, Finding, IdKind, Metric, VectorField, VectorKind, Verdict
from exitramp.testing import Row, StoreHarness, batch_from_rows
from exitramp.testing.conformance.steps import limits_of
from exitramp.testing.rows import rows_from_batch
from exitramp.testing.within import rows_within, spec_within
from exitramp.wrappers import open_endpoint
from tests.adapters.test_chroma import EmbeddedHarness
from tests.adapters.test_qdrant_edge import EdgeHarness
from tests.testing.test_memory import MemoryHarness

DEEP = '{"$marker":1,"top":{"k":{"n":null,"o":' + "[" * 3000 + "]" * 3000 + "}}}"
NO_MARKERS = {
    "torn": '{"$marker":1',
    "torn later": '{"$marker":1,"id":"oth',
    "something behind it": '{"$marker":1,"id":"other"} ',
    "nothing in it": '{"$marker":1}',
    "of another version": '{"$marker":2,"id":"other"}',
    "of version ten": '{"$marker":10,"id":"other"}',
    "an unknown entry": '{"$marker":1,"note":"mine"}',
    "an id that is a number": '{"$marker":1,"id":5}',
    "no id": '{"$marker":1,"id":null}',
    "half a character": '{"$marker":1,"id":"\\ud800"}',
    "half a character inside": '{"$marker":1,"top":{"k":{"n":null,"o":"\\udfff"}}}',
    "a namespace alone": '{"$marker":1,"ns":"tenant"}',
    "a payload flag": '{"$marker":1,"p":2}',
    "a true flag": '{"$marker":1,"p":true}',
    "a document as text": '{"$marker":1,"doc":"text"}',
    "a document under another key": '{"$marker":1,"doc":{"k":"own"}}',
    "a document twice": '{"$marker":1,"doc":{"k":"document","o":"text"}}',
    "a document that is a number": '{"$marker":1,"doc":{"o":7}}',
    "keys as a list": '{"$marker":1,"top":["own"]}',
    "no keys": '{"$marker":1,"top":{}}',
    "a key without its hash": '{"$marker":1,"top":{"own":{"o":1}}}',
    "a key with something else": '{"$marker":1,"top":{"own":{"n":null,"o":1,"x":2}}}',
    "a hash that is none": '{"$marker":1,"top":{"own":{"n":"abc","o":1}}}',
    "a hash that is a number": '{"$marker":1,"top":{"own":{"n":7,"o":1}}}',
    "a rounded text": '{"$marker":1,"top":{"own":{"n":"~","o":"text"}}}',
    "a rounded integer": '{"$marker":1,"top":{"own":{"n":"~","o":1}}}',
    "vectors as a number": '{"$marker":1,"vec":7}',
    "a vector as a list": '{"$marker":1,"vec":{"vector":[1.0]}}',
    "a vector without numbers": '{"$marker":1,"vec":{"vector":{"s":[4]}}}',
    "a vector that stands otherwise": '{"$marker":1,"vec":{"vector":{"s":[4],"b":"","n":"q","c":"x"}}}',
    "a vector that stands by half": '{"$marker":1,"vec":{"vector":{"s":[4],"b":"","n":"p"}}}',
    "a vector of lists": '{"$marker":1,"vec":{"vector":{"s":[4],"b":"","n":["p"],"c":"x"}}}',
    "fields as a text": '{"$marker":1,"null":"vector"}',
    "fields of numbers": '{"$marker":1,"null":[1]}',
    "what it has": '{"$marker":1,"has":"x"}',
    "what it has, twice": '{"$marker":1,"has":["d"]}',
    "deep": DEEP,
}
"""Texts that begin like a marker, and that no run of exitramp has ever written."""
OWN_VALUES: dict[str, Any] = {
    "number": 7,
    "text": "just a text",
    "json": '{"marker":1}',
    "empty": "",
    "list": ["a", "b"],
    "object": {"$marker": 1, "id": "other"},
}
UUID = "11111111-1111-4111-8111-111111111111"


@pytest.fixture(name="harness", params=["memory", "chroma", "qdrant"])
def _harness(request: pytest.FixtureRequest, tmp_path: Path) -> StoreHarness:
    made: dict[str, Callable[[], StoreHarness]] = {
        "memory": MemoryHarness,
        "chroma": lambda: EmbeddedHarness(tmp_path / "db"),
        "qdrant": lambda: EdgeHarness(tmp_path / "db"),
    }
    (tmp_path / "db").mkdir()
    return made[request.param]()


def seeded(harness: StoreHarness, values: Sequence[Any]) -> list[Row]:
    """A collection that the application made by itself, with these under the marker's key."""
    limits = limits_of(harness)
    spec = spec_within(limits, "articles", dimensions=4, pair=(DType.FLOAT32, Metric.DOT))
    rows = [
        replace(row, payload={"own": number, marker.MARKER_KEY: value})
        for number, (row, value) in enumerate(zip(rows_within(spec, limits, len(values), 1), values, strict=True))
    ]
    harness.raw_seed("articles", spec, rows)
    return rows


def read(harness: StoreHarness) -> tuple[dict[str, Row], dict[str, Finding]]:
    """Every record by its id, and the findings by their code: no id twice, and no two findings of one code."""
    with open_endpoint(harness.address("articles")) as endpoint:
        source = endpoint.source()
        spec = source.describe()
        rows = [row for batch in read_all(source, batch_rows=7) for row in rows_from_batch(batch, spec)]
        found = source.findings()
    assert len({row.key for row in rows}) == len(rows), "two records came out as one"
    assert len({each.code for each in found}) == len(found)
    return {row.id: row for row in rows}, {each.code: each for each in found}


def assert_same(rows: Sequence[Row], found: dict[str, Row]) -> None:
    assert set(found) == {row.id for row in rows}
    for row in rows:
        got = found[row.id]
        assert (got.document, got.payload_text) == (row.document, row.payload_text), row.payload_text
        assert np.array_equal(np.asarray(got.vectors["vector"]), np.asarray(row.vectors["vector"]))


def test_what_begins_like_a_marker_and_is_none_stays_where_it_is_and_is_named(harness: StoreHarness) -> None:
    rows = seeded(harness, list(NO_MARKERS.values()))
    found, findings = read(harness)
    assert_same(rows, found)
    assert list(findings) == ["codec.no_marker"]
    assert findings["codec.no_marker"].count == len(rows)
    assert set(findings["codec.no_marker"].ids) <= {row.id for row in rows}


@pytest.mark.parametrize("text", NO_MARKERS.values(), ids=list(NO_MARKERS))
def test_such_a_text_is_read_as_no_marker(text: str) -> None:
    assert marker.is_like(text)
    assert marker.read(text) is None


def test_a_value_of_the_user_s_own_is_nothing_to_speak_of(harness: StoreHarness) -> None:
    limits = limits_of(harness)
    kept = [value for value in OWN_VALUES.values() if limits.payload.nested or not isinstance(value, dict)]
    rows = seeded(harness, kept)
    found, findings = read(harness)
    assert_same(rows, found)
    assert findings == {}


@pytest.mark.parametrize("target", ["memory:{}#articles", "chroma:{}#articles", "qdrant:{}#articles"])
def test_all_of_it_comes_through_any_other_store_and_back(harness: StoreHarness, target: str, tmp_path: Path) -> None:
    values = [*NO_MARKERS.values(), *(value for value in OWN_VALUES.values() if not isinstance(value, dict))]
    rows = seeded(harness, values)
    with open_endpoint(harness.address("articles")) as source, open_endpoint(target.format(tmp_path / "new")) as other:
        result = migrate(source, other)
        assert result.verdict is Verdict.PASS, result.findings
        assert read_digests(other.source()) == read_digests(source.source())
        found = [
            row for batch in read_all(other.source(), batch_rows=50) for row in rows_from_batch(batch, result.spec)
        ]
    assert {row.id: row.payload_text for row in found} == {row.id: row.payload_text for row in rows}


def forged(**entries: Any) -> str:
    return marker.write(entries)


CONTRADICTIONS: dict[str, tuple[str, str]] = {
    "an id of which this one was not made": (forged(id="other"), "the id"),
    "an id and a namespace of which this one was not made": (forged(id="other", ns="tenant"), "the id"),
    "a document that is not there": (forged(doc={"k": "document"}), "the document"),
    "a vector of another length": (
        forged(vec={"vector": {"s": [3], "b": "AAAAAAAAAAAAAAAA", "n": "p", "c": "x"}}),
        "vector field 'vector'",
    ),
    "a vector of another type": (
        forged(vec={"vector": {"i": "", "b": "", "n": "p", "c": "x"}}),
        "vector field 'vector'",
    ),
    "a vector that is no base64": (
        forged(vec={"vector": {"s": [4], "b": "ü?", "n": "p", "c": "x"}}),
        "vector field 'vector'",
    ),
    "a vector of a strange shape": (
        forged(vec={"vector": {"s": "4", "b": "AAAAAAAAAAAAAAAAAAAAAA==", "n": "p", "c": "x"}}),
        "vector field 'vector'",
    ),
    "a vector that is not there although one is": (
        forged(vec={"vector": {"s": [4], "b": "AAAAAAAAAAAAAAAAAAAAAA==", "n": "a", "c": "x"}}),
        "vector field 'vector'",
    ),
    "a vector that stands nowhere else although one does": (
        forged(vec={"vector": {"s": [4], "b": "AAAAAAAAAAAAAAAAAAAAAA=="}}),
        "vector field 'vector'",
    ),
    "no vector although there is one": (forged(null=["vector"]), "vector field 'vector'"),
    "another native value": (forged(top={"own": {"n": "0123456789abcdef", "o": 8}}), "payload key 'own'"),
    "no native value": (forged(top={"own": {"n": None, "o": 8}}), "payload key 'own'"),
    "another rounded value": (forged(top={"own": {"n": "~", "o": 0.5}}), "payload key 'own'"),
}
"""Markers of our own shape, and the field in which each contradicts what stands beside it."""


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_what_stands_natively_wins_over_a_marker_that_contradicts_it_and_is_named(
    harness: StoreHarness, case: str
) -> None:
    text, field = CONTRADICTIONS[case]
    rows = seeded(harness, [text, "a text of the user's"])
    found, findings = read(harness)
    assert_same([replace(rows[0], payload={"own": 0}), rows[1]], found)
    assert list(findings) == ["codec.edited"]
    assert (findings["codec.edited"].detail["field"], findings["codec.edited"].ids) == (field, (rows[0].id,))


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (forged(vec={"vector:elsewhere": {"s": [2], "b": "AACAPwAAAEA="}}), "vector field 'vector:elsewhere'"),
        (forged(vec={"sparse:": {"i": "AAAAAA==", "b": "AACAPw==", "n": "a", "c": "s"}}), "vector field 'sparse:'"),
    ],
)
def test_what_has_no_place_in_the_collection_leaves_it_open_whether_all_was_read(
    harness: StoreHarness, text: str, what: str
) -> None:
    rows = seeded(harness, ["a text of the user's", text])
    found, findings = read(harness)
    assert_same([rows[0], replace(rows[1], payload={"own": 1})], found)
    [finding] = findings.values()
    assert (finding.code, finding.verdict, finding.ids) == ("codec.unread", Verdict.INCONCLUSIVE, (rows[1].id,))
    assert finding.detail["field"] == what


def test_a_document_or_a_namespace_that_the_collection_does_not_know_of_is_not_dropped_without_a_word(
    tmp_path: Path,
) -> None:
    """Qdrant has no place for either, and the first records, by which a collection without a word on itself is judged,
    have none."""
    harness = EdgeHarness(tmp_path)
    with open_endpoint("memory:unread#articles") as endpoint:
        late = Row("kb/x", "tenant", "How to leave", {"document": 7}, {"vector": np.ones(4, np.float32)})
        spec = CollectionSpec(
            "articles",
            IdKind.STRING,
            (VectorField("", VectorKind.DENSE, DType.FLOAT32, Metric.DOT, 4),),
            has_namespaces=True,
            has_documents=True,
        )
        sink = endpoint.sink()
        sink.create(spec, Origin(spec, "test"))
        sink.upsert(batch_from_rows([late], spec))
        with open_endpoint(harness.address("made")) as target:
            migrate(endpoint, target)
    [written] = harness.raw_read("made")
    limits = limits_of(harness)
    plain = spec_within(limits, "articles", dimensions=4, id_kind=IdKind.UUID)
    first = rows_within(replace(plain, id_kind=IdKind.UINT64), limits, 200, 1)
    harness.raw_seed("articles", plain, [*first, written])
    with open_endpoint(harness.address("articles")) as endpoint:
        source = endpoint.source()
        spec = source.describe()
        assert not spec.has_documents
        rows = {
            row.id: row
            for batch in read_all(source, batch_rows=50)
            for row in rows_from_batch(batch, source.describe())
        }
        findings = {each.detail["field"]: each for each in source.findings()}
    assert len(rows) == 201
    assert rows[written.id].payload == {"document": 7}, "its own id is not known without its namespace"
    assert set(findings) == {"the document", "the namespace"}
    assert {each.code for each in findings.values()} == {"codec.unread"}


@pytest.mark.parametrize("store", ["chroma", "qdrant"])
def test_a_record_that_the_application_copied_under_another_id_is_another_record(store: str, tmp_path: Path) -> None:
    """With the marker it copied the id of the first, which two records cannot both have."""
    field = VectorField("", VectorKind.DENSE, DType.FLOAT32, Metric.DOT, 4)
    spec = CollectionSpec("articles", IdKind.STRING, (field,), has_documents=True)
    long_id = "kb/" + "x" * 300 if store == "chroma" else "kb/x"
    rows = [
        Row(id_, None, "text", {"n": None, "f": 0.1 + 0.2, "when": number}, {"vector": np.full(4, number, np.float32)})
        for number, id_ in enumerate([long_id, "kb/y"], start=1)
    ]
    address = f"{store}:{tmp_path}/db#articles"
    with open_endpoint(f"memory:{tmp_path}#articles") as source, open_endpoint(address) as target:
        sink = source.sink()
        sink.create(spec, Origin(spec, "test"))
        sink.upsert(batch_from_rows(rows, spec))
        assert migrate(source, target).verdict is Verdict.PASS
        native, raw = target.native_source(), target.raw_sink()
        shape = native.describe()
        [batch] = [batch for batch in read_all(native, batch_rows=9) if batch.num_rows]
        held = rows_from_batch(batch, shape)
        marks = [marker.read((row.payload or {})[marker.MARKER_KEY]) for row in held]
        assert [mark is not None and "id" in mark for mark in marks] == [store == "qdrant"] * 2
        origin = native.origin()
        assert origin is not None
        raw.create(shape, origin)
        raw.upsert(batch_from_rows([replace(held[0], id=UUID)], shape))
        raw.flush()
        reader = target.source()
        found = [row for batch in read_all(reader, batch_rows=9) for row in rows_from_batch(batch, spec)]
        twin = next(row for row in rows if np.array_equal(np.asarray(row.vectors["vector"]), held[0].vectors["vector"]))
        assert {row.id: row.payload_text for row in found} == {
            **{row.id: row.payload_text for row in rows},
            UUID: twin.payload_text,
        }
        edited = [each.ids for each in reader.findings() if each.detail.get("field") == "the id"]
        assert edited == ([(UUID,)] if store == "qdrant" else [])
        fetched = rows_from_batch(target.source().fetch([replace(twin, id=UUID).key, twin.key]), spec)
        assert {row.id for row in fetched} == {UUID, twin.id}


def test_markers_of_every_shape_that_is_written_are_read() -> None:
    """What `read` takes is what `write` is given, so that no marker of ours is ever mistaken for a user's own."""
    for entries in (
        {"id": "kb/x"},
        {"id": "", "ns": ""},
        {"id": "\ud7ff \\ud800 \\\\uDC00", "ns": "ü"},
        {"p": 0},
        {"p": 1},
        {"doc": {"k": "document"}},
        {"doc": {"o": "\\u0000 \x01"}},
        {"top": {"": {"o": None, "n": None}, "f": {"o": 0.1 + 0.2, "n": "~"}, "h": {"o": [1], "n": "0f" * 8}}},
        {"top": {marker.MARKER_KEY: {"o": "mine", "n": None}}},
        {"vec": {"vector": {"s": [4], "b": "", "n": "t", "c": "s"}, "sparse:": {"i": "", "b": ""}}},
        {"null": ["vector", "vector:title"]},
        {"has": "dn", "id": "x"},
    ):
        assert marker.read(marker.write(entries)) == entries
        assert json.loads(marker.write(entries))["$marker"] == marker.VERSION
