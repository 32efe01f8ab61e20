"""The wire of Pinecone's API 2026-07, as its client 10.2 speaks it, over records of this machine: wire mocked.

It serves what that client sends for indexes of vectors (describe, list, create, configure, delete) and their records
(upsert, fetch, list, query, delete, describe_index_stats), and refuses everything else by name with 501. It has the
limits that Pinecone publishes: 100 ids a page, 1,000 records or 2 MB an upsert, 1,000 ids a fetch, 10,000 hits and 4 MB
a query, requests a second with 429 and Retry-After, read units in each answer. The data plane of an index stands at
/svc/NAME of the same port, where the vendor gives each index a host of its own. A key that begins `viewer` may only
read. What is assumed, because nothing says it: a request's line of at most 8,192 characters (414), and a wait of 60 ms.

    python -m exitramp_adapters.services.mock_pinecone.server --port 5080 --folder DIR --options '{}'
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import math
import os
import threading
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs

import orjson
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from exitramp_adapters.services.mock_pinecone import query as queries
from exitramp_adapters.services.mock_pinecone.records import (
    DENSE,
    MOST_IDS,
    SPARSE,
    Records,
    Refused,
    checked_id,
    checked_namespace,
)

TITLE: Final = "exitramp mock pinecone (wire mocked)"
API_VERSION: Final = "2026-07"
EVIDENCE_HEADER: Final = "x-exitramp-evidence"
COUNTERS_FILE: Final = "counters.json"
OPTIONS: Final[Mapping[str, Any]] = {
    "latency_ms": 60.0,
    "rates": True,
    "metadata_bytes": 40_960,
    "freshness_seconds": 0.0,
    "stats": {},
    "pod": False,
}
"""What can be set. stats: records by namespace that describe_index_stats adds to those there are. pod: an index of the
older kind, which lists nothing."""
PAGE_IDS: Final = 100
_MOST_UPSERT_BYTES: Final = 2 * 1024 * 1024
_MOST_RESULT_BYTES: Final = 4 * 1024 * 1024
_MOST_LINE: Final = 8192
_GIGABYTE: Final = 1e9
# Requests a second: of an index, and of one namespace of it.
_RATES: Final = {"fetch": 100, "list": 200, "stats": 100, "query": 100, "upsert": 100, "delete": 100}
_FAULTS: Final = {"rate_limit": 429, "error_500": 500, "unavailable": 503, "auth": 401}


class Counters:
    """What was answered, in a file that outlives a killed process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._counts: dict[str, int] = json.loads(path.read_text("utf-8")) if path.exists() else {}
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
        self._lock = threading.Lock()

    def add(self, **counts: int) -> None:
        with self._lock:
            for name, count in counts.items():
                self._counts[name] = self._counts.get(name, 0) + count
            # Always as long as the last time, so that a reader never sees half of two.
            os.pwrite(self._descriptor, json.dumps(self._counts).ljust(2048).encode(), 0)


