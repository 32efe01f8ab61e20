"""Payload values as properties: which a typed property gives back exactly, how they are sent, and what comes back.

Whatever does not fit stays in the text `exitramp_rest`, and its terms in `exitramp_terms`: for each path of keys, as
JSON, `PATH?` (present), `PATH#` (a number), and `PATH=…"` for each text, number or truth value that stands there, or in
a list that stands there.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import numpy as np

from exitramp.filters import Scalar
from exitramp_adapters.stores.weaviate.schema import PREFIX

# The server writes a property's first letter small; `vector` is refused by the client.
NATIVE_NAME: Final = re.compile(r"(?!(?:id|vector|_id|_additional)\Z)[_a-z][_0-9A-Za-z]{0,230}")
_EXACT_INTEGERS: Final = 2**53
# Of the inverted index's keys no limit is published; a text this long is nobody's to filter by equality.
_TEXT_BYTES: Final = 8192
_TERM_BYTES: Final = 200
_MOMENT: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.(\d+))?(?:[Zz]|[+-]\d\d:\d\d)")
_GUESSED: Final[Mapping[type, str]] = {str: "text", bool: "boolean", int: "int", float: "number", UUID: "uuid"}
MOST_PROPERTIES: Final = 200
"""New keys beyond so many stay in the text: a server keeps an index for each property."""


def guessed_property(key: str, value: Any) -> dict[str, Any] | None:
    """A property in which the value would be exact, for a key that has none yet."""
    if not NATIVE_NAME.fullmatch(key) or key.startswith(PREFIX):
        return None
    one = value[0] if type(value) is list and value else value
    kind = "date" if isinstance(one, datetime) else _GUESSED.get(type(one))
    if kind is None:
        return None
    made: dict[str, Any] = {"name": key, "dataType": [kind + ("[]" if type(value) is list else "")]}
    if kind == "text":
        made |= {"tokenization": "field", "indexSearchable": False}
    return made if fits(made, value) else None


def fits(definition: Mapping[str, Any], value: Any) -> bool:
    """Whether the property gives this value back as it is, and filters see it as it is."""
    kind = definition["dataType"][0]
    if kind.endswith("[]"):
        single = {**definition, "dataType": [kind[:-2]]}
        return type(value) is list and bool(value) and all(fits(single, each) for each in value)
    match kind:
        case "text":
            # A filter compares without the white space at both ends, and does not see an empty text.
            return type(value) is str and value != "" and value == value.strip() and len(value) * 4 <= _TEXT_BYTES
        case "boolean":
            return type(value) is bool
        case "int":
            return type(value) is int and abs(value) <= _EXACT_INTEGERS  # it goes as a double
        case "number":
            return type(value) is float and math.isfinite(value) and (value != 0 or math.copysign(1, value) > 0)
        case "date":
            return isinstance(value, datetime) and _MOMENT.fullmatch(value.isoformat()) is not None
        case "uuid":
            return isinstance(value, UUID)
        case "blob":
            return isinstance(value, bytes) and value != b""
        case "geoCoordinates":
            return (
                type(value) is dict and value.keys() == {"latitude", "longitude"} and all(map(_single, value.values()))
            )
        case "object":
            inner = {each["name"]: each for each in definition.get("nestedProperties") or ()}
            return (
                type(value) is dict and bool(value) and all(k in inner and fits(inner[k], v) for k, v in value.items())
            )
    return False


def _single(value: Any) -> bool:
    return type(value) is float and math.isfinite(value) and float(np.float32(value)) == value


def write(target: Any, definition: Mapping[str, Any], value: Any) -> None:
    """Put a value that `fits` into a message's properties."""
    name, kind = definition["name"], definition["dataType"][0]
    fields = target.non_ref_properties.fields
    match kind:
        case "text":
            fields[name].string_value = value
        case "boolean":
            fields[name].bool_value = value
        case "int" | "number":
            fields[name].number_value = value
        case "date":
            fields[name].string_value = value.isoformat()
        case "uuid":
            fields[name].string_value = str(value)
        case "blob":
            fields[name].string_value = base64.b64encode(value).decode("ascii")
        case "geoCoordinates":
            for key, number in value.items():
                fields[name].struct_value.fields[key].number_value = number
        case "int[]":
            target.int_array_properties.add(prop_name=name, values=value)
        case "number[]":
            target.number_array_properties.add(prop_name=name, values_bytes=np.array(value, "<f8").tobytes())
        case "boolean[]":
            target.boolean_array_properties.add(prop_name=name, values=value)
        case "text[]" | "date[]" | "uuid[]":
            texts = (
                value if kind == "text[]" else [each.isoformat() if kind == "date[]" else str(each) for each in value]
            )
            target.text_array_properties.add(prop_name=name, values=texts)
        case "object":
            _write_object(target.object_properties.add(prop_name=name).value, definition, value)
        case "object[]":
            added = target.object_array_properties.add(prop_name=name)
            for each in value:
                _write_object(added.values.add(), definition, each)


