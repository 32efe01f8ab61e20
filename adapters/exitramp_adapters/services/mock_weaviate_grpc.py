"""The mock's gRPC side: `Search`, `BatchObjects`, `BatchDelete`, `TenantsGet`, `Aggregate` (counts) and the health check.

The messages are those of the contract as the official client ships them (`weaviate.proto`). What the mock does not do
is refused by name: hybrid, keyword, generative and grouped searches, references, and the streamed batch.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from exitramp_adapters.services.mock_weaviate_collections import Collection, Collections, Object, Tenant, vector_matrix
from exitramp_adapters.services.mock_weaviate_filters import test_of
from exitramp_adapters.services.mock_weaviate_schema import Refused

MAXIMUM_RESULTS: Final = 10_000
"""`QUERY_MAXIMUM_RESULTS` as the server has it unless told otherwise."""
MESSAGE_BYTES: Final = 104_858_000
_ASKED_SEARCHES: Final = (
    *("hybrid_search", "bm25_search", "near_object", "near_text", "near_image", "near_audio", "near_video"),
    *("near_depth", "near_thermal", "near_imu", "group_by", "generative", "rerank", "boost"),
)
_WRITES: Final = frozenset({"BatchObjects", "BatchDelete"})


class Answers:
    """One method for each rpc, called with the request; raises `Refused`."""

    def __init__(self, collections: Collections, count: Callable[[str, int], None]) -> None:
        self._collections = collections
        self._count = count

    def search(self, request: Any) -> Any:
        from weaviate.proto.v1 import search_get_pb2

        for name in _ASKED_SEARCHES:
            if request.HasField(name):
                raise Refused(501, f"mock weaviate: {name} is not mocked")
        if not request.uses_127_api or request.sort_by or request.autocut:
            raise Refused(501, "mock weaviate: sorting, autocut and older forms of a search are not mocked")
        with self._collections.lock:
            held = self._collections.get(request.collection)
            part = held.tenant(request.tenant)
            limit = request.limit or 10
            if limit + request.offset > MAXIMUM_RESULTS:
                raise Refused(
                    422, f"query maximum results exceeded: QUERY_MAXIMUM_RESULTS is '{MAXIMUM_RESULTS}', not {limit}"
                )
            test = test_of(request.filters, held) if request.HasField("filters") else None
            if request.HasField("near_vector"):
                if request.after:
                    raise _cursor_refusal("other params")
                found = _nearest(held, part, request, test)[request.offset : request.offset + limit]
                self._count("queries", 1)
            else:
                found = [(each, None) for each in _listed(part, request, test, limit)]
                self._count("objects_read", len(found))
            reply = search_get_pb2.SearchReply()
            kinds = {each["name"]: each for each in held.definition["properties"]}
            for each, distance in found:
                _answer(reply.results.add(), each, distance, request, held, kinds)
            return reply

    def batch_objects(self, request: Any) -> Any:
        from weaviate.proto.v1 import batch_pb2

        reply = batch_pb2.BatchObjectsReply()
        checked = []
        with self._collections.lock:
            for index, each in enumerate(request.objects):
                try:
                    made = Object(each.uuid, _properties(each.properties), _vectors(each))
                    checked.append(self._collections.checked(each.collection, each.tenant, made))
                except (Refused, ValueError) as error:
                    reply.errors.add(index=index, error=str(error))
            self._collections.put(checked)
        self._count("objects_written", len(checked))
        self._count("objects_refused", len(reply.errors))
        return reply

    def batch_delete(self, request: Any) -> Any:
        from weaviate.proto.v1 import batch_delete_pb2

        with self._collections.lock:
            held = self._collections.get(request.collection)
            part = held.tenant(request.tenant)
            test = test_of(request.filters, held)
            matched = [id_ for id_ in part.ordered() if test(part.objects[id_])]
            removed = matched if request.dry_run else matched[:MAXIMUM_RESULTS]
            if not request.dry_run:
                self._collections.remove(request.collection, request.tenant, removed)
        self._count("objects_deleted", len(removed))
        return batch_delete_pb2.BatchDeleteReply(matches=len(matched), successful=len(removed))

    def tenants_get(self, request: Any) -> Any:
        from weaviate.proto.v1 import tenants_pb2

        with self._collections.lock:
            held = self._collections.get(request.collection)
            if not held.tenancy:
                raise Refused(422, f"multi-tenancy is not enabled for class {request.collection}")
            wanted = list(request.names.values) or sorted(held.tenants)
            reply = tenants_pb2.TenantsGetReply()
            for name in wanted:
                if name in held.tenants:
                    status = f"TENANT_ACTIVITY_STATUS_{held.tenants[name].status}"
                    reply.tenants.add(name=name, activity_status=status)
            return reply

    def aggregate(self, request: Any) -> Any:
        from weaviate.proto.v1 import aggregate_pb2

        if request.aggregations or request.WhichOneof("search") or request.HasField("group_by"):
            raise Refused(501, "mock weaviate: of aggregations only the count of objects is mocked")
        with self._collections.lock:
            held = self._collections.get(request.collection)
            part = held.tenant(request.tenant)
            test = test_of(request.filters, held) if request.HasField("filters") else lambda each: True
            count = sum(test(each) for each in part.objects.values())
        return aggregate_pb2.AggregateReply(single_result=aggregate_pb2.AggregateReply.Single(objects_count=count))


def serve(
    port: int, collections: Collections, *, count: Callable[[str, int], None], may: Callable[[str, bool], str | None]
) -> Any:
    """The started server. `may(authorization, writes)` says why somebody may not, or None."""
    from concurrent.futures import ThreadPoolExecutor

    import grpc
    from weaviate.proto.v1 import (
        aggregate_pb2,
        batch_delete_pb2,
        batch_pb2,
        health_weaviate_pb2,
        search_get_pb2,
        tenants_pb2,
    )

    answers = Answers(collections, count)
    methods: Mapping[str, tuple[Callable[[Any], Any], Any]] = {
        "Search": (answers.search, search_get_pb2.SearchRequest),
        "BatchObjects": (answers.batch_objects, batch_pb2.BatchObjectsRequest),
        "BatchDelete": (answers.batch_delete, batch_delete_pb2.BatchDeleteRequest),
        "TenantsGet": (answers.tenants_get, tenants_pb2.TenantsGetRequest),
        "Aggregate": (answers.aggregate, aggregate_pb2.AggregateRequest),
    }
    codes = {
        401: grpc.StatusCode.UNAUTHENTICATED,
        403: grpc.StatusCode.PERMISSION_DENIED,
        501: grpc.StatusCode.UNIMPLEMENTED,
    }

    def handler(name: str) -> Any:
        answer, message = methods[name]

        def call(request: Any, context: Any) -> Any:
            given = dict(context.invocation_metadata()).get("authorization", "")
            refusal = may(given, name in _WRITES)
            if refusal is not None:
                count("rejected", 1)
                code = grpc.StatusCode.PERMISSION_DENIED if given else grpc.StatusCode.UNAUTHENTICATED
                context.abort(code, refusal)
            try:
                reply = answer(request)
            except Refused as error:
                count("rejected", 1)
                context.abort(codes.get(error.status, grpc.StatusCode.UNKNOWN), str(error))
            count("answered", 1)
            return reply

        return grpc.unary_unary_rpc_method_handler(
            call, request_deserializer=message.FromString, response_serializer=lambda reply: reply.SerializeToString()
        )

    def health(_: Any, __: Any) -> Any:
        serving = health_weaviate_pb2.WeaviateHealthCheckResponse.SERVING
        return health_weaviate_pb2.WeaviateHealthCheckResponse(status=serving)

    sizes = [("grpc.max_receive_message_length", MESSAGE_BYTES), ("grpc.max_send_message_length", MESSAGE_BYTES)]
    server = grpc.server(ThreadPoolExecutor(8), options=[*sizes, ("grpc.so_reuseport", 0)])
    checked = grpc.unary_unary_rpc_method_handler(
        health,
        request_deserializer=health_weaviate_pb2.WeaviateHealthCheckRequest.FromString,
        response_serializer=lambda reply: reply.SerializeToString(),
    )
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler("weaviate.v1.Weaviate", {name: handler(name) for name in methods}),
            grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": checked}),
        )
    )
    if server.add_insecure_port(f"127.0.0.1:{port}") != port:
        raise OSError(f"the port {port} is taken")
    server.start()
    return server


def _cursor_refusal(what: str) -> Refused:
    return Refused(422, f"cursor api: invalid 'after' parameter: {what} cannot be set with after and limit parameters")


def _listed(part: Tenant, request: Any, test: Callable[[Object], bool] | None, limit: int) -> list[Object]:
    from bisect import bisect_right

    ordered = part.ordered()
    if request.after:
        if test is not None:
            raise _cursor_refusal("where")
        if request.offset:
            raise _cursor_refusal("offset")
        try:
            start = bisect_right(ordered, str(uuid.UUID(request.after)))
        except ValueError as error:
            raise Refused(422, "cursor api: after parameter is not a valid uuid") from error
        return [part.objects[id_] for id_ in ordered[start : start + limit]]
    found = (part.objects[id_] for id_ in ordered)
    passing = [each for each in found if test is None or test(each)] if test else list(found)
    return passing[request.offset : request.offset + limit]


def _nearest(
    held: Collection, part: Tenant, request: Any, test: Callable[[Object], bool] | None
) -> list[tuple[Object, float | None]]:
    near = request.near_vector
    targets = list(near.targets.target_vectors)
    if len(targets) > 1 or len(near.vectors) > 1 or near.HasField("distance") or near.HasField("certainty"):
        raise Refused(501, "mock weaviate: a search in several vectors, or up to a distance, is not mocked")
    given = [*near.vectors, *(each for one in near.vector_for_targets for each in one.vectors)]
    query = given[0].vector_bytes if given else near.vector_bytes
    name = targets[0] if targets else given[0].name if given and given[0].name else ""
    configs = held.definition.get("vectorConfig")
    if configs and not name:
        if len(configs) > 1:
            raise Refused(422, f"class {request.collection} has multiple vectors, but no target vectors were provided")
        name = next(iter(configs))
    name = "" if configs is None else name
    config, multi = held.vector_config(name), held.is_multi(name)
    if not multi and given and given[0].type == 2:
        raise Refused(422, f"vector '{name}' takes no multi vector")
    wanted = vector_matrix(query, multi=multi)
    having = [each for each in part.objects.values() if name in each.vectors and (test is None or test(each))]
    metric = config["vectorIndexConfig"]["distance"]
    if not having:
        return []
    if multi:
        far = np.array([_late(metric, wanted, vector_matrix(each.vectors[name], multi=True)) for each in having])
    else:
        matrix = np.frombuffer(b"".join([each.vectors[name] for each in having]), "<f4").reshape(len(having), -1)
        if matrix.shape[1] != len(wanted):
            raise Refused(422, f"vector lengths don't match: {matrix.shape[1]} vs {len(wanted)}")
        far = _distances(metric, wanted, matrix)
    order = np.argsort(far, kind="stable")
    return [(having[place], float(far[place])) for place in order.tolist()]


def _distances(metric: str, query: Any, matrix: Any) -> Any:
    one, many = query.astype(np.float64), matrix.astype(np.float64)
    match metric:
        case "cosine":
            norms = np.linalg.norm(many, axis=1) * np.linalg.norm(one)
            return 1 - np.divide(many @ one, norms, out=np.zeros(len(many)), where=norms > 0)
        case "dot":
            return -(many @ one)
        case "l2-squared":
            return ((many - one) ** 2).sum(axis=1)
        case "manhattan":
            return np.abs(many - one).sum(axis=1)
    return (many != one).sum(axis=1).astype(np.float64)


def _late(metric: str, query: Any, matrix: Any) -> float:
    """The sum over the query's vectors of the least distance to any of the object's."""
    return float(sum(_distances(metric, one, matrix).min() for one in query))


def _properties(given: Any) -> dict[str, Any]:
    """The message's properties as JSON values."""
    found = _values(given)
    for each in given.single_target_ref_props:
        found[each.prop_name] = [{"beacon": f"weaviate://localhost/{id_}"} for id_ in each.uuids]
    for each in given.multi_target_ref_props:
        found[each.prop_name] = [{"beacon": f"weaviate://localhost/{each.target_collection}/{id_}"} for id_ in each.uuids]
    return found


