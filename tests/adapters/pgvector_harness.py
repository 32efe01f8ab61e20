"""A real server for the tests, and tables written and read with psycopg alone, by what docs/stores/pgvector.md says."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any
from urllib.parse import quote
from uuid import UUID

import numpy as np
import psycopg
from psycopg import sql

from exitramp.faults import Fault
from exitramp.records import CollectionSpec, DType, IdKind, Metric, VectorField, VectorKind
from exitramp.testing import Row, StoreHarness
from exitramp_adapters.services.postgres import Postgres

KEY_TYPES = {
    IdKind.STRING: 'text COLLATE "C"',
    IdKind.INT64: "bigint",
    IdKind.UINT64: "numeric(20)",
    IdKind.UUID: "uuid",
}
CLASSES = {
    Metric.COSINE: "cosine",
    Metric.DOT: "ip",
    Metric.EUCLIDEAN: "l2",
    Metric.MANHATTAN: "l1",
    Metric.HAMMING: "hamming",
}
TYPES = {DType.FLOAT32: "vector", DType.FLOAT16: "halfvec", DType.BINARY: "bit"}


class PgvectorHarness(StoreHarness):
    def __init__(self, service: Postgres) -> None:
        self.service = service
        self.base = service.address.text

    def address(self, collection: str) -> str:
        return f"{self.base}#{quote(collection, safe='')}"

    @contextmanager
    def connection(self, **more: Any) -> Iterator[psycopg.Connection[Any]]:
        with connected(self.service, **more) as connection:
            yield connection

    def clear(self) -> None:
        with self.connection() as connection:
            connection.execute("DROP SCHEMA public CASCADE")
            connection.execute("CREATE SCHEMA public")
            connection.execute("CREATE EXTENSION vector")

    def raw_seed(self, collection: str, spec: CollectionSpec, rows: Sequence[Row]) -> None:
        names = {field.column: field.name or "embedding" for field in spec.vectors}
        columns = [f"id {KEY_TYPES[spec.id_kind]} NOT NULL"]
        columns += ['namespace text COLLATE "C"'] if spec.has_namespaces else []
        columns += ["document text"] if spec.has_documents else []
        columns += ["payload jsonb", *(f'"{names[f.column]}" {raw_type(f)}' for f in spec.vectors), "_exitramp jsonb"]
        note = {
            "layout": 1,
            "id": ["id"],
            "id_kind": spec.id_kind.value,
            "namespace": "namespace" if spec.has_namespaces else None,
            "document": "document" if spec.has_documents else None,
            "payload": "payload",
            "values": [],
            "vectors": [{"column": names[field.column], "field": field.to_json()} for field in spec.vectors],
        }
        table = sql.Identifier(collection)
        with self.connection() as connection, connection.transaction():
            connection.execute(sql.SQL("CREATE TABLE {} (" + ", ".join(columns) + ")").format(table))
            key = "namespace, id" if spec.has_namespaces else "id"
            connection.execute(sql.SQL(f"CREATE UNIQUE INDEX ON {{}} ({key}) NULLS NOT DISTINCT").format(table))
            for field in spec.vectors:
                if field.kind is VectorKind.DENSE and (field.dimensions or 0) <= 2000:
                    class_ = f"{TYPES[field.dtype]}_{CLASSES[field.metric]}_ops"
                    using = f'USING hnsw ("{names[field.column]}" {class_})'
                    connection.execute(sql.SQL("CREATE INDEX ON {} " + using).format(table))
            comment = sql.SQL("COMMENT ON TABLE {} IS {}").format(table, sql.Literal(f"exitramp:{json.dumps(note)}"))
            connection.execute(comment)
            for row in rows:
                self._insert(connection, table, row, spec, names)

    def _insert(
        self, connection: Any, table: sql.Identifier, row: Row, spec: CollectionSpec, names: Mapping[str, str]
    ) -> None:
        values: dict[str, Any] = {"id": row.id, "payload": None}
        if spec.has_namespaces:
            values["namespace"] = row.namespace
        if spec.has_documents:
            values["document"] = row.document
        if row.payload is not None:
            natural, types = natural_of(row.payload)
            values["payload"] = json.dumps(natural)
            values["_exitramp"] = json.dumps({"t": types}) if types is not None else None
        for field in spec.vectors:
            if field.column in row.vectors:
                values[names[field.column]] = raw_text(row.vectors[field.column], field)
        columns = sql.SQL(", ").join(map(sql.Identifier, values))
        marks = sql.SQL(", ").join([sql.SQL("%s")] * len(values))
        connection.execute(sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(table, columns, marks), [*values.values()])

    def raw_read(self, collection: str) -> list[Row]:
        with self.connection() as connection:
            table = sql.Identifier(collection)
            comment = connection.execute("SELECT obj_description(%s::regclass)", [table.as_string()]).fetchone()
            assert comment is not None
            note = json.loads(comment[0].partition("exitramp:")[2])
            fields = {each["column"]: VectorField.from_json(each["field"]) for each in note["vectors"]}
            names = ["id", "payload", "_exitramp", *fields]
            names += [name for name in ("namespace", "document") if note[name]]
            asked = sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(name)) for name in names)
            found = connection.execute(sql.SQL("SELECT {} FROM {}").format(asked, table)).fetchall()
        return [_row(dict(zip(names, values, strict=True)), fields) for values in found]

    def raw_edit(self, collection: str, id_: str, key: str, value: Any) -> None:
        with self.connection() as connection:
            table = sql.Identifier(collection)
            connection.execute(
                sql.SQL("UPDATE {} SET payload = jsonb_set(payload, %s, %s) WHERE id = %s").format(table),
                [[key], json.dumps(value), id_],
            )

    def raw_collections(self) -> list[str]:
        with self.connection() as connection:
            rows = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        return [row[0] for row in rows]

    def kill(self) -> None:
        self.service.inject(Fault("sigkill"))

    def restart(self) -> None:
        self.service.inject(Fault("restart"))

    def stop(self) -> None:
        self.service.inject(Fault("sigstop"))

    def resume(self) -> None:
        self.service.inject(Fault("sigcont"))


@contextmanager
def connected(service: Postgres, **more: Any) -> Iterator[psycopg.Connection[Any]]:
    """A session of psycopg's own, each statement by itself."""
    given = {"host": "127.0.0.1", "port": service.address.port, "user": "postgres", "dbname": "postgres"}
    with psycopg.connect(**(given | more), autocommit=True) as connection:
        yield connection


