"""What the mock of Weaviate takes as a collection, and as a value of a property, by the published rules.

Names: `entities/schema/validation.go` of weaviate/weaviate and the documentation of collection definitions. Defaults
are those that the official client needs to find in a collection's definition; types those of the data-types page.
"""

from __future__ import annotations

import base64
import binascii
import re
import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

CLASS_NAME: Final = re.compile(r"[A-Z][_0-9A-Za-z]{0,255}")
PROPERTY_NAME: Final = re.compile(r"[_A-Za-z][_0-9A-Za-z]{0,230}")
TENANT_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_RESERVED: Final = frozenset({"id", "_id", "_additional"})
DISTANCES: Final = frozenset({"cosine", "dot", "l2-squared", "manhattan", "hamming"})
_SCALARS: Final = frozenset({"text", "int", "number", "boolean", "date", "uuid"})
_ALONE: Final = frozenset({"blob", "geoCoordinates", "phoneNumber"})
_RFC3339: Final = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d)")
_HNSW: Final[Mapping[str, Any]] = {
    "skip": False,
    "cleanupIntervalSeconds": 300,
    "maxConnections": 32,
    "efConstruction": 128,
    "ef": -1,
    "dynamicEfMin": 100,
    "dynamicEfMax": 500,
    "dynamicEfFactor": 8,
    "vectorCacheMaxObjects": 10**12,
    "flatSearchCutoff": 40_000,
    "distance": "cosine",
    "filterStrategy": "sweeping",
}
_FLAT: Final[Mapping[str, Any]] = {"vectorCacheMaxObjects": 10**12, "distance": "cosine"}


class Refused(Exception):
    """What the server says no to, with the status that REST gives."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def new_class(body: Mapping[str, Any]) -> dict[str, Any]:
    """A collection's definition with the server's defaults filled in. Raises `Refused`."""
    name = body.get("class")
    if not isinstance(name, str) or not CLASS_NAME.fullmatch(name):
        raise Refused(422, f"'{name}' is not a valid class name")
    made = dict(body)
    inverted = dict(made.get("invertedIndexConfig") or {})
    inverted.setdefault("bm25", {"b": 0.75, "k1": 1.2})
    inverted.setdefault("cleanupIntervalSeconds", 60)
    stopwords = {"preset": "en", "additions": None, "removals": None} | dict(inverted.get("stopwords") or {})
    made["invertedIndexConfig"] = inverted | {"stopwords": stopwords}
    tenancy = {"enabled": False, "autoTenantCreation": False, "autoTenantActivation": False}
    made["multiTenancyConfig"] = tenancy | dict(made.get("multiTenancyConfig") or {})
    made["replicationConfig"] = {"factor": 1} | dict(made.get("replicationConfig") or {})
    made["shardingConfig"] = {
        "virtualPerPhysical": 128,
        "desiredCount": 1,
        "actualCount": 1,
        "desiredVirtualCount": 128,
        "actualVirtualCount": 128,
        "key": "_id",
        "strategy": "hash",
        "function": "murmur3",
    }
    if made.get("vectorConfig"):
        if any(made.get(key) for key in ("vectorIndexType", "vectorIndexConfig", "vectorizer")):
            raise Refused(422, "class.VectorConfig and a class level vector index are both given")
        made["vectorConfig"] = {
            _vector_name(key): {"vectorizer": value.get("vectorizer") or {"none": {}}} | _vector_index(value)
            for key, value in made["vectorConfig"].items()
        }
    else:
        made.pop("vectorConfig", None)
        made |= {"vectorizer": made.get("vectorizer") or "none"} | _vector_index(made)
    made["properties"] = []
    for each in body.get("properties") or []:
        made["properties"].append(new_property(each, made))
    return made


def _vector_name(name: str) -> str:
    if not PROPERTY_NAME.fullmatch(name):
        raise Refused(422, f"target vector '{name}' is not a valid name")
    return name


def _vector_index(given: Mapping[str, Any]) -> dict[str, Any]:
    kind = given.get("vectorIndexType") or "hnsw"
    config = dict(given.get("vectorIndexConfig") or {})
    if kind == "hnsw":
        filled: dict[str, Any] = {**_HNSW, **config}
    elif kind == "flat":
        filled = {**_FLAT, **config}
    elif kind == "dynamic":
        filled = {"threshold": 10_000, "distance": "cosine"} | config
        inner = {"distance": filled["distance"]}
        filled["hnsw"] = {**_HNSW, **inner, **dict(config.get("hnsw") or {})}
        filled["flat"] = {**_FLAT, **inner, **dict(config.get("flat") or {})}
    else:
        raise Refused(422, f"unrecognized or unsupported vectorIndexType {kind!r}")
    if filled.get("multivector"):
        filled["multivector"] = {"enabled": False, "aggregation": "maxSim"} | dict(filled["multivector"])
    if filled["distance"] not in DISTANCES:
        raise Refused(422, f"unrecognized distance metric {filled['distance']!r}")
    if (filled.get("multivector") or {}).get("enabled") and "vectorConfig" in given:
        raise Refused(422, "multi vectors are only for named vectors")
    return {"vectorIndexType": kind, "vectorIndexConfig": filled}


def new_property(given: Mapping[str, Any], there: Mapping[str, Any]) -> dict[str, Any]:
    """A property's definition, its name with a small first letter as the server writes it. Raises `Refused`."""
    name = str(given.get("name", ""))
    if not PROPERTY_NAME.fullmatch(name) or name in _RESERVED:
        raise Refused(422, f"'{name}' is not a valid property name")
    name = name[0].lower() + name[1:]
    if any(each["name"] == name for each in there["properties"]):
        raise Refused(422, f"class {there['class']!r}: conflict for property {name!r}: already in use")
    types = list(given.get("dataType") or [])
    if not types:
        raise Refused(422, f"property '{name}': dataType is required")
    made = {**given, "name": name, "dataType": types}
    base = types[0].removesuffix("[]")
    if base in _SCALARS or base in _ALONE or base == "object":
        if base in _ALONE and types[0] != base:
            raise Refused(422, f"property '{name}': there is no list of {base}")
        if base == "object" and not given.get("nestedProperties"):
            raise Refused(422, f"property '{name}': at least one nested property is required for data type object")
    elif not all(CLASS_NAME.fullmatch(each) for each in types):
        raise Refused(422, f"property '{name}': unknown data type '{types[0]}'")
    if base == "object":
        inside = {"class": there["class"], "properties": []}
        made["nestedProperties"] = [new_property(each, inside) for each in given["nestedProperties"]]
    made.setdefault("indexFilterable", base not in ("blob",))
    made.setdefault("indexSearchable", base == "text")
    made.setdefault("indexRangeFilters", False)
    if base == "text":
        made["tokenization"] = given.get("tokenization") or "word"
    return made


