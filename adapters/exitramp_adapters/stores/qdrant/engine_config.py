"""A collection's configuration in Qdrant's REST JSON as objects of the engine's Python binding, and its payload indexes
both ways.

As in `engine`, a key or a word that is not known here raises `UsageError` naming it; nothing is ignored. What
the engine in process does not have of a server's settings: shards, replicas, strict mode, the log's own settings, and
among the optimizers' `memmap_threshold`, `flush_interval_sec` and `max_optimization_threads`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from exitramp.errors import UsageError
from exitramp_adapters.stores.qdrant.engine import only

OPTIMIZERS: Final = frozenset(
    {
        "deleted_threshold",
        "vacuum_min_vector_number",
        "default_segment_number",
        "max_segment_size",
        "indexing_threshold",
    }
)
_VECTOR: Final = frozenset(
    {"size", "distance", "datatype", "multivector_config", "on_disk", "hnsw_config", "quantization_config", "memory"}
)
_HNSW_DEFAULTS: Final = {"m": 16, "ef_construct": 100, "full_scan_threshold": 10_000}
_HNSW: Final = frozenset({*_HNSW_DEFAULTS, "max_indexing_threads", "on_disk", "payload_m", "inline_storage", "memory"})
# The enumerations' own names, where they are no more than the word of REST with a capital.
_NAMES: Final[Mapping[str, Mapping[str, str]]] = {
    "BinaryQuantizationEncoding": {"one_bit": "OneBit", "two_bits": "TwoBits", "one_and_half_bits": "OneAndHalfBits"},
    "BinaryQuantizationQueryEncoding": {
        "default": "Default",
        "binary": "Binary",
        "scalar4bits": "Scalar4Bits",
        "scalar8bits": "Scalar8Bits",
    },
}
# Of each kind of payload index the plain settings, and by which enumeration a word is known.
_COMMON: Final = ("on_disk", "enable_hnsw", "memory", "nested")
_INDEXES: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "keyword": ("KeywordIndexParams", ("is_tenant", "prefix", *_COMMON)),
    "integer": ("IntegerIndexParams", ("lookup", "range", "is_principal", *_COMMON)),
    "float": ("FloatIndexParams", ("is_principal", *_COMMON)),
    "geo": ("GeoIndexParams", _COMMON),
    "bool": ("BoolIndexParams", _COMMON),
    "datetime": ("DatetimeIndexParams", ("is_principal", *_COMMON)),
    "uuid": ("UuidIndexParams", ("is_tenant", *_COMMON)),
    "text": (
        "TextIndexParams",
        (
            "tokenizer",
            "min_token_len",
            "max_token_len",
            "lowercase",
            "ascii_folding",
            "phrase_matching",
            "stopwords",
            "stemmer",
            "scoring",
            *_COMMON,
        ),
    ),
}
_WORDS: Final = {"memory": "Memory", "tokenizer": "TokenizerType"}


def edge_config(
    vectors: Mapping[str, Mapping[str, Any]],
    sparse_vectors: Mapping[str, Mapping[str, Any]],
    collection: Mapping[str, Any] | None = None,
) -> Any:
    """An `EdgeConfig` with the write-ahead log on; fields by name, "" being the unnamed one.

    collection: `hnsw_config`, `optimizers_config`, `quantization_config`, `on_disk_payload`, `payload`, `id_tracker`.
    """
    import qdrant_edge as engine

    known = {"hnsw_config", "optimizers_config", "quantization_config", "on_disk_payload", "payload", "id_tracker"}
    told = only(collection or {}, known, "collection")
    graph = only(told.get("hnsw_config") or {}, _HNSW, "hnsw_config")
    optimizers = only(told.get("optimizers_config") or {}, OPTIMIZERS, "optimizers_config")
    return engine.EdgeConfig(
        vectors={name: _vector_params(entry, name, graph) for name, entry in vectors.items()},
        sparse_vectors={name: _sparse_params(entry, name) for name, entry in sparse_vectors.items()},
        on_disk_payload=told.get("on_disk_payload"),
        hnsw_config=_hnsw(graph, {}, "hnsw_config") if graph else None,
        quantization_config=_quantization(told.get("quantization_config"), "quantization_config"),
        optimizers=engine.EdgeOptimizersConfig(**optimizers) if optimizers else None,
        payload_memory=_memory(told, "payload"),
        id_tracker_memory=_memory(told, "id_tracker"),
    )


def _memory(told: Mapping[str, Any], name: str) -> Any:
    return _word("Memory", only(told.get(name) or {}, {"memory"}, name).get("memory"), f"{name}.memory")


def _vector_params(entry: Mapping[str, Any], name: str, graph: Mapping[str, Any]) -> Any:
    import qdrant_edge as engine

    where = f"vectors.{name}" if name else "vectors"
    known = only(entry, _VECTOR, where, required=("size", "distance"))
    multi = known.get("multivector_config")
    if multi is not None and multi != {"comparator": "max_sim"}:
        raise UsageError(f"{where}: the multivector_config is not max_sim")
    own = known.get("hnsw_config")
    return engine.EdgeVectorParams(
        known["size"],
        _distance(known["distance"], f"{where}.distance"),
        on_disk=known.get("on_disk"),
        multivector_config=None if multi is None else engine.MultiVectorConfig(engine.MultiVectorComparator.MaxSim),
        datatype=_word("VectorStorageDatatype", known.get("datatype"), f"{where}.datatype"),
        quantization_config=_quantization(known.get("quantization_config"), f"{where}.quantization_config"),
        hnsw_config=_hnsw(own, graph, where) if own else None,
        memory=_word("Memory", known.get("memory"), f"{where}.memory"),
    )


def _distance(word: Any, where: str) -> Any:
    import qdrant_edge as engine

    known = ("Cosine", "Dot", "Euclid", "Manhattan")
    if word not in known:
        raise UsageError(f"{where}: {word!r} is none of {', '.join(known)}")
    return getattr(engine.Distance, word)


def _sparse_params(entry: Mapping[str, Any], name: str) -> Any:
    import qdrant_edge as engine

    where = f"sparse_vectors.{name}"
    known = only(entry, {"index", "modifier"}, where)
    settings = {"full_scan_threshold", "on_disk", "datatype", "memory"}
    index = only(known.get("index") or {}, settings, f"{where}.index")
    modifier = known.get("modifier")
    if modifier not in (None, "none", "idf"):
        raise UsageError(f"{where}: unknown modifier {modifier!r}")
    return engine.EdgeSparseVectorParams(
        full_scan_threshold=index.get("full_scan_threshold"),
        on_disk=index.get("on_disk"),
        modifier=engine.Modifier.Idf if modifier == "idf" else None,
        datatype=_word("VectorStorageDatatype", index.get("datatype"), f"{where}.datatype"),
        memory=_word("Memory", index.get("memory"), f"{where}.memory"),
    )


def _hnsw(entry: Mapping[str, Any], graph: Mapping[str, Any], where: str) -> Any:
    """A graph's settings. The binding wants all numbers; those that a field does not say are its collection's."""
    import qdrant_edge as engine

    told = _HNSW_DEFAULTS | {name: graph[name] for name in _HNSW_DEFAULTS if name in graph} | only(entry, _HNSW, where)
    told["memory"] = _word("Memory", told.get("memory"), f"{where}.memory")
    return engine.HnswIndexConfig(**told)


def _quantization(entry: Mapping[str, Any] | None, where: str) -> Any:
    import qdrant_edge as engine

    if entry is None:
        return None
    kinds = only(entry, {"scalar", "product", "binary", "turbo"}, where)
    if len(kinds) != 1:
        raise UsageError(f"{where}: exactly one of scalar, product, binary, turbo was expected")
    [(kind, told)] = kinds.items()
    where = f"{where}.{kind}"
    own = {
        "scalar": {"type", "quantile"},
        "product": {"compression"},
        "binary": {"encoding", "query_encoding"},
        "turbo": {"bits"},
    }
    required = {"scalar": ["type"], "product": ["compression"]}.get(kind, [])
    known = only(told, own[kind] | {"always_ram", "memory"}, where, required=required)
    words = {
        "memory": "Memory",
        "type": "ScalarType",
        "compression": "CompressionRatio",
        "encoding": "BinaryQuantizationEncoding",
        "query_encoding": "BinaryQuantizationQueryEncoding",
        "bits": "TurboQuantBitSize",
    }
    for name in words.keys() & known.keys():
        known[name] = _word(words[name], known[name], f"{where}.{name}")
    made = {
        "scalar": engine.ScalarQuantizationConfig,
        "product": engine.ProductQuantizationConfig,
        "binary": engine.BinaryQuantizationConfig,
        "turbo": engine.TurboQuantQuantizationConfig,
    }
    return made[kind](**known)


def _word(enumeration: str, word: Any, where: str) -> Any:
    """The member of the binding's enumeration that a word of REST names; None for None."""
    import qdrant_edge as engine

    if word is None:
        return None
    enum = getattr(engine, enumeration)
    if isinstance(word, str):
        found = getattr(enum, _NAMES.get(enumeration, {}).get(word, word.capitalize()), None)
        if isinstance(found, enum):
            return found
    known = ", ".join(sorted(_word_of(getattr(enum, name)) for name in dir(enum) if name[0].isupper()))
    raise UsageError(f"{where}: {word!r} is none of {known}")


