"""Shards made bad on purpose: their bytes, or their rows, columns and encodings, with hashes made right again."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from exitramp.digests import CollectionDigests, digest_batch
from exitramp.errors import ExitrampError
from exitramp.records import CollectionSpec
from tests.dump.damage import Choices, one_of, read_journal, read_manifest, relist, write_journal, write_manifest

# What a change that does not fit the table it is tried on ends with.
_IMPOSSIBLE: Final = (
    pa.ArrowException,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    OverflowError,
    StopIteration,
)
PAYLOADS: tuple[str | None, ...] = (
    None,
    "",
    " ",
    "{}",
    "{",
    "[1]",
    "[]",
    "5",
    "-0",
    "1.50",
    '"text"',
    "null",
    "true",
    "NaN",
    "Infinity",
    "1e999",
    "not json",
    '{"b":1,"a":2}',
    '{"a":1,"a":1}',
    '{"a": 1}',
    '{"a":1}\n',
    '{"a":NaN}',
    '{"a":1e999}',
    '{"a":-0}',
    '{"a":9007199254740993}',
    '{"a":{"$exitramp:int":"5"}}',
    '{"a":{"$exitramp:int":"x"}}',
    '{"a":{"$exitramp:what":"5"}}',
    '{"a":{"$exitramp:bytes":"?"}}',
    '{"a":{"$exitramp:date":"yesterday"}}',
    '{"a":{"$exitramp:decimal":"1.10"}}',
    '{"$exitramp:bytes":"AP8="}',
    '{"$exitramp:esc:int":"5"}',
    '{"$exitramp:int":"9007199254740993"}',
    '{"_exitramp":{"x":1}}',
    '{"_exitramp":"x"}',
    '{"a":"\\ud800"}',
    '{"a":"\\u0041"}',
    '{"a":"\x7f"}',
    '{"\\u0000":1}',
    "[" * 300 + "]" * 300,
    "[" * 2000 + "]" * 2000,
    '{"a":' * 90 + "1" + "}" * 90,
    '{"a":' * 400 + "1" + "}" * 400,
    '{"a":' * 3000 + "1" + "}" * 3000,
    '{"a":' + "1" * 5000 + "}",
    '{"k' + 'x":1,"k'.join(map(str, range(2500))) + 'x":1}',
)


def bad_bytes(folder: Path, choices: Choices) -> None:
    """A shard with some bytes changed, most often in its footer, listed as it is."""
    shards = sorted((folder / "shards").iterdir()) if (folder / "shards").exists() else []
    if not shards:
        return
    path = one_of(choices, shards)
    content = bytearray(path.read_bytes())
    footer = int.from_bytes(content[-8:-4], "little") + 8
    for _ in range(1 + choices.below(4)):
        begin = max(0, len(content) - footer) if choices.below(3) else 0
        at = begin + choices.below(len(content) - begin)
        content[at] = choices.below(256)
    path.write_bytes(bytes(content))
    relist(folder)


def bad_shard(folder: Path, choices: Choices) -> None:
    """A shard of other rows, columns or encodings, listed as it is; sometimes everything else is made to agree."""
    data = read_manifest(folder)
    if not data["shards"]:
        return
    path = folder / one_of(choices, data["shards"])["path"]
    table = pq.read_table(path)
    for _ in range(1 + choices.below(2)):
        with contextlib.suppress(*_IMPOSSIBLE):
            table = one_of(choices, TABLE_CHANGES)(table, choices)
    options: dict[str, Any] = one_of(
        choices,
        (
            {},
            {"compression": "zstd"},
            {"compression": "none", "use_dictionary": False},
            {"use_dictionary": True},
            {"row_group_size": 1},
            {"row_group_size": 2},
            {"version": "1.0"},
            {"data_page_version": "2.0"},
            {"store_schema": False},
            {"write_page_index": True},
        ),
    )
    try:
        pq.write_table(table, path, **options)
    except _IMPOSSIBLE:
        return
    how = choices.below(3)
    if how:
        count_rows(folder)
    relist(folder)
    if how == 2:
        with contextlib.suppress(ExitrampError, *_IMPOSSIBLE):
            agree(folder)


def count_rows(folder: Path) -> None:
    """Make the manifest's numbers of rows those of the shards."""
    data = read_manifest(folder)
    for entry in data["shards"]:
        entry["rows"] = pq.read_metadata(folder / entry["path"]).num_rows
    rows = sum(entry["rows"] for entry in data["shards"])
    data["rows"] = data["digests"]["rows"] = data["inventory"]["rows"] = rows
    if data["consistency"]["state"] == "unchanged":
        data["consistency"].update(count_before=rows, count_after=rows)
    write_manifest(folder, data)


def agree(folder: Path) -> None:
    """Make manifest and journal say of the shards' digests what they are, as a forger would who knows the format."""
    data = read_manifest(folder)
    digests = real_digests(folder, data)
    if digests is None:
        return
    data["digests"] = digests
    lines = read_journal(folder)
    for line in lines:
        if line["kind"] == "shard":
            number = next(at for at, entry in enumerate(data["shards"]) if entry["path"] == line["data"]["path"])
            line["data"].update(data["shards"][number])
            single = {**data, "shards": [data["shards"][number]]}
            line["data"]["digests"] = real_digests(folder, single)
        elif line["kind"] == "finish":
            line["data"]["digests"] = digests
    write_manifest(folder, data)
    write_journal(folder, lines)


