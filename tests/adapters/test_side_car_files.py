"""Index files with a side-car that says what the index calls each record: kills, labels, changes, settings, reading."""

from __future__ import annotations

import fcntl
import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import hnswlib
import numpy as np
import pyarrow.parquet as pq
import pytest
from usearch.index import Index

from exitramp.errors import CollectionExists, IntegrityError, StoreRejected, UsageError
from exitramp.ports import Query, SearchSettings, TransferAccount
from exitramp.ports.side_car import read_side_car, signature, write_both
from exitramp.records import IdKind, Metric, RecordKey
from exitramp.registry import open_store, store_adapter
from exitramp.testing import Row, batch_from_rows
from exitramp.testing.conformance.compare import assert_same_records
from exitramp.testing.conformance.steps import limits_of, origin_of, read, refusal, write
from exitramp.testing.within import rows_within, spec_within
from tests.adapters.side_car_harness import SideCarHarness
from tests.adapters.test_faiss_files import killed_writer
from tests.adapters.test_hnswlib import HnswlibHarness
from tests.adapters.test_reading_only import read_everything, snapshot
from tests.adapters.test_usearch import UsearchHarness

DOCS = Path(__file__).parents[2] / "docs" / "stores"


@pytest.fixture(name="harness", params=[UsearchHarness, HnswlibHarness])
def _harness(request: pytest.FixtureRequest, tmp_path: Path) -> SideCarHarness:
    return request.param(tmp_path)  # type: ignore[no-any-return]


def made(harness: SideCarHarness, rows: int = 6, metric: Metric = Metric.COSINE) -> tuple[Any, list[Row]]:
    limits = limits_of(harness)
    spec = spec_within(limits, "articles")
    spec = replace(spec, vectors=(replace(spec.vectors[0], metric=metric),))
    records = rows_within(spec, limits, rows, 3)
    write(harness, spec, records)
    return spec, records


def test_a_process_killed_between_two_renames_leaves_all_or_nothing_of_a_flush(harness: SideCarHarness) -> None:
    spec = spec_within(limits_of(harness), "articles")
    rows = rows_within(spec, limits_of(harness), 8, 4)
    killed_writer(harness, spec, 3, killed_before=2)  # type: ignore[arg-type]  # in `create`, between the two
    write(harness, spec, rows[:3])
    killed_writer(harness, spec, 8, killed_before=1)  # type: ignore[arg-type]
    assert {row.id for row in read(harness, "articles").rows} == {row.id for row in rows[:3]}
    killed_writer(harness, spec, 5, killed_before=2)  # type: ignore[arg-type]
    assert {row.id for row in read(harness, "articles").rows} == {row.id for row in rows[:5]}
    write(harness, spec, rows)
    assert_same_records(rows, read(harness, "articles").rows, spec, limits_of(harness), "in the end")
    assert len(list(harness.folder.iterdir())) == 2


