"""The join loses and doubles no record, however many files it goes through and whatever the ids are."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exitramp.arrow import record_keys
from exitramp.errors import StoreProtocolError
from exitramp.parity import alignment
from exitramp.parity.alignment import aligned, read_all
from exitramp.records import CollectionSpec, IdKind, RecordKey
from exitramp.testing.rows import Row, rows_from_batch

BARE = CollectionSpec("c", IdKind.STRING, (), has_namespaces=True)
KEYS = st.builds(
    RecordKey,
    st.sampled_from(["", "7", "007", "a", "b", "größe/1 🚀", "x" * 300]) | st.text(max_size=3),
    st.sampled_from([None, "", "n"]),
)


def bare(keys: list[RecordKey]) -> list[Row]:
    return [Row(key.id, key.namespace, payload={"at": number}) for number, key in enumerate(keys)]


def in_turn(keys: list[RecordKey], buckets: int) -> Any:
    """In place of the hash, which is salted anew for every process."""
    return np.array([int(key.id) % buckets for key in keys], np.int64)


def join(parity: Any, a: list[RecordKey], b: list[RecordKey], folder: Path | None = None) -> list[alignment.Aligned]:
    sides = parity.Source(BARE, bare(a)), parity.Source(BARE, bare(b))
    return list(aligned(*sides, spec_a=BARE, spec_b=BARE, batch_rows=3, folder=folder))


@settings(max_examples=80, deadline=None)
@given(
    a=st.lists(KEYS, max_size=25),
    b=st.lists(KEYS, max_size=25),
    bucket_bytes=st.sampled_from([1, 3000, 2**24]),
)
def test_every_key_is_aligned_missing_or_extra_and_doubles_are_named(
    parity: Any, a: list[RecordKey], b: list[RecordKey], bucket_bytes: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(alignment, "BUCKET_BYTES", bucket_bytes)
        buckets = join(parity, a, b)
    both = [key for bucket in buckets for key in record_keys(bucket.a)]
    assert both == [key for bucket in buckets for key in record_keys(bucket.b)]
    assert Counter(both) == Counter(set(a) & set(b))
    assert Counter(key for bucket in buckets for key in bucket.missing) == Counter(set(a) - set(b))
    assert Counter(key for bucket in buckets for key in bucket.extra) == Counter(set(b) - set(a))
    assert Counter(key for bucket in buckets for key in bucket.duplicate_a) == Counter(a) - Counter(set(a))
    assert Counter(key for bucket in buckets for key in bucket.duplicate_b) == Counter(b) - Counter(set(b))


def test_rows_stay_whole_and_the_first_of_doubles_is_compared(parity: Any) -> None:
    key, other = RecordKey("k"), RecordKey("o")
    [bucket] = join(parity, [other, key, key], [key, other])
    pairs = zip(rows_from_batch(bucket.a, BARE), rows_from_batch(bucket.b, BARE), strict=True)
    assert {(a.key, a.payload["at"], b.payload["at"]) for a, b in pairs} == {(other, 0, 1), (key, 1, 0)}


def test_large_sides_are_divided_into_several_files_that_are_gone_afterwards(parity: Any, tmp_path: Path) -> None:
    keys = [RecordKey(str(number)) for number in range(200)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(alignment, "BUCKET_BYTES", 4096)
        buckets = join(parity, keys, keys[::-1], tmp_path)
    assert len(buckets) == 50
    assert max(bucket.a.num_rows for bucket in buckets) < 30
    assert list(tmp_path.iterdir()) == []


def test_buckets_are_loaded_one_at_a_time(parity: Any, tmp_path: Path) -> None:
    keys = [RecordKey(str(number)) for number in range(50)]
    sides = parity.Source(BARE, bare(keys)), parity.Source(BARE, bare(keys))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(alignment, "BUCKET_BYTES", 5000)
        patch.setattr(alignment, "_bucket_of", in_turn)  # or one run in a hundred would leave a bucket empty
        stream = aligned(*sides, spec_a=BARE, spec_b=BARE, batch_rows=10, folder=tmp_path)
        next(stream)
        assert len(list(tmp_path.glob("*/a/*.arrow"))) == 10
        next(stream)
        assert len(list(tmp_path.glob("*/a/*.arrow"))) == 9
        stream.close()
    assert list(tmp_path.iterdir()) == []


def test_a_scan_that_ends_without_saying_so_is_an_error_and_not_a_short_collection(parity: Any) -> None:
    rows = bare([RecordKey("a")])
    with pytest.raises(StoreProtocolError):
        list(read_all(parity.Source(BARE, rows, ends=False), batch_rows=10))
    assert sum(batch.num_rows for batch in read_all(parity.Source(BARE, rows), batch_rows=10)) == 1


def test_a_column_of_over_two_gib_in_one_bucket_is_refused_and_not_cut(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Arrow leaves such a column in pieces; made up here with pieces that were never joined."""
    import pyarrow as pa

    from exitramp.arrow import stream_schema
    from exitramp.errors import DataInvalid
    from exitramp.testing.rows import batch_from_rows

    (tmp_path / "a").mkdir()
    with (
        pa.OSFile(str(tmp_path / "a" / "0.arrow"), "wb") as file,
        pa.ipc.new_stream(file, stream_schema(BARE)) as out,
    ):
        for number in range(2):
            out.write_batch(batch_from_rows(bare([RecordKey(str(number))]), BARE))

    class NeverJoined:
        def __init__(self, table: Any) -> None:
            self.table = table

        def combine_chunks(self) -> Any:
            return self.table

    real = pa.ipc.open_stream
    monkeypatch.setattr(
        alignment.pa.ipc,
        "open_stream",
        lambda file: type("S", (), {"read_all": lambda _: NeverJoined(real(file).read_all())})(),
    )
    with pytest.raises(DataInvalid, match="2 GiB"):
        alignment._load(tmp_path / "a", 0, BARE)


def test_vectors_travel_through_the_files_bit_for_bit(parity: Any) -> None:
    matrix = np.random.default_rng(0).standard_normal((7, 8)).astype(np.float32)
    matrix[0, 0], matrix[1, 1] = np.nan, -0.0
    spec = parity.spec()
    source = parity.Source(spec, parity.rows(matrix))
    [bucket] = aligned(source, source, spec_a=spec, spec_b=spec, batch_rows=3)
    back = {row.id: row.vectors["vector"] for row in rows_from_batch(bucket.b, spec)}
    assert all(back[row.id].tobytes() == row.vectors["vector"].tobytes() for row in source.rows)