def _values(given: Any) -> dict[str, Any]:
    found = {key: _plain(value) for key, value in given.non_ref_properties.fields.items()}
    for each in given.number_array_properties:
        found[each.prop_name] = np.frombuffer(each.values_bytes, "<f8").tolist() or list(each.values)
    for kind in ("int_array_properties", "text_array_properties", "boolean_array_properties"):
        found |= {each.prop_name: list(each.values) for each in getattr(given, kind)}
    found |= {each.prop_name: _values(each.value) for each in given.object_properties}
    found |= {each.prop_name: [_values(item) for item in each.values] for each in given.object_array_properties}
    return found | {name: [] for name in given.empty_list_props}


def _plain(value: Any) -> Any:
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return {key: _plain(item) for key, item in value.struct_value.fields.items()}
    if kind == "list_value":
        return [_plain(item) for item in value.list_value.values]
    if kind == "number_value" and not np.isfinite(value.number_value):
        raise Refused(422, "json: unsupported value: not a finite number")
    return None if kind == "null_value" else getattr(value, kind)


def _vectors(given: Any) -> dict[str, bytes]:
    found = {"": given.vector_bytes} if given.vector_bytes else {}
    if given.vector and not found:
        found[""] = struct.pack(f"<{len(given.vector)}f", *given.vector)
    return found | {each.name: each.vector_bytes for each in given.vectors}