class Rates:
    """Requests of the last second, by what they are and where."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, ...], deque[float]] = {}
        self._lock = threading.Lock()

    def require_room(self, kind: str, *where: str) -> None:
        now = time.monotonic()
        with self._lock:
            seen = self._seen.setdefault((kind, *where), deque())
            while seen and seen[0] <= now - 1:
                seen.popleft()
            if len(seen) >= _RATES[kind]:
                raise Refused(
                    429,
                    f"You've reached the max {kind} requests per second ({_RATES[kind]}) for {'/'.join(where)}",
                    retry_after_seconds=1,
                )
            seen.append(now)


class Mock:
    """From a request to an answer."""

    def __init__(self, folder: Path, options: Mapping[str, Any]) -> None:
        self._options = {**OPTIONS, **options}
        self._records = Records(
            folder,
            metadata_bytes=self._options["metadata_bytes"],
            freshness_seconds=self._options["freshness_seconds"],
        )
        self._counters = Counters(folder / COUNTERS_FILE)
        self._rates = Rates()
        self._fault: tuple[str, float | None, int] = ("none", None, 0)

    async def answer(self, request: Request) -> Response:
        path = request.url.path.strip("/").split("/")
        if path == ["_exitramp", "ready"]:
            return PlainTextResponse(TITLE)
        if path == ["_exitramp", "fault"]:
            told = await request.json()
            retry_after = told.get("options", {}).get("retry_after_seconds")
            self._fault = told["kind"], retry_after, int(told.get("options", {}).get("calls", 1 << 60))
            return JSONResponse({})
        body = await request.body()
        if self._options["latency_ms"]:
            await asyncio.sleep(self._options["latency_ms"] / 1000)
        return await run_in_threadpool(self._worked, request, path, body)

    def _worked(self, request: Request, path: list[str], body: bytes) -> Response:
        data_plane = path[0] == "svc"
        headers = {EVIDENCE_HEADER: "wire mocked"}
        try:
            self._check(request)
            if data_plane:
                result, more = self._data(request, path[1], path[2:], body)
                headers |= more
                status = 200
            else:
                status, result = self._control(request, path, body)
            self._counters.add(requests=1, answered=1)
        except Refused as error:
            outcome = "limited" if error.status == 429 else "rejected" if error.status < 500 else "failed"
            self._counters.add(requests=1, **{outcome: 1})
            if error.retry_after_seconds is not None:
                headers["retry-after"] = f"{error.retry_after_seconds:g}"
            if error.status == 401:
                return PlainTextResponse(str(error), 401, headers)
            status = error.status
            result = {"code": error.code, "message": str(error), "details": []}
            if not data_plane:
                result = {
                    "error": {"code": _CONTROL_CODES.get(status, "UNKNOWN"), "message": str(error)},
                    "status": status,
                }
        content = b"" if result is None else orjson.dumps(result, option=orjson.OPT_SERIALIZE_NUMPY)
        return Response(content, status, headers, "application/json")

    def _check(self, request: Request) -> None:
        kind, retry_after, calls = self._fault
        if kind in _FAULTS and calls > 0:
            self._fault = kind, retry_after, calls - 1
            raise Refused(_FAULTS[kind], f"injected: {kind}", retry_after_seconds=retry_after)
        if len(request.url.query) > _MOST_LINE:
            raise Refused(414, "URI Too Long")
        key = request.headers.get("api-key", "")
        if not key:
            raise Refused(401, "Invalid API Key")
        if request.headers.get("x-pinecone-api-version") != API_VERSION:
            raise Refused(501, f"exitramp mock pinecone: only API {API_VERSION} is emulated")
        reads = ("/query", "/describe_index_stats")
        if key.startswith("viewer") and request.method != "GET" and not request.url.path.endswith(reads):
            raise Refused(403, "The API key does not have the permission for this operation")

    def _control(self, request: Request, path: list[str], body: bytes) -> tuple[int, Any]:
        self._counters.add(control=1)
        match (request.method, *path):
            case ("GET", "indexes"):
                return 200, {"indexes": [self._described(each, request) for each in self._records.indexes()]}
            case ("POST", "indexes"):
                return 201, self._described(self._records.create(_parsed(body)), request)
            case ("GET", "indexes", name):
                return 200, self._described(self._records.index(name), request)
            case ("PATCH", "indexes", name):
                return 200, self._described(self._records.configure(name, _parsed(body)), request)
            case ("DELETE", "indexes", name):
                self._records.drop(name)
                return 202, None
        raise Refused(501, f"exitramp mock pinecone: {request.method} /{'/'.join(path)} is not emulated")

    def _described(self, index: dict[str, Any], request: Request) -> dict[str, Any]:
        host = f"{request.url.scheme}://{request.url.netloc}/svc/{index['name']}"
        if self._options["pod"]:
            pod = {
                "deployment_type": "pod",
                "environment": "us-east1-gcp",
                "pod_type": "p1.x1",
                "replicas": 1,
                "shards": 1,
            }
            index = index | {"deployment": pod}
        return index | {"host": host, "status": {"ready": True, "state": "Ready"}}

    def _data(self, request: Request, name: str, path: list[str], body: bytes) -> tuple[Any, dict[str, str]]:
        query = parse_qs(request.url.query, keep_blank_values=True)
        match (request.method, *path):
            case ("POST", "describe_index_stats"):
                return self._stats(name), {}
            case ("GET", "vectors", "list"):
                return self._list(name, query), {}
            case ("GET", "vectors", "fetch"):
                return self._fetch(name, query), {}
            case ("POST", "query"):
                return self._query(name, _parsed(body))
            case ("POST", "vectors", "upsert"):
                return self._upsert(name, body)
            case ("POST", "vectors", "delete"):
                return self._delete(name, _parsed(body))
        raise Refused(501, f"exitramp mock pinecone: {request.method} /{'/'.join(path)} is not emulated")

    def _limit(self, kind: str, *where: str) -> None:
        if self._options["rates"]:
            self._rates.require_room(kind, *where)
        self._counters.add(**{kind: 1})

    def _stats(self, name: str) -> dict[str, Any]:
        self._limit("stats", name)
        counts = self._records.counts(name)
        for namespace, count in self._options["stats"].items():
            counts[namespace] = counts.get(namespace, 0) + count
        fields = self._records.index(name)["schema"]["fields"]
        told: dict[str, Any] = {
            "namespaces": {namespace: {"vectorCount": count} for namespace, count in counts.items()},
            "indexFullness": 0,
            "totalVectorCount": sum(counts.values()),
            "vectorType": "dense" if DENSE in fields else "sparse",
            "metric": fields[DENSE]["metric"] if DENSE in fields else "dotproduct",
        }
        return told | ({"dimension": fields[DENSE]["dimension"]} if DENSE in fields else {})

    def _list(self, name: str, query: Mapping[str, list[str]]) -> dict[str, Any]:
        self._limit("list", name)
        if self._options["pod"]:
            raise Refused(501, "list is supported only for serverless indexes")
        namespace, prefix = checked_namespace(_one(query, "namespace")), _one(query, "prefix") or ""
        limit = int(_one(query, "limit") or PAGE_IDS)
        if not 1 <= limit <= PAGE_IDS:
            raise Refused(400, f"Limit must be between 1 and {PAGE_IDS}")
        token = _one(query, "paginationToken")
        ids = self._records.listed(name, namespace, prefix, _skipped(token, prefix), limit)
        told: dict[str, Any] = {
            "vectors": [{"id": id_} for id_ in ids[:limit]],
            "namespace": namespace,
            "usage": {"readUnits": 1},
        }
        self._counters.add(read_units=1)
        return told | ({"pagination": {"next": _token(ids[limit - 1], prefix)}} if len(ids) > limit else {})

    def _fetch(self, name: str, query: Mapping[str, list[str]]) -> dict[str, Any]:
        self._limit("fetch", name)
        namespace, ids = checked_namespace(_one(query, "namespace")), query.get("ids", [])
        if not 1 <= len(ids) <= MOST_IDS:
            raise Refused(400, f"Request must contain between 1 and {MOST_IDS} ids")
        if any(" " in checked_id(id_) for id_ in ids):
            raise Refused(400, "ids does not accept values containing spaces")
        found = self._records.fetched(name, namespace, ids)
        units = max(1, math.ceil(len(found) / 10))
        self._counters.add(records_read=len(found), read_units=units)
        vectors = {record.id: record.wire() for record in found}
        return {"vectors": vectors, "namespace": namespace, "usage": {"readUnits": units}}

    def _query(self, name: str, body: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
        namespace = checked_namespace(body.get("namespace"))
        self._limit("query", name, namespace)
        if body.get("scanFactor") is not None or body.get("maxCandidates") is not None:
            raise Refused(400, "scanFactor and maxCandidates are only supported for dedicated read node indexes")
        fields = self._records.index(name)["schema"]["fields"]
        held = self._records.all_of(name, namespace)
        top_k, dense, sparse = body.get("topK"), body.get("vector"), body.get("sparseVector")
        if not isinstance(top_k, int) or not 1 <= top_k <= queries.MOST_HITS:
            raise Refused(400, f"topK must be between 1 and {queries.MOST_HITS}")
        if dense is not None and len(dense) != fields.get(DENSE, {}).get("dimension"):
            raise Refused(400, "Query vector dimension does not match the dimension of the index")
        if sparse is not None and SPARSE not in fields and fields[DENSE]["metric"] != "dotproduct":
            raise Refused(400, "Index configuration does not support sparse values")
        if dense is None and sparse is None:
            raise Refused(501, "exitramp mock pinecone: queries by id are not emulated")
        where = body.get("filter")
        if where is not None:
            queries.passes(where, {})  # what is wrong with it is said of an empty namespace too
        hits = queries.ranked(
            held,
            metric=fields.get(DENSE, {}).get("metric"),
            dense=dense,
            sparse=sparse,
            top_k=top_k,
            where=where,
        )
        include = {"values": body.get("includeValues", False), "metadata": body.get("includeMetadata", False)}
        units = max(1, math.ceil(sum(_size(record) for record in held) / _GIGABYTE))
        told = {
            "matches": [record.wire(**include) | {"score": score} for record, score in hits],
            "namespace": namespace,
            "usage": {"readUnits": units},
        }
        if len(orjson.dumps(told, option=orjson.OPT_SERIALIZE_NUMPY)) > _MOST_RESULT_BYTES:
            raise Refused(400, "The result size exceeds 4MB")
        self._counters.add(read_units=units)
        return told, {"x-pinecone-max-indexed-lsn": str(self._records.indexed_lsn())}

    def _upsert(self, name: str, body: bytes) -> tuple[dict[str, Any], dict[str, str]]:
        if len(body) > _MOST_UPSERT_BYTES:
            raise Refused(413, f"Request size {len(body)} exceeds the limit of {_MOST_UPSERT_BYTES} bytes")
        asked = _parsed(body)
        namespace = checked_namespace(asked.get("namespace"))
        self._limit("upsert", name, namespace)
        written, lsn = self._records.upsert(name, namespace, asked.get("vectors"))
        self._counters.add(records_written=written)
        return {"upsertedCount": written}, {"x-pinecone-request-lsn": str(lsn)}

    def _delete(self, name: str, body: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
        namespace = checked_namespace(body.get("namespace"))
        self._limit("delete", name, namespace)
        if body.get("filter") is not None:
            raise Refused(501, "exitramp mock pinecone: deleting by a filter is not emulated")
        lsn = self._records.delete(name, namespace, body.get("ids"), everything=bool(body.get("deleteAll")))
        self._counters.add(records_deleted=len(body.get("ids") or ()))
        return {}, {"x-pinecone-request-lsn": str(lsn)}


_CONTROL_CODES: Final = {
    400: "INVALID_ARGUMENT",
    403: "FORBIDDEN",
    404: "NOT_FOUND",
    409: "ALREADY_EXISTS",
    429: "RESOURCE_EXHAUSTED",
    501: "UNIMPLEMENTED",
}


def _size(record: Any) -> int:
    dense = 0 if record.values is None else 4 * len(record.values)
    return dense + len(record.id) + len(orjson.dumps(record.metadata or {}))


def _token(last: str, prefix: str) -> str:
    """Where a list goes on: behind an id, as the vendor's own tokens were seen to say."""
    return base64.urlsafe_b64encode(orjson.dumps({"skip_past": last, "prefix": prefix})).decode()


def _skipped(token: str | None, prefix: str) -> str | None:
    if token is None:
        return None
    try:
        told = orjson.loads(base64.urlsafe_b64decode(token))
        if told["prefix"] == prefix:
            return str(told["skip_past"])
    except (ValueError, KeyError, TypeError):
        pass
    raise Refused(400, "Invalid pagination token")


def _one(query: Mapping[str, list[str]], name: str) -> str | None:
    return query[name][0] if name in query else None


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        told = orjson.loads(body)
    except ValueError as error:
        raise Refused(400, "The body is no JSON") from error
    if not isinstance(told, dict):
        raise Refused(400, "The body is no JSON object")
    return told


def main() -> None:
    """Serve until SIGTERM."""
    import uvicorn

    parser = argparse.ArgumentParser(description=TITLE)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--options", default="{}", help="a JSON object")
    given = parser.parse_args()
    mock = Mock(given.folder, json.loads(given.options))
    methods = ["GET", "POST", "PATCH", "DELETE", "PUT"]
    app = Starlette(routes=[Route("/{path:path}", mock.answer, methods=methods)])
    uvicorn.run(app, host="127.0.0.1", port=given.port, log_level="warning", access_log=False, lifespan="off")


if __name__ == "__main__":
    main()
