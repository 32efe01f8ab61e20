"""A subset of Qdrant's REST contract over Qdrant's own engine: "engine real, wire emulated".

It serves what the real client sends for collections, points and nearest-neighbour queries, and refuses everything
else by name: an unknown route is 501, an unknown key in a body or an address 400, and neither is ever ignored. It is
no Qdrant server: one node, one shard, no snapshots, no strict mode, no search by a point's id, and of filters only what
`engine.edge_filter` knows.
Numbers arrive and leave as exact doubles here; a real server's JSON parser may be an ulp off in floats of more than
15 digits, and it writes a vector's numbers with a float's digits where this one writes a double's.

    python -m exitramp_adapters.services.qdrant_shim.server --port 6333 --folder DIR
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hmac
import os
import time
from collections.abc import AsyncIterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from exitramp.errors import UsageError
from exitramp_adapters.services.counters import Counters
from exitramp_adapters.services.qdrant_shim.adapter import COUNTED
from exitramp_adapters.services.qdrant_shim.collections import IDLE_SECONDS, Collections, Refused
from exitramp_adapters.services.qdrant_shim.points import answer_field_index, answer_no_field_index, answer_points

TITLE: Final = "exitramp qdrant shim (engine real, wire emulated)"
EVIDENCE_HEADER: Final = "x-exitramp-evidence"
_METHODS: Final = ["GET", "POST", "PUT", "PATCH", "DELETE"]
_HEALTH: Final = frozenset({"healthz", "livez", "readyz"})
# Accepted and without effect, as on a single node: an answer is given once the work is done, in order.
_QUERY_KEYS: Final = frozenset({"wait", "timeout", "ordering", "consistency"})


class Shim:
    """The wire: from a request to a JSON answer in the server's envelope."""

    def __init__(self, folder: Path, api_key: str | None) -> None:
        self.collections = Collections(folder)
        self.counters = Counters(folder, COUNTED)
        self._api_key = api_key

    async def answer(self, request: Request) -> Response:
        path = [unquote(part) for part in request.scope["raw_path"].decode("ascii").strip("/").split("/")]
        if path[0] in _HEALTH:
            return PlainTextResponse(f"{path[0]} check passed")
        if path == ["_exitramp", "counters"]:
            return _json(200, self.counters.all())
        if not self._may(request):
            self.counters.add("rejected")
            return PlainTextResponse("Must provide an API key or an Authorization bearer token", 401)
        began = time.perf_counter()
        body = await request.body()
        query = request.query_params
        status, result = await run_in_threadpool(self._worked, request.method, path, query, body, began)
        return Response(result, status, {EVIDENCE_HEADER: "engine real, wire emulated"}, "application/json")

    def _may(self, request: Request) -> bool:
        if self._api_key is None:
            return True
        given = request.headers.get("api-key") or request.headers.get("authorization", "").removeprefix("Bearer ")
        return hmac.compare_digest(given.encode(), self._api_key.encode())

    def _worked(
        self, method: str, path: list[str], query: Mapping[str, str], body: bytes, began: float
    ) -> tuple[int, bytes]:
        """On a thread: read the body, do the work, write the answer."""
        status, answer = 200, {}
        try:
            for key in query:
                if key not in _QUERY_KEYS:
                    raise Refused(400, f"exitramp qdrant shim: the query parameter `{key}` is not emulated")
            answer["result"] = self._result(method, path, _parsed(body))
            answer["status"] = "ok"
        except Refused as error:
            status, answer["status"] = error.status, {"error": str(error)}
        except UsageError as error:
            status, answer["status"] = 400, {"error": f"Format error in JSON body: {error.message}"}
        except (TypeError, ValueError) as error:  # what the engine's binding says to a value of the wrong type
            status, answer["status"] = 400, {"error": f"Format error in JSON body: {_brief(error)}"}
        except Exception as error:  # noqa: BLE001  (the engine's errors have no type of their own)
            status = 400 if "rror: expected" in str(error) or "Not existing vector" in str(error) else 500
            kind = "Wrong input" if status == 400 else "Service internal error"
            answer["status"] = {"error": f"{kind}: {_brief(error)}"}
        self.counters.add("answered" if status < 400 else "rejected" if status < 500 else "failed")
        if path == [""] and status == 200:
            return status, _bytes(answer["result"])  # the one answer that stands in no envelope
        return status, _bytes(answer | {"time": time.perf_counter() - began})

    def _result(self, method: str, path: list[str], body: Any) -> Any:
        held = self.collections
        match (method, *path):
            case ("GET", ""):
                return {"title": TITLE, "version": version("qdrant-client")}
            case ("GET", "telemetry"):
                app = {"name": TITLE, "version": version("qdrant-client")}
                return {"id": "0", "app": app, "collections": {"number_of_collections": len(held.names())}}
            case ("GET", "collections"):
                return {"collections": [{"name": name} for name in held.names()]}
            case ("GET", "aliases"):
                return {"aliases": []}
            case ("GET", "collections", name):
                return held.get(name).info()
            case ("PUT", "collections", name):
                held.create(name, body)
                return True
            case ("PATCH", "collections", name):
                _update_collection(held, name, body)
                return True
            case ("DELETE", "collections", name):
                return held.delete(name)
            case ("GET", "collections", name, "exists"):
                return {"exists": name in held.names()}
            case ("GET", "collections", name, "aliases"):
                held.get(name)
                return {"aliases": []}
            case ("PUT", "collections", name, "index"):
                return answer_field_index(held.get(name), body)
            case ("DELETE", "collections", name, "index", key):
                return answer_no_field_index(held.get(name), key)
            case (_, "collections", name, "points", *rest):
                answered = answer_points(method, rest, lambda: held.get(name), body, self.counters)
                if answered is not None:
                    return answered
        raise Refused(501, f"exitramp qdrant shim: {method} /{'/'.join(path)} is not emulated")


