"""What the Redis adapter sends and reads in bulk by its own code: packed rows and parsed answers."""

from __future__ import annotations

import math
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from exitramp import canonical
from exitramp.arrow import dense_array, stream_schema
from exitramp.errors import DataInvalid
from exitramp.records import DType, Metric, VectorField, VectorKind
from exitramp_adapters.stores.redis import hashes
from exitramp_adapters.stores.redis.connection import pack
from exitramp_adapters.stores.redis.hashes import hash_rows
from exitramp_adapters.stores.redis.index import Attribute, Index, VectorAttribute
from exitramp_adapters.stores.redis.replies import replies

PAYLOADS: list[Any] = [
    {"text": "a %d %b", "50 %": 7, "on": True, "off": False, "none": None, "half": 0.5, "big": 2**70},
    {"text": "ä", "50 %": -7, "on": False, "off": True, "none": None, "half": -0.0, "big": -(2**70)},
    {"text": 1, "half": 1e22},
    {"text": 1.5, "half": math.nan},
    {"list": [1, "a", None], "object": {"b": 1, "a": [math.inf]}},
    {"raw": b"\xff", "page": 1},
    {"raw": b"text", "page": 1},
    {"day": date(2024, 2, 29)},
    {},
    None,
]


def _index(*names: str) -> Index:
    vectors = []
    for name in names:
        field = VectorField(name, VectorKind.DENSE, DType.FLOAT32, Metric.COSINE, 2)
        attribute = Attribute(f"vector:{name}", name, "VECTOR", (f"vector:{name}",), {})
        vectors.append(VectorAttribute(attribute, field, "FLOAT32"))
    attributes = tuple(vector.attribute for vector in vectors)
    return Index("x", False, (b"x:",), None, attributes, tuple(vectors), (), 0, False, {})


def _batch(index: Index, payloads: list[Any]) -> pa.RecordBatch:
    texts = [None if payload is None else canonical.dumps(payload) for payload in payloads]
    columns: dict[str, Any] = {"id": [f"n{row}" for row in range(len(texts))], "payload": pa.array(texts, pa.string())}
    valid = np.array([row % 3 != 1 for row in range(len(texts))])
    numbers = np.arange(2 * len(texts), dtype=np.float32).reshape(-1, 2)
    for vector in index.vectors:
        columns[vector.field.column] = dense_array(numbers, vector.field, valid=valid)
    schema = stream_schema(index.spec(has_documents=False))
    return pa.RecordBatch.from_arrays([pa.array(columns[name]) for name in schema.names], schema=schema)


@pytest.mark.parametrize("names", [("a",), ("a", "b")])
def test_a_pattern_packs_a_row_as_its_parts_one_by_one_do(names: tuple[str, ...]) -> None:
    index = _index(*names)
    rows = hash_rows(_batch(index, PAYLOADS * 2), index, index.spec(has_documents=False), where="here")
    fields = [f"vector:{name}".encode() for name in names]
    for row, (key, command) in enumerate(zip(rows.keys, rows.commands, strict=True)):
        blob = None if row % 3 == 1 else np.array([2 * row, 2 * row + 1], "<f4").tobytes()
        payload = (PAYLOADS * 2)[row]
        payload = None if payload is None else canonical.loads(canonical.dumps(payload))  # its keys sorted
        assert command == pack((b"HSET", key, *hashes._parts(fields, [blob] * len(names), payload)))


@pytest.mark.parametrize("key", ["vector:a", "exitramp:json", "a\nb"])
def test_a_key_that_a_hash_has_no_room_for_is_said_before_a_command_is_packed(key: str) -> None:
    index = _index("a")
    batch = _batch(index, [{"page": 1}, None, {"page": 2}, {key: 5}])
    with pytest.raises(DataInvalid, match="'n3'"):
        hash_rows(batch, index, index.spec(has_documents=False), where="here")


class _Buffer:
    def unread_bytes(self) -> int:
        return 0


class _RESP3Parser:
    """Has what redis-py's own has of that name, as far as it is used."""

    _buffer = _Buffer()

    def parse_error(self, text: str) -> Exception:
        from redis.exceptions import ConnectionError as Lost
        from redis.exceptions import ResponseError

        return Lost(text) if text.startswith("LOADING") else ResponseError(text)


class _Wire:
    """A connection that gives its bytes a few at a time, and none at the end."""

    def __init__(self, sent: bytes, step: int) -> None:
        self._left = sent
        self._step = step
        self._sock = self
        self._parser = _RESP3Parser()

    def recv(self, most: int) -> bytes:
        part, self._left = self._left[: self._step], self._left[self._step :]
        return part


SENT = (
    b"+OK\r\n>2\r\n$1\r\nx\r\n:1\r\n:-12\r\n$4\r\na\r\nb\r\n%2\r\n$1\r\nk\r\n$0\r\n\r\n$1\r\nl\r\n:3\r\n"
    b">1\r\n$1\r\ny\r\n*3\r\n$1\r\na\r\n-ERR no\r\n*1\r\n_\r\n~1\r\n+in\r\n-WRONGTYPE x\r\n!5\r\nERR y\r\n_\r\n"
)


@pytest.mark.parametrize("step", [1, 2, 7, 1000])
def test_answers_are_the_same_however_they_are_cut(step: int) -> None:
    found = replies(_Wire(SENT, step), 9)
    errors = [str(found[4].pop(1)), str(found[6]), str(found[7])]
    assert errors == ["ERR no", "WRONGTYPE x", "ERR y"]
    assert [*found[:6], found[8]] == [b"OK", -12, b"a\r\nb", {b"k": b"", b"l": 3}, [b"a", [None]], [b"in"], None]


def test_a_message_behind_the_last_answer_is_none() -> None:
    assert replies(_Wire(b":1\r\n>1\r\n$1\r\nx\r\n", 9), 1) == [1]


@pytest.mark.parametrize("sent", [SENT[:-1], b"-LOADING x\r\n", SENT + b":1\r\n", b"?\r\n"])
def test_answers_that_end_too_early_or_too_late_or_are_none_are_errors_of_the_client(sent: bytes) -> None:
    from redis.exceptions import RedisError

    with pytest.raises(RedisError):
        replies(_Wire(sent, 10_000), 9)
