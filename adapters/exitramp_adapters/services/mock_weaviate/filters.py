"""The mock's filters: what the gRPC message says, on one object after the other, by the documented meanings.

Text is compared by its property's tokenization (`field` trims white space, `word` takes letters and digits in lower
case and wants all of them); a list is looked into; `IsNull` wants the null state to be indexed; `Not` is everything
else (since 1.33).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from exitramp_adapters.services.mock_weaviate.collections import Collection, Object
from exitramp_adapters.services.mock_weaviate.schema import Refused

_WORDS: Final = re.compile(r"[^\W_]+")
Test = Callable[[Object], bool]


def test_of(where: Any, held: Collection) -> Test:
    """Whether an object passes. Raises `Refused` for what the server refuses, and by name for what is not mocked."""
    operator = type(where).Operator.Name(where.operator).removeprefix("OPERATOR_")
    if operator in ("AND", "OR", "NOT"):
        parts = [test_of(part, held) for part in where.filters]
        if not parts or (operator == "NOT" and len(parts) != 1):
            raise Refused(422, f"operator {operator} with {len(parts)} operands")
        if operator == "AND":
            return lambda each: all(part(each) for part in parts)
        if operator == "OR":
            return lambda each: any(part(each) for part in parts)
        return lambda each: not parts[0](each)
    if where.WhichOneof("test_value") is None or where.target.WhichOneof("target") != "property":
        raise Refused(501, "mock weaviate: a filter on something else than a property is not mocked")
    name = where.target.property
    value = getattr(where, where.WhichOneof("test_value"))
    wanted = list(value.values) if hasattr(value, "values") else [value]
    if name == "_id":
        if operator not in ("EQUAL", "CONTAINS_ANY"):
            raise Refused(501, f"mock weaviate: {operator} on an id is not mocked")
        return lambda each: each.id in wanted
    definition = held.property(name)
    if definition is None:
        raise Refused(422, f"no such prop with name '{name}' found in class '{held.definition['class']}' in the schema")
    if operator == "IS_NULL":
        if not held.definition["invertedIndexConfig"].get("indexNullState"):
            raise Refused(422, "Nullstate must be indexed to be filterable! Add `indexNullState: true`")
        return lambda each: (each.properties.get(name) in (None, [])) is value
    if not definition["indexFilterable"]:
        raise Refused(422, f"Filtering by property '{name}' requires inverted index. Is `indexFilterable` set?")
    return _compared(operator, name, definition, wanted)


def _compared(operator: str, name: str, definition: dict[str, Any], wanted: list[Any]) -> Test:
    kind = definition["dataType"][0].removesuffix("[]")
    if kind not in ("text", "int", "number", "boolean", "date", "uuid"):
        raise Refused(501, f"mock weaviate: filtering by a property of {kind} is not mocked")
    for value in wanted:
        fits = {"int": (int, float), "number": (int, float), "boolean": (bool,)}.get(kind, (str,))
        if not isinstance(value, fits) or (kind in ("int", "number") and isinstance(value, bool)):
            raise Refused(422, f"data type filter cannot use the value's type on type {kind!r}")
        if kind == "int" and not float(value).is_integer():
            raise Refused(422, "filtering for integer, but received a floating point number")
    split = _splitter(definition) if kind == "text" else lambda value: {value}
    tokens = [split(value) for value in wanted]

    def items(each: Object) -> list[Any]:
        found = each.properties.get(name)
        return found if isinstance(found, list) else [] if found is None else [found]

    def held(each: Object) -> set[Any]:
        return set().union(*(split(item) for item in items(each)))

    ordered: dict[str, Callable[[Any, Any], bool]] = {
        "GREATER_THAN": lambda one, other: one > other,
        "GREATER_THAN_EQUAL": lambda one, other: one >= other,
        "LESS_THAN": lambda one, other: one < other,
        "LESS_THAN_EQUAL": lambda one, other: one <= other,
    }
    if operator in ordered:
        return lambda each: any(ordered[operator](item, wanted[0]) for item in items(each))
    match operator:
        case "EQUAL" | "CONTAINS_ALL":
            return lambda each: all(part <= held(each) for part in tokens)
        case "NOT_EQUAL" | "CONTAINS_NONE":
            return lambda each: not any(part <= held(each) for part in tokens)
        case "CONTAINS_ANY":
            return lambda each: any(part <= held(each) for part in tokens)
    raise Refused(501, f"mock weaviate: the operator {operator} is not mocked")


def _splitter(definition: dict[str, Any]) -> Callable[[str], set[str]]:
    match definition["tokenization"]:
        case "field":
            return lambda text: {text.strip()}
        case "whitespace":
            return lambda text: set(text.split())
        case "lowercase":
            return lambda text: set(text.lower().split())
        case "word":
            return lambda text: set(_WORDS.findall(text.lower()))
    raise Refused(501, f"mock weaviate: the tokenization {definition['tokenization']!r} is not mocked")