def _word_of(member: Any) -> str:
    name = repr(member).rpartition(".")[2]
    named = {engine: word for words in _NAMES.values() for word, engine in words.items()}
    return named.get(name, name.lower())


def field_index(schema: Any, where: str = "field_schema") -> Any:
    """A payload index of REST, a word or its parameters, as the engine takes it."""
    import qdrant_edge as engine

    if isinstance(schema, str):
        if schema not in _INDEXES:
            raise UsageError(f"{where}: {schema!r} is none of {', '.join(_INDEXES)}")
        return getattr(engine.PayloadSchemaType, schema.capitalize())
    kind = str(schema.get("type")) if isinstance(schema, Mapping) else ""
    if kind not in _INDEXES:
        raise UsageError(f"{where}.type: {kind!r} is none of {', '.join(_INDEXES)}")
    name, settings = _INDEXES[kind]
    told = only(schema, {"type", *settings}, where)
    del told["type"]
    for key in _WORDS.keys() & told.keys():
        told[key] = _word(_WORDS[key], told[key], f"{where}.{key}")
    if "stopwords" in told:
        told["stopwords"] = _stopwords(told["stopwords"], f"{where}.stopwords")
    if "stemmer" in told:
        told["stemmer"] = _stemmer(told["stemmer"], f"{where}.stemmer")
    if isinstance(told.get("scoring"), Mapping):
        scoring = only(told["scoring"], {"type"}, f"{where}.scoring", required=["type"])
        told["scoring"] = engine.TextScoringParams(_word("TextScoringType", scoring["type"], f"{where}.scoring.type"))
    return getattr(engine, name)(**told)


