"""The manifest: what a dump is and which files it consists of, read strictly and written once.

`manifest.schema.json` beside this file says the same as a JSON Schema; a test keeps the two together.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self, TypeVar

from exitramp.digests import CollectionDigests
from exitramp.dump.layout import (
    FORMAT,
    FORMAT_VERSION,
    MANIFEST,
    MANIFEST_HASH,
    check_relative,
    manifest_hash_line,
    read_whole,
)
from exitramp.dump.shape import quoted, require_shape, strict_json
from exitramp.errors import DataInvalid, DumpCorrupt, FormatUnknown
from exitramp.inventory import Inventory
from exitramp.ports import Origin, StoreIdentity
from exitramp.records import CollectionSpec
from exitramp.secrets import redact
from exitramp.vector_facts import VectorFacts

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

    @classmethod
    def between(cls, origin: CollectionSpec, collection: CollectionSpec) -> Self:
        """The mapping from the collection at its first source to the one that stands in the shards."""
        return cls(origin.id_kind.value, collection.id_kind.value, origin.name, collection.name)


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
            "tool": plain(self.tool),
            "source": None if self.source is None else plain(self.source),
            "started_at": self.started_at,
            "ended_at": self.ended_at,
            "resumed": self.resumed,
            "consistency": plain(self.consistency),
            "rows": self.rows,
            "collection": self.collection.to_json(),
            "origin": self.origin.to_json(),
            "mapping": plain(self.mapping),
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
        data = strict_json(content, name=MANIFEST)
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise DumpCorrupt(f"{MANIFEST}: 'format' is not {FORMAT!r}")
        version = data.get("format_version")
        if type(version) is not int or version != FORMAT_VERSION:
            found = quoted(repr(version))[1:-1]
            raise FormatUnknown(
                f"{MANIFEST}: format version {found} is not known; this program reads version {FORMAT_VERSION}",
                hint="use the exitramp version that wrote the dump, or a newer one",
            )
        return cls._from_json(data)

    @classmethod
    def _from_json(cls, data: Mapping[str, Any]) -> Self:
        if data.get("encryption") is not None:
            raise FormatUnknown(f"{MANIFEST}: the dump is encrypted, which this program cannot read")
        require_shape(data, None, file=MANIFEST)
        manifest = cls(
            tool=_flat(ToolVersions, data["tool"]),
            source=None if data["source"] is None else _flat(SourceInfo, data["source"]),
            started_at=data["started_at"],
            ended_at=data["ended_at"],
            resumed=data["resumed"],
            consistency=_flat(Consistency, data["consistency"]),
            rows=data["rows"],
            collection=_part("collection", data["collection"], CollectionSpec.from_json),
            origin=_part("origin", data["origin"], Origin.from_json),
            mapping=_flat(NameMapping, data["mapping"]),
            inventory=_part("inventory", data["inventory"], Inventory.from_json),
            vector_facts=_part("vector_facts", data["vector_facts"], _vector_facts),
            shards=tuple(_file(entry, f"shards[{at}]") for at, entry in enumerate(data["shards"])),
            journal=_file(data["journal"], "journal"),
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
        if self.mapping != NameMapping.between(self.origin.spec, self.collection):
            raise DumpCorrupt(f"{MANIFEST}: 'mapping' is not that of 'origin' to 'collection'")
        counts = (self.consistency.count_before, self.consistency.count_after)
        if self.consistency.state == "unchanged" and set(counts) != {self.rows}:
            raise DumpCorrupt(f"{MANIFEST}: 'consistency.state' is unchanged, its counts are not those of 'rows'")


def read_manifest(folder: Path) -> Manifest:
    """The manifest of the dump in `folder`, its hash compared with `manifest.json.sha256`.

    Raises `DumpCorrupt` naming the file, `FormatUnknown`.
    """
    content = read_whole(folder, MANIFEST)
    digits = hashlib.sha256(content).hexdigest()
    if read_whole(folder, MANIFEST_HASH) != manifest_hash_line(digits):
        # The version first: of a dump in another format nothing else can be expected to be as it is here.
        Manifest.from_bytes(content)
        raise DumpCorrupt(f"{MANIFEST} and {MANIFEST_HASH} do not agree: one of them was changed in {folder}")
    return Manifest.from_bytes(content)


def plain(value: Any) -> dict[str, Any]:
    """A dataclass of texts and numbers as JSON has it."""
    return {item.name: getattr(value, item.name) for item in fields(value)}


def _flat(kind: type[_T], data: Mapping[str, Any]) -> _T:
    return kind(**data)


def _file(data: Mapping[str, Any], where: str) -> FileEntry:
    path = check_relative(data["path"], where=f"{MANIFEST}: '{where}.path'")
    return FileEntry(path, data["bytes"], data["sha256"], data.get("rows"))


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
        reason = "something is missing, or stands in another form or order"
    except (DataInvalid, TypeError, ValueError, KeyError, AttributeError) as error:
        reason = error.message if isinstance(error, DataInvalid) else type(error).__name__
    raise DumpCorrupt(f"{MANIFEST}: '{where}' is not as it was written: {reason}")


def _json_of(value: Any) -> Any:
    return {name: item.to_json() for name, item in value.items()} if isinstance(value, dict) else value.to_json()


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
