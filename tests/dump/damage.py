"""Dumps made bad on purpose: anything at all in the manifest, the journal and the shards, with hashes made right again.

Every function takes the folder of a whole dump, and `Choices`, from which it draws what to do to it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from exitramp.digests import digest_batch
from exitramp.dump.manifest import Manifest
from exitramp.errors import ExitrampError
from exitramp.records import CollectionSpec

JUNK: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    1,
    -1,
    3,
    2**31 - 1,
    2**31,
    2**32,
    2**40,
    2**63,
    -(2**63),
    10**300,
    10**4000,
    0.0,
    -0.0,
    1.5,
    -1.5,
    4.0,
    1e308,
    float("nan"),
    float("inf"),
    "",
    " ",
    "x",
    "cosine",
    "dot",
    "uuid",
    "sparse",
    "multi",
    "binary",
    "float64",
    "unchanged",
    "snapshot",
    "\x00",
    "a\x00b",
    "\x1b[2J\x1b]0;x\x07",
    "line\nline",
    "\ud800",
    "é\u202e\U0001f680",
    "../../etc/passwd",
    "/etc/passwd",
    "shards/../manifest.json",
    "manifest.json",
    "journal.jsonl",
    "shards",
    ".",
    "C:\\x",
    "x" * 300,
    "0" * 64,
    "f" * 64,
    "1" * 5000,
    "2026-01-01T00:00:00.000Z",
    [],
    [[]],
    [None],
    [1, "x", None],
    {},
    {"": {}},
    {"name": 1},
    {"$exitramp:int": "1"},
    {"\x00": "\x00"},
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


class Choices(Protocol):
    """Where a mutation takes its decisions from."""

    def below(self, number: int) -> int:
        """One of 0 … number - 1."""
        ...


def one_of(choices: Choices, values: Any) -> Any:
    return values[choices.below(len(values))]


def digits_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def read_manifest(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "manifest.json").read_bytes())
    return found


def seal(folder: Path, content: bytes) -> None:
    """Write a manifest and the hash that belongs to it."""
    (folder / "manifest.json").write_bytes(content)
    (folder / "manifest.json.sha256").write_text(f"{digits_of(content)}  manifest.json\n")


def write_manifest(folder: Path, data: Any) -> None:
    seal(folder, json.dumps(data, indent=2).encode("ascii"))


def relist(folder: Path) -> None:
    """Make the manifest's sizes and hashes those of the files that are there now."""
    data = read_manifest(folder)
    for entry in [*data["shards"], data["journal"]]:
        content = (folder / entry["path"]).read_bytes()
        entry.update(bytes=len(content), sha256=digits_of(content))
    write_manifest(folder, data)


def journal_line(data: Any, kind: Any, sequence: Any) -> bytes:
    text = json.dumps({"data": data, "kind": kind, "seq": sequence}, separators=(",", ":")).encode("ascii")
    return b'{"crc":"%08x",' % zlib.crc32(text) + text[1:] + b"\n"


def read_journal(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "journal.jsonl").read_bytes().splitlines()]


def write_journal(folder: Path, lines: list[dict[str, Any]]) -> None:
    """Write these lines with their numbers and checksums right, and list the file as it is then."""
    content = b"".join(journal_line(line["data"], line["kind"], at) for at, line in enumerate(lines, start=1))
    (folder / "journal.jsonl").write_bytes(content)
    relist(folder)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value inside `value`."""
    found = [path] if path else []
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        found += places(item, (*path, key))
    return found


def change_json(value: Any, choices: Choices) -> None:
    """Do one thing to a random place of a JSON value."""
    found = places(value)
    if not found:
        return
    path = one_of(choices, found)
    parent = value
    for key in path[:-1]:
        parent = parent[key]
    key = path[-1]
    what = choices.below(8)
    if what == 0:
        del parent[key]
    elif what == 1 and isinstance(parent, dict):
        parent[str(one_of(choices, ("extra", "", "\x00", "\ud800", "name")))] = one_of(choices, JUNK)
    elif what == 2 and isinstance(parent, dict):
        parent[str(one_of(choices, ("other", "Name", key + " ")))] = parent.pop(key)
    elif what == 3:
        parent[key] = [parent[key]]
    elif what == 4 and isinstance(parent, list):
        parent.append(parent[key])
    elif what == 5 and isinstance(parent[key], int):
        parent[key] = parent[key] + one_of(choices, (-1, 1, 10, 2**40))
    elif what == 6:
        deep: Any = 0
        for _ in range(one_of(choices, (50, 99, 150, 450, 900))):
            deep = [deep] if choices.below(2) else {"a": deep}
        parent[key] = deep
    else:
        parent[key] = one_of(choices, JUNK)


def bad_manifest(folder: Path, choices: Choices) -> None:
    """Other JSON in the manifest, its hash made right."""
    data = read_manifest(folder)
    for _ in range(1 + choices.below(2)):
        change_json(data, choices)
    with contextlib.suppress(RecursionError):
        write_manifest(folder, data)


def bad_manifest_text(folder: Path, choices: Choices) -> None:
    """What is hardly JSON in the manifest, its hash made right."""
    text = (folder / "manifest.json").read_text("utf-8")
    lines = text.splitlines()
    at = choices.below(len(lines))
    changed = one_of(
        choices,
        (
            "\n".join([*lines[:at], lines[at], *lines[at:]]),
            "\n".join([*lines[:at], *lines[at + 1 :]]),
            text.replace(": 0", ": NaN"),
            text.replace(": 0", ": -Infinity", 1),
            text.replace(": 0", ": 1e999"),
            text.replace(": 0", ": 0.0"),
            text.replace(": 0", ": -0"),
            text.replace('"index": {', '"index": {"a": ' + "[" * 5000 + "]" * 5000 + ", "),
            text.replace('"index": {', '"index": {"a": ' + "9" * 10_000 + ", "),
            text.replace('"name"', '"name": 1, "name"'),
            "\ufeff" + text,
            text + "x",
            text[: len(text) // 2],
            "[" * 100_000,
            "",
            "null",
            '"manifest"',
            "[]",
            "{}",
            '{"format":"exitramp-dump","format_version":1}',
        ),
    )
    encoding = one_of(choices, ("utf-8", "utf-8", "utf-8", "utf-16", "utf-32", "latin-1"))
    seal(folder, changed.encode(encoding, "backslashreplace"))


def bad_journal(folder: Path, choices: Choices) -> None:
    """Other lines in the journal, with checksums and the manifest's entry made right."""
    lines = read_journal(folder)
    at = choices.below(len(lines))
    what = choices.below(7)
    if what == 0:
        del lines[at]
    elif what == 1:
        lines.insert(choices.below(len(lines) + 1), lines[at])
    elif what == 2:
        lines[at]["kind"] = one_of(choices, ("begin", "shard", "drop", "resume", "finish", "other", "", 5, None))
    elif what == 3:
        lines.insert(at, {"kind": "drop", "data": {"paths": one_of(choices, JUNK)}})
    else:
        for _ in range(1 + choices.below(2)):
            change_json(lines[at]["data"], choices)
    with contextlib.suppress(RecursionError):
        write_journal(folder, lines)


