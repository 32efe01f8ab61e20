"""A running stack as the orchestration layer sees it: what retrieves, what renders, what answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from exitramp.clock import Clock
from exitramp.drill.inputs import prompt_folder
from exitramp.drill.run import DrillRun, RunningStack
from exitramp.errors import ConfigError, ModelError
from exitramp.evals.retrieval import order_hits, orient_hits
from exitramp.faults import FaultSchedule
from exitramp.orchestration.prompts import PromptSet, load_prompts
from exitramp.orchestration.stack import Passage, Question, RenderedPrompt, Stack
from exitramp.ports import (
    ChatAnswer,
    ChatDelta,
    ChatMessage,
    ChatModel,
    ChatRequest,
    ModelIdentity,
    Query,
    SearchSettings,
    VectorSearch,
)
from exitramp.records import TraceRecord, Usage, VectorKind
from exitramp.registry import model_adapter
from exitramp.wrappers import Endpoint

RETRIEVAL_ONLY = "retrieval-only"


@dataclass(slots=True)
class QueryVectors:
    """The vector of every question, made before anything is cut, so that an outage never waits for the embedder."""

    vectors: dict[str, npt.NDArray[np.generic]]

    def __call__(self, text: str) -> npt.NDArray[np.generic]:
        try:
            return self.vectors[text]
        except KeyError:
            raise ConfigError("a question was asked that was not embedded beforehand") from None


class StoreRetriever:
    """Nearest records of an endpoint as passages; equal scores are ordered by id, so that a run can be repeated."""

    def __init__(self, endpoint: Endpoint, vectors: Callable[[str], npt.NDArray[np.generic]]) -> None:
        self._endpoint = endpoint
        self._vectors = vectors
        self._search: VectorSearch | None = None
        self._field: str | None = None

    def __call__(self, question_text: str, k: int, /) -> Sequence[Passage]:
        if self._search is None:
            self._search = self._endpoint.search()
        query = Query(field=self._named_field(), dense=self._vectors(question_text))
        hits = self._search.search(query, k=k, settings=SearchSettings(), with_records=True)
        ids = [str(key) for key in hits.keys]
        scores = dict(zip(ids, hits.scores, strict=True))
        assert hits.records is not None
        texts = _documents(hits.records)
        return [Passage(id_, texts.get(id_) or "", scores[id_]) for id_ in order_hits(orient_hits(ids, hits.scores))]

    def _named_field(self) -> str:
        if self._field is None:
            dense = [each for each in self._endpoint.source().describe().vectors if each.kind is VectorKind.DENSE]
            if not dense:
                raise ConfigError(f"{self._endpoint.address} has no dense vector field to search")
            self._field = dense[0].name
        return self._field


def _documents(batch: Any) -> Mapping[str, str | None]:
    from exitramp.arrow import record_keys

    keys = [str(key) for key in record_keys(batch)]
    if "document" not in batch.schema.names:
        return dict.fromkeys(keys)
    return dict(zip(keys, batch.column("document").to_pylist(), strict=True))


class RetrievalOnlyModel:
    """Stands where a stack has no chat model: what was retrieved is the answer, and nothing is generated."""

    def __init__(self, stack: str) -> None:
        self._stack = stack

    def identity(self) -> ModelIdentity:
        return ModelIdentity("none", RETRIEVAL_ONLY, f"{self._stack}:{RETRIEVAL_ONLY}")

    def answer(
        self,
        request: ChatRequest,
        *,
        timeout_seconds: float,
        on_delta: Callable[[ChatDelta], None] | None = None,
    ) -> ChatAnswer:
        # An answer without text counts as none; these words are never judged (see `steps.judging`).
        return ChatAnswer("(retrieval only)", "retrieved", RETRIEVAL_ONLY, Usage(0, 0, source="estimated"), 0.0)

    def close(self) -> None:
        """There is nothing to close."""


class SimulatedModel:
    """A model whose calls first meet what is simulated in our layer: for one that may not be cut for real.

    `billed_as` is who sends the bill, where that is not the vendor whose shape is spoken: a mock has prices of its
    own, and its traces must never look like the real vendor's.
    """

    def __init__(
        self, model: ChatModel, schedule: FaultSchedule, clock: Clock, *, billed_as: str | None = None
    ) -> None:
        self._model = model
        self._clock = clock
        self._schedule = schedule
        self._billed_as = billed_as

    def identity(self) -> ModelIdentity:
        found = self._model.identity()
        return found if self._billed_as is None else replace(found, provider=self._billed_as, is_mock=True)

    def answer(
        self,
        request: ChatRequest,
        *,
        timeout_seconds: float,
        on_delta: Callable[[ChatDelta], None] | None = None,
    ) -> ChatAnswer:
        fault = self._schedule.injected
        if fault.kind == "quality_drift":
            return self._worse(self._model.answer(request, timeout_seconds=timeout_seconds), on_delta)
        if fault.kind == "hang":
            self._clock.sleep(timeout_seconds)
        if fault.kind != "none":
            kinds = {"hang": "timeout", "refuse": "connection", "unavailable": "overloaded", "rate_limit": "rate_limit"}
            raise ModelError(f"simulated fault '{fault.kind}'", error_class=kinds.get(fault.kind, "server_error"))
        return self._model.answer(request, timeout_seconds=timeout_seconds, on_delta=on_delta)

    def _worse(self, answer: ChatAnswer, on_delta: Callable[[ChatDelta], None] | None) -> ChatAnswer:
        """A drift that is played: of the real answer the first words alone, and every sign that all is well."""
        words = answer.text.split()
        found = replace(answer, text=" ".join(words[: max(1, len(words) // 5)]))
        if on_delta is not None:
            on_delta(ChatDelta(found.text))
        return found

    def close(self) -> None:
        self._model.close()


def build_stack(
    run: DrillRun,
    name: str,
    vectors: QueryVectors,
    *,
    timeout_seconds: float,
    price: Callable[[TraceRecord], TraceRecord] | None = None,
) -> Stack:
    """The stack `name` of this run for the orchestration layer. Its store calls are single tries under a deadline."""
    running = run.stack(name)
    endpoint = run.endpoint(name, timeout_seconds=timeout_seconds, tries=1, faults=True)
    model = _chat_model(run, running)
    run.on_close(model.close)
    unprompted = run.spec.application is not None and run.spec.data.prompts is None  # the application has its own
    prompts = _prompts(run) if running.chat is not None and not unprompted else None
    return Stack(
        name=name,
        retrieve=StoreRetriever(endpoint, vectors),
        render=_renderer(prompts),
        model=model,
        store=running.store.address.scheme,
        price=price,
    )


def _chat_model(run: DrillRun, running: RunningStack) -> ChatModel:
    if running.chat is None:
        return RetrievalOnlyModel(running.spec.name)
    address = running.chat.through or running.chat.address
    adapter = model_adapter(address.scheme)
    if adapter.open_chat is None:
        raise ConfigError(f"'{address.scheme}' is no chat model", file=run.spec.file)
    mock = running.chat.adapter.name if running.chat.adapter is not None and running.chat.is_mock else None
    return SimulatedModel(adapter.open_chat(address, run.network), running.chat.simulated, run.clock, billed_as=mock)


def _prompts(run: DrillRun) -> PromptSet:
    if "prompts" not in run.shared:
        folder = prompt_folder(run.spec)
        if folder is None:
            raise ConfigError("a stack with a chat model needs data.prompts", file=run.spec.file)
        run.shared["prompts"] = load_prompts(folder)
    prompts: PromptSet = run.shared["prompts"]
    return prompts


def _renderer(prompts: PromptSet | None) -> Callable[[Question, Sequence[Passage]], RenderedPrompt]:
    if prompts is None:
        return lambda question, passages: RenderedPrompt((ChatMessage("user", ""),))
    return prompts.render
