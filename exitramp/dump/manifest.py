"""The manifest: what a dump is and which files it consists of, read strictly and written once.

`manifest.schema.json` beside this file says the same as a JSON Schema; a test keeps the two together.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from exitramp.digests import CollectionDigests
from exitramp.dump.layout import (
    FORMAT,
    FORMAT_VERSION,
    MANIFEST,
    MANIFEST_HASH,
    check_relative,
    manifest_hash_line,
    regular_file,
)
from exitramp.errors import DataInvalid, DumpCorrupt, FormatUnknown
from exitramp.inventory import Inventory
from exitramp.ports import Origin, StoreIdentity
from exitramp.records import CollectionSpec
from exitramp.secrets import redact
from exitramp.vector_facts import VectorFacts

CONSISTENCY_STATES: Final = ("snapshot", "unchanged", "changed", "unknown")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class ToolVersions:
    """What wrote the dump."""

    name: str
    version: str
    python: str
    pyarrow: str
    numpy: str


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """The store that the records were read from; the address is redacted."""

    adapter: str
    address: str
    server_version: str
    client_version: str
    evidence: str

    @classmethod
    def of(cls, identity: StoreIdentity) -> Self:
        return cls(
            identity.adapter,
            redact(identity.address),
            redact(identity.server_version),
            redact(identity.client_version),
            identity.evidence,
        )


@dataclass(frozen=True, slots=True)
class Consistency:
    """Whether the source stood still: the state, and the source's own count before and after the scan.

    `unchanged` says that the counts and the rows written agree, which an equal number of writes and deletes between
    them would not disturb; only `snapshot` promises one moment.
    """

    state: str
    count_before: int | None
    count_after: int | None


@dataclass(frozen=True, slots=True)
class NameMapping:
    """How names and ids in the dump come from those in the source: kinds, and collection names."""

    id_kind_source: str
    id_kind: str
    name_source: str
    name: str


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of the dump: its relative path, bytes and SHA-256, and for a shard its rows."""

    path: str
    bytes: int
    sha256: str
    rows: int | None = None

    def to_json(self) -> dict[str, Any]:
        plain = {"path": self.path, "bytes": self.bytes, "sha256": self.sha256}
        return plain if self.rows is None else {**plain, "rows": self.rows}


@dataclass(frozen=True, slots=True)
class Manifest:
    """All of it. `encryption` is a reserved place and None in format 1; `resumed` counts interruptions."""

    tool: ToolVersions
    source: SourceInfo | None
    started_at: str
    ended_at: str
    resumed: int
    consistency: Consistency
    rows: int
    collection: CollectionSpec
    origin: Origin
    mapping: NameMapping
    inventory: Inventory
    vector_facts: Mapping[str, VectorFacts] = field(hash=False)
    shards: tuple[FileEntry, ...]
    journal: FileEntry
    digests: CollectionDigests
    encryption: None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "tool": _plain(self.tool),
            "source": None if self.source is None else _plain(self.source),
            "started_at": self.started_at,
            "ended_at": self.ended_at,
            "resumed": self.resumed,
            "consistency": _plain(self.consistency),
            "rows": self.rows,
            "collection": self.collection.to_json(),
            "origin": self.origin.to_json(),
            "mapping": _plain(self.mapping),
            "inventory": self.inventory.to_json(),
            "vector_facts": {name: facts.to_json() for name, facts in self.vector_facts.items()},
            "shards": [entry.to_json() for entry in self.shards],
            "journal": self.journal.to_json(),
            "digests": self.digests.to_json(),
            "encryption": None,
        }

    def to_bytes(self) -> bytes:
        """The file's exact bytes."""
        return (json.dumps(self.to_json(), ensure_ascii=False, indent=2, allow_nan=False) + "\n").encode("utf-8")

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """Raises `FormatUnknown` for another format version, `DumpCorrupt` naming the key that is not as written."""
        try:
            data = json.loads(content, object_pairs_hook=_no_duplicates, parse_constant=_no_constants)
        except (ValueError, RecursionError) as error:
            raise DumpCorrupt(f"{MANIFEST}: not JSON") from error
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise DumpCorrupt(f"{MANIFEST}: 'format' is not {FORMAT!r}")
        version = data.get("format_version")
        if type(version) is not int or version != FORMAT_VERSION:
            raise FormatUnknown(
                f"{MANIFEST}: format version {version!r} is not known; this program reads version {FORMAT_VERSION}",
                hint="use the exitramp version that wrote the dump, or a newer one",
            )
        return cls._from_json(data)

    @classmethod
    def _from_json(cls, data: Mapping[str, Any]) -> Self:
        _keys(data, {item.name for item in fields(cls)} | {"format", "format_version"}, MANIFEST)
        if data["encryption"] is not None:
            raise FormatUnknown(f"{MANIFEST}: the dump is encrypted, which this program cannot read")
        manifest = cls(
            tool=_flat(ToolVersions, data["tool"], "tool"),
            source=None if data["source"] is None else _flat(SourceInfo, data["source"], "source"),
            started_at=_typed(data["started_at"], str, "started_at"),
            ended_at=_typed(data["ended_at"], str, "ended_at"),
            resumed=_count(data["resumed"], "resumed"),
            consistency=_consistency(data["consistency"]),
            rows=_count(data["rows"], "rows"),
            collection=_part("collection", data["collection"], CollectionSpec.from_json),
            origin=_part("origin", data["origin"], Origin.from_json),
            mapping=_flat(NameMapping, data["mapping"], "mapping"),
            inventory=_part("inventory", data["inventory"], Inventory.from_json),
            vector_facts=_part("vector_facts", data["vector_facts"], _vector_facts),
            shards=tuple(
                _file(entry, f"shards[{at}]", with_rows=True)
                for at, entry in enumerate(_typed(data["shards"], list, "shards"))
            ),
            journal=_file(data["journal"], "journal", with_rows=False),
            digests=_part("digests", data["digests"], CollectionDigests.from_json),
        )
        manifest._check_agreement()
        return manifest

    def _check_agreement(self) -> None:
        columns = {vector.column for vector in self.collection.vectors}
        for name, found in (("digests.vectors", set(self.digests.vectors)), ("vector_facts", set(self.vector_facts))):
            if found != columns:
                raise DumpCorrupt(f"{MANIFEST}: '{name}' and 'collection' name other vector fields")
        rows = sum(entry.rows or 0 for entry in self.shards)
        for name, count in (
            ("digests.rows", self.digests.rows),
            ("inventory.rows", self.inventory.rows),
            ("shards", rows),
        ):
            if count != self.rows:
                raise DumpCorrupt(f"{MANIFEST}: 'rows' is {self.rows}, '{name}' says {count}")
        paths = [entry.path for entry in (*self.shards, self.journal)]
        if len(set(paths)) != len(paths):
            raise DumpCorrupt(f"{MANIFEST}: a file is listed twice")


