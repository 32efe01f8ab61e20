"""A mock of Weaviate: a part of its published REST and gRPC contract over a store of the mock's own. Not Weaviate.

REST serves what the official client asks for at start and for schema, tenants and single objects; gRPC (see
`grpc`) what it asks for batches, reading and searching. What is not mocked is refused by name. Every
answer of REST carries `x-exitramp-evidence: wire mocked`, and `meta` says in its `hostname` what answers.

    python -m exitramp_adapters.services.mock_weaviate.server --port 8080 --grpc-port 50051 --folder DIR
"""

from __future__ import annotations

import argparse
import hmac
import json
import os
import struct
import threading
import uuid
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

from exitramp_adapters.services.counters import Counters
from exitramp_adapters.services.mock_weaviate.adapter import COUNTED
from exitramp_adapters.services.mock_weaviate.collections import Collections, Object
from exitramp_adapters.services.mock_weaviate.grpc import MESSAGE_BYTES, serve
from exitramp_adapters.services.mock_weaviate.schema import Refused

TITLE: Final = "exitramp mock of Weaviate (wire mocked)"
VERSION: Final = "1.34.0"
"""Of the contract that is mocked, as `meta` tells it: the official client asks for 1.27 at least."""
EVIDENCE_HEADER: Final = "x-exitramp-evidence"


class Mock:
    """What REST answers, and who may ask."""

    def __init__(self, folder: Path, *, grpc_port: int, api_key: str | None, read_only: bool) -> None:
        self.collections = Collections(folder)
        self.counters = Counters(folder, COUNTED)
        self._api_key, self._read_only, self._grpc_port = api_key, read_only, grpc_port

    def may(self, authorization: str, writes: bool) -> str | None:
        if self._api_key is not None and not hmac.compare_digest(
            authorization.removeprefix("Bearer ").encode(), self._api_key.encode()
        ):
            return (
                "unauthorized: invalid api key, please provide a valid api key"
                if authorization
                else "anonymous access not enabled"
            )
        return "forbidden: this key is of a viewer" if writes and self._read_only else None

    def answer(self, method: str, path: list[str], query: Mapping[str, str], body: Any) -> tuple[int, Any]:
        """Raises `Refused`."""
        held = self.collections
        with held.lock:
            match (method, *path):
                case ("GET", ".well-known", "live" | "ready"):
                    return 200, None
                case ("GET", ".well-known", "openid-configuration"):
                    return 404, None
                case ("GET", "meta"):
                    told = {"hostname": TITLE, "version": VERSION, "modules": {}}
                    return 200, told | {"grpcMaxMessageSize": MESSAGE_BYTES}
                case ("GET", "schema"):
                    return 200, {"classes": held.definitions()}
                case ("POST", "schema"):
                    return 200, held.create(body)
                case ("GET", "schema", name):
                    return 200, self._named(name)
                case ("PUT", "schema", name):
                    self._named(name)
                    return 200, held.update(name, body)
                case ("DELETE", "schema", name):
                    held.delete(name)
                    return 200, None
                case ("POST", "schema", name, "properties"):
                    self._named(name)
                    return 200, held.add_property(name, body)
                case (_, "schema", name, "tenants", *rest):
                    self._named(name)
                    return self._tenants(method, name, rest, body)
                case ("GET", "nodes", name):
                    return 200, self._nodes(name)
                case (_, "objects", *rest):
                    return self._objects(method, rest, query, body)
        raise Refused(501, f"mock weaviate: {method} /v1/{'/'.join(path)} is not mocked")

    def _named(self, name: str) -> dict[str, Any]:
        try:
            return self.collections.get(name).definition
        except Refused as error:
            raise Refused(404, "") from error  # the server gives no body here

    def _tenants(self, method: str, name: str, rest: list[str], body: Any) -> tuple[int, Any]:
        held = self.collections.get(name)
        if method == "GET" and not rest:
            if not held.tenancy:
                raise Refused(422, f"multi-tenancy is not enabled for class {name}")
            return 200, [{"name": each, "activityStatus": part.status} for each, part in held.tenants.items()]
        if method in ("GET", "HEAD") and rest:
            if rest[0] not in held.tenants:
                raise Refused(404, "tenant not found")
            return 200, {"name": rest[0], "activityStatus": held.tenants[rest[0]].status}
        if method in ("POST", "PUT"):
            wanted = {each["name"]: each.get("activityStatus") or "ACTIVE" for each in body}
            self.collections.set_tenants(name, wanted, new=method == "POST")
            return 200, body
        if method == "DELETE":
            self.collections.delete_tenants(name, body)
            return 200, None
        raise Refused(501, f"mock weaviate: {method} of a tenant is not mocked")

    def _nodes(self, name: str) -> dict[str, Any]:
        held = self.collections.get(name)
        shards = [
            {"class": name, "name": tenant or "mock", "objectCount": len(part.objects), "vectorIndexingStatus": "READY"}
            | {"vectorQueueLength": 0, "compressed": False, "loaded": True}
            for tenant, part in held.tenants.items()
            if part.status in ("ACTIVE", "HOT")
        ]
        return {"nodes": [{"name": "mock", "status": "HEALTHY", "version": VERSION, "shards": shards}]}

    def _objects(self, method: str, rest: list[str], query: Mapping[str, str], body: Any) -> tuple[int, Any]:
        held = self.collections
        if method == "POST" and not rest:
            body.setdefault("id", str(uuid.uuid4()))
            tenant, name, id_ = body.get("tenant") or "", body["class"], body["id"]
            if id_ in held.get(name).tenant(tenant).objects:
                raise Refused(422, f"id '{id_}' already exists")
        else:
            if len(rest) != 2:
                raise Refused(501, "mock weaviate: objects are only mocked by collection and id")
            name, id_ = rest
            tenant = query.get("tenant") or (body or {}).get("tenant") or ""
        there = held.get(name).tenant(tenant).objects.get(id_)
        if method in ("GET", "HEAD", "PATCH", "DELETE") and there is None:
            raise Refused(404, "")
        if method == "DELETE":
            held.remove(name, tenant, [id_])
            return 204, None
        if method == "HEAD":
            return 204, None
        if method == "GET":
            return 200, {"class": name, "id": id_, "properties": there.properties if there else {}}
        if method not in ("POST", "PUT", "PATCH"):
            raise Refused(501, f"mock weaviate: {method} of an object is not mocked")
        made = Object(id_, dict(body.get("properties") or {}), _json_vectors(body))
        if method == "PATCH" and there is not None:
            made = Object(id_, there.properties | made.properties, there.vectors | made.vectors)
        held.put([held.checked(name, tenant, made)])
        self.counters.add("objects_written")
        return (204, None) if method == "PATCH" else (200, body)


