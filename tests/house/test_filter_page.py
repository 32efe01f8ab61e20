"""What `docs/filters.md` says of each filter is what it means, and what each store does with it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exitramp.cli.main import run
from exitramp.errors import UsageError
from exitramp.filters import matches, parse_filter
from exitramp.parity.filters import Payloads
from exitramp.ports import Origin, Query, TransferAccount, VectorSearch
from exitramp.records import CollectionSpec, DType, IdKind, Metric, VectorField, VectorKind
from exitramp.testing.rows import Row, batch_from_rows
from exitramp.wrappers import open_endpoint

PAGE = (Path(__file__).parents[2] / "docs" / "filters.md").read_text(encoding="utf-8")
SPEC = CollectionSpec("articles", IdKind.STRING, (VectorField("", VectorKind.DENSE, DType.FLOAT32, Metric.DOT, 2),))


def _rows() -> list[Row]:
    [block] = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    records = [json.loads(line) for line in block.splitlines()]
    return [
        Row(each["id"], payload=each["payload"], vectors={"vector": np.array([1, place], np.float32)})
        for place, each in enumerate(records)
    ]


def _examples() -> list[tuple[Any, set[str], dict[str, str]]]:
    """Filter, the ids that it lets through, and what each store does."""
    found = re.findall(r"^\| `(\{.*\})` \| ([a-f, ]+|none) \| (\w+) \| (\w+) \|$", PAGE, re.MULTILINE)
    return [
        (json.loads(text), set() if ids == "none" else set(ids.split(", ")), {"chroma": one, "qdrant": other})
        for text, ids, one, other in found
    ]


def _refused() -> list[str]:
    return re.findall(r"^\| `(\{.*\})` \| [^|]+ \|$", PAGE.partition("| not a filter |")[2], re.MULTILINE)


@pytest.fixture(scope="module", params=["chroma", "qdrant", "faiss", "memory"])
def store(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, VectorSearch]]:
    folder = tmp_path_factory.mktemp("filters")
    place = {"faiss": f"{folder}/articles.faiss", "memory": f"{folder.name}#articles"}
    address = f"{request.param}:{place.get(request.param, f'{folder}#articles')}"
    with open_endpoint(address) as endpoint:
        sink = endpoint.sink()
        sink.create(SPEC, Origin(SPEC, "test"))
        sink.upsert(batch_from_rows(_rows(), SPEC))
        sink.flush()
        sink.finish(TransferAccount())
    with open_endpoint(address) as endpoint:
        yield request.param, endpoint.search()


def test_the_page_has_examples_of_every_operator() -> None:
    said = json.dumps([example for example, _, _ in _examples()])
    assert all(f'"{operator}"' in said for operator in ("eq", "in", "range", "exists", "and", "or", "not"))
    assert len(_examples()) >= 20
    assert len(_refused()) >= 8


def test_each_example_lets_through_what_the_page_says() -> None:
    rows = _rows()
    held = Payloads([row.payload_text for row in rows])
    for example, ids, _ in _examples():
        where = parse_filter(example)
        assert {row.id for row in rows if matches(where, row.payload)} == ids, example
        assert {row.id for row, passes in zip(rows, held.mask(where), strict=True) if passes} == ids, example


def test_each_store_answers_or_refuses_as_the_page_says(store: tuple[str, VectorSearch]) -> None:
    name, search = store
    query = Query(dense=np.array([1, 1], np.float32))
    for example, ids, does in _examples():
        where = parse_filter(example)
        if does.get(name, "answers") == "refuses":
            with pytest.raises(UsageError):
                search.search(query, k=10, where=where)
                pytest.fail(f"{name} answered {example}")
            continue
        assert {key.id for key in search.search(query, k=10, where=where).keys} == ids, (name, example)


@pytest.mark.parametrize("text", _refused())
def test_what_the_page_calls_no_filter_ends_with_2(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["compare", "memory:nowhere-1#c", "memory:nowhere-2#c", "--where", text]) == 2
    assert "filter" in capsys.readouterr().err
