"""A value that a JSON Schema allows, made of a text: how a mock vendor fills in a tool's arguments and asked-for JSON.

The rule, in full; the first line that applies is taken:

1. `$ref` is followed inside the schema; of `anyOf` and `oneOf` the first that is not null; `allOf` is merged.
2. `const` is that value; of `enum` the first text that stands in the given text, else the first value.
3. object: every property, in the order of the schema, those that are not required only down to depth 6.
   array: `minItems` of `items`, at least one unless `maxItems` is 0; `prefixItems` first.
   string: the given text, cut to `maxLength`, repeated to `minLength`; with a `format` a fixed value of it.
   number, integer: the first number of the given text that fits the bounds, else the bound nearest to 0, else 0.
   boolean: true. null: null. No type: the text.

A `pattern` that the text does not match, or bounds that nothing fits, are refused by name.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Final

from exitramp_adapters.services.mock_vendor.shape import Refusal, fields

_DEEPEST: Final = 16
_OPTIONAL_DEPTH: Final = 6
_NUMBER = re.compile(r"(?<![\w.])-?\d{1,15}(?:\.\d{1,9})?(?![\w])")
_FORMATS: Final[Mapping[str, str]] = {
    "date-time": "2026-01-01T00:00:00Z",
    "date": "2026-01-01",
    "time": "00:00:00Z",
    "duration": "P1D",
    "email": "mock@example.com",
    "hostname": "example.com",
    "ipv4": "127.0.0.1",
    "ipv6": "::1",
    "uri": "https://example.com/mock",
    "uuid": "00000000-0000-4000-8000-000000000000",
}
_UNDERSTOOD: Final = fields(
    "$ref $defs definitions $schema $id $comment anyOf oneOf allOf const enum type properties required items "
    "additionalProperties prefixItems minItems maxItems minLength maxLength format pattern minimum maximum "
    "exclusiveMinimum exclusiveMaximum multipleOf title description default examples deprecated"
)


def fill(schema: Mapping[str, Any], text: str, *, field: str) -> Any:
    """A value for `schema`, made of `text`. Raises `Refusal` naming `field` and the keyword that cannot be filled."""
    return _Filling(schema, text, field).value(schema, "", 0)


class _Filling:
    def __init__(self, root: Mapping[str, Any], text: str, field: str) -> None:
        self._root = root
        self._text = text
        self._field = field

    def value(self, given: object, path: str, depth: int) -> Any:
        schema = self._plain(given, path)
        if depth > _DEEPEST:
            raise self._refused(path, "is nested more deeply than the mock fills")
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return self._of_enum(schema["enum"], path)
        kinds = schema.get("type", "object" if "properties" in schema else "string")
        kind = next((each for each in kinds if each != "null"), "null") if isinstance(kinds, list) else kinds
        match kind:
            case "object":
                return self._object(schema, path, depth)
            case "array":
                return self._array(schema, path, depth)
            case "string":
                return self._string(schema, path)
            case "integer" | "number":
                return self._number(schema, path, whole=kind == "integer")
            case "boolean":
                return True
            case "null":
                return None
        raise self._refused(path, f"has the unknown type {str(kind)[:32]!r}")

    def _plain(self, given: object, path: str) -> Mapping[str, Any]:
        """`given` without `$ref`, `anyOf`, `oneOf` and `allOf`."""
        schema = given
        for _ in range(_DEEPEST):
            if schema is True:
                return {}
            if not isinstance(schema, Mapping):
                raise self._refused(path, "is no schema")
            unknown = next((name for name in schema if name not in _UNDERSTOOD), None)
            if unknown is not None:
                raise self._refused(path, f"has '{unknown[:64]}', which the mock does not support")
            rest = {name: value for name, value in schema.items() if name not in ("$ref", "anyOf", "oneOf", "allOf")}
            if "$ref" in schema:
                found = self._referred(schema["$ref"], path)
            elif "anyOf" in schema or "oneOf" in schema:
                found = self._first(schema.get("anyOf", schema.get("oneOf")), path)
            elif "allOf" in schema:
                found = self._merged(schema["allOf"], path)
            else:
                return schema
            schema = _joined(rest, found) if isinstance(found, Mapping) else found
        raise self._refused(path, "refers to itself")

    def _first(self, choices: object, path: str) -> object:
        if not isinstance(choices, list) or not choices:
            raise self._refused(path, "has no choices")
        return next((each for each in choices if not (isinstance(each, Mapping) and each.get("type") == "null")), {})

    def _merged(self, parts: object, path: str) -> Mapping[str, Any]:
        if not isinstance(parts, list):
            raise self._refused(path, "has an 'allOf' that is no list")
        merged: Mapping[str, Any] = {}
        for part in parts:
            merged = _joined(merged, self._plain(part, path))
        return merged

    def _referred(self, reference: object, path: str) -> object:
        if not isinstance(reference, str) or not reference.startswith("#"):
            raise self._refused(path, "refers to something outside the schema")
        found: Any = self._root
        for step in reference[1:].strip("/").split("/"):
            if not step:
                continue
            step = step.replace("~1", "/").replace("~0", "~")
            if not isinstance(found, Mapping) or step not in found:
                raise self._refused(path, "refers to something that is not there")
            found = found[step]
        return found

    def _of_enum(self, choices: object, path: str) -> Any:
        if not isinstance(choices, list) or not choices:
            raise self._refused(path, "has an 'enum' without values")
        low = self._text.casefold()
        named = (each for each in choices if isinstance(each, str) and each and each.casefold() in low)
        return next(named, choices[0])

    def _object(self, schema: Mapping[str, Any], path: str, depth: int) -> dict[str, Any]:
        properties, required = schema.get("properties", {}), schema.get("required", ())
        if not isinstance(properties, Mapping) or not isinstance(required, list | tuple):
            raise self._refused(path, "has 'properties' or 'required' of the wrong kind")
        filled = {
            name: self.value(part, f"{path}.{name}", depth + 1)
            for name, part in properties.items()
            if depth < _OPTIONAL_DEPTH or name in required
        }
        return filled | {name: self._text for name in required if name not in filled}

    def _array(self, schema: Mapping[str, Any], path: str, depth: int) -> list[Any]:
        first = list(schema.get("prefixItems", ()))
        most = schema.get("maxItems")
        count = max(int(schema.get("minItems", 0)), 1, len(first))
        count = count if most is None else min(count, int(most))
        if count > 1000:
            raise self._refused(path, "asks for more than 1000 items")
        if depth >= _OPTIONAL_DEPTH and not schema.get("minItems"):
            count = 0
        rest = schema.get("items", {"type": "string"})
        return [self.value(first[at] if at < len(first) else rest, f"{path}[{at}]", depth + 1) for at in range(count)]

    def _string(self, schema: Mapping[str, Any], path: str) -> str:
        wanted = schema.get("format")
        if wanted is not None:
            if wanted not in _FORMATS:
                raise self._refused(path, f"has the format {str(wanted)[:32]!r}, which the mock does not support")
            return _FORMATS[wanted]
        text = self._text or "mock"
        least, most = int(schema.get("minLength", 0)), schema.get("maxLength")
        if least > 100_000:
            raise self._refused(path, "asks for more than 100000 characters")
        text = text if len(text) >= least else (text * (least // len(text) + 1))[:least]
        text = text if most is None else text[: int(most)]
        if "pattern" in schema:
            try:
                fits = re.search(schema["pattern"], text)
            except (re.error, TypeError):
                raise self._refused(path, "has a 'pattern' that is no regular expression") from None
            if fits is None:
                raise self._refused(path, "has a 'pattern', which the mock does not support")
        return text

    def _number(self, schema: Mapping[str, Any], path: str, *, whole: bool) -> int | float:
        least = max(float(schema.get("minimum", -math.inf)), float(schema.get("exclusiveMinimum", -math.inf)))
        most = min(float(schema.get("maximum", math.inf)), float(schema.get("exclusiveMaximum", math.inf)))
        step = schema.get("multipleOf", 1 if whole else None)

        def fits(value: float) -> bool:
            return (
                least <= value <= most
                and value != schema.get("exclusiveMinimum")
                and value != schema.get("exclusiveMaximum")
                and (step is None or value % step == 0)
                and (not whole or value == int(value))
            )

        bounds = [edge for edge in (least, most) if math.isfinite(edge)]
        near = sorted({edge + move for edge in bounds for move in (0, step or 0.5, -(step or 0.5))}, key=abs)
        stepped = [math.ceil(edge / step) * step for edge in bounds] if step else []
        middle = [(least + most) / 2] if len(bounds) == 2 else []
        for value in (*(float(found) for found in _NUMBER.findall(self._text)), 0.0, *near, *stepped, *middle):
            if fits(value):
                return int(value) if value == int(value) else value
        raise self._refused(path, "has bounds that the mock cannot meet")

    def _refused(self, path: str, what: str) -> Refusal:
        where = f"the schema at '{path.strip('.') or 'its root'}'"
        return Refusal("invalid_request", f"{self._field}: {where} {what}", field=self._field)


def _joined(left: Mapping[str, Any], right: Mapping[str, Any]) -> dict[str, Any]:
    """Two schemas that hold together: properties and required of both, the right one's word otherwise."""
    joined = dict(left) | dict(right)
    if "properties" in left and "properties" in right:
        joined["properties"] = dict(left["properties"]) | dict(right["properties"])
    if "required" in left and "required" in right:
        joined["required"] = [*left["required"], *right["required"]]
    return joined