def bad_journal_text(folder: Path, choices: Choices) -> None:
    """What is no journal at all, listed as it is."""
    content = (folder / "journal.jsonl").read_bytes()
    deep = b'{"data":{"a":' + b"[" * 100_000 + b'},"kind":"begin","seq":1}'
    huge = b'{"data":{"a":' + b"9" * 10_000 + b'},"kind":"begin","seq":1}'
    changed = one_of(
        choices,
        (
            b"",
            b"\n",
            content[:-1],
            content[: len(content) // 2],
            content + b"\n",
            content + content,
            b"\x00" * 100,
            b'{"crc":"%08x",' % zlib.crc32(deep) + deep[1:] + b"\n",
            b'{"crc":"%08x",' % zlib.crc32(huge) + huge[1:] + b"\n",
            journal_line({}, "begin", 1),
            journal_line({"format_version": 2}, "begin", 1),
            journal_line({"format_version": True}, "begin", 1),
            journal_line([], "begin", 1),
            journal_line({}, "begin", True),
        ),
    )
    (folder / "journal.jsonl").write_bytes(changed)
    relist(folder)


def bad_file(folder: Path, choices: Choices) -> None:
    """Something else in the place of one of the files."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    path = one_of(choices, [*files, folder / "shards"])
    if not os.path.lexists(path):
        return
    what = choices.below(7)
    aside = folder.parent / f"{folder.name} {path.name} aside"
    if path.is_dir():
        shutil.rmtree(path)
        what = what % 4
    elif what == 3:
        shutil.copy(path, aside)
        path.unlink()
    elif what < 4:
        path.unlink()
    if what == 0:
        path.mkdir()
    elif what == 1:
        os.mkfifo(path)
    elif what == 2:
        path.symlink_to(one_of(choices, ("/dev/zero", "/", "nowhere", path.name, "..")))
    elif what == 3:
        path.symlink_to(aside)
    elif what == 4:
        path.write_bytes(path.read_bytes()[: choices.below(path.stat().st_size + 1)])
    elif what == 5:
        path.write_bytes(path.read_bytes() + b"\x00" * (1 + choices.below(100)))


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
        with contextlib.suppress(pa.ArrowException, KeyError, ValueError, OverflowError):
            table = one_of(choices, _TABLE_CHANGES)(table, choices)
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
    except (pa.ArrowException, ValueError, OverflowError):
        return
    how = choices.below(3)
    if how:
        count_rows(folder)
    relist(folder)
    if how == 2:
        with contextlib.suppress(ExitrampError, pa.ArrowException, ValueError, KeyError, TypeError, StopIteration):
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
    try:
        spec = CollectionSpec.from_json((data or read_manifest(folder))["collection"])
        total = None
        for entry in (data or read_manifest(folder))["shards"]:
            table = pq.read_table(folder / entry["path"], partitioning=None)
            for batch in table.to_batches():
                found = digest_batch(batch, spec)
                total = found if total is None else total.merge(found)
    except (ExitrampError, pa.ArrowException, ValueError, KeyError, TypeError, OSError, OverflowError):
        return None
    if total is None:
        return Manifest.from_bytes((folder / "manifest.json").read_bytes()).digests.to_json()
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
    value = one_of(choices, ("", "\x00", "x" * 70_000, other, "\x1b[2J", "007", "é"))
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
    try:
        return table.set_column(at, field.name, column())
    except AttributeError:
        return table


def _sparse(table: pa.Table, choices: Choices) -> pa.Table:
    """Sparse vectors with fewer values than indices."""
    name = next(field.name for field in table.schema if pa.types.is_struct(field.type))
    return _with_value(table, name, _some_row(table, choices), {"indices": [1, 2], "values": [0.5]})


_TABLE_CHANGES: tuple[Change, ...] = (
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
DAMAGES = (bad_manifest, bad_manifest_text, bad_journal, bad_journal_text, bad_file, bad_bytes, bad_shard, bad_shard)
