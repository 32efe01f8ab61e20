"""Names of tables that must be quoted, as targets and as sources, by the command line and on a real server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from psycopg import sql

from exitramp.cli.main import run
from exitramp.errors import UsageError
from exitramp.registry import open_store
from exitramp.testing.memory_records import collections_of
from exitramp_adapters.services.postgres import Postgres
from exitramp_adapters.stores.pgvector.catalog import parsed_name, shown_name
from tests.adapters.pgvector_harness import PgvectorHarness, served
from tests.drill.small_stacks import fill

_OWN = "nspname NOT LIKE 'pg_%' AND nspname <> 'information_schema'"
NAMES = [
    ('"My Schema"."My.Table"', "My Schema", "My.Table"),
    ("%22My%20Schema%22.%22My.Table%22", "My Schema", "My.Table"),
    ("My Schema.My Table", "My Schema", "My Table"),
    ("MiXed", "public", "MiXed"),
    ("My.table", "My", "table"),
    ('"a ""b"""."c.d"', 'a "b"', "c.d"),
    ("%22.%22.%22..%22", ".", ".."),
    ('"50%25 off"."a#b?c=d&e"', "50% off", "a#b?c=d&e"),
    ("größe.naïve 'q' 🚀", "größe", "naïve 'q' 🚀"),
    ("select.table", "select", "table"),
    ("s;DROP TABLE x;--.%s {} $1 :a", "s;DROP TABLE x;--", "%s {} $1 :a"),
]


@pytest.fixture(name="service", scope="module")
def _service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    with served(tmp_path_factory.mktemp("postgres")) as made:
        yield made


@pytest.fixture(name="harness")
def _harness(service: Postgres) -> PgvectorHarness:
    harness = PgvectorHarness(service)
    with harness.connection() as connection:
        for (schema,) in connection.execute(f"SELECT nspname FROM pg_namespace WHERE {_OWN}").fetchall():
            connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(schema)))
    with harness.connection() as connection:
        connection.execute("CREATE SCHEMA public")
        connection.execute("CREATE EXTENSION vector")
    return harness


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def told(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    capsys.readouterr()
    ended = run([*words, "--json"])
    out, err = capsys.readouterr()
    assert ended == 0, out + err
    return json.loads(out)


@pytest.mark.parametrize(("written", "schema", "table"), NAMES)
def test_a_table_of_any_name_is_target_and_source(
    written: str,
    schema: str,
    table: str,
    harness: PgvectorHarness,
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
) -> None:
    source = fill(f"memory:{request.node.name.partition('[')[0]}{abs(hash(written))}#articles")
    target = f"{harness.base}#{written}"
    assert told(capsys, "copy", source, target)["verdict"] == "pass"
    with harness.connection() as connection:
        found = connection.execute(
            "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            f" WHERE c.relkind = 'r' AND {_OWN}"
        ).fetchall()
    assert found == [(schema, table)]
    assert told(capsys, "inspect", target)["rows"] == 60
    assert told(capsys, "compare", source, target, "--no-neighbours")["verdict"] == "pass"
    assert told(capsys, "dump", target, "out")["verdict"] == "pass"
    other = f"{harness.base}#{quote(shown_name(schema, f'{table} 2'), safe='')}"
    assert told(capsys, "restore", "out", other)["verdict"] == "pass"

    listed = told(capsys, "inspect", harness.base)["collections"]
    names = [each["name"] for each in listed]
    assert shown_name(schema, table) in names
    assert parsed_name(shown_name(schema, table)) == (schema, table)
    # What is listed is an address again, once escaped as any address is.
    again = f"{harness.base}#{quote(shown_name(schema, table), safe='')}"
    assert told(capsys, "inspect", again)["rows"] == 60


def test_all_of_a_server_goes_out_and_comes_back_whatever_its_tables_are_called(
    harness: PgvectorHarness, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    for number, (written, _, _) in enumerate(NAMES[2:]):
        source = fill(f"memory:{name}{number}#articles")
        told(capsys, "copy", source, f"{harness.base}#{written}")
    assert told(capsys, "dump", harness.base, "out", "--all")["verdict"] == "pass"
    assert told(capsys, "restore", "out", f"memory:{name}-back", "--all")["verdict"] == "pass"
    assert sorted(collections_of(f"{name}-back")) == sorted(shown_name(schema, table) for _, schema, table in NAMES[2:])


@pytest.fixture(name="name")
def _name(request: pytest.FixtureRequest) -> str:
    return str(request.node.name)


@pytest.mark.parametrize("written", ['"a".', '"a"b', '"a', ".a", "a.b.c", '""'])
def test_what_is_quoted_by_halves_is_refused_with_the_form_to_write(written: str) -> None:
    store = open_store(f"pgvector://a@127.0.0.1:1/a#{quote(written, safe='')}")
    try:
        with pytest.raises(UsageError, match="no name of a table") as caught:
            parsed_name(written)
        assert '"my.schema"."my.table"' in str(caught.value.hint)
    finally:
        store.close()
