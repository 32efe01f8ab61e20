"""Reading JSON of a dump strictly: the text first, then its shape, by the JSON Schema that the format publishes.

`manifest.schema.json` is the only place where keys, types and bounds are written down. What is read of JSON Schema here
is what that file uses, and a keyword that is not known is an error. Two things are stricter than JSON Schema is: `1.0`
is no integer, and the error names the place.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from functools import cache
from importlib import resources
from typing import Any, Final

from exitramp.errors import DumpCorrupt
from exitramp.secrets import redact

_Schema = Mapping[str, Any]

_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "null": (type(None),),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "string": (str,),
    "array": (list,),
    "object": (dict,),
}
_SHOWN: Final = 80
_DEEPEST: Final = 100
"""Levels of nesting: the only part that nests freely is a store's index configuration, and whatever walks it later must
not run out of stack."""


def strict_json(content: bytes, *, name: str) -> Any:
    """The value in `content`, UTF-8 without a byte order mark.

    Raises `DumpCorrupt` naming the file `name` for anything else, a key that stands twice, a number that is none or
    beyond a double, a lone surrogate and nesting beyond all measure.
    """
    try:
        value = json.loads(
            content.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_constant=_refuse,
            parse_float=_finite,
        )
    except (ValueError, RecursionError) as error:
        raise DumpCorrupt(f"{name}: not JSON") from error
    require_tame(value, where=name)
    return value


def require_tame(value: Any, *, where: str) -> None:
    """Raises `DumpCorrupt` when `value`, decoded JSON, is nested too deeply, or holds a lone surrogate or a number that
    JSON has no form for."""
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > _DEEPEST:
            raise DumpCorrupt(f"{where}: nested deeper than {_DEEPEST} levels")
        inner: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                inner += [*item.keys(), *item.values()]
            elif isinstance(item, list):
                inner += item
            elif isinstance(item, str) and not item.isascii():
                _require_text(item, where)
            elif isinstance(item, float) and not math.isfinite(item):
                raise DumpCorrupt(f"{where}: not JSON, it holds a number that is none")
        level = inner


def require_shape(value: Any, definition: str | None, *, file: str, where: str = "") -> None:
    """Raises `DumpCorrupt` naming `file` and the first place in `value` that is not as the schema says.

    definition: a name under the schema's `$defs`, None for the whole manifest. where: the path of `value` itself.
    """
    schema = manifest_schema() if definition is None else manifest_schema()["$defs"][definition]
    fault = _fault(value, schema, where)
    if fault is not None:
        raise DumpCorrupt(f"{file}: {fault}")


@cache
def manifest_schema() -> _Schema:
    """The JSON Schema of the manifest, as it lies beside this file."""
    found: _Schema = json.loads(resources.files("exitramp.dump").joinpath("manifest.schema.json").read_bytes())
    return found


def quoted(text: str) -> str:
    """Somebody's text in quotes, short and in ASCII, so that it can stand in a message."""
    text = redact(text)
    return ascii(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…")


def _fault(value: Any, schema: _Schema, where: str) -> str | None:
    for keyword, rule in schema.items():
        fault = _CHECKS[keyword](value, rule, schema, where)
        if fault is not None:
            return fault
    return None


def _named(where: str) -> str:
    return f"'{where}'" if where else "the whole"


def _inside(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _pass(value: Any, rule: Any, schema: _Schema, where: str) -> str | None:
    return None


def _type(value: Any, rule: Any, schema: _Schema, where: str) -> str | None:
    names = [rule] if isinstance(rule, str) else rule
    if any(type(value) in _TYPES[name] for name in names):
        return None
    return f"{_named(where)} is no {' and no '.join(names)}"


def _required(value: Any, rule: Any, schema: _Schema, where: str) -> str | None:
    if isinstance(value, dict):
        for name in rule:
            if name not in value:
                return f"missing key {name!r} in {_named(where)}"
    return None


def _additional(value: Any, rule: Any, schema: _Schema, where: str) -> str | None:
    known = schema.get("properties", {})
    for name in value if isinstance(value, dict) else ():
        if name in known:
            continue
        if rule is False:
            return f"unknown key {quoted(name)} in {_named(where)}"
        fault = _fault(value[name], rule, _inside(where, quoted(name)))
        if fault is not None:
            return fault
    return None


def _properties(value: Any, rule: Any, schema: _Schema, where: str) -> str | None:
    for name, inner in rule.items() if isinstance(value, dict) else ():
        fault = _fault(value[name], inner, _inside(where, name)) if name in value else None
        if fault is not None:
            return fault
    return None


def _property_names(value: Any, rule: Any, schema: _Schema, where: str) -> str | None:
    for name in value if isinstance(value, dict) else ():
        if _fault(name, rule, where) is not None:
            return f"unknown key {quoted(name)} in {_named(where)}"
    return None


def _items(value: Any, rule: Any, schema: _Schema, where: str) -> str | None:
    for at, item in enumerate(value if isinstance(value, list) else ()):
        fault = _fault(item, rule, f"{where}[{at}]")
        if fault is not None:
            return fault
    return None


def _unique_items(value: Any, rule: Any, schema: _Schema, where: str) -> str | None:
    twice = isinstance(value, list) and len({json.dumps(item) for item in value}) != len(value)
    return f"{_named(where)} holds something twice" if twice else None


def _one_of(value: Any, rule: Any, schema: _Schema, where: str) -> str | None:
    faults = [_fault(value, inner, where) for inner in rule]
    return None if None in faults else faults[-1]


def _enum(value: Any, rule: Any, schema: _Schema, where: str) -> str | None:
    return None if value in rule else f"{_named(where)} is none of {', '.join(map(str, rule))}"


def _const(value: Any, rule: Any, schema: _Schema, where: str) -> str | None:
    return None if type(value) is type(rule) and value == rule else f"{_named(where)} is not {rule!r}"


def _minimum(value: Any, rule: Any, schema: _Schema, where: str) -> str | None:
    below = isinstance(value, int | float) and value < rule
    return f"{_named(where)} is below {rule}" if below else None


def _maximum(value: Any, rule: Any, schema: _Schema, where: str) -> str | None:
    above = isinstance(value, int | float) and value > rule
    return f"{_named(where)} is above {rule}" if above else None


def _pattern(value: Any, rule: Any, schema: _Schema, where: str) -> str | None:
    # JSON Schema's `$` is the end of the text; Python's would let a newline stand behind it.
    wrong = isinstance(value, str) and re.search(rule.removesuffix("$") + r"\Z", value) is None
    return f"{_named(where)} is not of its form" if wrong else None


def _reference(value: Any, rule: Any, schema: _Schema, where: str) -> str | None:
    return _fault(value, manifest_schema()["$defs"][rule.removeprefix("#/$defs/")], where)


_Check = Callable[[Any, Any, _Schema, str], str | None]
_CHECKS: Final[Mapping[str, _Check]] = {
    **dict.fromkeys(("$schema", "$defs", "title", "description"), _pass),
    "$ref": _reference,
    "type": _type,
    "const": _const,
    "enum": _enum,
    "minimum": _minimum,
    "maximum": _maximum,
    "pattern": _pattern,
    "required": _required,
    "properties": _properties,
    "additionalProperties": _additional,
    "propertyNames": _property_names,
    "items": _items,
    "uniqueItems": _unique_items,
    "oneOf": _one_of,
}


def _require_text(text: str, where: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DumpCorrupt(f"{where}: a lone surrogate, which is no character") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("duplicate keys")
    return found


def _refuse(word: str) -> Any:
    raise ValueError(word)


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError("a number beyond a double")
    return value
