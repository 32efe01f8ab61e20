"""What a RediSearch index is, from FT.INFO, and the index that exitramp makes.

A collection that exitramp makes is an index over hashes, one hash for each record under the key PREFIX + id:

* a field for each top-level key of the payload, under the key's own name. A text is the field's bytes as they are, and
  so are bytes that are no UTF-8; everything else is its canonical JSON (`7`, `1.0`, `true`, `["a","b"]`);
* `exitramp:json`, the names of those fields that hold JSON, one on a line; `{}` for an empty payload;
* `vector`, or `vector:NAME` for a field with a name: the numbers' own bytes, little-endian.

Hashes and not JSON documents, although RedisJSON would tell types by itself: a vector of a JSON document is an array of
decimal numbers, which knows no NaN, takes 13.5 kB for 384 of them where a hash takes 2.0, and is text both ways. The
application finds each key as a field that it can index: `FT.ALTER NAME SCHEMA ADD chapter TAG`.

Where a collection came from stands beside it, in the text `exitramp:origin:NAME`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from exitramp.errors import DataInvalid, UsageError
from exitramp.ports import NameRule, PayloadLimits, SinkLimits
from exitramp.records import CollectionSpec, DType, IdKind, Metric, VectorField, VectorKind
from exitramp.urls import Address
from exitramp_adapters.stores.redis.connection import bytes_of

INDEX_KEY: Final = "redis"
"""The key in a spec's `index` under which stands what FT.INFO says of the index."""
MARK: Final = "exitramp:json"
MARK_ATTRIBUTE: Final = "exitramp_json"
ORIGIN_PREFIX: Final = "exitramp:origin:"
UNNAMED: Final = "vector"
METRICS: Final = {"COSINE": Metric.COSINE, "L2": Metric.EUCLIDEAN, "IP": Metric.DOT}
_DISTANCES: Final = {metric: name for name, metric in METRICS.items()}
# By the index's own word: what a record's column holds. Every bfloat16 and every uint8 is a float32, exactly.
TYPES: Final = {
    "FLOAT32": DType.FLOAT32,
    "FLOAT64": DType.FLOAT64,
    "FLOAT16": DType.FLOAT16,
    "BFLOAT16": DType.FLOAT32,
    "INT8": DType.INT8,
    "UINT8": DType.FLOAT32,
}
ITEM_BYTES: Final = {"FLOAT32": 4, "FLOAT64": 8, "FLOAT16": 2, "BFLOAT16": 2, "INT8": 1, "UINT8": 1}
ALGORITHMS: Final = ("FLAT", "HNSW")
# They are sent as ten transactions at once, 2 MB for 384 float32, and all answers are read then.
BATCH_ROWS: Final = 1000
UNTOLD: Final = r"\x00\r\n"
"""What RediSearch does not tell as it is in names and prefixes: `FT._LIST` and `FT.INFO` write a line break as a
backslash and a letter, and end at a character zero."""
_SIMPLE_PATH: Final = re.compile(r"""\$(?:\.[A-Za-z_][A-Za-z0-9_]*|\[(?:'[^'\\]+'|"[^"\\]+")\])+""")
_STEP: Final = re.compile(r"""\.([A-Za-z_][A-Za-z0-9_]*)|\[(?:'([^'\\]+)'|"([^"\\]+)")\]""")

