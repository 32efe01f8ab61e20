"""Our filters as the contract's filter message, each part exactly or not at all.

A key stands in a typed property or in the terms beside the text (`values`), so each condition asks for both.
By the published meaning of the operators: text is compared by its tokenization, of which only `field` compares whole
texts (it trims white space at both ends, so such texts are never put into a property); a comparison looks into lists,
which our `Range` does not, so a property of lists matches none; `IsNull` takes an empty list for null and wants the
null state indexed; `Not` came with 1.33.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Final

from exitramp.errors import UsageError
from exitramp.filters import And, Eq, Exists, Field, Filter, In, Leaf, Not, Or, Range, Scalar
from exitramp_adapters.stores.weaviate import values
from exitramp_adapters.stores.weaviate.schema import PREFIX, TERMS, Shape, is_reference

_NOT_SINCE: Final = (1, 33)
_NUMBERS: Final = 2**63


class Translation:
    """One filter for one collection. `lacking` are terms which no record may have for the message to be exact."""

    def __init__(self, shape: Shape, version: str) -> None:
        from weaviate.proto.v1 import base_pb2

        self._pb = base_pb2
        self._shape = shape
        self._kinds: Mapping[str, Mapping[str, Any]] = shape.properties()
        self._null_state = bool((shape.definition.get("invertedIndexConfig") or {}).get("indexNullState"))
        numbers = re.match(r"(\d+)\.(\d+)", version)
        self._has_not = numbers is not None and (int(numbers[1]), int(numbers[2])) >= _NOT_SINCE
        self.lacking: dict[str, Field] = {}

    def message(self, where: Filter) -> Any:
        """A message, or True or False where that is the answer for every record. Raises `UsageError`."""
        match where:
            case And(parts) | Or(parts):
                if not parts:
                    raise UsageError("filter 'and' and 'or' take a list of filters")
                return self._joined([self.message(part) for part in parts], isinstance(where, And))
            case Not(part):
                inner = self.message(part)
                if isinstance(inner, bool):
                    return not inner
                if not self._has_not:
                    raise UsageError("Weaviate before 1.33 has no filter 'not'")
                return self._pb.Filters(operator=self._pb.Filters.OPERATOR_NOT, filters=[inner])
            case In(field, wanted):
                if not wanted:
                    raise UsageError("filter 'in' takes a list of values")
                return self._joined([self._leaf(Eq(field, value)) for value in wanted], False)
        return self._leaf(where)

    def of_term(self, term: str) -> Any:
        return self._one("CONTAINS_ANY", TERMS, value_text_array=self._pb.TextArray(values=[term]))

    def _joined(self, parts: list[Any], all_of: bool) -> Any:
        if (not all_of) in parts:
            return not all_of
        left = [part for part in parts if not isinstance(part, bool)]
        if len(left) < 2:
            return left[0] if left else all_of
        operator = self._pb.Filters.OPERATOR_AND if all_of else self._pb.Filters.OPERATOR_OR
        return self._pb.Filters(operator=operator, filters=left)

    def _leaf(self, where: Leaf) -> Any:
        """What the property tells, or what the terms tell."""
        return self._joined([self._native(where), self._kept(where)], False)

    def _kept(self, where: Leaf) -> Any:
        if TERMS not in self._kinds:
            return False
        match where:
            case Exists(field):
                return self.of_term(values.present(field))
            case Eq(field, value):
                return False if value != value else self.of_term(values.equal(field, value))
        self.lacking[values.number(where.field)] = where.field
        return False

    def _native(self, where: Leaf) -> Any:
        key = where.field[0]
        definition = self._kinds.get(key)
        if definition is None or key.startswith(PREFIX) or is_reference(definition):
            return False
        kind = definition["dataType"][0]
        if len(where.field) > 1:
            if kind in ("object", "geoCoordinates", "phoneNumber"):
                raise _refused(where, f"it does not look into properties of {kind}")
            return False
        if isinstance(where, Exists):
            return self._present(where, kind)
        if isinstance(where, Eq):
            return self._equal(where, definition, kind)
        if isinstance(where, Range) and kind in ("int", "number"):
            return self._within(where, definition, kind)
        return False

    def _present(self, where: Exists, kind: str) -> Any:
        if not self._null_state:
            raise _refused(where, "the collection does not index which properties are null (indexNullState)")
        if kind.endswith("[]") and not self._shape.own:
            raise _refused(where, "it does not tell a missing key from an empty list")
        return self._one("IS_NULL", where.field[0], value_boolean=False)

    def _equal(self, where: Eq, definition: Mapping[str, Any], kind: str) -> Any:
        value, base = where.value, kind.removesuffix("[]")
        name = str(definition["name"])
        if isinstance(value, bool):
            if base != "boolean":
                return False
            told: dict[str, Any] = {"value_boolean": value}
            many: dict[str, Any] = {"value_boolean_array": self._pb.BooleanArray(values=[value])}
        elif isinstance(value, str):
            if base != "text":
                return False
            if not self._whole_texts(where, definition, value):
                return False
            told, many = {"value_text": value}, {"value_text_array": self._pb.TextArray(values=[value])}
        elif base == "int":
            if not math.isfinite(value) or value != int(value) or abs(value) >= _NUMBERS:
                return False
            told, many = {"value_int": int(value)}, {"value_int_array": self._pb.IntArray(values=[int(value)])}
        elif base == "number":
            if not math.isfinite(value) or not _is_double(value):
                return False
            told = {"value_number": float(value)}
            many = {"value_number_array": self._pb.NumberArray(values=[float(value)])}
        else:
            return False
        _require_index(where, definition)
        return self._one("CONTAINS_ANY", name, **many) if kind != base else self._one("EQUAL", name, **told)

    def _whole_texts(self, where: Eq, definition: Mapping[str, Any], value: str) -> bool:
        """Whether the property may hold such a text, which a filter then finds exactly."""
        if definition.get("tokenization") != "field":
            raise _refused(
                where, f"the property is compared by words ({definition.get('tokenization')}), not as a whole"
            )
        if value == "" or value != value.strip():
            if self._shape.own:
                return False
            raise _refused(where, "white space at either end of a text is not compared")
        return True

    def _within(self, where: Range, definition: Mapping[str, Any], kind: str) -> Any:
        words = {"gte": "GREATER_THAN_EQUAL", "gt": "GREATER_THAN", "lte": "LESS_THAN_EQUAL", "lt": "LESS_THAN"}
        bounds = {name: bound for name in words if (bound := getattr(where, name)) is not None}
        if not bounds:
            raise UsageError("filter 'range' takes numbers in gte, gt, lte or lt")
        _require_index(where, definition)
        parts = []
        for name, bound in bounds.items():
            if not math.isfinite(bound) or abs(bound) >= _NUMBERS or not (kind == "int" or _is_double(bound)):
                raise _refused(where, "such a bound is none of its numbers")
            if kind == "number":
                parts.append(self._one(words[name], where.field[0], value_number=float(bound)))
            else:  # an integer is above 0.5 where it is above 0, and at least 0.5 where it is at least 1
                whole = math.ceil(bound) if name in ("gte", "lt") else math.floor(bound)
                parts.append(self._one(words[name], where.field[0], value_int=whole))
        return self._joined(parts, True)

    def _one(self, operator: str, name: str, **value: Any) -> Any:
        target = self._pb.FilterTarget(property=name)
        return self._pb.Filters(operator=f"OPERATOR_{operator}", target=target, **value)


def ids_message(ids: list[str]) -> Any:
    """The objects with these ids."""
    from weaviate.proto.v1 import base_pb2

    return base_pb2.Filters(
        operator="OPERATOR_CONTAINS_ANY",
        target=base_pb2.FilterTarget(property="_id"),
        value_text_array=base_pb2.TextArray(values=ids),
    )


def _is_double(value: Scalar) -> bool:
    try:
        return float(value) == value
    except OverflowError:
        return False


def _require_index(where: Leaf, definition: Mapping[str, Any]) -> None:
    if not definition.get("indexFilterable", True):
        raise _refused(where, "the property has no index for filters (indexFilterable)")


def _refused(where: Leaf, why: str) -> UsageError:
    name = type(where).__name__.lower()
    return UsageError(f"Weaviate cannot filter by '{name}' on {'.'.join(where.field)!r} exactly: {why}")
