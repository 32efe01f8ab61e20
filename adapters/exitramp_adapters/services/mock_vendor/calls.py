"""One call to a mock vendor: which fault meets it, and what is answered."""

from __future__ import annotations

import asyncio
import hashlib
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any, Final

from exitramp.faults import Fault, FaultSchedule
from exitramp_adapters.services import extractive
from exitramp_adapters.services.loopback_http import Connection, WireRequest
from exitramp_adapters.services.mock_vendor import embeddings, reranking
from exitramp_adapters.services.mock_vendor.account import Account
from exitramp_adapters.services.mock_vendor.delivery import Call, Delivery
from exitramp_adapters.services.mock_vendor.embeddings import EmbedAsk
from exitramp_adapters.services.mock_vendor.options import VendorOptions
from exitramp_adapters.services.mock_vendor.replies import Replies, RuleReplies
from exitramp_adapters.services.mock_vendor.reranking import RerankAsk
from exitramp_adapters.services.mock_vendor.shape import Ask, Refusal, Reply, Shape
from exitramp_adapters.services.mock_vendor.speaking import Said

_ERROR_FAULTS: Final = frozenset(
    {"rate_limit", "quota", "error_500", "unavailable", "overloaded", "auth", "model_gone"}
)
_MODELS_PATH: Final = "/v1/models"
_MODELS_SINCE: Final = 1_767_225_600  # 2026-01-01
_CALL_ID: Final = {"openai": "call", "anthropic": "toolu"}


@dataclass(frozen=True, slots=True)
class _Listing:
    """The list of models is asked for, or one of them by name."""

    name: str | None


