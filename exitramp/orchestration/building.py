"""Stacks for the router, out of what a stack file says."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final

from exitramp.clock import Clock
from exitramp.errors import ConfigError, ExitrampError
from exitramp.orchestration.handling import Slots
from exitramp.orchestration.pool import Holding
from exitramp.orchestration.prompts import PromptSet
from exitramp.orchestration.retrieving import StorePassages
from exitramp.orchestration.stack import Passage, Question, RenderedPrompt, Retriever, Stack
from exitramp.orchestration.stack_file import ModelSpec, StackFile, StoreSpec
from exitramp.ports import (
    ChatAnswer,
    ChatDelta,
    ChatMessage,
    ChatModel,
    ChatRequest,
    Embedder,
    ModelIdentity,
    Purpose,
    SearchSettings,
)
from exitramp.registry import model_adapter, store_adapter
from exitramp.urls import Network
from exitramp.wrappers import Endpoint, OpenSettings, open_endpoint

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

NO_STORE: Final = "none"


class BilledModel:
    """A model whose bill somebody else sends than the vendor whose shape it speaks."""

    def __init__(self, model: ChatModel, billed_as: str) -> None:
        self._model = model
        self._billed_as = billed_as

    def identity(self) -> ModelIdentity:
        return replace(self._model.identity(), provider=self._billed_as)

    def answer(
        self,
        request: ChatRequest,
        *,
        timeout_seconds: float,
        on_delta: Callable[[ChatDelta], None] | None = None,
    ) -> ChatAnswer:
        return self._model.answer(request, timeout_seconds=timeout_seconds, on_delta=on_delta)

    def close(self) -> None:
        self._model.close()


@dataclass(frozen=True, slots=True)
class Builder:
    """Opens what a version of a file names; `holding` is what that version has open."""

    file: StackFile
    holding: Holding
    network: Network
    clock: Clock

    def check(self) -> None:
        """What is not installed is told now, and not by the first question."""
        for embedder in self.file.embedders.values():
            with self._naming(f"embedders.{embedder.name}", embedder.line):
                if model_adapter(embedder.address.scheme).open_embedder is None:
                    raise ConfigError(f"'{embedder.address.scheme}' is no embedding model")
        for store in self.file.stores.values():
            with self._naming(f"stores.{store.name}", store.line):
                store_adapter(store.address.scheme)

    def model(self, spec: ModelSpec) -> ChatModel:
        address = spec.address
        first = self.file.deadlines.first_token_seconds
        if first is not None and "first_token_seconds" not in address.options:
            address = replace(address, options={**address.options, "first_token_seconds": f"{first:g}"})
        with self._naming(f"models.{spec.name}", spec.line):
            open_chat = model_adapter(address.scheme).open_chat
            if open_chat is None:
                raise ConfigError(f"'{address.scheme}' is no chat model")

            def make() -> ChatModel:
                model = open_chat(address, self.network)
                return model if spec.billed_as is None else BilledModel(model, spec.billed_as)

            found: ChatModel = self.holding.take(("model", address, spec.billed_as), make)
            return found

    def embedder(self, name: str) -> Embedder:
        """Opened when it is first asked for: some take a second to load."""
        spec = self.file.embedders[name]

        def make() -> Embedder:
            opener = model_adapter(spec.address.scheme).open_embedder
            assert opener is not None, "looked at by check()"
            return opener(spec.address, self.network)

        found: Embedder = self.holding.take(("embedder", spec.address), make)
        return found

    def plain(self, name: str, model: ChatModel) -> Stack:
        """A model by itself, for messages that somebody else wrote."""
        spec = self.file.models[name]
        slots = self.holding.take(("slots", name, spec.address, spec.concurrency), partial(Slots, spec.concurrency))
        return Stack(name, _nothing, _as_it_is, model, NO_STORE, slots=slots)

    def stack(self, name: str, chat: Stack, prompts: PromptSet | None) -> Stack:
        """The model of `chat` with the store of the stack `name`."""
        spec = self.file.stacks[name]
        if spec.store is None:
            return replace(chat, name=name)
        assert prompts is not None, "the file is refused without"
        store = self.file.stores[spec.store]
        return replace(
            chat,
            name=name,
            retrieve=self._retriever(store),
            render=prompts.render,
            store=store.address.scheme,
            depth_k=store.depth_k,
        )

    def _retriever(self, spec: StoreSpec) -> Retriever:
        """The store is opened by the first question to it, so that one that is down is a failure to go round."""
        lock = threading.Lock()
        opened: list[StorePassages] = []
        seconds = self.file.deadlines.retrieve_seconds

        def make() -> Endpoint:
            # One try: a store that fails is left for the next stack, by the router.
            backoff = replace(self.file.retry, tries=1)
            settings = OpenSettings(timeout_seconds=seconds, backoff=backoff, network=self.network, clock=self.clock)
            return open_endpoint(spec.address, settings)

        def vector(text: str) -> npt.NDArray[np.float32]:
            embedder = self.embedder(spec.embedder)
            found: npt.NDArray[np.float32] = embedder.embed(
                [text], purpose=Purpose.QUERY, timeout_seconds=seconds
            ).vectors[0]
            return found

        def retrieve(question_text: str, k: int, /) -> Sequence[Passage]:
            with lock:
                if not opened:
                    endpoint = self.holding.take(("store", spec.address, seconds), make)
                    settings = SearchSettings(spec.exact, spec.options)
                    opened.append(StorePassages(endpoint, vector, vector_field=spec.vector_field, settings=settings))
            return opened[0](question_text, k)

        return retrieve

    @contextmanager
    def _naming(self, what: str, line: int) -> Iterator[None]:
        try:
            yield
        except ExitrampError as error:
            raise ConfigError(f"'{what}': {error.message}", file=self.file.file, line=line, hint=error.hint) from error


def _nothing(question_text: str, k: int, /) -> Sequence[Passage]:
    return ()


def _as_it_is(question: Question, passages: Sequence[Passage], /) -> RenderedPrompt:
    return RenderedPrompt((ChatMessage("user", question.text),))
