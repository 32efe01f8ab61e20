"""Any damage to a dump is found, and the finding names the file."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from exitramp.dump.integrity import VerifyReport, verify_dump
from exitramp.dump.manifest import read_manifest
from exitramp.dump.reader import DumpSource
from exitramp.errors import CollectionMissing, DumpCorrupt, ExitCode, FormatUnknown, IntegrityError
from exitramp.migration import migrate
from exitramp.ports import TransferAccount
from exitramp.records import Verdict
from exitramp.wrappers import open_endpoint


@pytest.fixture
def dump(wide: Any, write_dump: Any) -> Path:
    folder: Path = write_dump(wide, batch_rows=20, shard_bytes=20_000, group_bytes=8_000)
    assert verify_dump(folder).verdict is Verdict.PASS
    return folder


def damaged_files(report: VerifyReport) -> set[str]:
    return {finding.detail["file"] for finding in report.findings if finding.verdict is Verdict.FAIL}


def must_fail(folder: Path, *files: str) -> VerifyReport:
    """`verify` ends with the integrity exit code and names one of `files`, in its report and in its error."""
    report = verify_dump(folder)
    assert report.verdict is Verdict.FAIL
    assert report.exit_code is ExitCode.INTEGRITY
    assert damaged_files(report) & set(files), report.findings
    with pytest.raises(IntegrityError) as caught:
        report.raise_if_damaged()
    assert caught.value.exit_code is ExitCode.INTEGRITY
    assert any(file in str(caught.value) for file in damaged_files(report))
    return report


def rewrite_manifest(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the manifest and make its hash right again, as somebody who means it would."""
    path = folder / "manifest.json"
    data = json.loads(path.read_bytes())
    change(data)
    content = json.dumps(data, indent=2, ensure_ascii=False).encode() + b"\n"
    path.write_bytes(content)
    (folder / "manifest.json.sha256").write_text(f"{hashlib.sha256(content).hexdigest()}  manifest.json\n")


def relist(folder: Path, number: int) -> None:
    """Make the manifest's size and hash of a shard those of the file that is there now."""
    entry = json.loads((folder / "manifest.json").read_bytes())["shards"][number]
    content = (folder / entry["path"]).read_bytes()

    def change(data: dict[str, Any]) -> None:
        data["shards"][number].update(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())

    rewrite_manifest(folder, change)


def test_a_whole_dump_passes_and_its_report_has_the_manifests_digests(dump: Path) -> None:
    report = verify_dump(dump)
    data = report.to_json()
    assert data["digests"] == read_manifest(dump).digests.to_json()
    assert (data["verdict"], data["rows"], data["findings"]) == ("pass", 120, [])
    assert report.exit_code is ExitCode.PASS
    assert report.bytes == sum(path.stat().st_size for path in dump.rglob("*") if path.is_file())
    report.raise_if_damaged()


