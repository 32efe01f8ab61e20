"""A sample is fair, the same for the same seed and ids, and holds only records that can be asked with."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from exitramp.parity.sampling import sample_queries
from exitramp.records import CollectionSpec, IdKind, RecordKey
from exitramp.testing.rows import Row


def source_of(parity: Any, rows: int, **more: Any) -> Any:
    matrix = np.random.default_rng(0).standard_normal((rows, 8)).astype(np.float32)
    return parity.Source(parity.spec(), parity.rows(matrix, [{"at": number} for number in range(rows)]), **more)


def test_the_sample_does_not_depend_on_order_and_pages(parity: Any) -> None:
    source = source_of(parity, 300)
    field = source.spec.vectors[0]
    whole = sample_queries(source, field, queries=20, seed=1, payloads=30, batch_rows=1000)
    source.rows.reverse()
    again = sample_queries(source, field, queries=20, seed=1, payloads=30, batch_rows=7)
    assert whole.keys == again.keys
    assert whole.payloads == again.payloads
    assert np.array_equal(whole.vectors, again.vectors)
    assert (len(whole.keys), len(whole.payloads), whole.population, whole.rows) == (20, 30, 300, 300)
    assert sample_queries(source, field, queries=20, seed=2).keys != whole.keys


def test_every_query_has_its_own_records_vector(parity: Any) -> None:
    source = source_of(parity, 100)
    sample = sample_queries(source, source.spec.vectors[0], queries=10, seed=3)
    vectors = {row.key: row.vectors["vector"] for row in source.rows}
    for key, vector in zip(sample.keys, sample.vectors, strict=True):
        assert np.array_equal(vectors[key], vector)


def test_each_record_is_about_as_likely_as_any_other(parity: Any) -> None:
    source = source_of(parity, 60)
    drawn = [
        key for seed in range(200) for key in sample_queries(source, source.spec.vectors[0], queries=6, seed=seed).keys
    ]
    counts = [drawn.count(row.key) for row in source.rows]  # 20 expected, standard deviation 4.2
    assert 2 <= min(counts) <= max(counts) <= 42


def test_fewer_records_than_wanted_are_all_drawn_once(parity: Any) -> None:
    source = source_of(parity, 5)
    source.rows += source.rows[:2]
    sample = sample_queries(source, source.spec.vectors[0], queries=20, seed=1)
    assert sorted(sample.keys) == [row.key for row in source.rows[:5]]


def test_records_that_cannot_be_asked_with_are_not_drawn(parity: Any) -> None:
    source = source_of(parity, 6)
    source.rows[0] = Row("none")
    for place, value in ((1, 0.0), (2, np.nan), (3, np.inf)):
        source.rows[place].vectors["vector"][:] = value
    sample = sample_queries(source, source.spec.vectors[0], queries=20, seed=1, payloads=20)
    assert sorted(key.id for key in sample.keys) == ["r004", "r005"]
    assert sample.population == 2
    assert len(sample.payloads) == 6


def test_nothing_gives_an_empty_sample(parity: Any) -> None:
    source = source_of(parity, 0)
    sample = sample_queries(source, source.spec.vectors[0], queries=20, seed=1)
    assert (sample.keys, sample.vectors, sample.population) == ((), (), 0)


@pytest.mark.parametrize("names", [[("a", None), ("a", ""), ("a", "n")]])
def test_records_of_one_id_in_several_namespaces_are_different_records(parity: Any, names: Any) -> None:
    field = parity.spec().vectors[0]
    spec = CollectionSpec("c", IdKind.STRING, (field,), has_namespaces=True)
    rows = [Row(id_, space, vectors={"vector": np.ones(8, np.float32)}) for id_, space in names]
    sample = sample_queries(parity.Source(spec, rows), field, queries=9, seed=1)
    assert set(sample.keys) == {RecordKey(*name) for name in names}
