"""One exchange with a model vendor over HTTP: a whole answer within its deadline, or a `ModelError`.

The client is asynchronous and lives on an event loop in a thread of its own, because only cancelling ends a call that
drips: a timeout per read starts anew with every byte, headers included, and a server that sends one byte a second was
waited for without end. The hop between the threads costs some 0.15 ms a call.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import ssl
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import urlsplit

from exitramp.errors import ModelError
from exitramp.ports import ChatRequest
from exitramp.ports.over_http.body import ACCEPTED, NotDecodable, pieces_of
from exitramp.ports.over_http.endpoint import Endpoint
from exitramp.ports.over_http.events import EventDecoder, ServerEvent
from exitramp.ports.over_http.loop_thread import LoopThread
from exitramp.ports.over_http.vendor_errors import SaidError, vendor_error
from exitramp.urls import Address, Network

if TYPE_CHECKING:
    import httpx

MOCK_HEADER: Final = "x-exitramp-mock"
_ANSWER_LIMIT_BYTES: Final = 8 * 1024 * 1024
_ERROR_LIMIT_BYTES: Final = 64 * 1024
_DRAIN_SECONDS: Final = 0.05


class StreamParts(Protocol):
    """What a streamed answer is put together from. `feed` raises `ModelError`."""

    @property
    def has_token(self) -> bool:
        """Whether some of the answer's text has come."""
        ...

    @property
    def is_done(self) -> bool:
        """Whether the vendor said that nothing follows."""
        ...

    def feed(self, event: ServerEvent) -> None: ...


@dataclass(frozen=True, slots=True)
class Received:
    """A 2xx answer that came whole: `data` is its object, or empty if it was streamed into the parts."""

    headers: Mapping[str, str]
    latency_ms: float
    first_token_ms: float | None
    data: Mapping[str, Any] = field(default_factory=dict, hash=False)


@dataclass(slots=True)
class _Progress:
    """How far an exchange came; what an error means depends on it."""

    began: float
    is_sent: bool = False
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    first_token: float | None = None
    body: bytearray = field(default_factory=bytearray)


