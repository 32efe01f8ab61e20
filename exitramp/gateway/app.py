"""The gateway's paths: what comes in the chat completions shape goes to the application, and comes back in it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final
from urllib.parse import urlsplit

from exitramp.gateway import wire
from exitramp.gateway.asgi import (
    BodyTooLong,
    ClientGone,
    Receive,
    Request,
    Scope,
    Send,
    begin,
    read_body,
    send_json,
    send_piece,
    send_text,
)
from exitramp.gateway.failures import Failure, failure_of
from exitramp.gateway.metrics import CONTENT_TYPE, Metrics
from exitramp.orchestration import Answered, Application
from exitramp.orchestration.stack_file import Commit
from exitramp.ports import ChatDelta, ChatRequest, Purpose
from exitramp.secrets import redact

AT_ONCE: Final = 256
"""Requests that are worked on; more wait their turn. A thread that waits costs some 50 KB."""
STACKS: Final = "stacks"
"""The model's name by which a question goes to the stacks in the file's order."""
_KEY_LENGTH: Final = 255
_PATHS: Final = {
    "/v1/chat/completions": "POST",
    "/v1/embeddings": "POST",
    "/v1/models": "GET",
    "/metrics": "GET",
    "/healthz": "GET",
}


class Gateway:
    """An ASGI application. `is_loopback`: it listens on this machine alone, so that it may do without keys."""

    def __init__(self, application: Application, metrics: Metrics, *, is_loopback: bool) -> None:
        self._application = application
        self._metrics = metrics
        self._is_loopback = is_loopback
        self._workers = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="gateway")
        self.is_ending = False
        self.has_cut_off = False

    @property
    def has_keys(self) -> bool:
        return not self._application.client_keys.is_empty

    def close(self) -> None:
        self._workers.shutdown(wait=False, cancel_futures=True)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request = Request.of(scope)
        began, statuses = time.monotonic(), [499]  # what is counted where the client went away first

        async def counted_send(message: Any) -> None:
            if message["type"] == "http.response.start":
                statuses[0] = message["status"]
            await send(message)

        self._metrics.began()
        try:
            await self._answer(request, receive, counted_send)
        except asyncio.CancelledError:
            if not self.is_ending:
                raise
            self.has_cut_off = True  # its time was up: the connection is closed, and no more is to be said of it
        finally:
            path = request.path if request.path in _PATHS else "other"
            self._metrics.ended(path, statuses[0], time.monotonic() - began)

    async def _answer(self, request: Request, receive: Receive, send: Send) -> None:
        try:
            if self._application.is_look_due:  # opening what an edit names may take seconds, and others go on meanwhile
                await asyncio.to_thread(self._application.look)
            failure, tenant = self._admitted(request)
            if failure is None and request.path.startswith("/v1/") and request.method == "POST":
                body = json.loads(await read_body(receive))
                if not isinstance(body, dict):
                    raise wire.Refused("the body must be a JSON object")
                if request.path == "/v1/embeddings":
                    await self._embed(request, body, tenant, send)
                else:
                    await self._chat(request, body, tenant, send)
                return
        except ClientGone:
            return
        except BodyTooLong:
            failure = Failure(413, "invalid_request", "the body is too long")
        except (ValueError, RecursionError) as error:
            failure = (
                failure_of(error) if isinstance(error, wire.Refused)
                else Failure(400, "invalid_request", "the body is no JSON that can be read")
            )  # fmt: skip
        if failure is not None:
            await send_json(send, failure.status, failure.body(), failure.headers)
        elif request.path == "/v1/models":
            await send_json(send, 200, self._models(), {})
        elif request.path == "/metrics":
            text = await asyncio.to_thread(self._metrics_text)
            await send_text(send, 200, text, CONTENT_TYPE)
        else:
            await self._tell_health(send)

    def _admitted(self, request: Request) -> tuple[Failure | None, str | None]:
        """What keeps the request from being answered, or whose it is."""
        method = _PATHS.get(request.path)
        if method is None:
            return Failure(404, "not_found", f"there is no such path here; there are: {', '.join(_PATHS)}"), None
        if method != request.method:
            return Failure(405, "method_not_allowed", f"ask by {method}", headers={"allow": method}), None
        if request.path == "/healthz":
            return None, None
        keys = self._application.client_keys
        if keys.is_empty:
            # Without keys a page in a browser of this machine must not get in: neither under another name for this
            # address, nor with a body that needs nobody's leave to be sent.
            host = _host(request)
            if not self._is_loopback or host not in ("127.0.0.1", "localhost", "::1"):
                return Failure(421, "no_keys", "without keys in the stack file only 127.0.0.1 is answered"), None
            tenant = None
        else:
            scheme, _, key = request.headers.get("authorization", "").partition(" ")
            tenant = keys.name_of(key.strip()) if scheme.lower() == "bearer" else None
            if tenant is None:
                said = "the key is none of this gateway's"
                return Failure(401, "invalid_api_key", said, headers={"www-authenticate": "Bearer"}), None
        content_type = request.headers.get("content-type", "").partition(";")[0].strip()
        if method == "POST" and content_type != "application/json":
            return Failure(415, "invalid_request", "the body must be application/json"), None
        return None, tenant

    async def _chat(self, request: Request, body: Mapping[str, Any], tenant: str | None, send: Send) -> None:
        asked = wire.chat_request(body, key=_key(request, tenant))
        ask = self._way(body.get("model"), asked)
        ask = partial(
            ask,
            use_case=request.headers.get("x-exitramp-use-case", "gateway"),
            tenant=tenant,
            pii=_is_personal(request),
            use_cache="no-cache" not in request.headers.get("cache-control", ""),
        )
        if asked.stream:
            await self._stream(ask, asked, send, with_usage=wire.wants_usage(body))
            return
        try:
            answered = await self._in_thread(ask)
        except Exception as error:  # noqa: BLE001  (every failure is an answer in the shape)
            failure = failure_of(error)
            await send_json(send, failure.status, failure.body(), failure.headers)
            return
        told = wire.completion(answered.answer, _short(answered.request_id), int(time.time()))
        if answered.outcome.retrieved_ids:
            told["exitramp"] = {"retrieved_ids": list(answered.retrieved_ids)}
        await send_json(send, 200, told, _headers(answered))

    def _way(self, name: object, asked: ChatRequest) -> Callable[..., Answered]:
        """How a model's name is answered: by that model, by a stack with what its store finds, or by the file's order.
        Raises `Refused` for what a stack's own prompt has no place for."""
        application, file = self._application, self._application.file
        if name in file.models or (name not in file.stacks and (name != STACKS or not file.stacks)):
            return partial(application.chat, asked, model=str(name) if name in file.models else None)
        return partial(
            application.ask,
            wire.question_of(asked),
            stack=None if name == STACKS else str(name),
            key=asked.idempotency_key,
            maximum_tokens=asked.maximum_tokens if asked.maximum_tokens != wire.DEFAULT_TOKENS else None,
            temperature=asked.temperature,
        )

    async def _stream(self, ask: Callable[..., Answered], asked: ChatRequest, send: Send, *, with_usage: bool) -> None:
        """Nothing is sent before the first piece is there, so that a failure until then has its own status."""
        loop = asyncio.get_running_loop()
        pieces: asyncio.Queue[ChatDelta | None] = asyncio.Queue()
        at_first_token = self._application.file.commit is Commit.FIRST_TOKEN

        def heard(delta: ChatDelta) -> None:
            loop.call_soon_threadsafe(pieces.put_nowait, delta)

        work = self._in_thread(partial(ask, on_delta=heard))
        work.add_done_callback(lambda _: pieces.put_nowait(None))
        chunks: wire.Chunks | None = None
        try:
            if not at_first_token:
                await asyncio.wait([work])
                answered = work.result()
                chunks = wire.Chunks(_short(answered.request_id), int(time.time()), answered.answer.model_id)
                await begin(send, 200, "text/event-stream", _headers(answered))
                await send_piece(send, chunks.first())
            while (delta := await pieces.get()) is not None:
                if chunks is None:
                    chunks = wire.Chunks(_short(asked.idempotency_key), int(time.time()), "")
                    await begin(send, 200, "text/event-stream", {"cache-control": "no-store"})
                    await send_piece(send, chunks.first())
                await send_piece(send, chunks.piece(delta))
            answered = work.result()
            if chunks is None:  # an answer without a piece: it was told by none
                chunks = wire.Chunks(_short(answered.request_id), int(time.time()), answered.answer.model_id)
                await begin(send, 200, "text/event-stream", _headers(answered))
            await send_piece(send, chunks.last(answered.answer, with_usage=with_usage), is_last=True)
        except Exception as error:  # noqa: BLE001  (every failure is an answer in the shape)
            failure = failure_of(error)
            if chunks is None:
                await send_json(send, failure.status, failure.body(), failure.headers)
            else:
                await send_piece(send, wire.error_event(failure.body()), is_last=True)

    async def _embed(self, request: Request, body: Mapping[str, Any], tenant: str | None, send: Send) -> None:
        texts = wire.embedding_texts(body)
        purpose = request.headers.get("x-exitramp-purpose", Purpose.DOCUMENT.value)
        if purpose not in tuple(Purpose):
            raise wire.Refused(f"x-exitramp-purpose is {' or '.join(Purpose)}")
        embedder = self._embedder(body.get("model"))
        if isinstance(embedder, Failure):
            await send_json(send, embedder.status, embedder.body(), embedder.headers)
            return
        ask = partial(
            self._application.embed, texts, Purpose(purpose), embedder=embedder, tenant=tenant, use_case="gateway"
        )
        try:
            found = await self._in_thread(ask)
            is_mock = await self._in_thread(partial(self._application.embeds_as_mock, embedder))
            told = wire.embeddings(found, body)
        except Exception as error:  # noqa: BLE001  (every failure is an answer in the shape)
            failure = failure_of(error)
            await send_json(send, failure.status, failure.body(), failure.headers)
            return
        await send_json(send, 200, told, {"x-exitramp-mock": "1" if is_mock else "0"})

    def _embedder(self, name: object) -> str | Failure:
        """Which embedder is meant. None is asked for another: its vectors would mean something else, and no error
        would say so."""
        file = self._application.file
        if not isinstance(name, str):
            raise wire.Refused("'model' must be the name of an embedder of the stack file", param="model")
        found = file.embedder_named(name)
        if found is not None:
            return found
        listed = ", ".join(file.embedders) or "none"
        said = (
            f"the stack file names no embedder '{name}', and none stands in for it: its vectors mean something else; "
            f"it names: {listed}. An embedder's 'aliases' in the file are further names of it"
        )
        return Failure(404, "model_not_found", redact(said), "model", {"x-should-retry": "false"})

    def _in_thread(self, work: Callable[[], Any]) -> asyncio.Future[Any]:
        return asyncio.get_running_loop().run_in_executor(self._workers, work)

    def _models(self) -> dict[str, Any]:
        file = self._application.file
        owners = {name: spec.address.scheme for name, spec in file.models.items()}
        owners |= {name: spec.address.scheme for name, spec in file.embedders.items()}
        owners |= {name: each.address.scheme for each in file.embedders.values() for name in each.aliases
                   if name not in owners}  # fmt: skip
        owners |= {name: "stack" for name in (*file.stacks, *((STACKS,) if file.stacks else ())) if name not in owners}
        data = [{"id": name, "object": "model", "created": 0, "owned_by": owner} for name, owner in owners.items()]
        return {"object": "list", "data": data}

    def _metrics_text(self) -> str:
        """In a thread: what a budget's file holds may have to wait for whoever writes it."""
        application = self._application
        return self._metrics.text(application.breakers(), application.edits, application.budget)

    async def _tell_health(self, send: Send) -> None:
        problem = self._application.problem
        status = "ending" if self.is_ending else "ok" if problem is None else "edit_refused"
        body = {
            "status": status,
            "stack_sha256": self._application.file.sha256,
            "problem": None if problem is None else redact(problem),
            "models": dict(self._application.breakers()),
            "mocks": list(self._application.mocks()),
        }
        await send_json(send, 503 if self.is_ending else 200, body, {})


