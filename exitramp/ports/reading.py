"""Reading records out of a store."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NewType, Protocol, runtime_checkable

from exitramp.errors import UsageError
from exitramp.records import (
    CollectionSpec,
    Finding,
    RecordKey,
)

if TYPE_CHECKING:
    import pyarrow as pa

Cursor = NewType("Cursor", str)
"""Where a scan goes on: versioned JSON text holding a key, never an offset or a handle, so it outlives the process."""

CURSOR_VERSION = 1


def make_cursor(**key: Any) -> Cursor:
    """A cursor that holds `key` (JSON values)."""
    return Cursor(_CURSOR_TEXT({"v": CURSOR_VERSION, **key}))


_CURSOR_TEXT: Final = json.JSONEncoder(separators=(",", ":"), sort_keys=True).encode
"""`json.dumps` makes an encoder each time it is given options: 7 us a page, and 3 so."""


def read_cursor(cursor: Cursor) -> dict[str, Any]:
    """The key inside `cursor`. Raises `UsageError` for one that another version wrote."""
    try:
        data = json.loads(cursor)
        version = data.pop("v")
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise UsageError("this is no cursor of exitramp") from error
    if version != CURSOR_VERSION:
        raise UsageError(f"a cursor of version {version} cannot be resumed by this program", hint="start the scan anew")
    return dict(data)


@dataclass(frozen=True, slots=True)
class Partition:
    """One of `of` disjoint parts of a collection; `token` is JSON text that means something to its adapter only."""

    index: int = 0
    of: int = 1
    token: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """Some records and the cursor that resumes after them.

    `last` is the scan's own word that nothing follows; a scan that stops without it has failed. The last page may
    be empty. `batch` has the schema `exitramp.arrow.stream_schema(spec)`.
    """

    batch: pa.RecordBatch
    cursor: Cursor
    last: bool = False


WIRE_MOCKED = "wire mocked"


@dataclass(frozen=True, slots=True)
class StoreIdentity:
    """Which store answered. `can_write` is None where the store does not tell. Versions are `unknown` where unknown.

    `evidence` is what the adapter's claims rest on: `real`, `engine real, wire emulated`, or `wire mocked`. `is_mock`
    says that the server which answered is a mock itself, as far as it tells: what holds there lifts no label.
    `findings` are what whoever reads this collection must know of it beforehand, such as that a part is not there.
    """

    adapter: str
    address: str
    server_version: str
    client_version: str
    can_write: bool | None = None
    evidence: str = "real"
    collections: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    is_mock: bool = False


@dataclass(frozen=True, slots=True)
class Origin:
    """What a sink is told about where its records come from, kept in the sink where it has room (`keeps_origin`).

    `spec` is the collection as it was at its first source, so that dtype, id kind, name and model can be restored.
    `fields` says under which name the sink holds each of its vector columns; None where the marker holds it.
    """

    spec: CollectionSpec
    tool_version: str
    fields: Mapping[str, str | None] = field(default_factory=dict, hash=False)

    def to_json(self) -> dict[str, Any]:
        plain: dict[str, Any] = {"spec": self.spec.to_json(), "tool_version": self.tool_version}
        # A sink that takes every record as it is has nothing to say here, and its format knows no such key.
        return plain | {"fields": dict(self.fields)} if self.fields else plain

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Origin:
        return cls(CollectionSpec.from_json(data["spec"]), str(data["tool_version"]), dict(data.get("fields", {})))


class VectorSource(Protocol):
    """Something that records can be read from. It is never written to."""

    def identity(self) -> StoreIdentity:
        """Who answers here."""
        ...

    def describe(self) -> CollectionSpec:
        """What the collection is. Raises `CollectionMissing`; `DataInvalid` for a metric or type it cannot name."""
        ...

    def origin(self) -> Origin | None:
        """What `create` was told when exitramp made this collection, or None if it did not or the store has no room."""
        ...

    def count(self) -> int:
        """How many records the store says it holds, now."""
        ...

    def partitions(self, wanted: int) -> Sequence[Partition]:
        """At most `wanted` parts, disjoint and together everything; one where the store cannot be divided."""
        ...

    def scan(self, partition: Partition, *, batch_rows: int, after: Cursor | None = None) -> Iterator[Page]:
        """Yield every record of the partition exactly once if nothing is written meanwhile, and one `last` page.

        Pages hold at most `batch_rows` rows (at most the store's own limit too). A record that is there from the
        scan's first to its last page is yielded whatever is written to others meanwhile. With `after`, goes on
        behind that page, in another process as well.
        """
        ...

    def fetch(self, keys: Sequence[RecordKey]) -> pa.RecordBatch:
        """The records with these keys, in any order; those that are not there are left out.

        An id of a kind that the store could not hold is one that is not there, not an error.
        """
        ...

    def close(self) -> None:
        """Let go of everything; calling it again does nothing."""
        ...


@runtime_checkable
class ReadsNamespaces(Protocol):
    """A `VectorSource` that reads some namespaces of its collection without the others, and knows what each holds.

    Asked only where `describe().has_namespaces`: the namespace of a record is then the one that the store itself says.
    """

    def rows_by_namespace(self) -> Mapping[str | None, int]:
        """How many records each namespace holds, None being that of those in none. Reads no record."""
        ...

    def within(self, namespaces: frozenset[str | None]) -> VectorSource:
        """The same collection with the records of these namespaces alone: its counts, partitions and scans, and what it
        estimates, are of nothing else. Its cursors are those of the same namespaces only."""
        ...
