"""Matrices and vector files that somebody else wrote, and the moments at which a writer may be killed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exitramp.errors import (
    CollectionExists,
    CollectionMissing,
    DataInvalid,
    IntegrityError,
    RoleUnsupported,
    UsageError,
)
from exitramp.ports import Origin, Partition, Query, TransferAccount
from exitramp.records import CollectionSpec, DType, IdKind, Metric, RecordKey, VectorField, VectorKind
from exitramp.registry import open_store
from exitramp.testing.rows import Row, batch_from_rows, rows_from_batch
from exitramp_adapters.stores.files import staging as files_staging

MATRIX = np.random.default_rng(3).standard_normal((50, 8), dtype=np.float32)


def read(address: str) -> tuple[CollectionSpec, list[Row], list[str]]:
    store = open_store(address)
    source = store.source()
    spec = source.describe()
    rows = [row for page in source.scan(Partition(), batch_rows=7) for row in rows_from_batch(page.batch, spec)]
    assert source.count() == len(rows)
    codes = [finding.code for finding in source.identity().findings]
    store.close()
    return spec, rows, codes


def matrix_of(rows: list[Row]) -> np.ndarray[Any, Any]:
    return np.array([row.vectors["vector"] for row in rows])


def as_vecs(path: Path, matrix: np.ndarray[Any, Any]) -> None:
    with path.open("wb") as file:
        for vector in matrix:
            file.write(np.int32(len(vector)).tobytes() + vector.tobytes())


def test_a_matrix_alone_is_numbered_rows(tmp_path: Path) -> None:
    np.save(tmp_path / "m.npy", MATRIX)
    spec, rows, codes = read(f"npy:{tmp_path}/m.npy?metric=euclidean")
    assert (spec.name, spec.id_kind, spec.vectors[0].metric) == ("m", IdKind.UINT64, Metric.EUCLIDEAN)
    assert [row.id for row in rows] == [str(number) for number in range(50)]
    assert matrix_of(rows).tobytes() == MATRIX.tobytes()
    assert [row.payload for row in rows] == [None] * 50
    assert codes == ["source.row_numbers"]
    with pytest.raises(UsageError, match="by which metric"):
        read(f"npy:{tmp_path}/m.npy")


@pytest.mark.parametrize(
    ("stored", "dtype"),
    [
        ("<f4", DType.FLOAT32),
        (">f4", DType.FLOAT32),
        ("<f8", DType.FLOAT64),
        (">f2", DType.FLOAT16),
        ("i1", DType.INT8),
        ("u1", DType.FLOAT32),
        ("<i4", DType.FLOAT32),
        (">i8", DType.FLOAT32),
    ],
)
@pytest.mark.parametrize("order", ["C", "F"])
def test_numbers_of_every_type_and_order_are_the_same_numbers(
    stored: str, dtype: DType, order: Any, tmp_path: Path
) -> None:
    matrix = np.arange(48).reshape(6, 8).astype(stored, order=order)
    np.save(tmp_path / "m.npy", matrix)
    spec, rows, _ = read(f"npy:{tmp_path}/m.npy?metric=dot")
    assert spec.vectors[0].dtype is dtype
    assert matrix_of(rows).astype(int).tolist() == matrix.astype(int).tolist()


def test_integers_that_float32_rounds_are_float64_and_greater_ones_are_refused(tmp_path: Path) -> None:
    matrix = np.arange(16).reshape(2, 8)
    matrix[1, 7] = 2**24 + 1
    np.save(tmp_path / "m.npy", matrix)
    spec, rows, _ = read(f"npy:{tmp_path}/m.npy?metric=dot")
    assert spec.vectors[0].dtype is DType.FLOAT64
    assert int(matrix_of(rows)[1, 7]) == 2**24 + 1
    matrix[1, 7] = 2**53 + 1
    np.save(tmp_path / "m.npy", matrix)
    with pytest.raises(DataInvalid, match="float64 rounds"):
        read(f"npy:{tmp_path}/m.npy?metric=dot")


def test_bits_are_bits_where_the_address_says_so(tmp_path: Path) -> None:
    bits = np.random.default_rng(4).integers(0, 2, (5, 16)).astype(bool)
    np.save(tmp_path / "bool.npy", bits)
    np.save(tmp_path / "packed.npy", np.packbits(bits, axis=1))
    for name in ("bool", "packed"):
        spec, rows, _ = read(f"npy:{tmp_path}/{name}.npy?metric=hamming&dtype=binary")
        assert (spec.vectors[0].dtype, spec.vectors[0].dimensions) == (DType.BINARY, 16)
        assert matrix_of(rows).tobytes() == np.packbits(bits, axis=1).tobytes()
    with pytest.raises(DataInvalid, match="dtype=binary"):
        read(f"npy:{tmp_path}/bool.npy?metric=hamming")


def test_a_side_car_of_somebody_else_gives_ids_documents_and_payloads(tmp_path: Path) -> None:
    np.save(tmp_path / "m.npy", MATRIX)
    lines = [{"url": f"u/{row}", "text": f"text {row}", "n": row} for row in range(50)]
    (tmp_path / "side.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "side.json").write_text(json.dumps(lines))
    for name in ("side.jsonl", "side.json"):
        spec, rows, codes = read(f"npy:{tmp_path}/m.npy?sidecar={tmp_path}/{name}&id=url&document=text&metric=cosine")
        assert (spec.has_documents, codes) == (True, [])
        assert [(row.id, row.document, row.payload) for row in rows[:2]] == [
            ("u/0", "text 0", {"n": 0}),
            ("u/1", "text 1", {"n": 1}),
        ]
        assert matrix_of(rows).tobytes() == MATRIX.tobytes()
    _, rows, _ = read(f"npy:{tmp_path}/m.npy?sidecar={tmp_path}/side.jsonl&metric=cosine")
    assert (rows[7].id, rows[7].payload) == ("7", lines[7])
    (tmp_path / "short.jsonl").write_text('{"url": "a"}\n')
    with pytest.raises(DataInvalid, match="50 vectors, and what stands beside it 1"):
        read(f"npy:{tmp_path}/m.npy?sidecar={tmp_path}/short.jsonl&id=url&metric=cosine")
    with pytest.raises(UsageError, match="says something of a side-car"):
        read(f"npy:{tmp_path}/m.npy?id=url&metric=cosine")


def test_what_is_no_matrix_is_refused_and_a_pickle_is_never_loaded(tmp_path: Path) -> None:
    np.save(tmp_path / "flat.npy", np.zeros(3))
    np.save(tmp_path / "pickle.npy", np.array([{"a": 1}], dtype=object))
    np.save(tmp_path / "text.npy", np.array([["a", "b"]]))
    (tmp_path / "none.npy").write_bytes(b"\x93NUMPY\x01\x00")
    for name, said in (("flat", "a matrix"), ("pickle", "no .npy file"), ("text", "no numbers"), ("none", "no .npy")):
        with pytest.raises(DataInvalid, match=said):
            read(f"npy:{tmp_path}/{name}.npy?metric=dot")
    with pytest.raises(CollectionMissing):
        read(f"npy:{tmp_path}/nothing.npy?metric=dot")


def test_rows_that_are_not_finite_are_a_finding(tmp_path: Path) -> None:
    matrix = MATRIX.copy()
    matrix[[3, 40]] = np.nan
    np.save(tmp_path / "m.npy", matrix)
    messages = [each.message for each in open_store(f"npy:{tmp_path}/m.npy?metric=dot").source().identity().findings]
    assert any("row 4, row 41" in message for message in messages)


@pytest.mark.parametrize(("suffix", "kind"), [(".fvecs", np.float32), (".ivecs", np.int32), (".bvecs", np.uint8)])
def test_vector_files_are_read_with_and_without_a_side_car(suffix: str, kind: Any, tmp_path: Path) -> None:
    matrix = (np.abs(MATRIX) * 50).astype(kind)
    as_vecs(tmp_path / f"m{suffix}", matrix)
    address = f"fvecs:{tmp_path}/m{suffix}?metric=euclidean"
    spec, rows, codes = read(address)
    assert (spec.vectors[0].dtype, spec.vectors[0].dimensions, codes) == (DType.FLOAT32, 8, ["source.row_numbers"])
    assert matrix_of(rows).tolist() == matrix.astype(np.float32).tolist()
    (tmp_path / "ids.csv").write_text("name\n" + "".join(f"n{row}\n" for row in range(50)))
    spec, rows, _ = read(f"{address}&sidecar={tmp_path}/ids.csv&id=name")
    assert [row.id for row in rows[:2]] == ["n0", "n1"]
    store = open_store(address)
    [hit] = store.search().search(Query(dense=matrix[9].astype(np.float32)), k=1).keys
    assert hit == RecordKey("9")
    with pytest.raises(RoleUnsupported, match="only read"):
        store.sink()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "there are no vectors"),
        (np.int32([2, 0, 0, 3, 0, 0]).tobytes(), "row 2: 3 dimensions, where those before have 2"),
        (np.int32([2, 0, 0, 2, 0]).tobytes(), "row 2: the file ends in the middle"),
        (np.int32([-1, 0]).tobytes(), "row 1: -1 dimensions"),
    ],
)
def test_a_vector_file_that_is_damaged_is_named_with_its_row(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "m.fvecs").write_bytes(content)
    with pytest.raises(DataInvalid, match=said):
        read(f"fvecs:{tmp_path}/m.fvecs?metric=dot")


SPEC = CollectionSpec(
    "articles", IdKind.STRING, (VectorField("", VectorKind.DENSE, DType.FLOAT32, Metric.COSINE, 8),), True, True
)


def some(count: int, word: str) -> list[Row]:
    return [Row(f"r{number}", None, word, {"n": number}, {"vector": MATRIX[number]}) for number in range(count)]


def write(path: Path, rows: list[Row], *, finish: bool = True) -> None:
    store = open_store(f"npy:{path}")
    sink = store.sink()
    sink.create(SPEC, Origin(SPEC, "0"))
    sink.upsert(batch_from_rows(rows, SPEC))
    sink.flush()
    if finish:
        sink.finish(TransferAccount())
    store.close()


class Killed(BaseException):
    """Stands for the moment at which a process ends."""


@pytest.mark.parametrize("moment", range(12))
def test_a_writer_killed_at_any_step_of_the_end_leaves_all_that_was_flushed(
    moment: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before each step that changes what is on the disk, in the order in which they are made."""
    path = tmp_path / "m.npy"
    write(path, some(30, "old"))
    steps = 0

    def counted(step: Callable[..., Any]) -> Callable[..., Any]:
        def stepped(*arguments: Any, **named: Any) -> Any:
            nonlocal steps
            if steps == moment:
                raise Killed
            steps += 1
            return step(*arguments, **named)

        return stepped

    write(path, some(20, "new"), finish=False)
    store = open_store(f"npy:{path}")
    sink = store.sink()
    sink.create(SPEC, Origin(SPEC, "0"))
    with monkeypatch.context() as patched:
        for name in ("replace", "unlink", "rename"):
            patched.setattr(Path, name, counted(getattr(Path, name)))
        patched.setattr(files_staging, "write_atomically", counted(files_staging.write_atomically))
        try:
            sink.finish(TransferAccount())
        except Killed:
            assert moment < 11, "the end has more steps than are tried"
    store.close()
    wanted = {row.id: row for row in [*some(30, "old"), *some(20, "new")]}
    for _ in range(2):
        _, rows, _ = read(f"npy:{path}")
        assert {row.id: row.document for row in rows} == {id_: row.document for id_, row in wanted.items()}
        assert (
            {row.id: row.vectors["vector"].tobytes() for row in rows}
            == {  # type: ignore[union-attr]
                id_: MATRIX[int(id_[1:])].tobytes() for id_ in wanted
            }
        )
        write(path, some(1, "new"))
    assert sorted(each.name for each in tmp_path.iterdir()) == ["m.npy", "m.npy.parquet"]
    assert len(np.load(path)) == 30


def test_files_that_do_not_belong_together_are_found_out(tmp_path: Path) -> None:
    write(tmp_path / "a.npy", some(30, "a"))
    np.save(tmp_path / "a.npy", MATRIX[:30] + 1)
    with pytest.raises(IntegrityError, match="belongs to another matrix"):
        read(f"npy:{tmp_path}/a.npy")
    (tmp_path / "a.npy.parquet").write_bytes(b"PAR1")
    with pytest.raises(UsageError, match="by which metric"):
        read(f"npy:{tmp_path}/a.npy")


def test_a_matrix_of_somebody_else_is_not_written_to(tmp_path: Path) -> None:
    np.save(tmp_path / "m.npy", MATRIX)
    store = open_store(f"npy:{tmp_path}/m.npy")
    with pytest.raises(CollectionExists, match="that exitramp did not write"):
        store.sink().create(SPEC, Origin(SPEC, "0"))
    store.close()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["m.npy"]