def real_digests(folder: Path, data: dict[str, Any] | None = None) -> dict[str, Any] | None:
    """The digests of what the listed shards hold, read by pyarrow alone; None where nothing can be read."""
    listed = data or read_manifest(folder)
    try:
        spec = CollectionSpec.from_json(listed["collection"])
        total = CollectionDigests.empty(spec)
        for entry in listed["shards"]:
            for batch in pq.read_table(folder / entry["path"], partitioning=None).to_batches():
                total = total.merge(digest_batch(batch, spec))
    except (ExitrampError, OSError, *_IMPOSSIBLE):
        return None
    return total.to_json()


Change = Callable[[pa.Table, Choices], pa.Table]


def _put(table: pa.Table, name: str, values: Any) -> pa.Table:
    at = table.schema.get_field_index(name)
    return table.set_column(at, table.schema.field(name), pa.chunked_array([values]))


def _some_row(table: pa.Table, choices: Choices) -> int:
    return choices.below(max(1, len(table)))


def _with_value(table: pa.Table, name: str, row: int, value: Any) -> pa.Table:
    values = table.column(name).to_pylist()
    values[row] = value
    return _put(table, name, pa.array(values, table.schema.field(name).type))


def _payload(table: pa.Table, choices: Choices) -> pa.Table:
    return _with_value(table, "payload", _some_row(table, choices), one_of(choices, PAYLOADS))


def _id(table: pa.Table, choices: Choices) -> pa.Table:
    other = table.column("id")[_some_row(table, choices)].as_py()
    value = one_of(choices, ("", "\x00", "x" * 2000, other, "\x1b[2J", "007", "é"))
    return _with_value(table, "id", _some_row(table, choices), value)


def _raw_text(table: pa.Table, choices: Choices) -> pa.Table:
    """Bytes that are no UTF-8 in a column of text: lone surrogates, cut characters."""
    name = one_of(choices, [field.name for field in table.schema if pa.types.is_string(field.type)])
    values: list[bytes | None] = [
        None if value is None else value.encode("utf-8") for value in table.column(name).to_pylist()
    ]
    values[_some_row(table, choices)] = one_of(choices, (b"\xed\xa0\x80", b"\xff", b"\xc3", b"ab\x80", b'{"a":"\xff"}'))
    raw = pa.array(values, pa.binary())
    return _put(table, name, pa.Array.from_buffers(pa.string(), len(raw), raw.buffers(), raw.null_count))


def _null(table: pa.Table, choices: Choices) -> pa.Table:
    """A null anywhere, the column declared so that it may stand there."""
    at = choices.below(len(table.schema))
    field = table.schema.field(at)
    values = table.column(at).to_pylist()
    values[_some_row(table, choices)] = None
    nullable = pa.field(field.name, field.type, nullable=bool(choices.below(2)) or field.nullable)
    return table.set_column(at, nullable, pa.array(values, field.type))


def _type(table: pa.Table, choices: Choices) -> pa.Table:
    """A column of another type."""
    at = choices.below(len(table.schema))
    field = table.schema.field(at)
    rows = len(table)
    column = one_of(
        choices,
        (
            lambda: table.column(at).cast(pa.large_string()),
            lambda: table.column(at).cast(pa.binary()),
            lambda: table.column(at).dictionary_encode(),
            lambda: pa.array(range(rows), pa.int64()),
            lambda: pa.nulls(rows),
            lambda: pa.array([[1.0]] * rows, pa.list_(pa.float32())),
            lambda: pa.array([[1.0] * 5] * rows, pa.list_(pa.float32(), 5)),
            lambda: table.column(at).combine_chunks().cast(pa.list_(pa.float32())),
            lambda: table.column(at).combine_chunks().cast(pa.list_(pa.float64(), field.type.list_size)),
        ),
    )
    return table.set_column(at, field.name, column())


def _sparse(table: pa.Table, choices: Choices) -> pa.Table:
    """Sparse vectors with fewer values than indices."""
    name = next(field.name for field in table.schema if pa.types.is_struct(field.type))
    return _with_value(table, name, _some_row(table, choices), {"indices": [1, 2], "values": [0.5]})


TABLE_CHANGES: tuple[Change, ...] = (
    _payload,
    _payload,
    _payload,
    _id,
    _raw_text,
    _raw_text,
    _null,
    _type,
    _sparse,
    lambda table, choices: table.slice(choices.below(3)),
    lambda table, choices: table.slice(0, 0),
    lambda table, choices: pa.concat_tables([table, table.slice(choices.below(2), 1)]),
    lambda table, choices: table.append_column("extra", pa.array(range(len(table)))),
    lambda table, choices: table.append_column("id", table.column("id")),
    lambda table, choices: table.drop_columns([table.schema.names[choices.below(len(table.schema))]]),
    lambda table, choices: table.rename_columns([name.upper() for name in table.schema.names]),
    lambda table, choices: table.select(table.schema.names[::-1]),
    lambda table, choices: table.replace_schema_metadata({"a": "\x00"}),
)