def _stopwords(entry: Any, where: str) -> Any:
    import qdrant_edge as engine

    if isinstance(entry, str):
        return _word("Language", entry, where)
    told = only(entry, {"languages", "custom"}, where)
    languages = {_word("Language", word, f"{where}.languages") for word in told.get("languages", ())}
    return engine.StopwordsSet(languages or None, set(told["custom"]) if "custom" in told else None)


def _stemmer(entry: Any, where: str) -> Any:
    import qdrant_edge as engine

    told = only(entry, {"type", "language"}, where, required=["type"])
    if told["type"] == "none":
        return engine.DisabledStemmer()
    if told["type"] != "snowball" or "language" not in told:
        raise UsageError(f"{where}: neither `snowball` with a language nor `none`")
    return engine.SnowballParams(_word("SnowballLanguage", told["language"], f"{where}.language"))


def payload_schema(shard: Any) -> dict[str, dict[str, Any]]:
    """The payload indexes of a shard, as a server describes them: each with `data_type`, `points`, perhaps `params`."""
    found: dict[str, dict[str, Any]] = {}
    for key, told in sorted(shard.info().payload_schema.items()):
        kind = _word_of(told.data_type)
        found[key] = {"data_type": kind, "points": told.points}
        if told.params is not None:
            found[key]["params"] = _params_of(told.params, kind)
    return found


def _params_of(params: Any, kind: str) -> dict[str, Any]:
    import qdrant_edge as engine

    found: dict[str, Any] = {"type": kind}
    for name in _INDEXES[kind][1]:
        value = getattr(params, name)
        if value is None:
            continue
        if name in _WORDS or isinstance(value, engine.Language):
            value = _word_of(value)
        elif isinstance(value, engine.StopwordsSet):
            languages = sorted(_word_of(each) for each in value.languages or ())
            value = {"languages": languages, "custom": sorted(value.custom or ())}
        elif isinstance(value, engine.SnowballParams):
            value = {"type": "snowball", "language": _word_of(value.language)}
        elif isinstance(value, engine.DisabledStemmer):
            value = {"type": "none"}
        elif isinstance(value, engine.TextScoringParams):
            value = {"type": _word_of(value.type)}
        found[name] = value
    return found
