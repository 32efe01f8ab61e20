"""A collection's definition as our spec, and back.

Own layout (see docs/stores/weaviate.md): each payload key whose name and values a typed property holds exactly is one;
`exitramp_rest` is canonical JSON of the other keys; `exitramp_terms` lets filters find them;
`exitramp_document` is the text; the class's description keeps the origin.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from exitramp.errors import DataInvalid, StoreProtocolError
from exitramp.ports import DocumentRoom, NameRule, Origin, PayloadLimits, SinkLimits
from exitramp.ports.index_settings import hnsw_of
from exitramp.records import CollectionSpec, DType, IdKind, Metric, VectorField, VectorKind
from exitramp_adapters.stores.weaviate.client import json_text

INDEX_KEY: Final = "weaviate"
PREFIX: Final = "exitramp_"
DOCUMENT, REST, TERMS, NAMESPACE = f"{PREFIX}document", f"{PREFIX}rest", f"{PREFIX}terms", f"{PREFIX}namespace"
_UNNAMED: Final = f"{PREFIX}unnamed"
_MARK: Final = "exitramp "
_METRICS: Final[Mapping[str, Metric]] = {
    "cosine": Metric.COSINE,
    "dot": Metric.DOT,
    "l2-squared": Metric.EUCLIDEAN,
    "manhattan": Metric.MANHATTAN,
    "hamming": Metric.HAMMING,
}
_INDEXES: Final = frozenset({"hnsw", "flat", "dynamic", "hfresh"})
_TYPES: Final = frozenset(
    {"null", "bool", "int", "float", "nonfinite", "string", "list", "object"}
    | {"timestamp", "date", "time", "decimal", "uuid", "bytes"}
)
BATCH_ROWS: Final = 1000
LIMITS: Final = SinkLimits(
    id_kinds=frozenset({IdKind.UUID}),
    metrics=frozenset(_METRICS.values()),
    payload=PayloadLimits(
        types=_TYPES,
        item_types=_TYPES,
        mixed_lists=True,
        nested=True,
        empty_lists=True,
        empty_objects=True,
        integer_bits=4096,
        apart_types=_TYPES - {"bool", "float", "string", "timestamp", "uuid"},
    ),
    names=NameRule(r"[A-Z][_0-9A-Za-z]*", maximum=230),
    vector_kinds=frozenset({VectorKind.DENSE, VectorKind.MULTI}),
    dimensions=65_535,
    named_vectors=True,
    dense_fields=None,
    field_names=NameRule(rf"(?!{PREFIX})([_A-Za-z][_0-9A-Za-z]*)?", 0, 230),
    shared_field_names=False,
    vectors_required=False,
    vector_free=True,
    namespaces=True,
    documents=DocumentRoom.NATIVE,
    empty_multi=False,
    keeps_origin=True,
    adopts_empty=False,
    batch_rows=BATCH_ROWS,
    index_settings=frozenset({"m", "ef_construction", "ef_search"}),
)
_OWN_PROPERTIES: Final[tuple[dict[str, Any], ...]] = (
    {"name": DOCUMENT, "dataType": ["text"], "indexFilterable": False, "indexSearchable": True},
    {"name": REST, "dataType": ["text"], "indexFilterable": False, "indexSearchable": False},
    {"name": TERMS, "dataType": ["text[]"], "indexFilterable": True, "indexSearchable": False, "tokenization": "field"},
    {"name": NAMESPACE, "dataType": ["text"], "indexFilterable": False, "indexSearchable": False},
)


@dataclass(frozen=True, slots=True)
class Declared:
    """One vector of a definition: its name there ("" for the unnamed one), and what its index is."""

    name: str
    kind: VectorKind
    metric: Metric
    index: str


@dataclass(frozen=True, slots=True)
class Shape:
    """What a collection is. `native` says under which name each field of the spec is kept there."""

    spec: CollectionSpec
    definition: Mapping[str, Any] = field(hash=False)
    native: Mapping[str, Declared] = field(hash=False)
    origin: Origin | None = None

    @property
    def own(self) -> bool:
        return self.origin is not None

    @property
    def tenancy(self) -> bool:
        return has_tenants(self.definition)

    def properties(self) -> dict[str, Mapping[str, Any]]:
        return {each["name"]: each for each in self.definition.get("properties") or ()}

    def payload_properties(self) -> list[str]:
        """Those that are asked for by name, references left away, blobs included."""
        return [name for name, each in self.properties().items() if not is_reference(each)]

    def references(self) -> list[str]:
        return [name for name, each in self.properties().items() if is_reference(each)]


def is_name(name: str) -> bool:
    return len(name) <= LIMITS.names.maximum and re.fullmatch(LIMITS.names.pattern, name) is not None


def has_tenants(definition: Mapping[str, Any]) -> bool:
    return bool((definition.get("multiTenancyConfig") or {}).get("enabled"))


def is_reference(each: Mapping[str, Any]) -> bool:
    return str(each["dataType"][0])[:1].isupper()


def declared_vectors(definition: Mapping[str, Any], *, where: str) -> list[Declared]:
    """Raises `DataInvalid` for a metric or an index that is not known."""
    named = definition.get("vectorConfig") or {}
    found = [_declared(name, config, where=where) for name, config in named.items()]
    if definition.get("vectorIndexConfig") and definition.get("vectorIndexType"):
        found.insert(0, _declared("", definition, where=where))
    return found


def _declared(name: str, config: Mapping[str, Any], *, where: str) -> Declared:
    told, index = config.get("vectorIndexConfig") or {}, str(config.get("vectorIndexType"))
    if index not in _INDEXES:
        raise DataInvalid(f"{where}: the vector {name!r} has an index of a kind that is not known: {index!r}")
    metric = _METRICS.get(str(told.get("distance")))
    if metric is None:
        known = ", ".join(_METRICS)
        raise DataInvalid(
            f"{where}: the vector {name!r} has a distance that is not known: {told.get('distance')!r}",
            hint=f"known are: {known}",
        )
    inner = told.get("hnsw") or {} if index == "dynamic" else {}
    multi = (told.get("multivector") or inner.get("multivector") or {}).get("enabled")
    return Declared(name, VectorKind.MULTI if multi else VectorKind.DENSE, metric, index)


def shape_of(definition: Mapping[str, Any], dimensions: Mapping[str, int], *, where: str) -> Shape:
    """`dimensions` by the vectors' names, for a collection that somebody else made; those that no record has are not in
    it, and are left out of the spec."""
    declared = {each.name: each for each in declared_vectors(definition, where=where)}
    note = _note(definition, where=where)
    names = {each["name"] for each in definition.get("properties") or ()}
    index = {INDEX_KEY: {key: value for key, value in definition.items() if key != "description" or note is None}}
    if note is None:
        fields = tuple(
            VectorField(name, each.kind, DType.FLOAT32, each.metric, dimensions[name])
            for name, each in declared.items()
            if name in dimensions
        )
        native = {each.name: declared[each.name] for each in fields}
        origin = None
    else:
        origin, fields = note
        native = {}
        for each in fields:
            found = declared.get(each.name or ("" if "" in declared else _UNNAMED))
            if found is None or (found.kind, found.metric) != (each.kind, each.metric):
                raise DataInvalid(f"{where}: its vector {each.name!r} is not the one that the description tells of")
            native[each.name] = found
    spec = CollectionSpec(
        str(definition["class"]),
        IdKind.UUID,
        fields,
        has_namespaces=has_tenants(definition),
        has_documents=DOCUMENT in names,
        index=index,
    )
    return Shape(spec, definition, native, origin)


def _note(definition: Mapping[str, Any], *, where: str) -> tuple[Origin, tuple[VectorField, ...]] | None:
    text = str(definition.get("description") or "")
    if not text.startswith(_MARK):
        return None
    try:
        told = json.loads(text.removeprefix(_MARK))
        return Origin.from_json(told["origin"]), tuple(VectorField.from_json(each) for each in told["vectors"])
    except (ValueError, KeyError, TypeError, DataInvalid) as error:
        raise StoreProtocolError(
            f"{where}: the collection's description does not say where records came from"
        ) from error


def description_of(spec: CollectionSpec, origin: Origin) -> str:
    return _MARK + json_text({"origin": origin.to_json(), "vectors": [each.to_json() for each in spec.vectors]})


def is_own_description(definition: Mapping[str, Any]) -> bool:
    return str(definition.get("description") or "").startswith(_MARK)


def definition_of(spec: CollectionSpec, origin: Origin, name: str) -> dict[str, Any]:
    """What is asked of the server. Of a collection that came from Weaviate, index settings and typed properties are
    carried over; vectorizers and other modules are not, since they would ask vendors for vectors of their own."""
    came: Mapping[str, Any] = spec.index.get(INDEX_KEY) or {}
    made: dict[str, Any] = {"class": name, "description": description_of(spec, origin)}
    made["invertedIndexConfig"] = {**(came.get("invertedIndexConfig") or {}), "indexNullState": True}
    made["multiTenancyConfig"] = {"enabled": spec.has_namespaces}
    if [each.name for each in spec.vectors] == [""]:
        made |= {"vectorizer": "none"} | _index_of(spec.vectors[0], spec, came)
    elif spec.vectors:
        made["vectorConfig"] = {
            each.name or _UNNAMED: {"vectorizer": {"none": {}}} | _index_of(each, spec, came) for each in spec.vectors
        }
    else:
        made |= {"vectorizer": "none", "vectorIndexType": "hnsw", "vectorIndexConfig": {"skip": True}}
    made["properties"] = [
        {key: value for key, value in each.items() if key != "moduleConfig"}
        for each in came.get("properties") or ()
        if not str(each["name"]).startswith(PREFIX) and not is_reference(each)
    ]
    made["properties"] += own_properties(spec)
    return made


def own_properties(spec: CollectionSpec) -> list[dict[str, Any]]:
    left_out = {DOCUMENT: not spec.has_documents, NAMESPACE: not spec.has_namespaces}
    return [each for each in _OWN_PROPERTIES if not left_out.get(each["name"])]


def _index_of(wanted: VectorField, spec: CollectionSpec, came: Mapping[str, Any]) -> dict[str, Any]:
    named = came.get("vectorConfig") or {}
    before = (named.get(wanted.name) if wanted.name else named.get(_UNNAMED) or came) or {}
    config = dict(before.get("vectorIndexConfig") or {})
    kind = before.get("vectorIndexType") if before.get("vectorIndexType") in _INDEXES else None
    if not config or kind is None:
        kind, told = "hnsw", hnsw_of(spec.index)
        words = {"m": "maxConnections", "ef_construction": "efConstruction", "ef_search": "ef"}
        config = {} if told is None else {words[key]: value for key, value in told.told().items()}
    [distance] = [word for word, metric in _METRICS.items() if metric is wanted.metric]
    config["distance"] = distance
    for inner in ("hnsw", "flat"):
        if isinstance(config.get(inner), Mapping):
            config[inner] = {**config[inner], "distance": distance}
    if wanted.kind is VectorKind.MULTI:
        config["multivector"] = {**(config.get("multivector") or {}), "enabled": True}
    return {"vectorIndexType": kind, "vectorIndexConfig": config}