def _write_object(target: Any, definition: Mapping[str, Any], value: Mapping[str, Any]) -> None:
    inner = {each["name"]: each for each in definition["nestedProperties"]}
    for key, each in value.items():
        write(target, inner[key], each)


def read(value: Any) -> Any:
    """The Python value of a property in a reply; None for one that is null."""
    kind = value.WhichOneof("kind")
    match kind:
        case "text_value" | "int_value" | "bool_value" | "number_value":
            return getattr(value, kind)
        case "date_value":
            return moment(value.date_value)
        case "uuid_value":
            return UUID(value.uuid_value)
        case "blob_value":
            return base64.b64decode(value.blob_value)
        case "geo_value":
            return {"latitude": value.geo_value.latitude, "longitude": value.geo_value.longitude}
        case "phone_value":
            return {each.name: found for each, found in value.phone_value.ListFields()}
        case "object_value":
            return read_object(value.object_value)
        case "list_value":
            return _read_list(value.list_value)
    return None


def read_object(properties: Any) -> dict[str, Any]:
    return {key: found for key, value in properties.fields.items() if (found := read(value)) is not None}


def _read_list(value: Any) -> list[Any]:
    kind = value.WhichOneof("kind")
    if kind is None:
        return []
    found = getattr(value, kind).values
    match kind:
        case "int_values":
            return list(np.frombuffer(found, "<i8").tolist())
        case "number_values":
            return list(np.frombuffer(found, "<f8").tolist())
        case "object_values":
            return [read_object(each) for each in found]
        case "date_values":
            return [moment(each) for each in found]
        case "uuid_values":
            return [UUID(each) for each in found]
    return list(found)


def moment(text: str) -> datetime | str:
    """The moment, or its text where Python has none so fine (nanoseconds) or so far away."""
    found = _MOMENT.fullmatch(text)
    if found is None or (found[1] or "")[6:].strip("0"):
        return text
    try:
        return datetime.fromisoformat(text.upper())
    except ValueError:
        return text


def terms(rest: Mapping[str, Any]) -> list[str]:
    """What filters find of the keys that are kept as text."""
    return sorted(set(_terms(rest, ())))


def _terms(value: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    for key, each in value.items():
        here = (*path, key)
        yield present(here)
        if isinstance(each, dict):
            yield from _terms(each, here)
        elif type(each) in (int, float):
            yield number(here)
        for item in each if type(each) is list else (each,):
            if isinstance(item, str | bool | int | float) and item == item:
                yield equal(here, item)


def present(path: tuple[str, ...]) -> str:
    return _path(path) + "?"


def number(path: tuple[str, ...]) -> str:
    return _path(path) + "#"


def equal(path: tuple[str, ...], value: Scalar) -> str:
    """1 and 1.0 are the same, true is neither. The quote at the end keeps white space, which is trimmed there."""
    if isinstance(value, bool):
        said = f"b{int(value)}"
    elif isinstance(value, str):
        long = len(value.encode()) > _TERM_BYTES
        said = f"h{hashlib.sha256(value.encode()).hexdigest()}" if long else f"s{value}"
    else:
        whole = isinstance(value, int) or (math.isfinite(value) and value.is_integer())
        said = f"n{int(value)}" if whole else f"n{value!r}"
    return f'{_path(path)}={said}"'


def _path(path: tuple[str, ...]) -> str:
    text = json.dumps(path, ensure_ascii=False, separators=(",", ":"))
    return text if len(text) <= 1000 else f"[{hashlib.sha256(text.encode()).hexdigest()}]"
