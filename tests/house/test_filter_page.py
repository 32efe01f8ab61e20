"""What `docs/filters.md` says of each filter is what it means, and what each store does with it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exitramp.cli.main import run
from exitramp.errors import UsageError
from exitramp.filters import matches, parse_filter
from exitramp.parity.filters import Payloads
from exitramp.ports import Origin, Query, TransferAccount
from exitramp.records import CollectionSpec, DType, IdKind, Metric, VectorField, VectorKind
from exitramp.registry import service_adapter
from exitramp.testing.rows import Row, batch_from_rows
from exitramp.wrappers import open_endpoint
from tests.tour.places import places

PAGE = (Path(__file__).parents[2] / "docs" / "filters.md").read_text(encoding="utf-8")
SPEC = CollectionSpec(
    "articles", IdKind.STRING, (VectorField("", VectorKind.DENSE, DType.FLOAT32, Metric.EUCLIDEAN, 2),)
)
KINDS = {
    "Chroma": ("chroma", "chroma+http"),
    "Qdrant": ("qdrant", "qdrant+http"),
    "files¹": ("faiss", "usearch", "hnswlib", "file", "vdf", "npy", "fvecs", "hdf5", "memory"),
    "pgvector": ("pgvector",),
    "DuckDB": ("duckdb",),
    "sqlite-vec": ("sqlite-vec",),
    "LanceDB": ("lancedb",),
    "Redis": ("redis",),
    "Milvus": ("milvus",),
    "Pinecone²": ("pinecone",),
    "Weaviate²": ("weaviate+http",),
}
"""The columns of the page, and the kinds that each stands for. A Milvus server answers in `test_milvus.py`."""
MOCKS = {"pinecone": "mock-pinecone", "weaviate+http": "mock-weaviate"}


def _rows() -> list[Row]:
    [block] = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    records = [json.loads(line) for line in block.splitlines()]
    return [
        Row(each["id"], payload=each["payload"], vectors={"vector": np.array([1, place], np.float32)})
        for place, each in enumerate(records)
    ]


def _examples() -> list[tuple[Any, set[str]]]:
    """Each filter with the ids that it lets through."""
    found = re.findall(r"^\| \d+ \| `(\{.*\})` \| ([a-f, ]+|none) \|$", PAGE, re.MULTILINE)
    return [(json.loads(text), set() if ids == "none" else set(ids.split(", "))) for text, ids in found]


def _columns() -> dict[str, list[bool]]:
    """For each column of the table of stores, whether each filter is answered."""
    [heads] = re.findall(r"^\| \| (Chroma .*) \|$", PAGE, re.MULTILINE)
    rows = re.findall(r"^\| (\d+) [^|`]+ \| ((?:[✓–] \| ?)+)$", PAGE, re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, len(_examples()) + 1))
    answers = [[each == "✓" for each in marks.rstrip("| ").split(" | ")] for _, marks in rows]
    return dict(zip(heads.split(" | "), map(list, zip(*answers, strict=True)), strict=True))


def _refused() -> list[str]:
    return re.findall(r"^\| `(\{.*\})` \| [^|]+ \|$", PAGE.partition("| not a filter |")[2], re.MULTILINE)


def _filled(address: str) -> str:
    with open_endpoint(address) as endpoint:
        sink = endpoint.sink()
        sink.create(SPEC, Origin(SPEC, "test"))
        sink.upsert(batch_from_rows(_rows(), SPEC))
        sink.flush()
        sink.finish(TransferAccount())
    return address


def _written(folder: Path, kind: str) -> str:
    """The records in files that exitramp does not write: JSON lines, or vectors with such lines beside them."""
    lines = folder / "articles.jsonl"
    shown = [{"id": row.id, "payload": row.payload} for row in _rows()]
    vectors = [row.vectors["vector"] for row in _rows()]
    said = "id=id&payload=payload&metric=euclidean"
    if kind == "file":
        shown = [{**each, "v": vector.tolist()} for each, vector in zip(shown, vectors, strict=True)]
    lines.write_text("".join(json.dumps(each) + "\n" for each in shown), encoding="utf-8")
    if kind == "file":
        return f"file:{lines}?vectors=v&{said}"
    path = folder / "articles.fvecs"
    path.write_bytes(b"".join(np.int32(len(each)).tobytes() + each.tobytes() for each in vectors))
    return f"fvecs:{path}?sidecar={lines}&{said}"


@contextmanager
def _place(kind: str, folder: Path) -> Iterator[str]:
    """The address of a collection of this kind in which the records stand."""
    if kind in ("file", "fvecs"):
        yield _written(folder, kind)
    elif kind == "memory":
        yield _filled(f"memory:{folder.name}#articles")
    elif kind in MOCKS:
        options = {"latency_ms": 0, "rates": False} if kind == "pinecone" else {}
        service = service_adapter(MOCKS[kind]).make(str(folder), 0, options)
        try:
            base = service.start().with_collection(None).text
            yield _filled(f"{base}?cloud=aws&region=us-east-1#articles" if kind == "pinecone" else f"{base}#Articles")
        finally:
            service.stop()
    else:
        for each in (folder, *folder.parents[:3]):
            each.chmod(each.stat().st_mode | 0o011)  # a PostgreSQL that must not run as root has to get through
        with places(folder, [kind]) as found:
            yield _filled(found[kind].address("articles"))


def test_the_page_has_examples_of_every_operator() -> None:
    said = json.dumps([example for example, _ in _examples()])
    assert all(f'"{operator}"' in said for operator in ("eq", "in", "range", "exists", "and", "or", "not"))
    assert len(_examples()) >= 20
    assert len(_refused()) >= 8


def test_each_example_lets_through_what_the_page_says() -> None:
    rows = _rows()
    held = Payloads([row.payload_text for row in rows])
    for example, ids in _examples():
        where = parse_filter(example)
        assert {row.id for row in rows if matches(where, row.payload)} == ids, example
        assert {row.id for row, passes in zip(rows, held.mask(where), strict=True) if passes} == ids, example


def test_every_column_of_the_page_is_asked() -> None:
    assert list(_columns()) == list(KINDS)


@pytest.mark.parametrize("kind", [kind for kinds in KINDS.values() for kind in kinds])
def test_each_store_answers_or_refuses_as_the_page_says(kind: str, tmp_path: Path) -> None:
    [column] = [column for column, kinds in KINDS.items() if kind in kinds]
    query = Query(dense=np.array([1, 1], np.float32))
    with _place(kind, tmp_path) as address, open_endpoint(address) as endpoint:
        search = endpoint.search()
        for (example, ids), answers in zip(_examples(), _columns()[column], strict=True):
            where = parse_filter(example)
            if answers:
                assert {key.id for key in search.search(query, k=10, where=where).keys} == ids, (kind, example)
                continue
            with pytest.raises(UsageError):
                search.search(query, k=10, where=where)
                pytest.fail(f"{kind} answered {example}")


@pytest.mark.parametrize("text", _refused())
def test_what_the_page_calls_no_filter_ends_with_2(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["compare", "memory:nowhere-1#c", "memory:nowhere-2#c", "--where", text]) == 2
    assert "filter" in capsys.readouterr().err