def test_a_flipped_byte_in_either_file_changes_nothing_silently(harness: SideCarHarness) -> None:
    spec, rows = made(harness)
    for path in (harness.path("articles"), harness.side_car("articles")):
        whole = path.read_bytes()
        for place in range(0, len(whole), max(1, len(whole) // 30)):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            error = refusal(lambda: read(harness, "articles"))
            assert isinstance(error, IntegrityError) or (error is None and path == harness.side_car("articles"))
            if error is None:
                assert_same_records(rows, read(harness, "articles").rows, spec, limits_of(harness), str(place))
        path.write_bytes(whole)


def test_labels_that_are_not_those_of_the_index_are_an_integrity_error(harness: SideCarHarness) -> None:
    made(harness)
    table, about = pq.read_table(harness.side_car("articles")), harness.about("articles")
    spot = table.schema.get_field_index("label")
    labels = table.column("label").to_numpy() + 1
    harness.write_side_car("articles", table.set_column(spot, "label", [labels]), about["spec"])
    with pytest.raises(IntegrityError, match="by other numbers"):
        harness.open("articles").source().count()


def test_reading_touches_no_file(harness: SideCarHarness) -> None:
    made(harness, 300)
    before = snapshot(harness.folder)
    read_everything(harness.address("articles"))
    assert snapshot(harness.folder) == before
    assert not store_adapter(harness.scheme).opening


def test_two_writers_do_not_overwrite_each_other(harness: SideCarHarness) -> None:
    spec, rows = made(harness)
    one, two = harness.open("articles").sink(), harness.open("articles").sink()
    for place, sink in enumerate((one, two)):
        sink.create(spec, origin_of(spec))
        sink.upsert(batch_from_rows(rows[place : place + 1], spec))
    one.flush()
    one.upsert(batch_from_rows(rows[2:3], spec))
    one.flush()  # it knows what it wrote itself
    with pytest.raises(StoreRejected, match="somebody else"):
        two.flush()


def labels_of(harness: SideCarHarness) -> dict[str, int]:
    table = pq.read_table(harness.side_car("articles"))
    return dict(zip(table.column("id").to_pylist(), table.column("label").to_pylist(), strict=True))


def test_a_record_whose_id_is_a_number_is_called_by_it(harness: SideCarHarness) -> None:
    spec = spec_within(limits_of(harness), "articles", id_kind=IdKind.STRING)
    spec = replace(spec, has_namespaces=False, has_documents=False)
    ids = ["7", "0", "007", str(2**63), str(2**64 - 1), str(2**64), "a", "-1", "٣", "1.0"]
    rows = [
        replace(row, id=id_, namespace=None, document=None)
        for id_, row in zip(ids, rows_within(spec, limits_of(harness), len(ids), 3), strict=True)
    ]
    write(harness, spec, rows)
    labels = labels_of(harness)
    numbers = {id_: int(id_) for id_ in ("7", "0", str(2**63))}
    assert numbers.items() <= labels.items()
    assert len(set(labels.values())) == len(ids)
    assert max(labels.values()) < 2**64 - 1
    # A number that is taken already: the record is called by another, and found all the same.
    taken = labels["a"]
    more = [replace(rows[0], id=str(taken)), replace(rows[1], id="b")]
    write(harness, spec, more)
    after = labels_of(harness)
    assert labels.items() <= after.items()
    assert after[str(taken)] != taken
    assert_same_records([*rows, *more], read(harness, "articles").rows, spec, limits_of(harness), "after more")
    query = Query(dense=np.asarray(rows[6].vectors["vector"]))
    assert harness.open("articles").search().search(query, k=1).keys == (RecordKey("a"),)


def test_a_number_in_two_namespaces_is_two_records(harness: SideCarHarness) -> None:
    spec = spec_within(limits_of(harness), "articles")
    plain = rows_within(spec, limits_of(harness), 3, 3)
    rows = [replace(row, id="5", namespace=space) for row, space in zip(plain, (None, "a", "b"), strict=True)]
    write(harness, spec, rows)
    assert_same_records(rows, read(harness, "articles").rows, spec, limits_of(harness), "one id thrice")
    assert len(set(pq.read_table(harness.side_car("articles")).column("label").to_pylist())) == 3


@pytest.mark.parametrize("metric", [Metric.COSINE, Metric.DOT, Metric.EUCLIDEAN])
def test_records_are_replaced_deleted_and_added_again_and_again(harness: SideCarHarness, metric: Metric) -> None:
    """Whatever is left in the graph of those that were before."""
    spec, records = made(harness, 200, metric)
    there = {row.key: row for row in records}
    rng = np.random.default_rng(1)
    store = harness.open("articles")
    sink = store.sink()
    for step in range(6):
        changed = [row for row in there.values() if rng.random() < (0.05, 0.5)[step % 2]]
        fresh = rows_within(spec, limits_of(harness), len(changed), 100 + step)
        new = [replace(row, vectors=made.vectors) for row, made in zip(changed, fresh, strict=True)]
        gone = [key for key in there if rng.random() < 0.1]
        back = [row for row in records if row.key not in there][:3]
        for row in (*new, *back):
            there[row.key] = row
        for key in gone:
            there.pop(key, None)
        sink.upsert(batch_from_rows([*new, *back], spec))
        sink.delete(gone)
        sink.flush()
    sink.finish(TransferAccount())
    rows = list(there.values())
    assert store.source().count() == len(rows)
    assert_same_records(rows, read(harness, "articles").rows, spec, limits_of(harness), "after six rounds")
    assert_same_records(rows, harness.raw_read("articles"), spec, limits_of(harness), "after six rounds, raw")
    search = store.search()
    # As hard as each index can look: what it then does not find it never finds. By itself it may miss one now and then.
    hardest = SearchSettings(options=dict.fromkeys(search.search_options(), len(rows)))
    for row in rows:
        query = Query(dense=np.asarray(row.vectors["vector"]))
        near = search.search(query, k=10, settings=hardest)
        exact = search.search(query, k=10, settings=SearchSettings(exact=True))
        assert np.allclose(near.scores[0], exact.scores[0], rtol=1e-4, atol=1e-4)
        assert len(search.search(query, k=len(rows)).keys) == len(rows)


def test_an_emptied_collection_takes_records_again(harness: SideCarHarness) -> None:
    spec, rows = made(harness, 30)
    sink = harness.open("articles").sink()
    sink.create(spec, origin_of(spec))
    sink.delete([row.key for row in rows])
    sink.flush()
    sink.finish(TransferAccount())
    assert harness.open("articles").source().count() == 0
    write(harness, spec, rows[:5])
    assert_same_records(rows[:5], read(harness, "articles").rows, spec, limits_of(harness), "again")


def test_search_options_are_the_librarys_own(harness: SideCarHarness) -> None:
    _, rows = made(harness, 40)
    query = Query(dense=np.asarray(rows[3].vectors["vector"]))
    search = harness.open("articles").search()
    own = {"usearch": "expansion_search", "hnswlib": "ef"}[harness.scheme]
    assert search.search_options() == {own: 64}
    assert len(search.search(query, k=40, settings=SearchSettings(options={own: 80})).keys) == 40
    with pytest.raises(UsageError, match="no search option 'nprobe'"):
        search.search(query, k=1, settings=SearchSettings(options={"nprobe": 8}))
    for odd in (0, -1, "many", 1.5, True):
        with pytest.raises(UsageError, match="from 1 on"):
            search.search(query, k=1, settings=SearchSettings(options={own: odd}))


def test_a_named_metric_is_the_only_one_that_is_taken(harness: SideCarHarness) -> None:
    spec, rows = made(harness)
    other = type(harness)(harness.folder, "?metric=dot")
    with pytest.raises((UsageError, CollectionExists)):
        write(other, spec, rows)
    assert limits_of(other).metrics == {Metric.DOT}


def test_graph_settings_come_from_the_address_or_from_an_index_of_the_same_kind(tmp_path: Path) -> None:
    for harness, own, other in (
        (UsearchHarness(tmp_path), {"connectivity": 9}, {"connectivity": 24, "expansion_add": 40}),
        (HnswlibHarness(tmp_path), {"M": 9, "ef_construction": 77}, {"M": 24, "ef_construction": 40}),
    ):
        limits = limits_of(harness)
        for name, options, told, wanted in (
            ("told", "", own, own),
            ("said", "?" + "&".join(f"{key}={value}" for key, value in other.items()), own, other),
        ):
            spec = replace(spec_within(limits, name), index={harness.scheme: told | {"deleted": 3}})
            asked = type(harness)(tmp_path, options)
            write(asked, spec, rows_within(spec, limits, 5, 1))
            write(asked, spec, rows_within(spec, limits, 50, 1))
            index = open_store(asked.address(name)).source().describe().index[harness.scheme]
            assert {key: index[key] for key in wanted if key in index}.items() <= wanted.items()
            if harness.scheme == "hnswlib":
                theirs: Any = hnswlib.Index("cosine", 16)
                theirs.load_index(str(harness.path(name)))
                assert (theirs.M, theirs.ef_construction) == tuple(wanted.values())
            else:
                assert Index.restore(harness.path(name)).connectivity == wanted["connectivity"]
                assert harness.about(name)["factory"] == ",".join(
                    f"{key}={value}" for key, value in ({"connectivity": 16, "expansion_add": 128} | wanted).items()
                )


def test_the_hash_in_the_side_car_is_the_index_files(harness: SideCarHarness) -> None:
    made(harness)
    about = json.loads(pq.read_metadata(harness.side_car("articles")).metadata[b"exitramp"])
    assert about["index_sha256"] == hashlib.sha256(harness.path("articles").read_bytes()).hexdigest()
    assert about["format"] == 1


@pytest.mark.parametrize("harness_type", [UsearchHarness, HnswlibHarness])
def test_the_page_reads_both_files_as_they_stand(tmp_path: Path, harness_type: type[SideCarHarness]) -> None:
    harness = harness_type(tmp_path)
    _, rows = made(harness, 40)
    page = (DOCS / f"{harness.scheme}.md").read_text(encoding="utf-8")
    [code] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    found: dict[str, Any] = {}
    exec(code, found)
    for row in rows[:5]:
        nearest = found["nearest"](str(harness.path("articles")), np.asarray(row.vectors["vector"]), 3)
        assert nearest[0] == row.id


def test_what_another_process_is_writing_is_not_written_over(harness: SideCarHarness) -> None:
    made(harness)
    path = harness.path("articles")
    before, told = signature(path), read_side_car(path)
    assert told is not None
    new = path.with_name(path.name + ".new")
    with new.open("wb") as theirs:
        theirs.write(b"half of an index")
        theirs.flush()
        fcntl.flock(theirs.fileno(), fcntl.LOCK_EX)
        with pytest.raises(StoreRejected, match="another process is writing there"):
            write_both(path, lambda _: pytest.fail("written"), told, before)
        assert new.read_bytes() == b"half of an index"
    with pytest.raises(StoreRejected, match="written by somebody else meanwhile"):
        write_both(path, lambda _: pytest.fail("written"), told, (None, None))
    assert (signature(path), new.exists()) == (before, False)
