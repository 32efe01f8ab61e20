"""Where docs/in-the-new-store.md says that things stand in each kind of store, asked with the stores' own clients."""

from __future__ import annotations

import ast
import json
import math
import re
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from exitramp.migration import migrate
from exitramp.ports import Origin
from exitramp.records import Metric
from exitramp.testing import Row, batch_from_rows
from exitramp.transfer.plan import Fidelity, Plan, payload_summary
from exitramp.wrappers import open_endpoint
from tests.house.own_clients import Find, addresses, record_in, shown_record
from tests.house.test_new_store_page import FIELD, MARKER, PAGE, record
from tests.house.test_new_store_page import SPEC as DOT

SPEC = replace(DOT, vectors=(replace(FIELD, metric=Metric.EUCLIDEAN),))
MOMENT = datetime(2024, 1, 1, tzinfo=UTC)
ROW = record("kb/x", [1, 2, 3], "How to leave", lang="en", rev=3, score=0.1234567890123456)
KINDS = {
    "Chroma": ("chroma",),
    "Qdrant": ("qdrant",),
    "PostgreSQL": ("pgvector",),
    "DuckDB": ("duckdb",),
    "SQLite": ("sqlite-vec",),
    "LanceDB": ("lancedb",),
    "Redis": ("redis",),
    "Milvus": ("milvus",),
    "Pinecone¹": ("pinecone",),
    "Weaviate¹": ("weaviate+http",),
    "FAISS, usearch, hnswlib": ("faiss", "usearch", "hnswlib"),
    "`npy:`": ("npy",),
    "`hdf5:`": ("hdf5",),
    "`vdf:`": ("vdf",),
}


@dataclass(frozen=True)
class Place:
    kind: str
    address: Callable[[str], str]


@dataclass(frozen=True)
class Line:
    """A row of the page's table."""

    id: str
    document: str
    lang: str
    namespace: str
    marker: str


def _lines() -> dict[str, Line]:
    table = PAGE.partition("| store | id |")[2].partition("\n\n")[0]
    found = [[cell.strip() for cell in row.strip("| ").split(" | ")] for row in table.splitlines()[2:]]
    return {cells[0].partition(": ")[0].partition(", in SQL")[0]: Line(*cells[1:]) for cells in found}


def _code(cell: str) -> str:
    return re.findall(r"`([^`]+)`", cell)[0]


def _copied(target: str, row: Row) -> Plan:
    spec = replace(SPEC, has_namespaces=row.namespace is not None)
    source = f"memory:{uuid.uuid4()}#articles"
    with open_endpoint(source) as one, open_endpoint(target) as other:
        sink = one.sink()
        sink.create(spec, Origin(spec, "test"))
        sink.upsert(batch_from_rows([row], spec))
        plan = migrate(one, other, accept_loss=[]).plan
    assert plan is not None
    return plan


def test_every_line_of_the_page_is_asked() -> None:
    assert list(_lines()) == list(KINDS)


@pytest.fixture(scope="module", params=[kind for kinds in KINDS.values() for kind in kinds])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """One kind of store, with the page's record in the collection `articles`."""
    with addresses(request.param, tmp_path_factory.mktemp("place")) as address:
        _copied(address("articles"), ROW)
        yield Place(request.param, address)


def test_things_stand_where_the_page_says(place: Place) -> None:
    kind, address = place.kind, place.address
    [name] = [name for name, kinds in KINDS.items() if kind in kinds]
    line = _lines()[name]
    marker = _code(line.lang).replace("lang", MARKER)
    with record_in(kind, address("articles")) as find:
        assert find(_code(line.document)) == ROW.document
        assert find(_code(line.lang)) == "en"
        assert (find(_code(line.id)) == ROW.id) is (", own" in line.id)
        assert ("id" in _entries(find(marker))) is (", own" not in line.id)
    _copied(address("spaces"), replace(ROW, namespace="team", payload={**(ROW.payload or {}), "when": MOMENT}))
    with record_in(kind, address("spaces")) as find:
        entries = _entries(find(marker))
        assert (find(_code(line.id)) == ROW.id) is ("derived" not in line.id)
        assert (entries["ns"] if line.namespace == "in the marker" else find(_code(line.namespace))) == "team"
        [stores] = re.findall(rf"^\| {re.escape(_stands_as(find, line, entries))} \| (.*) \|$", PAGE, re.MULTILINE)
        assert {*name.split(", ")} <= {*stores.split(", ")}
        entries.get("top", {}).pop("when", None)
        said = re.findall(r"`(\w+)`", line.marker.removeprefix("marker:")) if "marker:" in line.marker else []
        assert {key for key, entry in entries.items() if entry != {}} == {*said}
        if kind == "duckdb":
            assert line.marker == "a column of its own, `hash(payload)`"
            assert find(MARKER) == find("hash(payload)")
    if kind == "pgvector":
        assert line.marker == "a column of its own, null"
        with record_in(kind, address("articles")) as find:
            assert find(MARKER) is None


