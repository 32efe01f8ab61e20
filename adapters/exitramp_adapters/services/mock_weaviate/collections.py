"""The collections, tenants and objects of the mock: in memory, and in a SQLite file that outlives a killed process."""

from __future__ import annotations

import json
import sqlite3
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from exitramp_adapters.services.mock_weaviate.schema import (
    TENANT_NAME,
    Refused,
    checked_value,
    guessed_property,
    new_class,
    new_property,
)

_ACTIVE: Final = ("ACTIVE", "HOT")


@dataclass(slots=True)
class Object:
    """One object: its properties as JSON values, and its vectors' bytes by name ("" for the unnamed one).

    A multi vector's bytes begin with its dimensions in two bytes, as on the wire.
    """

    id: str
    properties: dict[str, Any]
    vectors: dict[str, bytes]


@dataclass(slots=True)
class Tenant:
    """One tenant, or the one part of a collection that has none: its objects by id, and its ids in order."""

    status: str = "ACTIVE"
    objects: dict[str, Object] = field(default_factory=dict)
    _ordered: list[str] | None = None

    def ordered(self) -> list[str]:
        """The ids in the order of their bytes, which is that of their text."""
        if self._ordered is None:
            self._ordered = sorted(self.objects)
        return self._ordered

    def put(self, each: Object) -> None:
        if each.id not in self.objects:
            self._ordered = None
        self.objects[each.id] = each

    def remove(self, id_: str) -> bool:
        self._ordered = None if id_ in self.objects else self._ordered
        return self.objects.pop(id_, None) is not None


@dataclass(slots=True)
class Collection:
    definition: dict[str, Any]
    tenants: dict[str, Tenant]
    dimensions: dict[tuple[str, str], int] = field(default_factory=dict)

    @property
    def tenancy(self) -> bool:
        return bool(self.definition["multiTenancyConfig"]["enabled"])

    def property(self, name: str) -> dict[str, Any] | None:
        found: list[dict[str, Any]] = [each for each in self.definition["properties"] if each["name"] == name]
        return found[0] if found else None

    def vector_config(self, name: str) -> dict[str, Any]:
        """The definition of a vector's index. Raises `Refused`."""
        configs = self.definition.get("vectorConfig")
        if configs is None and name in ("", "default"):
            return self.definition
        if configs is None or name not in configs:
            raise Refused(422, f"vector with name '{name}' is not configured in class {self.definition['class']}")
        found: dict[str, Any] = configs[name]
        return found

    def is_multi(self, name: str) -> bool:
        config = self.vector_config(name)["vectorIndexConfig"]
        return bool((config.get("multivector") or {}).get("enabled"))

    def tenant(self, name: str) -> Tenant:
        """The part that a request is about. Raises `Refused` as the server does for one that cannot be read."""
        called = self.definition["class"]
        if not self.tenancy:
            if name:
                raise Refused(422, f"class {called} has multi-tenancy disabled, but request was with tenant")
            return self.tenants[""]
        if not name:
            raise Refused(422, f"class {called} has multi-tenancy enabled, but request was without tenant")
        if name not in self.tenants:
            raise Refused(422, f"tenant not found: '{name}'")
        if self.tenants[name].status not in _ACTIVE:
            raise Refused(422, f"tenant not active: '{name}'")
        return self.tenants[name]