def _headers(answered: Answered) -> dict[str, str]:
    """Who answered, and whether it is a mock: shown wherever an answer of it is."""
    return {
        "x-exitramp-model": answered.name,
        "x-exitramp-mock": "1" if answered.is_mock else "0",
        "x-exitramp-cache": answered.cache,
        "x-exitramp-attempts": str(len(answered.outcome.attempts)),
        "x-request-id": _short(answered.request_id),
    }


def _host(request: Request) -> str | None:
    try:
        return urlsplit(f"//{request.headers.get('host', '')}").hostname
    except ValueError:  # no name of a host at all
        return None


def _key(request: Request, tenant: str | None) -> str | None:
    """The client's idempotency key, which is no other client's."""
    key = request.headers.get("idempotency-key")
    if key is None:
        return None
    if not key or len(key) > _KEY_LENGTH or not key.isprintable():
        raise wire.Refused(f"Idempotency-Key must be 1 to {_KEY_LENGTH} characters that can be printed")
    return key if tenant is None else f"{tenant}/{key}"


def _is_personal(request: Request) -> bool:
    """Raises `Refused` for what is neither yes nor no: taken for no, it would send what is personal to anybody."""
    said = request.headers.get("x-exitramp-pii", "0").strip().lower()
    if said not in ("0", "1", "false", "true"):
        raise wire.Refused("x-exitramp-pii is 1 or 0")
    return said in ("1", "true")


def _short(request_id: str | None) -> str:
    return hashlib.sha256((request_id or uuid.uuid4().hex).encode()).hexdigest()[:24]
