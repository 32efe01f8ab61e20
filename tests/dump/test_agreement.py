"""Whatever a dump says twice is held against itself: an edit of one place is found, with file and field named."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from exitramp import canonical
from exitramp.arrow import stream_schema
from exitramp.dump import closing as closing_module
from exitramp.dump.agreement import Measured, manifest_against_shards
from exitramp.dump.closing import Closing, finish_line
from exitramp.dump.integrity import VerifyReport, verify_dump
from exitramp.dump.manifest import Manifest, read_manifest
from exitramp.dump.writer import DumpSink
from exitramp.errors import ExitCode
from exitramp.inventory import FieldInventory, Inventory
from exitramp.ports import Origin, StoreIdentity, TransferAccount, make_cursor
from exitramp.records import CollectionSpec, DType, IdKind, Metric, VectorField, VectorKind, Verdict
from tests.dump.damage import places, read_journal, write_journal, write_manifest
from tests.dump.damage import read_manifest as manifest_json

GOLDEN = Path(__file__).parents[1] / "golden"
IDENTITY = StoreIdentity("chroma", "chroma:./db#a", "1.5", "2.0", evidence="real")
ACCOUNT = TransferAccount(source=IDENTITY, source_count_before=120, source_count_after=120)
UNREPEATED = {"tool", "source", "consistency", "started_at"}


@pytest.fixture
def dump(wide: Any, write_dump: Any) -> Path:
    """A dump whose journal repeats all that it may."""
    folder: Path = write_dump(wide, batch_rows=20, shard_bytes=20_000, group_bytes=8_000, account=ACCOUNT)
    data = manifest_json(folder)
    lines = read_journal(folder)
    lines[-1]["data"].update({name: data[name] for name in UNREPEATED})
    write_journal(folder, lines)
    assert verify_dump(folder).verdict is Verdict.PASS
    return folder


def failed_fields(report: VerifyReport) -> dict[str, str]:
    """The fields that are contradicted, with the file each is in."""
    failing = [finding for finding in report.findings if finding.verdict is Verdict.FAIL]
    return {finding.detail["field"]: finding.detail["file"] for finding in failing if "field" in finding.detail}


def edit(folder: Path, change: Callable[[dict[str, Any]], None]) -> VerifyReport:
    """What `verify` says of a manifest that somebody edited, its hash made right."""
    data = manifest_json(folder)
    change(data)
    write_manifest(folder, data)
    return verify_dump(folder)


EDITS: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "metric": (
        lambda data: data["collection"]["vectors"][0].update(metric="dot"),
        "collection.vectors[0].metric",
    ),
    "model": (
        lambda data: data["collection"]["vectors"][0]["model"].update(name="other"),
        "collection.vectors[0].model.name",
    ),
    "index": (lambda data: data["collection"]["index"]["engine"].update(m=17), "collection.index.engine.m"),
    "origin's metric": (
        lambda data: data["origin"]["spec"]["vectors"][1].update(metric="cosine"),
        "origin.spec.vectors[1].metric",
    ),
    "origin's version": (lambda data: data["origin"].update(tool_version="9"), "origin.tool_version"),
    "resumed": (lambda data: data.update(resumed=3), "resumed"),
    "started": (lambda data: data.update(started_at="1999-01-01T00:00:00.000Z"), "started_at"),
    "ended": (lambda data: data.update(ended_at="2999-01-01T00:00:00.000Z"), "ended_at"),
    "tool": (lambda data: data["tool"].update(version="9.9"), "tool.version"),
    "source": (lambda data: data["source"].update(adapter="qdrant"), "source.adapter"),
    "no source": (lambda data: data.update(source=None), "source"),
    "evidence": (lambda data: data["source"].update(evidence="wire mocked"), "source.evidence"),
    "consistency": (lambda data: data["consistency"].update(state="snapshot"), "consistency.state"),
    "count before": (
        lambda data: data["consistency"].update(state="changed", count_before=7),
        "consistency.count_before",
    ),
    "longest id": (lambda data: data["inventory"].update(id_bytes=1000), "inventory.id_bytes"),
    "documents": (lambda data: data["inventory"].update(documents_missing=0), "inventory.documents_missing"),
    "complete": (lambda data: data["inventory"].update(complete=False), "inventory.complete"),
    "a path left out": (lambda data: data["inventory"]["fields"].pop(1), 'inventory.fields[["deep"]]'),
    "a type": (
        lambda data: data["inventory"]["fields"][-1].update(types={"string": 1}),
        'inventory.fields[["n"]].types.int',
    ),
    "rows without a path": (
        lambda data: data["inventory"]["fields"][-1].update(rows_missing=0),
        'inventory.fields[["n"]].rows_missing',
    ),
    "a norm": (
        lambda data: data["vector_facts"]["vector:double"].update(norm_maximum=0.25),
        "vector_facts.vector:double.norm_maximum",
    ),
    "no norm": (
        lambda data: data["vector_facts"]["vector:double"].update(norm_minimum=None),
        "vector_facts.vector:double.norm_minimum",
    ),
    "exactness": (
        lambda data: data["vector_facts"]["vector:double"].update(exact_in=["float16"]),
        "vector_facts.vector:double.exact_in",
    ),
    "vectors missing": (
        lambda data: data["vector_facts"]["vector"].update(rows_missing=1),
        "vector_facts.vector.rows_missing",
    ),
    "entries": (
        lambda data: data["vector_facts"]["sparse:words"].update(entries_maximum=9),
        "vector_facts.sparse:words.entries_maximum",
    ),
}


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_of_the_manifest_with_its_hash_made_right_is_found_and_its_field_named(dump: Path, name: str) -> None:
    change, field = EDITS[name]
    report = edit(dump, change)
    assert report.exit_code is ExitCode.INTEGRITY
    assert failed_fields(report)[field] == "manifest.json", report.findings


def test_no_value_of_the_manifest_can_be_edited_without_being_found(dump: Path) -> None:
    whole = manifest_json(dump)
    unnoticed = []
    kinds = set()
    for path in places(whole):
        kind = tuple(0 if isinstance(part, int) else part for part in path)
        value = whole
        for key in path:
            value = value[key]
        if kind in kinds or isinstance(value, dict | list):
            continue
        kinds.add(kind)
        data = copy.deepcopy(whole)
        parent: Any = data
        for key in path[:-1]:
            parent = parent[key]
        other: Any = {bool: lambda old: not old, int: lambda old: old + 1, float: lambda old: old + 1.0}.get(
            type(value), lambda old: "0" * 64 if old is None or len(old) == 64 else f"{old}x"
        )(value)
        parent[path[-1]] = other
        write_manifest(dump, data)
        if verify_dump(dump).verdict is Verdict.PASS:
            unnoticed.append(path)
    assert len(kinds) > 80
    assert unnoticed == []


def test_names_and_id_kinds_are_held_against_the_journal_even_where_the_mapping_was_edited_along(dump: Path) -> None:
    def change(data: dict[str, Any]) -> None:
        data["collection"].update(name="renamed", id_kind="uuid")
        data["mapping"].update(name="renamed", id_kind="uuid")

    assert {"collection.name", "collection.id_kind"} <= set(failed_fields(edit(dump, change)))


@pytest.mark.parametrize("key", ["id_kind", "name", "id_kind_source", "name_source"])
def test_a_mapping_that_is_not_that_of_the_two_specs_is_refused(dump: Path, key: str) -> None:
    report = edit(dump, lambda data: data["mapping"].update({key: "int64"}))
    assert "'mapping'" in report.findings[0].message


@pytest.mark.parametrize("name", ["dense-1", "everything-1", "empty-1"])
def test_an_edit_of_a_golden_dump_is_found_too_unless_only_its_manifest_says_it(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "dump"
    shutil.copytree(GOLDEN / name, folder)
    whole = manifest_json(folder)
    for key, change in {
        "collection.vectors[0].metric": lambda data: data["collection"]["vectors"][0].update(metric="hamming"),
        "origin.tool_version": lambda data: data["origin"].update(tool_version="9"),
        "ended_at": lambda data: data.update(ended_at="2000-01-01T00:00:00.000Z"),
        "inventory.id_bytes": lambda data: data["inventory"].update(id_bytes=1000),
    }.items():
        write_manifest(folder, copy.deepcopy(whole))
        assert verify_dump(folder).verdict is Verdict.PASS
        assert failed_fields(edit(folder, change))[key] == "manifest.json"
    write_manifest(folder, whole)
    # What the page on the format says that nothing repeats in a dump of this age.
    assert edit(folder, lambda data: data["tool"].update(version="9")).verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda data: data["inventory"].update(id_bytes=1000), "inventory.id_bytes"),
        (lambda data: data["vector_facts"]["vector"].update(vectors=0), "vector_facts.vector.vectors"),
        (lambda data: data["vector_facts"].pop("vector"), "vector_facts.vector"),
        (lambda data: data["digests"].update(ids="0" * 64), "digests.ids"),
    ],
)
def test_what_a_line_of_the_journal_says_of_its_shard_is_held_against_the_shard(
    dump: Path, change: Callable[[dict[str, Any]], None], field: str
) -> None:
    lines = read_journal(dump)
    change(lines[1]["data"])
    write_journal(dump, lines)
    found = failed_fields(verify_dump(dump))
    assert found == {f"{lines[1]['data']['path']}: {field}": "journal.jsonl"}


@pytest.mark.parametrize("key", ["ended_at", "digests"])
def test_a_last_line_that_lacks_what_it_must_say_is_found(dump: Path, key: str) -> None:
    lines = read_journal(dump)
    del lines[-1]["data"][key]
    write_journal(dump, lines)
    assert failed_fields(verify_dump(dump)) == {key: "manifest.json"}


def test_a_journal_that_does_not_end_by_telling_so_is_found(dump: Path) -> None:
    lines = read_journal(dump)
    for other in (lines[:-1], [*lines, {"kind": "resume", "data": {"at": ""}}]):
        write_journal(dump, other)
        [finding] = verify_dump(dump).findings
        assert (finding.code, finding.detail["file"]) == ("dump.journal", "journal.jsonl")


def test_a_journal_without_which_nothing_can_be_compared_fails_and_says_so(dump: Path) -> None:
    (dump / "journal.jsonl").unlink()
    report = verify_dump(dump)
    assert report.verdict is Verdict.FAIL
    assert [finding.code for finding in report.findings] == ["dump.file_missing", "dump.not_compared"]


def test_a_run_that_was_taken_up_again_agrees_with_itself(tmp_path: Path, wide: Any) -> None:
    folder = tmp_path / "dump"
    for end in (40, 80, 120):
        sink = DumpSink(folder, shard_bytes=20_000, group_bytes=8_000)
        sink.create(wide.spec, Origin(wide.spec, "1"))
        for begin in range(sink.resume_state().rows, end, 20):
            sink.upsert(wide.batch().slice(begin, 20))
            sink.note_cursor(0, make_cursor(row=begin + 20))
        sink.flush()
        if end == 120:
            sink.finish(TransferAccount(source=IDENTITY))
        sink.close()
    assert read_manifest(folder).resumed == 2
    report = verify_dump(folder)
    assert (report.verdict, report.findings) == (Verdict.PASS, ())
    assert failed_fields(edit(folder, lambda data: data.update(started_at="2000"))) == {"started_at": "manifest.json"}


def test_the_last_line_repeats_whatever_no_other_line_says(dump: Path) -> None:
    manifest = read_manifest(dump)
    closing = Closing(
        dump, manifest.collection, manifest.origin, (), manifest.started_at, manifest.ended_at, manifest.resumed
    )
    line = finish_line(closing, ACCOUNT)
    assert set(line) == {"ended_at", "digests", *UNREPEATED}
    said = manifest.to_json()
    for name in ("source", "tool", "started_at", "ended_at"):
        assert line[name] == said[name]
    assert closing_module.finish_line(closing).keys() == line.keys() - {"source", "consistency"}


def test_norms_may_differ_in_the_digits_that_the_order_of_adding_changes_and_no_further(dump: Path) -> None:
    norm = manifest_json(dump)["vector_facts"]["vector:double"]["norm_maximum"]

    def put(value: float) -> Verdict:
        return edit(dump, lambda data: data["vector_facts"]["vector:double"].update(norm_maximum=value)).verdict

    def told(value: float) -> None:
        lines = read_journal(dump)
        for line in lines[1:-1]:
            facts = line["data"]["vector_facts"]["vector:double"]
            facts["norm_maximum"] *= value
        write_journal(dump, lines)

    assert put(float(np.nextafter(norm, 10))) is Verdict.PASS
    assert put(norm * (1 + 1e-6)) is Verdict.FAIL
    put(norm)
    told(1 + 1e-15)
    assert verify_dump(dump).verdict is Verdict.PASS
    told(1 + 1e-6)
    assert verify_dump(dump).verdict is Verdict.FAIL


SPEC = CollectionSpec("c", IdKind.STRING, (VectorField("", VectorKind.DENSE, DType.FLOAT32, Metric.COSINE, 1),))


def dump_of(folder: Path, payloads: list[dict[str, Any]], *, batch_rows: int) -> Path:
    rows = [
        {"id": str(number), "payload": canonical.dumps(payload), "vector": [1.0]}
        for number, payload in enumerate(payloads)
    ]
    batch = pa.RecordBatch.from_pylist(rows, schema=stream_schema(SPEC))
    sink = DumpSink(folder, shard_bytes=100, group_bytes=100)
    sink.create(SPEC, Origin(SPEC, "1"))
    for begin in range(0, len(batch), batch_rows):
        sink.upsert(batch.slice(begin, batch_rows))
        sink.note_cursor(0, make_cursor(row=begin))
    sink.finish(TransferAccount())
    sink.close()
    return folder


@pytest.mark.parametrize("batch_rows", [1, 3, 100])
def test_more_paths_than_an_inventory_lists_are_no_contradiction_however_the_rows_came(
    tmp_path: Path, batch_rows: int
) -> None:
    payloads = [{f"key {number % 7} {key}": key for key in range(150 * number % 800)} for number in range(60)]
    folder = dump_of(tmp_path / "dump", payloads, batch_rows=batch_rows)
    assert read_manifest(folder).inventory.complete is False
    assert verify_dump(folder).findings == ()
    assert failed_fields(edit(folder, lambda data: data["inventory"].update(complete=True))) == {
        "inventory.complete": "manifest.json"
    }


def test_payloads_nested_deeper_than_an_inventory_looks_are_held_against_it_as_far_as_it_does(tmp_path: Path) -> None:
    deep: Any = 1
    for _ in range(12):
        deep = {"in": [deep]}
    folder = dump_of(tmp_path / "dump", [deep, {"n": 1}], batch_rows=1)
    assert verify_dump(folder).findings == ()
    report = edit(folder, lambda data: data["inventory"]["fields"].pop())
    assert set(failed_fields(report)) == {'inventory.fields[["n"]]'}


def test_keys_that_were_masked_are_no_contradiction_and_hide_no_other(tmp_path: Path) -> None:
    key = "sk-" + "abcdefgh12345678" * 2
    folder = dump_of(tmp_path / "dump", [{key: 1, "n": 1}, {f"{key}9": "x", "n": 2}], batch_rows=1)
    assert key not in (folder / "manifest.json").read_text("utf-8")
    assert verify_dump(folder).findings == ()
    report = edit(folder, lambda data: data["inventory"]["fields"][-1].update(rows_null=1))
    assert set(failed_fields(report)) == {'inventory.fields[["n"]].rows_null'}


def test_a_key_that_was_masked_then_and_would_not_be_now_is_no_contradiction(dump: Path) -> None:
    manifest = read_manifest(dump)
    seen = FieldInventory((("plain"),), {"int": 1}, rows=1)
    hidden = FieldInventory(("pl[secret]",), {"int": 1}, rows=1)

    def contradictions(one: FieldInventory, two: FieldInventory) -> int:
        said: Manifest = replace(manifest, inventory=Inventory(rows=1, fields={one.path: one}))
        found = Measured(manifest.digests, Inventory(rows=1, fields={two.path: two}), manifest.vector_facts)
        return len(list(manifest_against_shards(said, found)))

    assert contradictions(hidden, seen) == contradictions(seen, hidden) == 0
    assert contradictions(replace(hidden, path=("other[secret]",)), seen) == 1
    assert contradictions(seen, seen) == 0


def test_a_thousand_contradictions_are_counted_and_not_all_told(dump: Path) -> None:
    def change(data: dict[str, Any]) -> None:
        data["inventory"]["fields"] += [
            {**data["inventory"]["fields"][-1], "path": [f"y {number}"]} for number in range(1000, 2000)
        ]

    report = edit(dump, change)
    assert len(report.findings) == 21
    assert report.findings[-1].count == 980


def test_values_in_messages_are_short_and_masked(dump: Path) -> None:
    secret = "sk-" + "a1b2c3d4" * 4

    def change(data: dict[str, Any]) -> None:
        data["collection"]["index"] = {"note": f"{'x' * 70} {secret}", "\x1b[2J": 1}

    text = json.dumps(edit(dump, change).to_json())
    assert "a1b2" not in text
    assert "\\u001b" not in text
