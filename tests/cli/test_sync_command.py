"""`sync` asks the same consent as a copy, before its first write, and its dry run writes nothing."""

from __future__ import annotations

import numpy as np
import pytest

from exitramp.ports import Origin
from exitramp.records import CollectionSpec, DType, IdKind, Metric, VectorField, VectorKind
from exitramp.testing.rows import Row, batch_from_rows, rows_from_batch
from exitramp.wrappers import open_endpoint
from tests.cli.conftest import Cli
from tests.cli.test_data_commands import ROWS, complete, ids_of, lose
from tests.drill.small_stacks import fill

LOSSES = ("--accept-loss", "metric:vector", "--accept-loss", "vector")
LOSSY = "qdrant:./new?metric=cosine#articles"
"""A place for vectors of differing length that are searched by another metric there, and scaled."""


@pytest.fixture(name="source")
def _source(name: str) -> str:
    return fill(f"memory:{name}#articles", rows=ROWS)


@pytest.fixture(name="behind")
def _behind(source: str, cli: Cli) -> list[str]:
    """The ids of three records that the lossy target has lost since everything was copied there."""
    cli("copy", source, LOSSY, *LOSSES, code=0)
    gone = sorted(ids_of(source))[:3]
    lose(LOSSY, gone)
    return gone


def test_a_lossy_sync_stops_before_the_first_write_in_the_words_of_a_copy(
    source: str, behind: list[str], cli: Cli
) -> None:
    words = cli("copy", source, "qdrant:./other?metric=cosine#articles", code=2).err
    assert "--accept-loss metric:vector --accept-loss vector" in words
    for more in ((), ("--delete",), ("--dry-run",), LOSSES[:2], LOSSES[2:]):
        refused = cli("sync", source, LOSSY, *more, code=2)
        assert "--accept-loss" in refused.err
        assert refused.err == words or more in (LOSSES[:2], LOSSES[2:])
        assert not set(behind) & set(ids_of(LOSSY)), "something was written"


def test_a_refusal_is_json_where_json_was_asked_for(source: str, behind: list[str], cli: Cli) -> None:
    for more in ((), ("--dry-run",)):
        told = cli("sync", source, LOSSY, "--json", *more, code=2).json
        assert (told["error"]["kind"], told["exit_code"]) == ("ConsentMissing", 2)
        assert "--accept-loss metric:vector --accept-loss vector" in told["error"]["next"]


def test_with_consent_what_is_missing_comes_over_and_nothing_else(source: str, behind: list[str], cli: Cli) -> None:
    dry = cli("sync", source, LOSSY, *LOSSES, "--dry-run", "--json", code=0).json
    assert (dry["dry_run"], dry["missing"], dry["changed"], dry["to_write"], dry["to_delete"]) == (True, 3, 0, 3, 0)
    assert dry["digests"] is None
    assert {line["subject"] for line in dry["plan"] if line["class"] == "lossy"} == {"metric:vector", "vector"}
    assert len(ids_of(LOSSY)) == ROWS - 3
    assert "3 would be written" in cli("sync", source, LOSSY, *LOSSES, "--dry-run", code=0).out
    synced = complete(cli("sync", source, LOSSY, *LOSSES, "--json", code=0))
    assert (synced["missing"], synced["changed"], synced["upserted"]) == (3, 0, 3)
    assert synced["plan"] == dry["plan"]
    again = complete(cli("sync", source, LOSSY, *LOSSES, "--json", code=0))
    assert (again["missing"], again["changed"], again["upserted"]) == (0, 0, 0), "vectors that lost their length again"


def test_a_line_that_the_plan_does_not_have_cannot_be_accepted(source: str, behind: list[str], cli: Cli) -> None:
    refused = cli("sync", source, LOSSY, *LOSSES, "--accept-loss", "payload.nowhere", code=2)
    assert "the plan has no such line" in refused.err


def test_a_dry_run_deletes_nothing_and_holds_at_the_brake(source: str, cli: Cli) -> None:
    cli("copy", source, "faiss:./new.faiss", code=0)
    lose(source, ids_of(source)[:2])
    assert "2 of the target's" in cli("sync", source, "faiss:./new.faiss", "--delete", "--max-deletes", 1, code=2).err
    words = ("sync", source, "faiss:./new.faiss", "--delete", "--dry-run")
    assert "would be deleted" in cli(*words, "--max-deletes", 1, code=2).err
    dry = cli(*words, "--json", code=0).json
    assert (dry["extra"], dry["to_delete"], dry["to_write"]) == (2, 2, 0)
    assert "sync.deleted" not in {each["code"] for each in dry["findings"]}, "nothing was"
    assert len(ids_of("faiss:./new.faiss#articles")) == ROWS