ODD: dict[str, Any] = {
    "when": MOMENT,
    "day": date(2024, 1, 1),
    "clock": time(1, 2, 3),
    "price": Decimal("1.00"),
    "nan": math.nan,
    "ref": uuid.UUID(int=5),
    "many": 2**60,
    "raw": b"ab",
    "list": [Decimal("2.5")],
    "nested": {"a": MOMENT},
    "like": {"$exitramp:int": "5"},
    "lang": "en",
    "flag": True,
    "plain": {"a": ["b", 1]},
}


@pytest.mark.parametrize("place", [kind for kinds in KINDS.values() for kind in kinds], indirect=True)
def test_a_key_that_the_plan_calls_exact_is_no_form_of_ours_for_other_readers(place: Place) -> None:
    [line] = [_lines()[name] for name, kinds in KINDS.items() if place.kind in kinds]
    odd = {key: value for key, value in ODD.items() if place.kind != "milvus" or key != "like"}
    planned = {each.subject: each for each in _copied(place.address("odd"), replace(ROW, payload=odd)).lines}
    exact = [key for key in odd if planned[f"payload.{key}"].fidelity is Fidelity.EXACT]
    assert {"lang", "flag"} <= {*exact}
    with record_in(place.kind, place.address("odd")) as find:
        for key in exact:
            if place.kind == "lancedb" and key in {"plain", "many"}:
                continue  # `json_get_string` gives texts and numbers alone
            stands, value = find(_code(line.lang).replace("lang", key)), odd[key]
            if isinstance(stands, str) and not isinstance(value, str):
                stands = json.loads(stands)
            assert stands == value or (value != value and stands != stands), key


def test_the_plan_sums_up_what_stands_in_another_form(tmp_path: Path) -> None:
    row = replace(ROW, payload={"price": Decimal("1.00"), "paid": [Decimal("2")], "when": MOMENT, "lang": "en"})
    plan = _copied(f"duckdb:{tmp_path}/x.duckdb#articles", row)
    assert payload_summary(plan.lines) == [
        (Fidelity.EXACT, "payload: 1 key", "kept as it is"),
        (
            Fidelity.REVERSIBLE,
            "payload: 3 keys",
            'come back as they were; for other readers decimals, timestamps stand as tagged JSON, {"$exitramp:…": …}',
        ),
    ]
    assert not plan.lossy()


def _entries(marker: str | None) -> dict[str, Any]:
    entries = json.loads(marker or "{}")
    entries.pop("$marker", None)
    return dict(entries)


def _stands_as(find: Find, line: Line, entries: dict[str, Any]) -> str:
    """The words of the page's table for how a moment stands."""
    when = find(_code(line.lang).replace("lang", "when"))
    if isinstance(when, datetime):
        assert when == MOMENT
        return "a moment of the store's own type"
    tagged = {"$exitramp:timestamp": MOMENT.isoformat()}
    if when == tagged or when == json.dumps(tagged, separators=(",", ":")):
        return f"`{json.dumps(tagged)}`"
    assert when == MOMENT.isoformat()
    if "top" in entries:
        assert entries["top"]["when"]["o"] == tagged
        return "the text, and in the marker"
    assert find(MARKER) == {"t": {"when": "timestamp"}}
    return "the text, and its type in the column `_exitramp`"


def _shown(kind: str) -> Any:
    """The record on the page, as Python writes it."""
    [text] = re.findall(rf"^```text\n{kind} +\w+\..*\n((?: .*\n)+)```", PAGE, re.MULTILINE)
    return ast.literal_eval(text.strip())


@pytest.mark.parametrize("place", ["pgvector", "duckdb", "redis", "milvus"], indirect=True)
def test_the_record_is_what_the_client_gives(place: Place) -> None:
    assert shown_record(place.kind, place.address("articles")) == _shown(place.kind)