class Collections:
    """All of them. Every change is in the file, and the file's change in the system's hands, before it is answered."""

    def __init__(self, folder: Path) -> None:
        self.lock = threading.RLock()
        self._file = sqlite3.connect(folder / "mock.db", check_same_thread=False, isolation_level=None)
        for setting in ("journal_mode = WAL", "synchronous = OFF"):
            self._file.execute(f"PRAGMA {setting}")
        self._file.execute("CREATE TABLE IF NOT EXISTS classes (name TEXT PRIMARY KEY, definition TEXT)")
        self._file.execute("CREATE TABLE IF NOT EXISTS tenants (class, name, status, PRIMARY KEY (class, name))")
        self._file.execute(
            "CREATE TABLE IF NOT EXISTS objects (class, tenant, id, properties, names, vectors, "
            "PRIMARY KEY (class, tenant, id)) WITHOUT ROWID"
        )
        self._held: dict[str, Collection] = {}
        for _, text in self._file.execute("SELECT name, definition FROM classes").fetchall():
            self._hold(json.loads(text))
        for name, tenant, status in self._file.execute("SELECT class, name, status FROM tenants").fetchall():
            self._held[name].tenants[tenant] = Tenant(status)
        rows = self._file.execute("SELECT class, tenant, id, properties, names, vectors FROM objects")
        for name, tenant, id_, properties, names, vectors in rows:
            lengths: list[tuple[str, int]] = json.loads(names)
            held: dict[str, bytes] = {}
            for called, length in lengths:
                held[called], vectors = vectors[:length], vectors[length:]
                self._held[name].dimensions.setdefault((tenant, called), self._dimensions(name, called, held[called]))
            self._held[name].tenants[tenant].put(Object(id_, json.loads(properties), held))

    def _hold(self, definition: dict[str, Any]) -> Collection:
        tenancy = definition["multiTenancyConfig"]["enabled"]
        made = Collection(definition, {} if tenancy else {"": Tenant()})
        self._held[definition["class"]] = made
        return made

    @contextmanager
    def _written(self) -> Iterator[sqlite3.Connection]:
        self._file.execute("BEGIN")
        try:
            yield self._file
        except BaseException:
            self._file.execute("ROLLBACK")
            raise
        self._file.execute("COMMIT")

    def definitions(self) -> list[dict[str, Any]]:
        return [each.definition for each in self._held.values()]

    def get(self, name: str) -> Collection:
        """Raises `Refused` in the words of the server's gRPC side."""
        if name not in self._held:
            raise Refused(404, f"could not find class {name} in schema")
        return self._held[name]

    def create(self, body: Mapping[str, Any]) -> dict[str, Any]:
        made = new_class(body)
        name = made["class"]
        for there in self._held:
            if there.lower() == name.lower():
                raise Refused(422, f"class name {name} already exists")
        self._save(made)
        self._hold(made)
        return made

    def update(self, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Only the description can be changed here. Raises `Refused` for anything else."""
        held = self.get(name)
        wanted = dict(body)
        description = wanted.pop("description", "")
        now = {key: value for key, value in held.definition.items() if key != "description"}
        if any(value != now.get(key) for key, value in wanted.items()):
            raise Refused(422, "mock weaviate: only a collection's description can be changed")
        held.definition["description"] = description
        self._save(held.definition)
        return held.definition

    def delete(self, name: str) -> None:
        if self._held.pop(name, None) is None:
            return
        with self._written() as file:
            for table, column in (("classes", "name"), ("tenants", "class"), ("objects", "class")):
                file.execute(f"DELETE FROM {table} WHERE {column} = ?", [name])

    def add_property(self, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        held = self.get(name)
        made = new_property(body, held.definition)
        held.definition["properties"].append(made)
        self._save(held.definition)
        return made

    def _save(self, definition: Mapping[str, Any]) -> None:
        self._file.execute("REPLACE INTO classes VALUES (?, ?)", [definition["class"], json.dumps(definition)])

    def set_tenants(self, name: str, wanted: Mapping[str, str], *, new: bool) -> None:
        held = self.get(name)
        if not held.tenancy:
            raise Refused(422, f"multi-tenancy is not enabled for class {name}")
        for tenant in wanted:
            if not TENANT_NAME.fullmatch(tenant):
                raise Refused(422, f"tenant name `{tenant}` is not valid")
            if not new and tenant not in held.tenants:
                raise Refused(422, f"tenant not found: '{tenant}'")
        for tenant, status in wanted.items():
            if new and tenant in held.tenants:
                continue
            held.tenants.setdefault(tenant, Tenant()).status = status
            self._file.execute("REPLACE INTO tenants VALUES (?, ?, ?)", [name, tenant, status])

    def delete_tenants(self, name: str, tenants: list[str]) -> None:
        held = self.get(name)
        with self._written() as file:
            for tenant in tenants:
                held.tenants.pop(tenant, None)
                file.execute("DELETE FROM tenants WHERE class = ? AND name = ?", [name, tenant])
                file.execute("DELETE FROM objects WHERE class = ? AND tenant = ?", [name, tenant])

    def checked(self, name: str, tenant: str, made: Object) -> tuple[str, str, Object]:
        """The object as it would be stored: properties by their types, new ones by auto-schema. Raises `Refused`."""
        held = self.get(name)
        held.tenant(tenant)
        made.id = str(uuid.UUID(made.id))
        properties: dict[str, Any] = {}
        for key, value in made.properties.items():
            key = key[:1].lower() + key[1:]
            if value is None:
                continue
            if key in ("id", "vector"):
                raise Refused(422, f"'{key}' is a reserved property name")
            definition = held.property(key) or self.add_property(name, guessed_property(key, value))
            properties[key] = checked_value(definition, value)
        for called, vector in made.vectors.items():
            dimensions = self._dimensions(name, called, vector)
            known = held.dimensions.setdefault((tenant, called), dimensions)
            if known != dimensions:
                raise Refused(422, f"vector lengths don't match: {known} vs {dimensions}")
        return name, tenant, Object(made.id, properties, made.vectors)

    def put(self, checked: list[tuple[str, str, Object]]) -> None:
        """Each replaces the object that had its id."""
        rows = []
        for name, tenant, each in checked:
            self._held[name].tenants[tenant].put(each)
            names = json.dumps([[called, len(vector)] for called, vector in each.vectors.items()])
            vectors = b"".join(each.vectors.values())
            rows.append([name, tenant, each.id, json.dumps(each.properties), names, vectors])
        with self._written() as file:
            file.executemany("REPLACE INTO objects VALUES (?, ?, ?, ?, ?, ?)", rows)

    def remove(self, name: str, tenant: str, ids: list[str]) -> int:
        part = self.get(name).tenant(tenant)
        with self._written() as file:
            file.executemany(
                "DELETE FROM objects WHERE class = ? AND tenant = ? AND id = ?", [[name, tenant, id_] for id_ in ids]
            )
        return sum(part.remove(id_) for id_ in ids)

    def _dimensions(self, name: str, called: str, vector: bytes) -> int:
        if self._held[name].is_multi(called):
            dimensions = int.from_bytes(vector[:2], "little")
            if not dimensions or (len(vector) - 2) % (4 * dimensions):
                raise Refused(422, f"multi vector '{called}' is not made of whole vectors")
            return dimensions
        if not vector or len(vector) % 4:
            raise Refused(422, f"vector '{called}' is not made of whole numbers")
        return len(vector) // 4


def vector_matrix(vector: bytes, *, multi: bool) -> Any:
    """float32 [dimensions], or [n, dimensions] of a multi vector."""
    if not multi:
        return np.frombuffer(vector, "<f4")
    return np.frombuffer(vector[2:], "<f4").reshape(-1, int.from_bytes(vector[:2], "little"))
