"""Qdrant's REST JSON as objects of the engine's Python binding, for whoever holds the engine in process: filters, ids
and vectors. A collection's configuration is in `engine_config`.

Everything is strict: a key or a form that is not known here raises `UsageError` naming it; nothing is ignored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from exitramp.errors import UsageError

INDEXING_THRESHOLD_KILOBYTES = 10_000
"""From this size of vectors in a segment on the engine wants an index, unless told otherwise."""


def only(entry: Any, known: frozenset[str] | set[str], where: str, *, required: Sequence[str] = ()) -> dict[str, Any]:
    """`entry` without its nulls. Raises `UsageError` naming a key that is not `known`, or one that is missing."""
    if not isinstance(entry, Mapping):
        raise UsageError(f"{where}: an object was expected")
    for key in entry:
        if key not in known:
            raise UsageError(f"{where}: unknown field `{key}`")
    found = {key: value for key, value in entry.items() if value is not None}
    for key in required:
        if key not in found:
            raise UsageError(f"{where}: missing field `{key}`")
    return found


def edge_filter(data: Mapping[str, Any], where: str = "filter") -> Any:
    """A REST filter as the engine's `Filter`."""
    import qdrant_edge as engine

    known = only(data, {"must", "should", "must_not", "min_should"}, where)
    clauses: dict[str, Any] = {
        name: [_condition(each, f"{where}.{name}") for each in (entry if isinstance(entry, list) else [entry])]
        for name, entry in known.items()
        if name != "min_should"
    }
    if "min_should" in known:
        wanted = {"conditions", "min_count"}
        least = only(known["min_should"], wanted, f"{where}.min_should", required=sorted(wanted))
        conditions = [_condition(each, f"{where}.min_should") for each in least["conditions"]]
        clauses["min_should"] = engine.MinShould(conditions, least["min_count"])
    return engine.Filter(**clauses)


def _condition(data: Any, where: str) -> Any:
    import qdrant_edge as engine

    if not isinstance(data, Mapping):
        raise UsageError(f"{where}: a condition is an object")
    if "key" in data:
        return _field_condition(data, where)
    match list(data):
        case ["is_empty"]:
            return engine.IsEmptyCondition(only(data["is_empty"], {"key"}, where, required=["key"])["key"])
        case ["is_null"]:
            return engine.IsNullCondition(only(data["is_null"], {"key"}, where, required=["key"])["key"])
        case ["has_id"]:
            return engine.HasIdCondition({edge_id(id_) for id_ in data["has_id"]})
        case ["has_vector"]:
            return engine.HasVectorCondition(data["has_vector"])
        case ["nested"]:
            nested = only(data["nested"], {"key", "filter"}, f"{where}.nested", required=["key", "filter"])
            return engine.NestedCondition(nested["key"], edge_filter(nested["filter"], f"{where}.nested"))
    return edge_filter(data, where)


def _field_condition(data: Mapping[str, Any], where: str) -> Any:
    import qdrant_edge as engine

    known = only(data, {"key", "match", "range", "values_count", "is_empty", "is_null"}, where, required=["key"])
    made: dict[str, Any] = {name: known[name] for name in ("is_empty", "is_null") if name in known}
    if "match" in known:
        made["match"] = _match(known["match"], f"{where}.match")
    bounds = {"gte", "gt", "lte", "lt"}
    if "range" in known:
        made["range"] = engine.RangeFloat(**only(known["range"], bounds, f"{where}.range"))
    if "values_count" in known:
        made["values_count"] = engine.ValuesCount(**only(known["values_count"], bounds, f"{where}.values_count"))
    if not made:
        raise UsageError(f"{where}: a condition on {known['key']!r} asks for nothing")
    return engine.FieldCondition(known["key"], **made)


def _match(data: Any, where: str) -> Any:
    import numpy as np
    import qdrant_edge as engine

    known = only(data, {"value", "any", "except"}, where)
    match list(known):
        case ["value"]:
            value: Any = known["value"]
            # The binding takes a Python bool for the integer 1 or 0 and then finds no boolean; numpy's it takes
            # for what it is.
            as_it_is: Any = np.bool_(value) if isinstance(value, bool) else value
            return engine.MatchValue(as_it_is)
        case ["any"]:
            return engine.MatchAny(known["any"])
        case ["except"]:
            return engine.MatchExcept(known["except"])
    raise UsageError(f"{where}: exactly one of value, any, except was expected")


def edge_id(native: Any) -> Any:
    """An id of JSON as the engine takes it."""
    return UUID(native) if isinstance(native, str) else native


def edge_vector(value: Any) -> Any:
    """A vector of JSON, or of numpy, as the engine takes it: numbers, rows of numbers, or sparse.

    A memoryview goes in five times as fast as a list of numpy's numbers and half again as fast as a list of floats.
    """
    import numpy as np
    import qdrant_edge as engine

    if isinstance(value, np.ndarray):
        # What comes out of an answer of another store may stand at any byte, and the engine takes no such memory.
        numbers: Any = value if value.flags.aligned else value.copy()
        return memoryview(numbers) if value.ndim == 1 else value.tolist()
    if isinstance(value, tuple):
        return engine.SparseVector(value[0].tolist(), value[1].tolist())
    if isinstance(value, Mapping):
        sparse = only(value, {"indices", "values"}, "vector", required=["indices", "values"])
        return engine.SparseVector(sparse["indices"], sparse["values"])
    return value


def wants_index(shard: Any, config: Mapping[str, Any]) -> bool:
    """Whether the engine's optimizers would build an index now; `config` is the shard's own edge_config.json.

    Judged by size as they do. In process nothing is built in the background, so until `optimize` is called every
    vector outside an index is compared one by one: exact and slow.
    """
    dense = config.get("vectors") or {}
    if not dense:
        return False
    info = shard.info()
    unindexed = max(0, info.points_count * len(dense) - info.indexed_vectors_count)
    kilobytes = unindexed * max(entry["size"] for entry in dense.values()) * 4 / 1024
    threshold = (config.get("optimizers") or {}).get("indexing_threshold")
    threshold = INDEXING_THRESHOLD_KILOBYTES if threshold is None else threshold
    return bool(threshold and kilobytes > threshold)
