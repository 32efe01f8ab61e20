"""The generators are hard, seeded and quick, and the comparison sees single bits."""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
import numpy.typing as npt
import pytest

import exitramp.testing
from exitramp import canonical
from exitramp.ports import PayloadLimits, SinkLimits
from exitramp.records import CollectionSpec, DType, IdKind, Metric, VectorField, VectorKind
from exitramp.testing import HARD_PAYLOADS, batch_from_rows, hard_ids, hard_records, hard_vectors, rows_from_batch
from exitramp.testing.conformance.compare import assert_same_direction, assert_same_records, ulp_distance
from exitramp.testing.memory import ALL_TYPES, LIMITS
from exitramp.testing.within import combinations, payload_within, spec_within, wide_spec


def f32(numbers: list[float]) -> npt.NDArray[np.float32]:
    return np.array(numbers, np.float32)


WIDE = wide_spec(LIMITS, "wide")


def test_the_same_arguments_give_the_same_records_whatever_the_batches() -> None:
    once = [batch.to_pydict() for batch in hard_records(WIDE, 250, seed=7, batch_rows=100)]
    again = [batch.to_pydict() for batch in hard_records(WIDE, 250, seed=7, batch_rows=100)]
    other = [batch.to_pydict() for batch in hard_records(WIDE, 250, seed=8, batch_rows=100)]
    assert repr(once) == repr(again) != repr(other)
    assert [len(batch["id"]) for batch in once] == [100, 100, 50]


@pytest.mark.parametrize("kind", list(IdKind))
def test_ids_are_all_different(kind: IdKind) -> None:
    assert len(set(hard_ids(kind, 300))) == 300
    spec = CollectionSpec("c", kind, ())
    ids = [id_ for batch in hard_records(spec, 3000, seed=1) for id_ in batch.column("id").to_pylist()]
    assert len(set(ids)) == 3000


def test_twenty_thousand_records_take_seconds_and_hold_every_hard_payload() -> None:
    field = VectorField("", VectorKind.DENSE, DType.FLOAT32, Metric.COSINE, 384)
    spec = CollectionSpec("c", IdKind.STRING, (field,), has_documents=True)
    began = time.monotonic()
    payloads: set[str | None] = set()
    rows = 0
    for batch in hard_records(spec, 20_000, seed=1):
        rows += batch.num_rows
        payloads |= set(batch.column("payload").to_pylist())
    assert rows == 20_000
    assert time.monotonic() - began < 20, "it takes about a second on an idle machine"
    missing = [
        name
        for name, payload in HARD_PAYLOADS.items()
        if (None if payload is None else canonical.dumps(payload)) not in payloads
    ]
    assert not missing


def test_every_hard_payload_is_canonical_and_comes_back_through_arrow() -> None:
    [batch] = hard_records(WIDE, 200, seed=2)
    batch.validate(full=True)
    rows = rows_from_batch(batch, WIDE)
    assert batch_from_rows(rows, WIDE).equals(batch)
    assert all(text is None or canonical.is_canonical(text) for text in batch.column("payload").to_pylist())


def test_hard_vectors_stay_within_the_limits() -> None:
    field = VectorField("", VectorKind.DENSE, DType.FLOAT32, Metric.DOT, 8)
    names = {name for name, _ in hard_vectors(field, None, 1)}
    assert {"negative zero", "subnormal", "huge", "zero", "not a number", "infinite"} <= names
    narrow = SinkLimits(
        id_kinds=frozenset(IdKind),
        metrics=frozenset(Metric),
        payload=PayloadLimits(types=frozenset()),
        negative_zero_vectors=False,
        subnormal_vectors=False,
        vector_magnitude=100.0,
        zero_vectors=False,
    )
    for name, vector in hard_vectors(field, narrow, 1):
        wide = vector.astype(np.float64)
        assert np.isfinite(wide).all(), name
        assert np.abs(wide).max() <= 100, name
        assert wide.any(), name
        assert not (np.signbit(wide) & (wide == 0)).any(), name
        assert not ((wide != 0) & (np.abs(wide) < np.finfo(np.float32).tiny)).any(), name


def test_payloads_within_limits_hold_every_kept_type_and_no_other() -> None:
    assert {canonical.type_name(value) for value in (payload_within(LIMITS.payload, 1) or {}).values()} == ALL_TYPES
    few = PayloadLimits(types=frozenset({"int", "list"}), item_types=frozenset({"string"}), empty_payload=False)
    assert payload_within(few, 3) == {"a_int": 7, "number": 3, "list_of_string": ["text", "text"]}
    assert payload_within(PayloadLimits(types=frozenset(), empty_payload=False), 3) is None


def test_hamming_goes_with_binary_vectors_and_nothing_else() -> None:
    assert all((dtype is DType.BINARY) == (metric is Metric.HAMMING) for dtype, metric in combinations(LIMITS))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_ulp_distance_counts_representable_numbers(dtype: type[np.floating]) -> None:
    one = dtype(1)
    up = np.nextafter(one, dtype(2))
    tiny = np.finfo(dtype).smallest_subnormal
    pairs = [(one, one, 0), (one, up, 1), (up, np.nextafter(one, dtype(0)), 2), (dtype(0), tiny, 1), (-tiny, tiny, 3)]
    pairs += [(dtype(np.nan), dtype(np.nan), 0), (dtype(np.nan), one, 2**63)]
    for first, second, expected in pairs:
        assert ulp_distance(np.array([first]), np.array([second])).tolist() == [expected]


def test_one_bit_is_seen_and_a_direction_is_not_its_length() -> None:
    spec = spec_within(LIMITS, "c")
    [batch] = hard_records(spec, 5, seed=3)
    rows = rows_from_batch(batch, spec)
    other = rows_from_batch(batch, spec)
    assert_same_records(rows, other, spec, LIMITS)
    vector = np.asarray(other[3].vectors["vector"])
    vector.view(np.uint32)[0] ^= 1
    with pytest.raises(AssertionError, match="1 of 16 numbers differ in their bits"):
        assert_same_records(rows, other, spec, LIMITS)
    direction = f32([3, 4])
    assert_same_direction(direction, f32([0.6, 0.8]), "")
    with pytest.raises(AssertionError, match="direction"):
        assert_same_direction(direction, f32([0.6, 0.8001]), "")
    with pytest.raises(AssertionError, match="direction"):
        assert_same_direction(direction, f32([0, 0]), "")
    with pytest.raises(AssertionError, match="direction"):
        assert_same_direction(direction, f32([np.nan, 0]), "")


def test_the_reference_store_and_the_generators_do_without_pytest() -> None:
    program = """
import sys
import exitramp.testing.memory, exitramp.testing.data, exitramp.testing.child
from exitramp.testing import MemoryStore, hard_records
assert "pytest" not in sys.modules, "pytest was imported"
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_public_names_are_there() -> None:
    for name in exitramp.testing.__all__:
        assert getattr(exitramp.testing, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = exitramp.testing.nothing
