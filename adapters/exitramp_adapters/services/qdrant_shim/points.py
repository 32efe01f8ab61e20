"""The shim's routes under `/collections/NAME/points` and `…/index`: write, read, count, query, index a payload key."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final
from uuid import UUID

from exitramp.errors import UsageError
from exitramp_adapters.services.counters import Counters
from exitramp_adapters.services.qdrant_shim.collections import Collection, Refused, point_id
from exitramp_adapters.stores.qdrant import engine as forms
from exitramp_adapters.stores.qdrant import engine_config as config_forms

# Parts of the contract that this shim does not have; null means that they are not asked for.
_NOT_HERE: Final = frozenset(
    {"shard_key", "update_filter", "update_mode", "order_by", "prefetch", "lookup_from", "key", "quantization", "acorn"}
)


def answer_points(
    method: str, rest: list[str], collection: Callable[[], Collection], body: Any, counters: Counters
) -> Any:
    """The result for a request below `points`, or None for a route that is not here."""
    match (method, *rest):
        case ("PUT",):
            return _upsert(collection(), body, counters)
        case ("POST",):
            return _retrieve(collection(), body, counters)
        case ("GET", id_):
            return _one(collection(), id_, counters)
        case ("POST", "delete"):
            return _delete(collection(), body, counters)
        case ("POST", "payload"):
            return _set_payload(collection(), body)
        case ("POST", "scroll"):
            return _scroll(collection(), body, counters)
        case ("POST", "count"):
            return _count(collection(), body)
        case ("POST", "query"):
            return _query(collection(), body, counters)
    return None


def _keys(body: Any, known: set[str], where: str, required: tuple[str, ...] = ()) -> dict[str, Any]:
    found = forms.only(body, known | _NOT_HERE, where, required=required)
    for key in sorted(_NOT_HERE & found.keys()):
        raise Refused(501, f"exitramp qdrant shim: `{key}` is not emulated")
    return found


def _upsert(collection: Collection, body: Any, counters: Counters) -> dict[str, Any]:
    import qdrant_edge as engine

    given = _keys(body, {"points", "batch"}, "upsert")
    if len(given) != 1:
        raise UsageError("upsert: exactly one of points, batch was expected")
    entries = given["points"] if "points" in given else _unfolded(given["batch"])
    points = collection.points(entries)
    number = collection.update(engine.UpdateOperation.upsert_points(points))
    counters.add("points_written", len(points))
    return _done(number)


def _unfolded(batch: Any) -> list[dict[str, Any]]:
    """The columns of a batch as points."""
    given = forms.only(batch, {"ids", "vectors", "payloads"}, "batch", required=["ids", "vectors"])
    ids, vectors = given["ids"], given["vectors"]
    payloads = given.get("payloads", [None] * len(ids))
    rows: list[Any]
    if isinstance(vectors, Mapping):
        if any(len(column) != len(ids) for column in vectors.values()):
            raise Refused(422, "Validation error in JSON body: number of ids and vectors must be equal")
        rows = [{name: column[row] for name, column in vectors.items()} for row in range(len(ids))]
    else:
        rows = vectors
    if not len(ids) == len(rows) == len(payloads):
        raise Refused(422, "Validation error in JSON body: number of ids, vectors and payloads must be equal")
    return [
        {"id": id_, "vector": vector, "payload": payload}
        for id_, vector, payload in zip(ids, rows, payloads, strict=True)
    ]


def _delete(collection: Collection, body: Any, counters: Counters) -> dict[str, Any]:
    import qdrant_edge as engine

    given = _keys(body, {"points", "filter"}, "delete")
    if len(given) != 1:
        raise UsageError("delete: exactly one of points, filter was expected")
    if "points" in given:
        ids = [point_id(id_) for id_ in given["points"]]
        counters.add("points_deleted", len(ids))
        return _done(collection.update(engine.UpdateOperation.delete_points(ids)))
    where = forms.edge_filter(given["filter"])
    return _done(collection.update(engine.UpdateOperation.delete_points_by_filter(where)))


def _set_payload(collection: Collection, body: Any) -> dict[str, Any]:
    import qdrant_edge as engine

    given = _keys(body, {"payload", "points"}, "set payload", ("payload", "points"))
    ids = [point_id(id_) for id_ in given["points"]]
    return _done(collection.update(engine.UpdateOperation.set_payload(ids, given["payload"])))


def answer_field_index(collection: Collection, body: Any) -> dict[str, Any]:
    """Make an index over a payload key; the engine replaces one that is there."""
    import qdrant_edge as engine

    given = _keys(body, {"field_name", "field_schema"}, "create index", ("field_name",))
    if "field_schema" not in given:
        raise Refused(501, "exitramp qdrant shim: an index whose kind is guessed (no `field_schema`) is not emulated")
    schema = config_forms.field_index(given["field_schema"])
    return _done(collection.update(engine.UpdateOperation.create_field_index(given["field_name"], schema)))


def answer_no_field_index(collection: Collection, key: str) -> dict[str, Any]:
    import qdrant_edge as engine

    return _done(collection.update(engine.UpdateOperation.delete_field_index(key)))


def _done(number: int) -> dict[str, Any]:
    return {"operation_id": number, "status": "completed"}


def _retrieve(collection: Collection, body: Any, counters: Counters) -> list[dict[str, Any]]:
    given = _keys(body, {"ids", "with_payload", "with_vector"}, "retrieve", ("ids",))
    ids = [point_id(id_) for id_ in given["ids"]]
    payload, vector = _selected(given)
    records = collection.shard.retrieve(ids, payload, vector)
    counters.add("points_read", len(records))
    return [_record(record, given) for record in records]


def _one(collection: Collection, id_: str, counters: Counters) -> dict[str, Any]:
    found = collection.shard.retrieve([point_id(int(id_) if id_.isdecimal() else id_)], True, True)
    if not found:
        raise Refused(404, f"Not found: Point with id {id_} does not exists!")
    counters.add("points_read")
    return _record(found[0], {"with_vector": True})


def _scroll(collection: Collection, body: Any, counters: Counters) -> dict[str, Any]:
    import qdrant_edge as engine

    given = _keys(body, {"offset", "limit", "filter", "with_payload", "with_vector"}, "scroll")
    if given.get("limit", 10) < 1:
        raise Refused(422, "Validation error in JSON body: [limit: value 0 invalid, must be 1 or larger]")
    payload, vector = _selected(given)
    records, following = collection.shard.scroll(
        engine.ScrollRequest(
            offset=point_id(given["offset"]) if "offset" in given else None,
            limit=given.get("limit", 10),
            filter=forms.edge_filter(given["filter"]) if "filter" in given else None,
            with_payload=payload,
            with_vector=vector,
        )
    )
    counters.add("points_read", len(records))
    return {"points": [_record(record, given) for record in records], "next_page_offset": _id(following)}


def _count(collection: Collection, body: Any) -> dict[str, Any]:
    import qdrant_edge as engine

    given = _keys(body, {"filter", "exact"}, "count")
    where = forms.edge_filter(given["filter"]) if "filter" in given else None
    return {"count": collection.shard.count(engine.CountRequest(exact=given.get("exact", True), filter=where))}


def _query(collection: Collection, body: Any, counters: Counters) -> dict[str, Any]:
    import qdrant_edge as engine

    known = {"query", "using", "filter", "params", "score_threshold", "limit", "offset", "with_payload", "with_vector"}
    given = _keys(body, known, "query", ("query",))
    params = _keys(given.get("params", {}), {"hnsw_ef", "exact", "indexed_only"}, "query.params")
    payload, vector = _selected(given, payload=False)
    hits = collection.shard.query(
        engine.QueryRequest(
            limit=given.get("limit", 10),
            offset=given.get("offset"),
            query=engine.Query.Nearest(forms.edge_vector(_nearest(given["query"])), using=given.get("using") or None),
            filter=forms.edge_filter(given["filter"]) if "filter" in given else None,
            score_threshold=given.get("score_threshold"),
            params=engine.SearchParams(**params),
            with_payload=payload,
            with_vector=vector,
        )
    )
    counters.add("queries")
    found = [_record(hit, given) | {"version": hit.version, "score": hit.score} for hit in hits]
    return {"points": found}


def _nearest(query: Any) -> Any:
    if isinstance(query, Mapping) and "nearest" in query:
        query = _keys(query, {"nearest"}, "query")["nearest"]
    if isinstance(query, list) or (isinstance(query, Mapping) and "indices" in query):
        return query
    raise Refused(501, "exitramp qdrant shim: only a query by a vector is emulated")


def _selected(given: Mapping[str, Any], *, payload: bool = True) -> tuple[Any, Any]:
    """`with_payload` and `with_vector` as the engine takes them."""
    import qdrant_edge as engine

    wanted = given.get("with_payload", payload)
    if isinstance(wanted, Mapping):
        parts = forms.only(wanted, {"include", "exclude"}, "with_payload")
        if len(parts) != 1:
            raise UsageError("with_payload: exactly one of include, exclude was expected")
        [(how, keys)] = parts.items()
        wanted = getattr(engine.PayloadSelector, how.capitalize())(keys)
    return wanted, given.get("with_vector", False)


def _record(record: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    written: dict[str, Any] = {"id": _id(record.id)}
    if record.payload is not None:
        written["payload"] = record.payload
    if given.get("with_vector", False) is not False:
        vector = record.vector
        named = isinstance(vector, dict)
        written["vector"] = {name: _vector(value) for name, value in vector.items()} if named else vector
    return written


def _vector(value: Any) -> Any:
    return value if isinstance(value, list) else {"indices": value.indices, "values": value.values}


def _id(native: Any) -> Any:
    return str(native) if isinstance(native, UUID) else native
