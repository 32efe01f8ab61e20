"""The mock's gRPC side: `Search`, `BatchObjects`, `BatchDelete`, `TenantsGet`, `Aggregate` (counts), the health check.

The messages are those of the contract as the official client ships them (`weaviate.proto`). What the mock does not do
is refused by name: hybrid, keyword, generative and grouped searches, references, and the streamed batch.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from exitramp_adapters.services.mock_weaviate.collections import Collection, Collections, Object, Tenant, vector_matrix
from exitramp_adapters.services.mock_weaviate.filters import test_of
from exitramp_adapters.services.mock_weaviate.messages import (
    distances,
    late_distance,
    properties_of,
    vectors_of,
    write_result,
)
from exitramp_adapters.services.mock_weaviate.schema import Refused

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
                write_result(reply.results.add(), each, distance, request, held, kinds)
            return reply

    def batch_objects(self, request: Any) -> Any:
        from weaviate.proto.v1 import batch_pb2

        reply = batch_pb2.BatchObjectsReply()
        checked = []
        with self._collections.lock:
            for index, each in enumerate(request.objects):
                try:
                    made = Object(each.uuid, properties_of(each.properties), vectors_of(each))
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
        far = np.array(
            [late_distance(metric, wanted, vector_matrix(each.vectors[name], multi=True)) for each in having]
        )
    else:
        matrix = np.frombuffer(b"".join([each.vectors[name] for each in having]), "<f4").reshape(len(having), -1)
        if matrix.shape[1] != len(wanted):
            raise Refused(422, f"vector lengths don't match: {matrix.shape[1]} vs {len(wanted)}")
        far = distances(metric, wanted, matrix)
    order = np.argsort(far, kind="stable")
    return [(having[place], float(far[place])) for place in order.tolist()]
