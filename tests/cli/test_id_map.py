"""A map of ids that somebody else keeps: out under other ids, and back."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from exitramp.codec import read_id_map
from exitramp.errors import ConfigError
from exitramp.records import IdKind
from tests.cli.conftest import Cli
from tests.cli.test_data_commands import ids_of
from tests.drill.small_stacks import fill

ROWS = 60


@pytest.fixture(name="source")
def _source(name: str) -> str:
    return fill(f"memory:{name}#articles", rows=ROWS)


def write_map(path: Path, pairs: dict[str, str]) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.table({"from": list(pairs), "to": list(pairs.values())}), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps({"to": to, "from": id_}) + "\n" for id_, to in pairs.items()))
    else:
        path.write_text("note,from,to\n" + "".join(f'x,"{id_}","{to}"\n' for id_, to in pairs.items()))
    return path


def numbered(source: str) -> dict[str, str]:
    return {id_: str(1000 + number) for number, id_ in enumerate(ids_of(source))}


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_records_go_out_under_other_ids_and_come_back(source: str, cli: Cli, name: str, kind: str) -> None:
    pairs = {id_: to for id_, to in numbered(source).items() if '"' not in id_ and "\n" not in id_}
    if len(pairs) < ROWS and kind == "csv":
        pytest.skip("these ids cannot be written without the csv module's rules")
    path = write_map(Path(f"ids.{kind}"), numbered(source))
    before = cli("inspect", source, "--json", code=0).json
    cli("dump", source, "out", "--id-map", path, code=0)
    found = cli("inspect", "dump:out", "--json", code=0).json
    assert found["collection"]["id_kind"] == IdKind.UINT64
    assert sorted(ids_of("dump:out")) == sorted(numbered(source).values())
    cli("compare", source, "dump:out", "--id-map", path, code=0)
    back = f"memory:{name}-back#articles"
    assert cli("restore", "out", back, "--id-map-back", path, "--json", code=0).json["verdict"] == "pass"
    assert cli("inspect", back, "--json", code=0).json["digests"] == before["digests"]


def test_neighbours_are_compared_by_the_ids_of_the_map(source: str, cli: Cli, name: str) -> None:
    path = write_map(Path("ids.parquet"), numbered(source))
    cli("copy", source, "qdrant:./db#articles", "--id-map", path, code=0)
    found = cli("compare", source, "qdrant:./db#articles", "--id-map", path, "--json").json
    assert found["records"]["verdict"] == "pass"
    assert found["neighbours"]["parts"][0]["recall_b"]["mean"] == 1.0


def test_a_record_without_a_line_ends_the_move_by_name(source: str, cli: Cli) -> None:
    pairs = numbered(source)
    left = next(iter(pairs))
    del pairs[left]
    path = write_map(Path("ids.parquet"), pairs)
    ended = cli("copy", source, "qdrant:./db#articles", "--id-map", path, code=2)
    assert "no id to stand for" in ended.err
    assert not Path("db").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("from,to\na,1\na,2\n", "'from' holds 'a' more than once"),
        ("from,to\na,1\nb,1\n", "'to' holds '1' more than once"),
        ("id,to\na,1\n", "no column 'from'"),
        ("from,to\n", "holds no id"),
        ("from,to\na\n", "cannot be read"),
    ],
)
def test_a_map_that_is_none_is_refused_with_its_file(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "ids.csv"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"ids\.csv") as caught:
        read_id_map(path)
    assert said in caught.value.message


def test_a_map_of_csv_holds_texts(tmp_path: Path) -> None:
    path = tmp_path / "ids.csv"
    path.write_text("from,to\n007,1\n7,2\n,3\nNULL,4\n")
    found = read_id_map(path)
    assert found.sources.to_pylist() == ["007", "7", "", "NULL"]
    assert found.kind is IdKind.UINT64
    assert read_id_map(path, backwards=True).kind is IdKind.STRING


def test_two_directions_at_once_are_none(source: str, cli: Cli) -> None:
    assert "two directions" in cli("dump", source, "out", "--id-map", "a", "--id-map-back", "b", code=2).err
    assert "a.csv" in cli("dump", source, "out", "--id-map", "a.csv", code=2).err
