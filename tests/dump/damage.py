"""Dumps made bad on purpose: anything in manifest and journal, or in the place of a file, with hashes made right again.

Every function takes the folder of a whole dump, and `Choices`, from which it draws what to do to it. What is done to
shards is in `damage_shards`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import zlib
from pathlib import Path
from typing import Any, Protocol

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