def guessed_property(name: str, value: Any) -> dict[str, Any]:
    """What auto-schema makes of a value of a property that is not there yet."""
    listed = isinstance(value, list)
    one = value[0] if listed and value else value
    if isinstance(one, dict):
        inner = [guessed_property(key, item) for key, item in one.items()]
        return {"name": name, "dataType": ["object[]" if listed else "object"], "nestedProperties": inner}
    kind = "boolean" if isinstance(one, bool) else "number" if isinstance(one, int | float) else "text"
    if isinstance(one, str):
        kind = "date" if _RFC3339.fullmatch(one) else "uuid" if _is_uuid(one) else "text"
    return {"name": name, "dataType": [kind + ("[]" if listed else "")]}


def checked_value(definition: Mapping[str, Any], value: Any) -> Any:
    """The value as it is stored. Raises `Refused` naming the property and no value."""
    name, kind = definition["name"], definition["dataType"][0]
    if value is None:
        return None
    if kind[:1].isupper():
        return value
    if kind.endswith("[]"):
        if not isinstance(value, list):
            raise Refused(422, f"invalid {kind} property '{name}': not a list")
        return [checked_value({**definition, "dataType": [kind[:-2]]}, each) for each in value]
    if not _is_of(kind, value):
        raise Refused(422, f"invalid {kind} property '{name}': not of that type")
    if kind == "int":
        return int(value)
    if kind == "number":
        return float(value)
    if kind == "uuid":
        return str(uuid.UUID(value))
    if kind == "object":
        inner = {each["name"]: each for each in definition["nestedProperties"]}
        unknown = [key for key in value if key not in inner]
        if unknown:
            raise Refused(422, f"unknown nested property of '{name}'")
        return {key: checked_value(inner[key], item) for key, item in value.items()}
    return value


def _is_of(kind: str, value: Any) -> bool:
    if kind in ("text", "date", "uuid", "blob") and not isinstance(value, str):
        return False
    if kind == "date":
        return is_date(value)
    if kind == "uuid":
        return _is_uuid(value)
    if kind == "blob":
        try:
            return base64.b64decode(value, validate=True) is not None
        except binascii.Error:
            return False
    if kind == "boolean":
        return isinstance(value, bool)
    if kind in ("int", "number"):
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and (kind == "number" or float(value).is_integer())
    if kind == "geoCoordinates":
        return isinstance(value, dict) and {"latitude", "longitude"} <= value.keys()
    if kind == "phoneNumber":
        return isinstance(value, dict) and "input" in value
    if kind == "object":
        return isinstance(value, dict)
    return True


def is_date(text: str) -> bool:
    """Whether it is a moment as RFC 3339 writes it, with a zone and up to nine digits of a second."""
    found = _RFC3339.fullmatch(text)
    if found is None:
        return False
    try:
        datetime.fromisoformat(found[1])
    except ValueError:
        return False
    return True


def _is_uuid(text: str) -> bool:
    try:
        return bool(uuid.UUID(text))
    except ValueError:
        return False