class ModelHttp:
    """A vendor's endpoint. Thread-safe; one client and one connection pool for its life.

    provider: how errors and traces name the vendor. known_options: of the address, beside `endpoint.OPTIONS`.
    read_error: what the vendor's own error answers mean, from the status (None within a stream) and the parsed body;
        None leaves an answer to the status and to what the chat completions and messages shapes say.
    """

    def __init__(
        self,
        address: Address,
        network: Network,
        *,
        provider: str,
        known_options: tuple[str, ...] = (),
        example_url: str,
        answer_limit_bytes: int = _ANSWER_LIMIT_BYTES,
        read_error: Callable[[int | None, object], SaidError | None] | None = None,
    ) -> None:
        self._read_vendor_error = read_error
        self._limit_bytes = answer_limit_bytes
        self.provider = provider
        self.address = address
        self.endpoint = Endpoint.of(address, known_options=known_options, example_url=example_url)
        self.is_mock = self.endpoint.is_mock
        self._network = network
        self._loop = LoopThread(f"exitramp-{provider}")
        self._client: httpx.AsyncClient | None = None

    def post(
        self,
        path: str,
        body: Mapping[str, Any],
        headers: Mapping[str, str],
        *,
        idempotency_key: str | None,
        timeout_seconds: float,
        prompt: str,
        parts: StreamParts | None = None,
    ) -> Received:
        """POST `body` and return the whole answer. With `parts`, reads events into it until the stream has ended.

        `prompt` is what no error message may repeat. Raises `ModelError` for everything that goes wrong.
        """
        progress = _Progress(time.monotonic())
        try:
            content = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
        except UnicodeEncodeError:
            raise ModelError(
                f"{self.provider}: a text holds half a surrogate pair, which no request can carry",
                error_class="invalid_request",
                hint="decode it with errors='replace' where it comes from",
            ) from None
        sent_headers = {
            "content-type": "application/json",
            "accept-encoding": ACCEPTED,
            "idempotency-key": idempotency_key or uuid.uuid4().hex,
            **headers,
        }
        work = self._exchange(progress, path, content, sent_headers, timeout_seconds, prompt, parts)
        try:
            return self._loop.run(work)
        except concurrent.futures.CancelledError as error:
            raise self.failed(progress, "connection", "was closed while it was asked") from error

    def close(self) -> None:
        """End what is under way and close the connections; calling it again does nothing."""
        client, self._client = self._client, None
        self._loop.close(client.aclose() if client is not None else None)

    def _make_client(self) -> httpx.AsyncClient:
        import httpx

        parts = urlsplit(self.endpoint.base_url)
        verify: ssl.SSLContext | bool = False  # nothing to verify without TLS; making a context costs 20 ms
        if parts.scheme == "https":
            verify = ssl.create_default_context(cafile=self._network.ca_bundle)
            if self._network.client_certificate is not None:
                verify.load_cert_chain(self._network.client_certificate, self._network.client_key)
        direct = self.address.is_loopback or (parts.hostname or "") in self._network.no_proxy
        return httpx.AsyncClient(
            verify=verify,
            proxy=None if direct else self._network.proxy,
            trust_env=not direct and self._network.proxy is None,
            limits=httpx.Limits(
                max_connections=self.endpoint.connections, max_keepalive_connections=self.endpoint.connections
            ),
        )

    async def _exchange(
        self,
        progress: _Progress,
        path: str,
        content: bytes,
        headers: Mapping[str, str],
        timeout_seconds: float,
        prompt: str,
        parts: StreamParts | None,
    ) -> Received:
        first_seconds = self.endpoint.first_token_seconds if parts is not None else None
        if parts is not None and self.endpoint.base_url.startswith("http://"):
            # llama.cpp hangs up after each stream and does not say so; the next call, sent in the same millisecond,
            # would fail on that connection. A new one on the same machine takes 0.1 ms.
            headers = {**headers, "connection": "close"}
        async with (
            self._translated(progress, timeout_seconds, first_seconds) as first,
            self._opened(progress, path, content, headers, timeout_seconds) as response,
        ):
            if not 200 <= response.status_code < 300:
                await self._read_error(progress, response, timeout_seconds, prompt)
            if parts is not None:
                await self._read_stream(progress, response, parts, first)
                data: Mapping[str, Any] = {}
            else:
                data = await self._read_whole(progress, response)
        ended = time.monotonic()
        first_token = progress.first_token
        return Received(
            progress.headers,
            (ended - progress.began) * 1000.0,
            None if first_token is None else (first_token - progress.began) * 1000.0,
            data,
        )

    @asynccontextmanager
    async def _opened(
        self, progress: _Progress, path: str, content: bytes, headers: Mapping[str, str], timeout_seconds: float
    ) -> AsyncIterator[httpx.Response]:
        import httpx

        async def trace(event: str, info: Mapping[str, Any]) -> None:
            if event.endswith(".send_request_headers.started"):
                progress.is_sent = True  # from here on the vendor may do the work, and bill it

        if self._client is None:
            self._client = self._make_client()  # on the loop's own thread, so only once
        connect_seconds = min(timeout_seconds, self.endpoint.connect_seconds or timeout_seconds)
        async with self._client.stream(
            "POST",
            self.endpoint.base_url + path,
            content=content,
            headers=dict(headers),
            timeout=httpx.Timeout(None, connect=connect_seconds),  # the rest is bounded as a whole, by cancelling
            extensions={"trace": trace},
        ) as response:
            progress.status = response.status_code
            progress.headers = response.headers
            if response.headers.get(MOCK_HEADER) == "1":
                self.is_mock = True
            yield response

    async def _read_error(
        self, progress: _Progress, response: httpx.Response, timeout_seconds: float, prompt: str
    ) -> None:
        """Raises the `ModelError` that the answer is. The status alone is enough if the body does not come."""
        import httpx

        left = timeout_seconds - (time.monotonic() - progress.began)
        body = bytearray()
        try:
            async with asyncio.timeout(min(1.0, left * 0.9)):
                async for chunk in pieces_of(response):
                    body += chunk
                    if len(body) > _ERROR_LIMIT_BYTES:
                        break
        except (TimeoutError, httpx.HTTPError, NotDecodable):
            body.clear()  # half a body may hold half a secret, which no pattern would know
        raw = body[:_ERROR_LIMIT_BYTES].decode("utf-8", "replace")
        try:
            data = json.loads(raw)
        except (ValueError, RecursionError):
            data = None
        said = self._read_vendor_error(progress.status, data) if self._read_vendor_error else None
        raise vendor_error(self.provider, progress.status, data, progress.headers, prompt=prompt, raw=raw, said=said)

    async def _read_whole(self, progress: _Progress, response: httpx.Response) -> Mapping[str, Any]:
        async for chunk in pieces_of(response):
            progress.body += chunk
            if len(progress.body) > self._limit_bytes:
                raise self._too_long(progress)
        try:
            data = json.loads(progress.body)
        except (ValueError, RecursionError):
            raise self.broken("malformed", "sent a body that is no JSON", progress.status) from None
        if not isinstance(data, dict):
            raise self.broken("malformed", "sent JSON that is no object", progress.status)
        return data

    async def _read_stream(
        self, progress: _Progress, response: httpx.Response, parts: StreamParts, first: asyncio.Timeout
    ) -> None:
        content_type = response.headers.get("content-type", "").lower()
        if not content_type.startswith("text/event-stream"):
            raise self.broken("malformed", "was asked for a stream and sent none", progress.status)
        decoder = EventDecoder()
        size = 0
        chunks = pieces_of(response)
        async for chunk in chunks:
            size += len(chunk)
            if size > self._limit_bytes:
                raise self._too_long(progress)
            try:
                events = decoder.feed(chunk)
            except UnicodeDecodeError:
                raise self.broken("malformed", "sent a stream that is no UTF-8", progress.status) from None
            for event in events:
                parts.feed(event)
                if parts.has_token and progress.first_token is None:
                    progress.first_token = time.monotonic()
                    first.reschedule(None)
            if parts.is_done:
                await self._drain(chunks)
                return

    async def _drain(self, chunks: AsyncIterator[bytes]) -> None:
        """Read the end of a stream whose answer is complete, so that its connection can be used again."""
        import httpx

        try:
            async with asyncio.timeout(_DRAIN_SECONDS):
                async for _ in chunks:
                    pass
        except (TimeoutError, httpx.HTTPError, NotDecodable):
            return  # the answer is whole; only the connection is lost

    @asynccontextmanager
    async def _translated(
        self, progress: _Progress, timeout_seconds: float, first_seconds: float | None
    ) -> AsyncIterator[asyncio.Timeout]:
        """Both deadlines, and every error of httpx as a `ModelError`; yields the deadline of the first token."""
        import httpx

        try:
            async with asyncio.timeout(timeout_seconds), asyncio.timeout(first_seconds) as first:
                yield first
        except TimeoutError as error:
            what = f"no whole answer within {timeout_seconds:g} s"
            if first_seconds is not None and first.expired():
                what = f"no first token within {first_seconds:g} s"
            raise self.failed(progress, "timeout", what) from error
        except httpx.TimeoutException as error:
            raise self.failed(progress, "timeout", f"timed out ({type(error).__name__})") from error
        except (httpx.UnsupportedProtocol, httpx.LocalProtocolError, httpx.InvalidURL) as error:
            raise self.failed(progress, "invalid_request", f"cannot be asked ({type(error).__name__})") from error
        except NotDecodable as error:
            raise self.failed(progress, "malformed", "sent a body that cannot be decoded") from error
        except (httpx.HTTPError, httpx.StreamError) as error:
            if progress.status is not None:
                raise self.failed(progress, "truncated", f"broke off its answer ({type(error).__name__})") from error
            raise self.failed(progress, "connection", f"could not be reached ({type(error).__name__})") from error

    def _too_long(self, progress: _Progress) -> ModelError:
        return self.broken("malformed", f"sent more than {self._limit_bytes >> 20} MiB", progress.status)

    def failed(self, progress: _Progress, error_class: str, what: str) -> ModelError:
        """An error after which no complete answer is there; it may have been billed once the request was on its way."""
        return ModelError(
            f"{self.provider}: {what}",
            error_class=error_class,
            http_status=progress.status,
            maybe_billed=progress.is_sent,
        )

    def error_inside(self, data: object, prompt: str) -> ModelError:
        """The error that stands within an answer that began well; the work was begun, so it may be billed."""
        said = self._read_vendor_error(None, data) if self._read_vendor_error else None
        return vendor_error(self.provider, None, data, {}, prompt=prompt, maybe_billed=True, said=said)

    def broken(self, error_class: str, what: str, status: int | None = 200) -> ModelError:
        """An answer that came and is not one: the work was done, so it may be billed."""
        return ModelError(f"{self.provider} {what}", error_class=error_class, http_status=status, maybe_billed=True)


def said_in(request: ChatRequest) -> str:
    """Everything of a request that no error message may repeat."""
    calls = [call.arguments for message in request.messages for call in message.tool_calls]
    return "\n".join([*(message.content for message in request.messages), *calls])


def estimated_tokens(text: str) -> int:
    """A guess where the vendor counts nothing: a token is about four characters. Say `estimated` with it."""
    return -(-len(text) // 4)