def _json_vectors(body: Mapping[str, Any]) -> dict[str, bytes]:
    given = dict(body.get("vectors") or {}) | ({"": body["vector"]} if body.get("vector") else {})
    found = {}
    for name, vector in given.items():
        if vector and isinstance(vector[0], list):
            flat = [number for one in vector for number in one]
            found[name] = struct.pack(f"<H{len(flat)}f", len(vector[0]), *flat)
        else:
            found[name] = struct.pack(f"<{len(vector)}f", *vector)
    return found


def handler_of(mock: Mock) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Head and body in one segment: in two, each answer waits 40 ms for the acknowledgement of the first.
        wbufsize = -1
        disable_nagle_algorithm = True

        def do_any(self) -> None:
            parts = urlsplit(self.path)
            path = [unquote(part) for part in parts.path.strip("/").split("/")]
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            if path == ["_exitramp", "counters"]:
                self._send(200, mock.counters.all())
                return
            given = self.headers.get("authorization") or ""
            refusal = None if path[1:2] == [".well-known"] else mock.may(given, self.command not in ("GET", "HEAD"))
            status, answer = (403 if given else 401, {"error": [{"message": refusal}]}) if refusal else (0, None)
            if not status:
                try:
                    if path[0] != "v1":
                        raise Refused(404, "not found")
                    query = dict(parse_qsl(parts.query))
                    status, answer = mock.answer(self.command, path[1:], query, json.loads(body) if body else None)
                except Refused as error:
                    status, answer = error.status, {"error": [{"message": str(error)}]} if str(error) else None
            mock.counters.add("answered" if status < 400 else "rejected" if status < 500 else "failed")
            self._send(status, answer)

        do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_any

        def _send(self, status: int, answer: Any) -> None:
            body = b"" if answer is None else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header(EVIDENCE_HEADER, "wire mocked")
            self.send_header("content-type", "application/json")
            if status != 204:
                self.send_header("content-length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD" and status != 204:
                self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing is logged."""

    return Handler


def main() -> None:
    parser = argparse.ArgumentParser(description=TITLE)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--grpc-port", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--api-key-env", help="the environment variable that holds the key clients must send")
    parser.add_argument("--read-only", action="store_true", help="refuse whatever would change something")
    given = parser.parse_args()
    api_key = os.environ[given.api_key_env] if given.api_key_env else None
    mock = Mock(given.folder, grpc_port=given.grpc_port, api_key=api_key, read_only=given.read_only)
    count: Callable[[str, int], None] = mock.counters.add
    side = serve(given.grpc_port, mock.collections, count=count, may=mock.may)
    ThreadingHTTPServer.daemon_threads = True
    server = ThreadingHTTPServer(("127.0.0.1", given.port), handler_of(mock))
    threading.current_thread().name = "rest"
    try:
        server.serve_forever()
    finally:
        side.stop(0)


if __name__ == "__main__":
    main()
