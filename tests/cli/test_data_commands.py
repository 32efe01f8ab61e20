"""Each command that reads or moves data, from end to end: for machines and for people."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from exitramp.ports import Origin
from exitramp.records import RecordKey
from exitramp.wrappers import open_endpoint
from tests.cli.conftest import Cli, Ended
from tests.drill.small_stacks import fill

ROWS = 60
"""Of fewer no comparison of neighbours could tell anything: 48 queries are the least."""
HEX = re.compile(r"[0-9a-f]{64}")


def complete(ended: Ended, verdict: str = "pass", rows: int = ROWS) -> Any:
    """What a command printed for machines, all the keys that are promised being there."""
    found = ended.json
    assert found["verdict"] == verdict
    assert found["rows"] == rows
    assert HEX.fullmatch(found["digests"]["ids"])
    assert HEX.fullmatch(found["digests"]["payloads"])
    assert [HEX.fullmatch(each) is not None for each in found["digests"]["vectors"].values()] == [True]
    for each in found["findings"]:
        assert each["code"]
        assert each["message"]
    return found


def lose(address: str, ids: list[str]) -> None:
    with open_endpoint(address) as endpoint:
        source = endpoint.source()
        sink = endpoint.sink()
        sink.create(source.describe(), source.origin() or Origin(source.describe(), "test"))
        sink.delete([RecordKey(id_) for id_ in ids])
        sink.flush()


def ids_of(address: str) -> list[str]:
    with open_endpoint(address) as endpoint:
        source = endpoint.source()
        return [
            id_
            for partition in source.partitions(1)
            for page in source.scan(partition, batch_rows=100)
            for id_ in page.batch.column("id").to_pylist()
        ]


@pytest.fixture(name="primary", params=["memory", "qdrant", "chroma"])
def _primary(request: pytest.FixtureRequest, name: str, tmp_path: Path) -> str:
    """A filled store of each kind that a few rows are quickly put into."""
    place = name if request.param == "memory" else f"{tmp_path}/primary"
    return fill(f"{request.param}:{place}#articles", rows=ROWS)


@pytest.fixture(name="memory")
def _memory(name: str) -> str:
    return fill(f"memory:{name}#articles", rows=ROWS)


def test_inspect_tells_fields_count_inventory_and_norms(primary: str, cli: Cli) -> None:
    found = complete(cli("inspect", primary, "--json", code=0))
    assert found["count"] == ROWS
    assert found["inventory"]["fields"]
    said = cli("inspect", primary, code=0).out
    assert f"{ROWS} by the store's count, {ROWS} by a complete scan" in said
    assert "12 × float32, dense, dot" in said


def test_a_dump_is_written_verified_restored_and_compared(primary: str, cli: Cli, name: str) -> None:
    dumped = complete(cli("dump", primary, "out", "--json", code=0))
    assert (dumped["source"], dumped["target"]) == (primary, "dump:out")
    verified = complete(cli("verify", "out", "--json", code=0))
    target = f"memory:{name}-new#articles"
    restored = complete(cli("restore", "out", target, "--json", code=0))
    compared = complete(cli("compare", "dump:out", target, "--no-neighbours", "--json", code=0))
    inspected = complete(cli("inspect", primary, "--json", code=0))
    assert dumped["digests"] == verified["digests"] == restored["digests"] == inspected["digests"]
    assert restored["target_digests"] == compared["digests_b"] == dumped["digests"]
    assert restored["plan"]


def test_people_are_told_the_same(primary: str, cli: Cli, name: str) -> None:
    target = f"memory:{name}-new#articles"
    for words, said in (
        (("plan", primary, target), f"{ROWS} records,"),
        (("dump", primary, "out"), f"PASS  {ROWS} records → dump:out"),
        (("verify", "out"), f"PASS  {ROWS} records in"),
        (("restore", "out", target), "read back: the same digests"),
        (("compare", primary, target, "--no-neighbours"), f"PASS  A {ROWS} records, B {ROWS}, {ROWS} on both sides"),
        (("sync", primary, target), "PASS  0 written, 0 deleted"),
    ):
        ended = cli(*words, code=0)
        assert said in ended.out, ended.out
        assert not ended.out.startswith("{")


def test_copy_goes_from_store_to_store_and_sync_catches_up(primary: str, cli: Cli) -> None:
    copied = complete(cli("copy", primary, "faiss:./new.faiss", "--json", code=0))
    assert copied["digests"] == copied["target_digests"]
    lost = ids_of("faiss:./new.faiss#articles")[:3]
    lose("faiss:./new.faiss#articles", lost)
    compared = complete(cli("compare", primary, "faiss:./new.faiss", "--json", "--no-neighbours", code=1), "fail")
    assert {each["code"] for each in compared["findings"]} >= {"records.missing"}
    assert compared["rows_b"] == ROWS - 3
    named = [json.loads(line)["id"] for line in Path("compare-ids.jsonl").read_text(encoding="utf-8").splitlines()]
    assert sorted(named) == sorted(lost)
    synced = complete(cli("sync", primary, "faiss:./new.faiss", "--json", code=0))
    assert (synced["missing"], synced["upserted"], synced["deleted"]) == (3, 3, 0)
    assert synced["target_digests"] == copied["digests"]


def test_sync_deletes_with_consent_alone(memory: str, cli: Cli) -> None:
    cli("copy", memory, "faiss:./new.faiss", code=0)
    lose(memory, ids_of(memory)[:2])
    kept = complete(cli("sync", memory, "faiss:./new.faiss", "--json"), rows=ROWS - 2)
    assert (kept["extra"], kept["deleted"]) == (2, 0)
    assert "sync.extra" in {each["code"] for each in kept["findings"]}
    gone = complete(cli("sync", memory, "faiss:./new.faiss", "--delete", "--json", code=0), rows=ROWS - 2)
    assert gone["deleted"] == 2


def test_plan_and_dry_run_write_nothing_and_name_every_line(memory: str, cli: Cli) -> None:
    for words in (("plan", memory, "chroma:./new#articles"), ("copy", memory, "chroma:./new#articles", "--dry-run")):
        found = cli(*words, "--json", code=0).json
        assert found["verdict"] == "pass"
        assert found["rows"] == ROWS
        assert found["digests"] is None
        assert {line["class"] for line in found["plan"]} <= {"exact", "reversible", "rounded"}
        assert not Path("new").exists()
    assert "nothing was written" in cli("copy", memory, "chroma:./new#articles", "--dry-run", code=0).out


def test_a_lossy_move_needs_consent_by_name(memory: str, cli: Cli) -> None:
    words = ("copy", memory, "qdrant:./new?metric=cosine#articles")
    refused = cli(*words, code=2)
    assert "--accept-loss metric:vector --accept-loss vector" in refused.err
    assert not Path("new").exists()
    assert "metric:vector" in cli("plan", *words[1:], code=0).out
    losses = ("--accept-loss", "metric:vector", "--accept-loss", "vector")
    assert cli(*words, *losses[:2]).code == 2
    complete(cli(*words, *losses, "--json", code=0))


def test_what_was_not_read_back_is_inconclusive(memory: str, cli: Cli) -> None:
    found = cli("copy", memory, "faiss:./new.faiss", "--no-verify", "--json", code=3).json
    assert found["verdict"] == "inconclusive"
    assert found["target_digests"] is None


def test_a_target_with_records_is_refused_unless_they_may_stay(memory: str, cli: Cli, name: str) -> None:
    target = fill(f"memory:{name}-full#articles", rows=5)
    refused = cli("copy", memory, target, code=2)
    assert "already holds 5 records" in refused.err
    assert "--into-existing" in refused.err
    assert cli("copy", memory, target, "--into-existing", "--json").json["rows"] == ROWS


def test_values_are_shown_where_asked_for_and_nowhere_else(name: str, cli: Cli) -> None:
    one, other = fill(f"memory:{name}-1#articles", rows=3), fill(f"memory:{name}-2#articles", rows=3)
    with open_endpoint(other) as endpoint:
        source, sink = endpoint.source(), endpoint.sink()
        [page] = list(source.scan(source.partitions(1)[0], batch_rows=10))
        place = page.batch.schema.get_field_index("document")
        sink.create(source.describe(), Origin(source.describe(), "test"))
        sink.upsert(page.batch.set_column(place, "document", pa.array(["zebra"] * 3)))
        sink.flush()
    hidden = cli("compare", one, other, code=1)
    assert "zebra" not in hidden.out + hidden.err
    assert "zebra" in cli("compare", one, other, "--show-values", "document", code=1).out
    assert "zebra" in cli("compare", one, other, "--show-values", "document", "--json", code=1).out


@pytest.mark.parametrize("k", [1, 5])
def test_neighbours_are_compared_against_exact_truth(memory: str, cli: Cli, k: int) -> None:
    cli("copy", memory, "faiss:./new.faiss", code=0)
    where = '{"exists": {"field": "page"}}'
    found = complete(cli("compare", memory, "faiss:./new.faiss", "--k", k, "--queries", 60, "--where", where, "--json"))
    assert found["neighbours"]["k"] == k
    assert "under where-1:exists" in cli("compare", memory, "faiss:./new.faiss", "--where", where, code=0).out


def test_a_plan_says_what_a_copy_into_records_would_meet(cli: Cli, name: str) -> None:
    one, other = fill(f"memory:{name}-1#articles", rows=8), fill(f"memory:{name}-2#articles", rows=3)
    for words in (("plan",), ("copy", "--dry-run")):
        ended = cli(*words, one, other, "--json", code=3)
        assert [each["count"] for each in ended.json["findings"] if each["code"] == "target.holds"] == [3]
    assert cli("copy", "--dry-run", "--into-existing", one, other, "--json", code=0).json["verdict"] == "pass"