def _answer(
    result: Any, each: Object, distance: float | None, request: Any, held: Collection, kinds: Mapping[str, Any]
) -> None:
    wanted, metadata = request.properties, request.metadata
    result.properties.target_collection = request.collection
    everything = not request.HasField("properties") or wanted.return_all_nonref_properties
    names = list(kinds) if everything else list(wanted.non_ref_properties)
    fields = result.properties.non_ref_props.fields
    for name in names:
        if name not in kinds:
            raise Refused(422, f"could not find property {name} in class {request.collection}")
        kind = kinds[name]["dataType"][0]
        if kind[:1].isupper() or (everything and kind == "blob"):
            continue  # references are asked for by themselves, and blobs by name
        value = each.properties.get(name)
        if value is None:
            fields[name].null_value = 0
        else:
            _write_value(fields[name], kinds[name], value)
    told = result.metadata
    if metadata.uuid:
        told.id, told.id_as_bytes = each.id, uuid.UUID(each.id).bytes
    if metadata.distance and distance is not None:
        told.distance, told.distance_present = distance, True
    if held.definition.get("vectorConfig") is None:
        if metadata.vector and "" in each.vectors:
            told.vector_bytes = each.vectors[""]
        return
    for name in metadata.vectors if metadata.vectors else (held.definition["vectorConfig"] if metadata.vector else ()):
        if name in each.vectors:
            told.vectors.add(name=name, vector_bytes=each.vectors[name], type=2 if held.is_multi(name) else 1)