def read_manifest(folder: Path) -> Manifest:
    """The manifest of the dump in `folder`, its hash compared with `manifest.json.sha256`.

    Raises `DumpCorrupt` naming the file, `FormatUnknown`.
    """
    content = regular_file(folder, MANIFEST).read_bytes()
    digits = hashlib.sha256(content).hexdigest()
    if regular_file(folder, MANIFEST_HASH).read_bytes() != manifest_hash_line(digits):
        # The version first: of a dump in another format nothing else can be expected to be as it is here.
        Manifest.from_bytes(content)
        raise DumpCorrupt(f"{MANIFEST} and {MANIFEST_HASH} do not agree: one of them was changed in {folder}")
    return Manifest.from_bytes(content)


def _plain(value: Any) -> dict[str, Any]:
    return {item.name: getattr(value, item.name) for item in fields(value)}


def _keys(data: object, expected: set[str], where: str) -> Mapping[str, Any]:
    if not isinstance(data, dict):
        raise DumpCorrupt(f"{MANIFEST}: '{where}' is no object")
    for name in sorted(set(data) ^ expected):
        raise DumpCorrupt(f"{MANIFEST}: {'unknown' if name in data else 'missing'} key {name!r} in '{where}'")
    return data


def _typed(value: Any, kind: type[_T], where: str) -> _T:
    if type(value) is not kind:
        raise DumpCorrupt(f"{MANIFEST}: '{where}' is no {kind.__name__}")
    return value


def _count(value: Any, where: str) -> int:
    if _typed(value, int, where) < 0:
        raise DumpCorrupt(f"{MANIFEST}: '{where}' is negative")
    return int(value)


def _flat(kind: type[_T], data: Any, where: str) -> _T:
    """A dataclass whose fields are all text."""
    names = [item.name for item in fields(kind)]  # type: ignore[arg-type]
    known = _keys(data, set(names), where)
    return kind(**{name: _typed(known[name], str, f"{where}.{name}") for name in names})


def _consistency(data: Any) -> Consistency:
    known = _keys(data, {item.name for item in fields(Consistency)}, "consistency")
    if known["state"] not in CONSISTENCY_STATES:
        raise DumpCorrupt(f"{MANIFEST}: 'consistency.state' is none of {', '.join(CONSISTENCY_STATES)}")
    counts = {
        name: None if known[name] is None else _count(known[name], f"consistency.{name}")
        for name in ("count_before", "count_after")
    }
    return Consistency(known["state"], **counts)


def _file(data: Any, where: str, *, with_rows: bool) -> FileEntry:
    known = _keys(data, {"path", "bytes", "sha256"} | ({"rows"} if with_rows else set()), where)
    digits = _typed(known["sha256"], str, f"{where}.sha256")
    if not _SHA256.fullmatch(digits):
        raise DumpCorrupt(f"{MANIFEST}: '{where}.sha256' is no SHA-256")
    return FileEntry(
        check_relative(_typed(known["path"], str, f"{where}.path"), where=f"{MANIFEST}: '{where}.path'"),
        _count(known["bytes"], f"{where}.bytes"),
        digits,
        _count(known["rows"], f"{where}.rows") if with_rows else None,
    )


def _vector_facts(data: Any) -> dict[str, VectorFacts]:
    return {str(name): VectorFacts.from_json(facts) for name, facts in data.items()}


def _part(where: str, data: Any, build: Callable[[Any], _T]) -> _T:
    """What `build` makes of a part that has a reader of its own; whatever it stumbles over is corruption.

    Such readers fill in what is missing. Here the part must be exactly what it is written as.
    """
    try:
        value = build(data)
        if _text(_json_of(value)) == _text(data):
            return value
        reason = "keys are missing, or values of another type"
    except (DataInvalid, TypeError, ValueError, KeyError, AttributeError) as error:
        reason = error.message if isinstance(error, DataInvalid) else type(error).__name__
    raise DumpCorrupt(f"{MANIFEST}: '{where}' is not as it was written: {reason}")


def _json_of(value: Any) -> Any:
    return {name: item.to_json() for name, item in value.items()} if isinstance(value, dict) else value.to_json()


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("duplicate keys")
    return found


def _no_constants(word: str) -> Any:
    raise ValueError(word)