def _update_collection(held: Collections, name: str, body: Any) -> None:
    if not isinstance(body, dict) or not isinstance(body.get("metadata"), dict):
        raise UsageError("metadata: an object was expected")
    for key, value in body.items():
        if key != "metadata" and value is not None:
            raise Refused(501, f"exitramp qdrant shim: updating `{key}` is not emulated")
    held.get(name).merge_metadata(body["metadata"])


def _parsed(body: bytes) -> Any:
    # Ten times as fast as the standard library's on vectors; it comes with the client.
    from pydantic_core import from_json

    try:
        return from_json(body, allow_inf_nan=False) if body else None
    except ValueError as error:
        raise UsageError(_brief(error)) from error


def _bytes(answer: Any) -> bytes:
    from pydantic_core import to_json

    return to_json(answer, inf_nan_mode="null")  # as serde writes them


def _json(status: int, answer: Any) -> Response:
    return Response(_bytes(answer), status, media_type="application/json")


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def application(folder: Path, *, api_key: str | None = None) -> Starlette:
    """The shim over `folder` as an ASGI application."""
    shim = Shim(folder, api_key)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        settling = asyncio.create_task(_settle(shim))
        yield
        settling.cancel()
        await run_in_threadpool(shim.collections.close)

    return Starlette(routes=[Route("/{path:path}", shim.answer, methods=_METHODS)], lifespan=lifespan)


async def _settle(shim: Shim) -> None:
    while True:
        await asyncio.sleep(IDLE_SECONDS / 2)
        await run_in_threadpool(shim.collections.settle)


def main() -> None:
    import uvicorn

    parser = argparse.ArgumentParser(description=TITLE)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--api-key-env", help="the environment variable that holds the key clients must send")
    given = parser.parse_args()
    api_key = os.environ[given.api_key_env] if given.api_key_env else None
    app = application(given.folder, api_key=api_key)
    uvicorn.run(app, host="127.0.0.1", port=given.port, log_level="warning", access_log=False, lifespan="on")


if __name__ == "__main__":
    main()