class Calls:
    """Answers calls in one shape. Used from one event loop only."""

    def __init__(
        self, shape: Shape, options: VendorOptions, account: Account, *, key: str | None, replies: Replies
    ) -> None:
        self.shape = shape
        self.options = options
        self.account = account
        self.schedule = FaultSchedule(options.schedule, seed=options.seed)
        self.started = time.monotonic()
        self._replies = replies
        self._delivery = Delivery(shape, options, account, replies=self._replies.name)
        self._key = key
        self._calls = 0
        self._systems: set[str] = set()

    @property
    def elapsed_seconds(self) -> float:
        return time.monotonic() - self.started

    @property
    def models(self) -> tuple[str, ...]:
        """The names of the models that it has."""
        chat = self._replies.models or (self.options.model,)
        embedding = self._replies.embedding_models if self.shape.embeddings_path else ()
        return (*chat, *embedding, *self.rerank_models)

    @property
    def rerank_models(self) -> tuple[str, ...]:
        """It reranks by its own rule, wherever its other answers come from."""
        return (reranking.MODEL,) if self.shape.rerank_paths else ()

    def refuses_now(self) -> bool:
        """Whether the port has to be closed: a window of the schedule comes before what was injected by hand."""
        elapsed = self.elapsed_seconds
        for item in self.options.schedule:
            if item.is_window:
                ends = float("inf") if item.to_seconds is None else item.to_seconds
                if (item.from_seconds or 0.0) <= elapsed < ends:
                    return item.fault.kind == "refuse"
        return self.schedule.injected.kind == "refuse"

    def describe(self) -> dict[str, Any]:
        """What this mock is and how it is set, with the time it itself took per call: median over the last 256."""
        return {
            "mock": True,
            "shape": self.shape.name,
            "replies": self._replies.name,
            "models": list(self.models),
            "embedding_models": list(self._replies.embedding_models) if self.shape.embeddings_path else [],
            "rerank_models": list(self.rerank_models),
            "injected": self.schedule.injected.kind,
            "calls": self._calls,
            "own_overhead_ms_median": self._delivery.own_overhead_ms_median,
            **self.options.to_json(),
        }

    async def respond(self, connection: Connection, request: WireRequest) -> None:
        """Answer `request`, or fail as the schedule wants it, and write the account's line."""
        began = time.monotonic()
        self._calls += 1
        number = self._calls
        fault = self.schedule.fault_for(call=number, elapsed_seconds=self.elapsed_seconds)
        if fault.kind == "partial_region":
            fault = self._in_region(fault, request)
        key = request.headers.get("idempotency-key")
        hashed = hashlib.sha256(key.encode()).hexdigest() if key else None
        asked: Ask | EmbedAsk | RerankAsk | _Listing | None = None
        refusal: Refusal | None = None
        try:
            asked = self._read(request)
        except Refusal as error:
            refusal = error
        operation = {EmbedAsk: "embeddings", RerankAsk: "rerank", _Listing: "models"}.get(type(asked), "chat")
        call = Call(number, began, hashed, fault, isinstance(asked, Ask) and asked.stream, operation, request.path)
        if fault.kind == "hang":
            self._delivery.note(call, "hung", "hang", None)
            await connection.wait_until_gone()
        elif fault.kind == "refuse":  # the port is closed by now; this one slipped in before
            self._delivery.note(call, "cut", "refuse", None)
            connection.reset()
        elif fault.kind in _ERROR_FAULTS:
            refusal = Refusal(fault.kind, fault.options.get("message"))
            self._delivery.refuse(connection, call, refusal, _retry_after(fault))
        elif asked is None:
            assert refusal is not None
            self._delivery.refuse(connection, call, refusal)
        else:
            try:
                await self._answer(connection, call, asked)
            except Refusal as error:
                after = {"retry_after_seconds": error.retry_after_seconds}
                self._delivery.refuse(connection, call, error, _retry_after(Fault("rate_limit", after)))

    def refuse_unread(self, connection: Connection, kind: str) -> None:
        """Answer a request that could not even be read."""
        self._calls += 1
        call = Call(self._calls, time.monotonic(), None, Fault("none"))
        self._delivery.refuse(connection, call, Refusal(kind), (("connection", "close"),))

    def _in_region(self, fault: Fault, request: WireRequest) -> Fault:
        by = str(fault.options.get("by", "key"))
        value = self.shape.key(request.headers) if by == "key" else request.headers.get(by.lower())
        if not self.options.in_region(fault, value or ""):
            return Fault("none")
        inside = {name: value for name, value in fault.options.items() if name not in ("share", "by", "fault")}
        return Fault(str(fault.options.get("fault", "unavailable")), inside)

    def _read(self, request: WireRequest) -> Ask | EmbedAsk | RerankAsk | _Listing:
        is_listing = request.path == _MODELS_PATH or request.path.startswith(_MODELS_PATH + "/")
        if not is_listing and request.path not in (
            self.shape.path,
            self.shape.embeddings_path,
            *self.shape.rerank_paths,
        ):
            raise Refusal("no_such_path")
        if request.method != ("GET" if is_listing else "POST"):
            raise Refusal("method")
        key = self.shape.key(request.headers)
        if key is None or (self._key is not None and key != self._key):
            raise Refusal("auth")
        if is_listing:
            name = request.path[len(_MODELS_PATH) + 1 :] or None
            return _Listing(name if name is None else self._known(name, self.models))
        if request.path == self.shape.embeddings_path:
            texts = embeddings.read(request.headers, request.body)
            self._known(texts.model, self._replies.embedding_models)
            return texts
        if request.path in self.shape.rerank_paths:
            wanted = reranking.read(request.path, request.headers, request.body)
            self._known(wanted.model, self.rerank_models)
            return wanted
        ask = self.shape.read(request.headers, request.body)
        self._known(ask.model, self._replies.models or (self.options.model,))
        return ask

    def _known(self, model: str, models: tuple[str, ...]) -> str:
        if model not in models:
            raise Refusal("model_gone", f"The model '{model[:64]}' does not exist. This is a mock.", field="model")
        return model

    async def _answer(self, connection: Connection, call: Call, asked: Ask | EmbedAsk | RerankAsk | _Listing) -> None:
        if isinstance(asked, _Listing):
            whole: Any = (
                self.shape.models(self.models, _MODELS_SINCE)
                if asked.name is None
                else self.shape.model(asked.name, _MODELS_SINCE)
            )
            await self._delivery.send_whole(connection, call, whole, {})
            return
        began = time.monotonic()
        if isinstance(asked, EmbedAsk):
            body = await self._embedded(asked, call.fault)
            broken = body | {"data": body["data"][: len(body["data"]) // 2]}
            call = replace(call, prompt_tokens=int((body.get("usage") or {}).get("prompt_tokens", asked.tokens)))
        elif isinstance(asked, RerankAsk):
            body = reranking.body_of(asked, call.number, drifted=call.fault.kind == "quality_drift")
            broken = body | {"results": body["results"][: len(body["results"]) // 2]}
            call = replace(call, prompt_tokens=asked.tokens)
        else:
            reply, broken_by = await self._reply(call, asked)
            call = call if broken_by is None else replace(call, fault=Fault(broken_by))
            body, broken = self.shape.whole(reply), self.shape.without_finish(reply)
            call = replace(call, prompt_tokens=reply.prompt_tokens, gen_tokens=reply.gen_tokens)
        elsewhere_ms = (time.monotonic() - began) * 1000.0 if self._replies.name == "forward" else 0.0
        call = replace(call, simulated_ms=self.options.latency_ms(call.number), elsewhere_ms=elsewhere_ms)
        if call.simulated_ms:
            await asyncio.sleep(call.simulated_ms / 1000.0)
        if call.fault.kind == "slow_first_token" and not call.stream:
            await asyncio.sleep(float(call.fault.options.get("delay_seconds", 5.0)))
        if connection.is_gone:
            self._delivery.note_gone(connection, call, None)
        elif isinstance(asked, Ask) and asked.stream:
            await self._delivery.send_stream(connection, call, self.shape.stream(asked, reply))
        else:
            await self._delivery.send_whole(connection, call, body, broken)

    async def _embedded(self, asked: EmbedAsk, fault: Fault) -> dict[str, Any]:
        if fault.kind == "quality_drift":  # another model behind the same name
            vectors = embeddings.vectors_of(asked.texts, asked.dimensions, model=embeddings.DRIFTED)
            return dict(embeddings.body_of(asked, vectors))
        return dict(await self._replies.embed(asked))

    async def _reply(self, call: Call, ask: Ask) -> tuple[Reply, str | None]:
        """What is answered, and the fault that its delivery ends in, where who said it had one."""
        prompt_tokens = extractive.count_tokens(ask.prompt) + extractive.count_tokens(ask.tools_text)
        if prompt_tokens > self.options.context_tokens:
            text = f"prompt is too long: {prompt_tokens} tokens > {self.options.context_tokens} maximum"
            raise Refusal("context_length", text, field="messages")
        replies = self._replies
        if call.fault.kind == "quality_drift":
            replies = RuleReplies(self.options.rule(call.fault))
        said = await replies.say(ask)
        cached = 0
        if self.options.prompt_cache and ask.system:
            cached = extractive.count_tokens(ask.system) if ask.system in self._systems else 0
            self._systems.add(ask.system)
        name = f"mock-{self.options.seed}-{call.number:06d}"
        prefix = _CALL_ID[self.shape.name]
        reply = Reply(
            id=name,
            model=said.model or ask.model,
            text=said.text,
            calls=tuple(
                tool if tool.id else replace(tool, id=f"{prefix}_{name}_{place}")
                for place, tool in enumerate(said.calls)
            ),
            finish=said.finish,
            stopped_by=said.stopped_by,
            prompt_tokens=prompt_tokens if said.prompt_tokens is None else said.prompt_tokens,
            cached_tokens=cached if said.cached_tokens is None else said.cached_tokens,
            gen_tokens=_counted(said) if said.gen_tokens is None else said.gen_tokens,
            created=int(time.time()),
            pieces=said.pieces,
        )
        return reply, said.broken


def _counted(said: Said) -> int:
    return sum(map(extractive.count_tokens, (said.text, *(call.arguments for call in said.calls))))


def _retry_after(fault: Fault) -> tuple[tuple[str, str], ...]:
    seconds = fault.options.get("retry_after_seconds")
    if seconds is None:
        return ()
    match fault.options.get("retry_after_form", "seconds"):
        case "milliseconds":
            return (("retry-after-ms", f"{seconds * 1000:g}"),)
        case "date":
            moment = datetime.now(UTC) + timedelta(seconds=float(seconds))
            return (("retry-after", format_datetime(moment, usegmt=True)),)
        case _:
            return (("retry-after", f"{seconds:g}"),)