def _write_value(field: Any, definition: Mapping[str, Any], value: Any) -> None:
    kind = definition["dataType"][0]
    if kind.endswith("[]"):
        field.list_value.SetInParent()
        if value:
            _write_list(field.list_value, kind[:-2], definition, value)
        return
    match kind:
        case "object":
            _write_object(field.object_value, definition, value)
        case "geoCoordinates":
            field.geo_value.latitude, field.geo_value.longitude = value["latitude"], value["longitude"]
        case "phoneNumber":
            field.phone_value.input = value["input"]
            field.phone_value.default_country = value.get("defaultCountry", "")
        case "boolean":
            field.bool_value = value
        case _:
            setattr(field, f"{kind}_value", value)


def _write_object(target: Any, definition: Mapping[str, Any], value: Mapping[str, Any]) -> None:
    target.SetInParent()
    for inner in definition["nestedProperties"]:
        if value.get(inner["name"]) is None:
            target.fields[inner["name"]].null_value = 0
        else:
            _write_value(target.fields[inner["name"]], inner, value[inner["name"]])


def _write_list(target: Any, kind: str, definition: Mapping[str, Any], value: list[Any]) -> None:
    match kind:
        case "int":
            target.int_values.values = np.array(value, "<i8").tobytes()
        case "number":
            target.number_values.values = np.array(value, "<f8").tobytes()
        case "boolean":
            target.bool_values.values.extend(value)
        case "object":
            for item in value:
                _write_object(target.object_values.values.add(), definition, item)
        case _:
            getattr(target, f"{kind}_values").values.extend(value)