LIMITS: Final = SinkLimits(
    id_kinds=frozenset({IdKind.STRING}),
    metrics=frozenset(_DISTANCES),
    payload=PayloadLimits(
        # Times, decimals, uuids and NaN could be kept as canonical JSON too, but no application would know them.
        types=frozenset({"null", "bool", "int", "float", "string", "bytes", "list", "object"}),
        item_types=frozenset({"null", "bool", "int", "float", "string", "bytes", "list", "object"}),
        mixed_lists=True,
        nested=True,
        empty_lists=True,
        empty_objects=True,
        integer_bits=64,
        tagged_types=frozenset({"bytes"}),  # where they are UTF-8, or stand inside a list or an object
        tagged_items=frozenset({"int", "key"}),
        key_pattern=r"(?!vector(?::|\Z)|exitramp:)[^\n]+",
    ),
    names=NameRule(f"[^{UNTOLD}]+"),
    dtypes=frozenset({DType.FLOAT32, DType.FLOAT64, DType.FLOAT16}),
    dimensions=32_768,
    named_vectors=True,
    dense_fields=16,
    field_names=NameRule(r"|(?!exitramp)[A-Za-z_][A-Za-z0-9_-]*", 0, 100),
    vectors_required=False,
    nonfinite_vectors=True,
    keeps_origin=True,
    batch_rows=BATCH_ROWS,
)


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute of an index's schema; `path` are the keys from a document's top, None where they are no such."""

    identifier: str
    name: str
    kind: str
    path: tuple[str, ...] | None
    told: Mapping[str, Any]

    @property
    def flags(self) -> Sequence[str]:
        return self.told.get("flags") or ()


@dataclass(frozen=True, slots=True)
class VectorAttribute:
    """A vector attribute that is a field of the records: `item` is the type of its numbers in a hash."""

    attribute: Attribute
    field: VectorField
    item: str

    @property
    def is_flat(self) -> bool:
        return str(self.attribute.told["algorithm"]) == "FLAT"


@dataclass(frozen=True, slots=True)
class Index:
    """What FT.INFO says, read once. `left` are vector attributes whose values stay in the payload.

    `failures` is how often it refused a record since it was made, and `refused` the last key by field, which is all
    that it tells.
    """

    name: str
    on_json: bool
    prefixes: tuple[bytes, ...]
    filter: str | None
    attributes: tuple[Attribute, ...]
    vectors: tuple[VectorAttribute, ...]
    left: tuple[Attribute, ...]
    documents: int
    building: bool
    told: Mapping[str, Any]
    failures: int = 0
    refused: Mapping[str, bytes] = dataclasses.field(default_factory=dict)

    @property
    def cut(self) -> int:
        """How many bytes of a key are no part of the id: its prefix, where there is one for all."""
        return len(self.prefixes[0]) if len(self.prefixes) == 1 else 0

    @property
    def key_type(self) -> str:
        """As SCAN and TYPE call it."""
        return "ReJSON-RL" if self.on_json else "hash"

    @property
    def has_marks(self) -> bool:
        return any(attribute.name == MARK_ATTRIBUTE for attribute in self.attributes)

    def vector(self, name: str) -> VectorAttribute:
        for each in self.vectors:
            if each.field.name == name:
                return each
        known = ", ".join(repr(each.field.name) for each in self.vectors)
        raise DataInvalid(f"the index {self.name!r} has no vector field {name!r}", hint=f"it has: {known}")

    def spec(self, *, has_documents: bool) -> CollectionSpec:
        fields = tuple(each.field for each in self.vectors)
        return CollectionSpec(
            self.name, IdKind.STRING, fields, has_documents=has_documents, index={INDEX_KEY: self.told}
        )


def index_in(info: Mapping[str, Any], address: Address) -> Index:
    """The index of an FT.INFO answer (texts, as `plain` makes them). Raises `DataInvalid` for what it cannot name."""
    definition = info["index_definition"]
    on_json = definition["key_type"] == "JSON"
    if not on_json and definition["key_type"] != "HASH":
        raise DataInvalid(f"{address}: an index over {definition['key_type']}, which is not known")
    attributes = tuple(
        Attribute(each["identifier"], each["attribute"], each["type"], _path(each["identifier"], on_json), each)
        for each in info["attributes"]
    )
    dtype = address.option("dtype")
    if dtype is not None and (dtype != "float64" or not on_json):
        raise UsageError(f"{address}: dtype=float64 is for indexes over JSON documents, and there is no other")
    vectors, left = [], []
    for attribute in attributes:
        if attribute.kind != "VECTOR":
            continue
        if attribute.path is None:
            left.append(attribute)
        else:
            vectors.append(_vector(attribute, address, wide=dtype is not None))
    if not vectors:
        why = f"none but at the paths {', '.join(each.identifier for each in left)}" if left else "none"
        raise DataInvalid(f"{address}: the index has no vector field that could be read ({why})")
    shown = {
        "key_type": definition["key_type"],
        "prefixes": list(definition["prefixes"]),
        "attributes": [dict(each.told) for each in attributes],
        "options": list(info.get("index_options") or ()),
    } | {
        key: definition[key]
        for key in ("filter", "default_language", "language_field", "default_score", "score_field", "payload_field")
        if key in definition
    }
    return Index(
        name=info["index_name"],
        on_json=on_json,
        prefixes=tuple(bytes_of(prefix) for prefix in definition["prefixes"]) or (b"",),
        filter=definition.get("filter"),
        attributes=attributes,
        vectors=tuple(vectors),
        left=tuple(left),
        documents=int(info["num_docs"]),
        building=bool(int(info["indexing"])) or float(info["percent_indexed"]) < 1.0,
        told=_showable(shown),
        failures=int(info.get("hash_indexing_failures", 0)),
        refused={
            str(each.get("attribute")): bytes_of(str(each["Index Errors"]["last indexing error key"]))
            for each in info.get("field statistics") or ()
            if int(each["Index Errors"]["indexing failures"])
        },
    )


def _vector(attribute: Attribute, address: Address, *, wide: bool) -> VectorAttribute:
    told, where = attribute.told, f"{address}: the vector field {attribute.name!r}"
    item, metric, algorithm = (str(told[key]) for key in ("data_type", "distance_metric", "algorithm"))
    if metric not in METRICS:
        raise DataInvalid(f"{where} has the metric {metric!r}, which is not known", hint=f"known: {', '.join(METRICS)}")
    if item not in TYPES:
        known = ", ".join(TYPES)
        raise DataInvalid(f"{where} has numbers of the type {item!r}, which is not known", hint=f"known: {known}")
    if algorithm not in ALGORITHMS and "VAMANA" not in algorithm:
        raise DataInvalid(f"{where} has an index of the kind {algorithm!r}, which is not known")
    unnamed = attribute.name == UNNAMED and attribute.path == (UNNAMED,)
    dtype = DType.FLOAT64 if wide else TYPES[item]
    field = VectorField("" if unnamed else attribute.name, VectorKind.DENSE, dtype, METRICS[metric], int(told["dim"]))
    return VectorAttribute(attribute, field, item)


def _path(identifier: str, on_json: bool) -> tuple[str, ...] | None:
    if not on_json:
        return (identifier,)
    if not _SIMPLE_PATH.fullmatch(identifier):
        return None
    return tuple(next(part for part in step if part) for step in _STEP.findall(identifier))


def _showable(value: Any) -> Any:
    """The answer as JSON can hold it: what is no UTF-8 shows its bytes as `\\xff`."""
    if isinstance(value, str):
        return bytes_of(value).decode("utf-8", "backslashreplace")
    if isinstance(value, dict):
        return {_showable(key): _showable(item) for key, item in value.items()}
    return [_showable(item) for item in value] if isinstance(value, list) else value


def own_prefix(name: str) -> str:
    """Under which the keys of a new collection stand: no prefix of this form is the beginning of another one."""
    return name.replace("%", "%25").replace(":", "%3A") + ":"


def create_command(name: str, spec: CollectionSpec, prefix: bytes, algorithm: str | None) -> list[Any]:
    """FT.CREATE of `name` for a collection like `spec`; what a source of this kind said of its index is carried over.

    `algorithm` is what the address says; without a word it is the source's own, or else FLAT, which compares all.
    """
    told: Mapping[str, Any] = spec.index.get(INDEX_KEY) or {}
    known = [each for each in told.get("attributes", ()) if isinstance(each, Mapping)]
    from_hashes = told.get("key_type") == "HASH"
    command: list[Any] = ["FT.CREATE", name, "ON", "HASH", "PREFIX", 1, prefix, "SCHEMA"]
    names = set()
    for field in spec.vectors:
        called = field.name or UNNAMED
        names.add(called)
        there = next((each for each in known if each.get("type") == "VECTOR" and each.get("attribute") == called), {})
        identifier = there.get("identifier") if from_hashes and there else None
        command += [identifier or (f"{UNNAMED}:{field.name}" if field.name else UNNAMED), "AS", called, "VECTOR"]
        command += _vector_arguments(field, there, algorithm)
    carried = [each for each in known if each.get("type") != "VECTOR" and each.get("attribute") not in names]
    carried = [each for each in carried if each.get("attribute") != MARK_ATTRIBUTE]
    arguments = [_carried(each, on_json=not from_hashes) for each in carried]
    for each in arguments:
        command += each
    if any(arguments):  # what a filter must know of a list in a field that is indexed as one text
        command += [MARK, "AS", MARK_ATTRIBUTE, "TAG", "SEPARATOR", "\n", "CASESENSITIVE"]
    return command


def _vector_arguments(field: VectorField, there: Mapping[str, Any], algorithm: str | None) -> list[Any]:
    kind = algorithm or there.get("algorithm") or "FLAT"
    kind = kind if kind in ALGORITHMS else "HNSW"
    pairs: list[Any] = ["TYPE", field.dtype.value.upper(), "DIM", field.dimensions]
    pairs += ["DISTANCE_METRIC", _DISTANCES[field.metric]]
    if kind == "HNSW":
        pairs += [part for key in ("M", "ef_construction") if key in there for part in (key.upper(), there[key])]
    return [kind, len(pairs), *pairs]


def _carried(told: Mapping[str, Any], *, on_json: bool) -> list[Any]:
    """The arguments that make an attribute again over the fields of hashes; none where hashes have no such field."""
    kind, identifier = told.get("type"), str(told.get("identifier"))
    if on_json:
        if kind not in ("TAG", "TEXT"):  # a null or a list is no number in a hash, and its record would not be indexed
            return []
        path = _path(identifier, True)
        identifier = path[0] if path is not None and len(path) == 1 else ""
    if kind not in ("TAG", "NUMERIC", "TEXT", "GEO") or not re.fullmatch(LIMITS.payload.key_pattern, identifier):
        return []
    flags = [str(flag).upper() for flag in told.get("flags") or ()]
    command: list[Any] = [identifier, "AS", told["attribute"], kind]
    if kind == "TAG":
        command += [] if on_json else ["SEPARATOR", _separator(told)]
        command += [flag for flag in ("CASESENSITIVE", "WITHSUFFIXTRIE") if flag in flags]
    elif kind == "TEXT":
        command += ["WEIGHT", told.get("WEIGHT", 1)]
        command += [flag for flag in ("NOSTEM", "WITHSUFFIXTRIE") if flag in flags]
    command += [flag for flag in ("INDEXMISSING", "INDEXEMPTY") if flag in flags]
    command += ["SORTABLE"] if "SORTABLE" in flags else []
    # A number sorts as what it is, and FT.CREATE takes no UNF for one.
    command += ["UNF"] if "UNF" in flags and "SORTABLE" in flags and kind in ("TAG", "TEXT") else []
    return command + (["NOINDEX"] if "NOINDEX" in flags else [])


def _separator(told: Mapping[str, Any]) -> str:
    """FT.INFO writes one that is no printable character as an escape of C."""
    found = str(told.get("SEPARATOR", ""))
    if len(found) < 2 or not found.startswith("\\"):
        return found
    return found.encode("ascii", "replace").decode("unicode_escape")


def separator_of(attribute: Attribute) -> str:
    """At which texts are taken apart into tags; "" where they are not, as those of JSON documents."""
    return _separator(attribute.told)
