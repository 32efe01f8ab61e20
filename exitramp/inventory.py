"""What the payloads of a collection are like, path by path, without any of their values.

For every path (a key, a key inside an object, the items of a list) the types seen, how many rows miss it and how many
hold null there, and the few coarse measures by which a plan decides whether a sink can hold it exactly: bits of
integers, digits of floats, bytes of texts. Inventories of parts of a collection merge into that of the whole.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final, Self

from exitramp.errors import DataInvalid

Path = tuple[str | None, ...]
"""Where a value stands in a payload: keys from the top, None for the items of a list; () is the payload itself."""

MAXIMUM_DEPTH: Final = 8
MAXIMUM_PATHS: Final = 2000


def path_text(path: Path) -> str:
    """For people: `$.author.names[]`; a key that is not plain letters, digits, `_` or `-` stands in JSON quotes."""
    parts = (
        "[]" if key is None else f".{key}" if key.replace("-", "_").isidentifier() else f".{json.dumps(key)}"
        for key in path
    )
    return "$" + "".join(parts)


@dataclass(frozen=True, slots=True)
class FieldInventory:
    """What stands at one path.

    types: values seen, by `canonical.type_name`. rows: in how many rows the path occurs; rows_null: in how many a
    null stands there. mixed_lists: lists whose items are of more than one type. integer_bits: what the widest integer
    needs in two's complement. float_digits, float_exponent: the most significant digits, and the greatest magnitude
    of a decimal exponent, among finite floats. string_bytes: the longest text in UTF-8. None where there is no such
    value.
    """

    path: Path
    types: Mapping[str, int] = field(default_factory=dict, hash=False)
    rows: int = 0
    rows_null: int = 0
    empty_lists: int = 0
    empty_objects: int = 0
    mixed_lists: int = 0
    negative_zeros: int = 0
    integer_bits: int | None = None
    float_digits: int | None = None
    float_exponent: int | None = None
    string_bytes: int | None = None

    def merge(self, other: FieldInventory) -> FieldInventory:
        """Both together; the paths are the same."""
        merged: dict[str, Any] = {
            "path": self.path,
            "types": {name: self.types.get(name, 0) + other.types.get(name, 0) for name in {*self.types, *other.types}},
        }
        for name in _SUMS:
            merged[name] = getattr(self, name) + getattr(other, name)
        for name in _MAXIMA:
            merged[name] = max((x for x in (getattr(self, name), getattr(other, name)) if x is not None), default=None)
        return FieldInventory(**merged)

    def to_json(self, rows_total: int) -> dict[str, Any]:
        """`rows_total`: the rows of the whole inventory, so that those without the path can be stated."""
        plain = {name: getattr(self, name) for name in (*_SUMS, *_MAXIMA) if name != "rows"}
        types = {name: self.types[name] for name in sorted(self.types)}
        return {"path": list(self.path), "types": types, "rows_missing": max(0, rows_total - self.rows), **plain}

    @classmethod
    def from_json(cls, data: Mapping[str, Any], rows_total: int) -> Self:
        expected = {"path", "types", "rows_missing", *_SUMS, *_MAXIMA} - {"rows"}
        _exact_keys(data, expected, "inventory field")
        plain = {name: data[name] for name in expected - {"path", "types", "rows_missing"}}
        return cls(tuple(data["path"]), dict(data["types"]), rows_total - data["rows_missing"], **plain)


_MAXIMA: Final = ("integer_bits", "float_digits", "float_exponent", "string_bytes")
_SUMS: Final = tuple(item.name for item in fields(FieldInventory) if item.name not in {"path", "types", *_MAXIMA})


@dataclass(frozen=True, slots=True)
class Inventory:
    """What the records of a collection are like, apart from their vectors.

    `fields` by path; the one at () is the payload as a whole. Not `complete` when a payload is nested deeper than
    `MAXIMUM_DEPTH` or the collection has more than `MAXIMUM_PATHS` paths: what lies beyond was not looked at.
    `*_bytes` are the longest texts in UTF-8, `*_missing` rows without one (all of them where there is no column).
    """

    rows: int = 0
    id_bytes: int = 0
    namespaces_missing: int = 0
    documents_missing: int = 0
    document_bytes: int = 0
    complete: bool = True
    fields: Mapping[Path, FieldInventory] = field(default_factory=dict, hash=False)

    def merge(self, other: Inventory) -> Inventory:
        """That of both sets of rows together."""
        found = dict(self.fields)
        complete = self.complete and other.complete
        for path, item in other.fields.items():
            if path not in found and len(found) >= MAXIMUM_PATHS:
                complete = False
                continue
            found[path] = found[path].merge(item) if path in found else item
        return Inventory(
            self.rows + other.rows,
            max(self.id_bytes, other.id_bytes),
            self.namespaces_missing + other.namespaces_missing,
            self.documents_missing + other.documents_missing,
            max(self.document_bytes, other.document_bytes),
            complete,
            found,
        )

    def to_json(self) -> dict[str, Any]:
        ordered = sorted(self.fields.values(), key=lambda item: [(key is not None, key or "") for key in item.path])
        plain = {item.name: getattr(self, item.name) for item in fields(self) if item.name != "fields"}
        return {**plain, "fields": [item.to_json(self.rows) for item in ordered]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """From `to_json`'s form. Raises `DataInvalid` for another set of keys."""
        _exact_keys(data, {item.name for item in fields(cls)}, "inventory")
        found = [FieldInventory.from_json(item, data["rows"]) for item in data["fields"]]
        return cls(**{**data, "fields": {item.path: item for item in found}})


def _exact_keys(data: Mapping[str, Any], expected: set[str], where: str) -> None:
    if set(data) != expected:
        raise DataInvalid(f"{where}: the keys {sorted(set(data) ^ expected)} are missing or unknown")
