"""A FAISS collection is two files: whoever makes one is told so, and whoever reads one of them what is not there."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow.parquet as pq
import pytest

from exitramp.errors import CollectionExists
from exitramp.records import CollectionSpec, DType, IdKind, Metric, VectorField, VectorKind
from exitramp.registry import open_store
from tests.adapters.test_faiss import numbers
from tests.cli.conftest import Cli
from tests.drill.small_stacks import fill

PAGE = Path(__file__).parents[2] / "docs" / "in-the-new-store.md"
SPEC = CollectionSpec(
    "articles",
    IdKind.STRING,
    (VectorField("", VectorKind.DENSE, DType.FLOAT32, Metric.COSINE, 12),),
    has_documents=True,
)


@pytest.fixture(name="source")
def _source(name: str) -> str:
    return fill(f"memory:{name}#articles", rows=20, spec=SPEC)


def codes(found: Any) -> list[str]:
    return [each["code"] for each in found["findings"]]


def test_the_plan_and_the_copy_name_both_files(source: str, cli: Cli) -> None:
    both = "2 files, a.faiss and a.faiss.exitramp: keep them together"
    cli("dump", source, "out", code=0)
    assert both in cli("plan", source, "faiss:./a.faiss", code=0).out
    for _ in range(2):  # the second time it is finished already
        assert both in cli("restore", "out", "faiss:./a.faiss", code=0).out
    assert sorted(path.name for path in Path().glob("a.*")) == ["a.faiss", "a.faiss.exitramp"]
    [told] = [each for each in cli("plan", source, "faiss:./a.faiss", "--json").json["findings"]
              if each["code"] == "target.files"]  # fmt: skip
    assert told["detail"]["files"] == ["a.faiss", "a.faiss.exitramp"]
    assert told["verdict"] is None
    assert "target.files" not in codes(cli("plan", source, "qdrant:./new#articles", "--json").json)


def test_an_index_whose_side_car_is_lost_says_so_to_everybody_who_reads_it(source: str, cli: Cli) -> None:
    cli("copy", source, "faiss:./whole.faiss", code=0)
    shutil.copy("whole.faiss", "alone.faiss")
    words = "alone.faiss has no side-car: ids are row numbers, the metric is the index's own (FAISS has no cosine)"
    for command in (
        ("inspect", "faiss:./alone.faiss"),
        ("plan", "faiss:./alone.faiss", "qdrant:./new#articles"),
        ("dump", "faiss:./alone.faiss", "out"),
        ("copy", "faiss:./alone.faiss", "qdrant:./new#articles"),
    ):
        said = cli(*command, code=0).out
        assert said.count(words) == 1, command
        assert "alone.faiss.exitramp is missing: put it back" in said
    compared = cli("compare", source, "faiss:./alone.faiss", "--no-neighbours", code=1)
    assert words in compared.out
    for command in (("inspect", "faiss:./whole.faiss"), ("plan", "faiss:./whole.faiss", "qdrant:./other#articles")):
        assert "source.no_side_car" not in codes(cli(*command, "--json", code=0).json)


def test_a_foreign_index_with_ids_of_its_own_is_told_from_one_without(cli: Cli) -> None:
    index = faiss.index_factory(8, "IDMap,Flat")
    index.add_with_ids(numbers(), np.arange(100, 120))
    faiss.write_index(index, "mapped.faiss")
    said = cli("inspect", "faiss:./mapped.faiss", code=0).out
    assert "ids are the index's own" in said
    assert "row numbers" not in said


def test_an_index_alone_is_not_written_to_and_nobody_is_said_to_have_made_it(source: str, cli: Cli) -> None:
    cli("copy", source, "faiss:./a.faiss", code=0)
    Path("a.faiss.exitramp").unlink()
    store = open_store("faiss:./a.faiss")
    with pytest.raises(CollectionExists, match=r"(?s)or its side-car is lost.*put a\.faiss\.exitramp back") as caught:
        store.sink().delete([])
    assert "put a.faiss.exitramp back" in str(caught.value)


def test_another_collections_name_says_how_to_name_the_one_that_is_there(source: str, cli: Cli) -> None:
    cli("copy", source, "faiss:./a.faiss", code=0)
    ended = cli("inspect", "faiss:./a.faiss#other", code=2)
    assert "holds the collection 'articles', not 'other'" in ended.err
    assert "next: an index file holds one collection: write faiss:./a.faiss" in ended.err


def test_the_page_reads_both_files_as_they_stand(source: str, cli: Cli) -> None:
    cli("copy", source, "faiss:./a.faiss", code=0)
    section = PAGE.read_text(encoding="utf-8").partition("## The two files of a FAISS collection\n")[2]
    [block, *_] = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    found: dict[str, Any] = {}
    exec(block, found)
    table = pq.read_table("a.faiss.exitramp")
    assert {"id", "namespace", "document", "payload", "vector"} == set(table.schema.names)
    for row in range(3):
        query = np.array(table.column("vector")[row].as_py(), np.float32)
        assert found["nearest"]("a.faiss", query, 5)[0] == table.column("id")[row].as_py()
    assert "source.no_side_car" in section