def test_a_collection_that_is_not_there_is_said_before_anything_is_measured(source: str, cli: Cli, name: str) -> None:
    assert "there is no collection" in cli("sync", source, f"memory:{name}-none#articles", code=2).err
    assert "no collection" in cli("sync", source, f"memory:{name}-none#articles", "--dry-run", code=2).err


@pytest.fixture(name="wide")
def _wide(name: str) -> str:
    """Numbers of 64 bits of which no float32 holds all."""
    address = f"memory:{name}-wide#articles"
    field = VectorField("", VectorKind.DENSE, DType.FLOAT64, Metric.DOT, 4)
    spec = CollectionSpec("articles", IdKind.UINT64, (field,))
    rows = [Row(str(each), None, None, {"n": each}, {"vector": np.full(4, each + 0.1)}) for each in range(1, 9)]
    with open_endpoint(address) as endpoint:
        sink = endpoint.sink()
        sink.create(spec, Origin(spec, "test"))
        sink.upsert(batch_from_rows(rows, spec))
        sink.flush()
    return address


def test_numbers_that_were_rounded_with_consent_are_not_taken_for_changed(wide: str, cli: Cli) -> None:
    target, consent = "qdrant:./new#articles", ("--accept-loss", "vector")
    cli("copy", wide, target, *consent, code=0)
    assert "precision" in cli("sync", wide, target, code=2).err
    done = cli("sync", wide, target, *consent, "--json", code=0).json
    assert (done["verdict"], done["changed"], done["upserted"]) == ("pass", 0, 0)
    with open_endpoint(wide) as endpoint:
        source, sink = endpoint.source(), endpoint.sink()
        spec = source.describe()
        [page] = source.scan(source.partitions(1)[0], batch_rows=100)
        row = rows_from_batch(page.batch, spec)[0]
        sink.create(spec, Origin(spec, "test"))
        sink.upsert(batch_from_rows([Row(row.id, None, None, {"n": 99}, {"vector": np.full(4, 7.5)})], spec))
    done = cli("sync", wide, target, *consent, "--json", code=0).json
    assert (done["verdict"], done["changed"], done["upserted"]) == ("pass", 1, 1)


def test_a_dry_run_with_consent_says_that_it_was_given_and_asks_no_more(
    source: str, behind: list[str], cli: Cli
) -> None:
    for command in (("sync", source, LOSSY), ("copy", source, "qdrant:./other?metric=cosine#articles")):
        said = cli(*command, *LOSSES, "--dry-run", code=0).out
        assert "lossy, and accepted by name: metric:vector, vector" in said
        assert "need consent" not in said
    said = cli("plan", source, "qdrant:./other?metric=cosine#articles", code=0).out
    assert "lossy lines need consent by name before anything is written: --accept-loss metric:vector" in said
    assert "accepted by name:" not in said


@pytest.mark.parametrize(
    ("extra", "stand"), [(1, "1 record stands only at the target"), (3, "3 records stand only at the target")]
)
def test_what_only_the_target_holds_is_told_once_and_is_no_fault_of_a_run_that_was_not_to_delete(
    extra: int, stand: str, source: str, cli: Cli
) -> None:
    cli("copy", source, "faiss:./new.faiss", code=0)
    gone = sorted(ids_of(source))[:extra]
    lose(source, gone)
    ended = cli("sync", source, "faiss:./new.faiss", code=0)
    assert f"PASS  0 written, 0 deleted; {stand}\n" in ended.out
    assert ended.out.count("sync.extra") == 1
    assert f"{stand} and {'was' if extra == 1 else 'were'} left there; --delete would remove" in ended.out
    found = cli("sync", source, "faiss:./new.faiss", "--json", code=0).json
    [told] = [each for each in found["findings"] if each["code"] == "sync.extra"]
    assert (told["verdict"], told["count"], sorted(told["ids"])) == (None, extra, gone)
    dry = cli("sync", source, "faiss:./new.faiss", "--dry-run", code=0)
    assert dry.out.count("sync.extra") == 1
    done = cli("sync", source, "faiss:./new.faiss", "--delete", "--max-deletes", extra, code=0)
    assert f"PASS  0 written, {extra} deleted\n" in done.out
    assert "only at the target" not in done.out