def test_one_flipped_bit_anywhere_in_any_file_is_found(dump: Path) -> None:
    rng = random.Random(20)
    for path in sorted(path for path in dump.rglob("*") if path.is_file()):
        whole = path.read_bytes()
        name = path.relative_to(dump).as_posix()
        edges = {0, 1, len(whole) // 2, len(whole) - 1, len(whole) - 2}
        for position in edges | {rng.randrange(len(whole)) for _ in range(12)}:
            damaged = bytearray(whole)
            damaged[position] ^= 1 << rng.randrange(8)
            path.write_bytes(damaged)
            # Of the manifest and its hash nobody can say which of the two was changed.
            named = ("manifest.json", "manifest.json.sha256") if name.startswith("manifest") else (name,)
            must_fail(dump, *named)
        path.write_bytes(whole)
    assert verify_dump(dump).verdict is Verdict.PASS


def test_a_flipped_byte_in_a_shard_is_never_restored(dump: Path) -> None:
    [shard, *_] = sorted((dump / "shards").iterdir())
    damaged = bytearray(shard.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    shard.write_bytes(damaged)
    source = DumpSource(dump)
    with pytest.raises(DumpCorrupt, match=shard.name):
        list(source.scan(source.partitions(1)[0], batch_rows=10))


@pytest.mark.parametrize("name", ["manifest.json", "manifest.json.sha256", "journal.jsonl", "shards/0"])
@pytest.mark.parametrize("how", ["missing", "empty", "truncated", "longer"])
def test_a_missing_truncated_or_longer_file_is_named(dump: Path, name: str, how: str) -> None:
    path = next(path for path in sorted(dump.rglob("*")) if path.relative_to(dump).as_posix().startswith(name))
    content = path.read_bytes()
    if how == "missing":
        path.unlink()
    else:
        path.write_bytes({"empty": b"", "truncated": content[: len(content) // 2], "longer": content + b"\n"}[how])
    related = {"manifest.json", "manifest.json.sha256"} if name.startswith("manifest") else set()
    must_fail(dump, path.relative_to(dump).as_posix(), *related)


@pytest.mark.parametrize("version", [0, 2, "1", 1.5, None, True])
def test_an_unknown_format_version_aborts(dump: Path, version: Any) -> None:
    rewrite_manifest(dump, lambda data: data.update(format_version=version))
    report = must_fail(dump, "manifest.json")
    assert report.format_unknown
    with pytest.raises(FormatUnknown):
        report.raise_if_damaged()
    with pytest.raises(FormatUnknown, match="version"):
        DumpSource(dump)


def test_an_encrypted_dump_is_not_guessed_at(dump: Path) -> None:
    rewrite_manifest(dump, lambda data: data.update(encryption={"algorithm": "AES_GCM_V1"}))
    with pytest.raises(FormatUnknown, match="encrypted"):
        DumpSource(dump)


@pytest.mark.parametrize(
    "path",
    ["../outside.parquet", "/etc/hostname", "shards/../../x", "shards//x", "./x", "C:\\x", "c:/x", "..", "", "a\0b"],
)
def test_a_path_that_leaves_the_folder_is_refused(dump: Path, path: str) -> None:
    (dump.parent / "outside.parquet").write_bytes(b"")
    rewrite_manifest(dump, lambda data: data["shards"][0].update(path=path))
    must_fail(dump, "manifest.json")
    with pytest.raises(DumpCorrupt, match=r"shards\[0\]\.path"):
        DumpSource(dump)


@pytest.mark.parametrize("link", ["shard", "folder", "manifest.json"])
def test_a_symbolic_link_is_not_followed(dump: Path, link: str) -> None:
    place = sorted((dump / "shards").iterdir())[0] if link == "shard" else dump / "shards"
    place = dump / link if link == "manifest.json" else place
    outside = dump.parent / "outside"
    shutil.move(place, outside)
    os.symlink(outside, place)
    shards = {entry.path for entry in read_manifest(dump).shards} if link != "manifest.json" else set()
    must_fail(dump, "manifest.json", *shards)
    with pytest.raises(DumpCorrupt, match="symbolic link"):
        source = DumpSource(dump)
        list(source.scan(source.partitions(1)[0], batch_rows=10))


def test_a_folder_in_place_of_a_shard_is_found(dump: Path) -> None:
    shard = sorted((dump / "shards").iterdir())[0]
    shard.unlink()
    shard.mkdir()
    must_fail(dump, f"shards/{shard.name}")


def test_stray_files_are_told_but_are_no_damage(dump: Path) -> None:
    (dump / "notes.txt").write_text("mine")
    (dump / "shards" / "00000.parquet.tmp").write_text("")
    report = verify_dump(dump)
    assert report.verdict is Verdict.PASS
    assert {finding.detail["file"] for finding in report.findings} == {"notes.txt", "shards/00000.parquet.tmp"}
    assert {finding.code for finding in report.findings} == {"dump.stray_file"}


def test_every_damaged_file_is_named_not_only_the_first(dump: Path) -> None:
    shards = sorted((dump / "shards").iterdir())
    shards[0].write_bytes(b"")
    shards[-1].unlink()
    assert damaged_files(verify_dump(dump)) == {f"shards/{shards[0].name}", f"shards/{shards[-1].name}"}


def test_a_row_taken_out_of_a_shard_with_hashes_made_right_is_found_by_count_and_digest(dump: Path) -> None:
    entry = read_manifest(dump).shards[0]
    table = pq.read_table(dump / entry.path)
    pq.write_table(table.slice(1), dump / entry.path)
    relist(dump, 0)
    report = must_fail(dump, entry.path)
    assert {finding.code for finding in report.findings} >= {"dump.shard_rows", "dump.digests"}


def test_a_changed_value_with_hashes_made_right_is_found_by_its_digest(dump: Path) -> None:
    entry = read_manifest(dump).shards[0]
    table = pq.read_table(dump / entry.path)
    documents = table.column("document").to_pylist()
    documents[0] = "something else"
    at = table.schema.get_field_index("document")
    pq.write_table(table.set_column(at, "document", pa.array(documents)), dump / entry.path)
    relist(dump, 0)
    report = must_fail(dump, "manifest.json")
    assert any("payloads" in finding.message for finding in report.findings)


def test_other_columns_than_the_manifests_are_found(dump: Path) -> None:
    entry = read_manifest(dump).shards[0]
    table = pq.read_table(dump / entry.path)
    pq.write_table(table.drop_columns(["document"]), dump / entry.path)
    relist(dump, 0)
    must_fail(dump, entry.path)


def test_a_shard_that_is_no_parquet_at_all_is_found_even_with_its_hash_made_right(dump: Path) -> None:
    entry = read_manifest(dump).shards[0]
    (dump / entry.path).write_bytes(b"PAR1 nothing of the kind PAR1")
    relist(dump, 0)
    must_fail(dump, entry.path)


def test_a_payload_that_is_not_canonical_is_named_by_its_id_and_not_shown(dump: Path) -> None:
    entry = read_manifest(dump).shards[0]
    table = pq.read_table(dump / entry.path)
    payloads = table.column("payload").to_pylist()
    payloads[3] = '{"secret": "value"}'
    at = table.schema.get_field_index("payload")
    pq.write_table(table.set_column(at, "payload", pa.array(payloads)), dump / entry.path)
    relist(dump, 0)
    report = must_fail(dump, entry.path)
    [finding] = [finding for finding in report.findings if finding.code == "dump.payload_not_canonical"]
    assert finding.ids == (table.column("id")[3].as_py(),)
    assert finding.count == 1
    assert "secret" not in json.dumps(report.to_json())


def test_an_id_that_stands_twice_is_named(dump: Path) -> None:
    entry = read_manifest(dump).shards[0]
    table = pq.read_table(dump / entry.path)
    pq.write_table(pa.concat_tables([table, table.slice(0, 1)]), dump / entry.path)
    relist(dump, 0)
    report = must_fail(dump, entry.path)
    [finding] = [finding for finding in report.findings if finding.code == "dump.ids_doubled"]
    assert finding.count == 1


def test_an_unfinished_dump_fails_and_a_missing_folder_is_a_mistake(dump: Path) -> None:
    (dump / "manifest.json").unlink()
    report = must_fail(dump, "manifest.json")
    assert "120 records stand" in report.findings[0].message
    assert "run the same dump command again" in report.findings[0].detail["next"]
    with pytest.raises(CollectionMissing):
        verify_dump(dump / "nowhere")


def test_a_dump_of_no_one_moment_says_so_whenever_it_is_used(write_dump: Any, plain: Any) -> None:
    account = TransferAccount(rows_read=120, source_count_before=120, source_count_after=121)
    folder = write_dump(plain, account=account)
    report = verify_dump(folder)
    assert report.verdict is Verdict.PASS, report.findings
    assert [finding.code for finding in report.findings] == ["dump.changed"]
    with open_endpoint(f"dump:{folder}") as source, open_endpoint(f"memory:{folder}#articles") as target:
        result = migrate(source, target)
    assert result.verdict is Verdict.INCONCLUSIVE
    assert "source.changed" in {finding.code for finding in result.findings}


@pytest.mark.parametrize(
    ("counted", "said"), [(122, "counts a key twice that stands there twice"), (118, "counts less")]
)
def test_a_source_that_counts_what_it_does_not_give_was_not_written_to(
    write_dump: Any, plain: Any, counted: int, said: str
) -> None:
    """As Milvus, where a key was inserted twice."""
    account = TransferAccount(rows_read=120, source_count_before=counted, source_count_after=counted)
    folder = write_dump(plain, account=account)
    [finding] = verify_dump(folder).findings
    assert finding.code == "dump.count"
    with open_endpoint(f"dump:{folder}") as source, open_endpoint(f"memory:{folder}#articles") as target:
        found = {each.code: each for each in migrate(source, target).findings}
    assert "source.changed" not in found
    assert found["source.count"].verdict is Verdict.INCONCLUSIVE
    for text in (finding.message, found["source.count"].message):
        assert f"counted {counted} records before and after it was dumped, and gave 120" in text
        assert said in text