def raw_type(field: VectorField) -> str:
    if field.kind is VectorKind.SPARSE:
        return "sparsevec(1000000000)"
    return f"{TYPES[field.dtype]}({field.dimensions})" + ("[]" if field.kind is VectorKind.MULTI else "")


def raw_text(value: Any, field: VectorField) -> str:
    """A vector as text that PostgreSQL reads; the shortest text of a float32 is read to the same bits."""
    if field.kind is VectorKind.SPARSE:
        parts = [f"{index + 1}:{number}" for index, number in zip(value[0].tolist(), value[1].tolist(), strict=True)]
        return "{" + ",".join(parts) + "}/1000000000"
    if field.kind is VectorKind.MULTI:
        return "{" + ",".join(f'"{raw_text(each, _single(field))}"' for each in value) + "}"
    if field.dtype is DType.BINARY:
        return "".join(map(str, np.unpackbits(value).tolist()))
    return "[" + ",".join(map(repr, value.astype(np.float64).tolist())) + "]"


def _single(field: VectorField) -> VectorField:
    return VectorField("", VectorKind.DENSE, field.dtype, field.metric, field.dimensions)


def _row(values: Mapping[str, Any], fields: Mapping[str, VectorField]) -> Row:
    extra = json.loads(values["_exitramp"] or "{}")
    payload = None if values["payload"] is None else value_of(json.loads(values["payload"]), extra.get("t"))
    vectors = {}
    for name, field in fields.items():
        if values[name] is not None:
            vectors[field.column] = _vector(values[name], field)
        elif name in extra.get("s", {}):
            kept = {side: base64.b64decode(text) for side, text in extra["s"][name].items()}
            vectors[field.column] = (np.frombuffer(kept["i"], "<u4"), np.frombuffer(kept["v"], "<f4"))
    return Row(values["id"], values.get("namespace"), values.get("document"), payload, vectors)


def _vector(text: str, field: VectorField) -> Any:
    if field.kind is VectorKind.SPARSE:
        parts = [part.split(":") for part in text.partition("}")[0][1:].split(",") if part]
        indices = np.array([int(index) - 1 for index, _ in parts], np.uint32)
        return indices, np.array([np.float32(number) for _, number in parts], np.float32)
    if field.kind is VectorKind.MULTI:
        inner = [part for part in text[2:-2].split('","') if part]
        shape = (len(inner), field.item_count)
        return np.array([_vector(part, _single(field)) for part in inner], TO_NUMPY[field.dtype]).reshape(shape)
    if field.dtype is DType.BINARY:
        return np.packbits(np.array(list(text), np.uint8))
    # Through double: a text of a float32 has too few digits for its own rounding to be rounded again.
    return np.array([np.float32(number) for number in text[1:-1].split(",")]).astype(TO_NUMPY[field.dtype])


TO_NUMPY: Mapping[DType, Any] = {DType.FLOAT32: np.float32, DType.FLOAT16: np.float16, DType.BINARY: np.uint8}
READERS: Mapping[str, Any] = {
    "float": float,
    "negative zero": lambda value: -0.0,
    "bytes": base64.b64decode,
    "timestamp": datetime.fromisoformat,
    "date": date.fromisoformat,
    "time": time.fromisoformat,
    "decimal": Decimal,
    "uuid": UUID,
}


def natural_of(value: Any) -> tuple[Any, Any]:
    """What stands in jsonb for a value, and what the column beside it says of its type."""
    if isinstance(value, Mapping):
        parts = {key: natural_of(item) for key, item in value.items()}
        types = {key: known for key, (_, known) in parts.items() if known is not None}
        return {key: natural for key, (natural, _) in parts.items()}, types or None
    if isinstance(value, list):
        items = [natural_of(item) for item in value]
        types = {str(number): known for number, (_, known) in enumerate(items) if known is not None}
        return [natural for natural, _ in items], types or None
    if isinstance(value, bytes):
        return base64.b64encode(value).decode(), "bytes"
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        return "Infinity" if value > 0 else "-Infinity", "float"
    if type(value) in (datetime, date, time):
        return value.isoformat(), {datetime: "timestamp", date: "date", time: "time"}[type(value)]
    if type(value) in (Decimal, UUID):
        return str(value), {Decimal: "decimal", UUID: "uuid"}[type(value)]
    return value, None


def value_of(natural: Any, types: Any) -> Any:
    if isinstance(types, str):
        return READERS[types](natural)
    if isinstance(types, list):
        return json.loads(types[1])
    if isinstance(natural, dict):
        return {key: value_of(item, (types or {}).get(key)) for key, item in natural.items()}
    if isinstance(natural, list):
        return [value_of(item, (types or {}).get(str(number))) for number, item in enumerate(natural)]
    return natural


@contextmanager
def served(folder: Any) -> Iterator[Postgres]:
    """A server of its own."""
    service = Postgres(str(folder), {})
    service.start()
    try:
        yield service
    finally:
        service.stop()
