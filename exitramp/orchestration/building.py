"""Stacks for the router, out of what a stack file says."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final

from exitramp.clock import Clock
from exitramp.errors import ConfigError, DependencyMissing, ExitrampError, ModelDiffers, ModelError, StoreError
from exitramp.finops.unit_cost import IN_PROCESS
from exitramp.orchestration.billed import BilledModel, BilledReranker
from exitramp.orchestration.bounded import CallOverdue, ThreadCalls
from exitramp.orchestration.handling import Slots
from exitramp.orchestration.named import naming
from exitramp.orchestration.pool import Holding
from exitramp.orchestration.probing import probed
from exitramp.orchestration.prompts import PromptSet
from exitramp.orchestration.reranking import EmbeddingScorer, ModelScorer, Reranking, Scorer, embed_told
from exitramp.orchestration.retrieving import Probe, StorePassages, require_collections_model
from exitramp.orchestration.side_calls import Hear, hearing
from exitramp.orchestration.stack import Passage, Question, RenderedPrompt, Retriever, Stack
from exitramp.orchestration.stack_file import ModelSpec, RerankSpec, StackFile, StoreSpec
from exitramp.ports import (
    ChatMessage,
    ChatModel,
    Embedder,
    ModelIdentity,
    Purpose,
    Reranker,
    SearchSettings,
    TellsRefusals,
)
from exitramp.registry import model_adapter, store_adapter
from exitramp.urls import REFERENCE_KINDS, Address, Network
from exitramp.wrappers import Endpoint, OpenSettings, open_endpoint

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

NO_STORE: Final = "none"
_LISTED: Final = "`exitramp models` lists what is installed"


@dataclass(frozen=True, slots=True)
class _Told:
    message: str
    is_known: bool


@dataclass(frozen=True, slots=True)
class Builder:
    """Opens what a version of a file names; `holding` is what that version has open."""

    file: StackFile
    holding: Holding
    network: Network
    clock: Clock
    around_chat: Callable[[ChatModel], ChatModel] | None = None
    hear: Hear = lambda call: None

    def check(self) -> None:
        """What is not installed, and a key that is not there, is told now and not by the first question."""
        for embedder in self.file.embedders.values():
            with naming(self.file, f"embedders.{embedder.name}", embedder.line):
                if model_adapter(embedder.address.scheme).open_embedder is None:
                    raise ConfigError(f"'{embedder.address.scheme}' is no embedding model", hint=_LISTED)
                if not self.holding.knows(("embedder", embedder.address)):
                    _fetch_secrets(embedder.address)
        for store in self.file.stores.values():
            with naming(self.file, f"stores.{store.name}", store.line):
                store_adapter(store.address.scheme)
                if not self.holding.knows(self._store_key(store)):
                    _fetch_secrets(store.address)
            if store.rerank is not None and store.rerank.address is not None:
                self.reranker(store)

    def model(self, spec: ModelSpec) -> ChatModel:
        address = spec.address
        first = self.file.deadlines.first_token_seconds
        if first is not None and "first_token_seconds" not in address.options:
            address = replace(address, options={**address.options, "first_token_seconds": f"{first:g}"})
        with naming(self.file, f"models.{spec.name}", spec.line):
            open_chat = model_adapter(address.scheme).open_chat
            if open_chat is None:
                raise ConfigError(f"'{address.scheme}' is no chat model", hint=_LISTED)

            def make() -> ChatModel:
                model = open_chat(address, self.network)
                model = model if spec.billed_as is None else BilledModel(model, spec.billed_as)
                return model if self.around_chat is None else self.around_chat(model)

            found: ChatModel = self.holding.take(("model", address, spec.billed_as), make)
            return found

    def tell_refusals(self, models: Mapping[str, ChatModel], tell: Callable[[str], None]) -> None:
        """Say of each model that follows another what it does not take of that one's requests: for those it is nobody's
        backup. Each once, however often the file is edited."""
        file = self.file
        for order in (file.model_order, tuple(file.stacks[name].chat for name in file.stack_order)):
            by_all_before: frozenset[str] | None = None
            for name in order:
                pair = ("refusals", name, file.models[name].address)
                refused = _refused(models[name])
                missing = [what for what in refused if by_all_before is not None and what not in by_all_before]
                by_all_before = frozenset(refused) if by_all_before is None else by_all_before & frozenset(refused)
                if missing and not self.holding.knows(pair):
                    tell(
                        f"models.{name}: does not take {', '.join(missing)}, and refuses a request with one of them: "
                        f"for such it stands in for nobody when '{order[0]}' fails; next: name a model that takes them "
                        f"in failover, or leave them out of the requests"
                    )
                if missing:
                    self.holding.take(pair, object)

    def embedder(self, name: str) -> Embedder:
        """Opened when it is first asked for: some take a second to load."""
        spec = self.file.embedders[name]

        def make() -> Embedder:
            opener = model_adapter(spec.address.scheme).open_embedder
            assert opener is not None, "looked at by check()"
            return opener(spec.address, self.network)

        found: Embedder = self.holding.take(("embedder", spec.address), make)
        return found

    def reranker(self, store: StoreSpec) -> Reranker:
        spec = store.rerank
        assert spec is not None
        address, billed_as = spec.address, spec.billed_as
        assert address is not None
        with naming(self.file, f"stores.{store.name}.rerank", store.line):
            opener = model_adapter(address.scheme).open_reranker
            if opener is None:
                raise ConfigError(f"'{address.scheme}' is no reranker", hint=_LISTED)

            def make() -> Reranker:
                found = opener(address, self.network)
                return found if billed_as is None else BilledReranker(found, billed_as)

            made: Reranker = self.holding.take(("reranker", address, billed_as), make)
            return made

    def rerankers(self) -> dict[str, ModelIdentity]:
        """Of each stack that a vendor reranks for, who that is."""
        found = {}
        for name, stack in self.file.stacks.items():
            store = None if stack.store is None else self.file.stores[stack.store]
            if store is not None and store.rerank is not None and store.rerank.address is not None:
                found[name] = self.reranker(store).identity()
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
            rerank=None if store.rerank is None else self._reranking(store, store.rerank),
        )

    def _reranking(self, store: StoreSpec, spec: RerankSpec) -> Reranking:
        """An embedder is opened by the first question, as it is for the question itself."""
        name = spec.embedder
        if name is None:
            return Reranking(ModelScorer(self.reranker(store), self.clock), spec.candidates, spec.timeout_seconds)

        def score(question: str, texts: Sequence[str], /, *, timeout_seconds: float) -> Sequence[float]:
            address = self.file.embedders[name].address
            scorer: Scorer = self.holding.take(
                ("scorer", address), lambda: EmbeddingScorer(self.embedder(name), self.clock)
            )
            return scorer(question, texts, timeout_seconds=timeout_seconds)

        return Reranking(score, spec.candidates, spec.timeout_seconds)

    def _endpoint(self, spec: StoreSpec) -> Endpoint:
        seconds = self.file.deadlines.retrieve_seconds

        def make() -> Endpoint:
            # One try: a store that fails is left for the next stack, by the router.
            backoff = replace(self.file.retry, tries=1)
            settings = OpenSettings(timeout_seconds=seconds, backoff=backoff, network=self.network, clock=self.clock)
            return open_endpoint(spec.address, settings)

        found: Endpoint = self.holding.take(self._store_key(spec), make)
        return found

    def _store_key(self, spec: StoreSpec) -> object:
        return "store", spec.address, self.file.deadlines.retrieve_seconds

    def require_models(self, tell: Callable[[str], None]) -> None:
        """Raises `ConfigError` where a store is asked by another embedder than made its vectors, and where it answers
        that there is no such collection or vector field. What cannot be known now, as the store does not answer, is
        told and looked at by the first question. Each pair that was seen to be one is looked at once, however often
        the file is edited."""
        for store in self.file.stores.values():
            pair = self._pair(store)
            if not self.holding.knows(pair):
                told = self._looked_at(store)
                if told is not None:
                    tell(f"stores.{store.name}: {told.message}")
                if told is None or told.is_known:
                    self.holding.take(pair, object)
            else:
                self.holding.take(pair, object)

    def _pair(self, store: StoreSpec) -> object:
        return "one model", store.address, store.vector_field, self.file.embedders[store.embedder].address

    def _probe(self, store: StoreSpec) -> Probe | None:
        """Embeds a few documents where that costs nothing or the file asks for it, and it was not seen before."""
        embedder = self.embedder(store.embedder)
        is_wanted = embedder.identity().provider in IN_PROCESS if store.probe is None else store.probe
        if not is_wanted or self.holding.knows(self._pair(store)):
            return None
        seconds = self.file.deadlines.retrieve_seconds
        return lambda endpoint, field: probed(endpoint, field, embedder, seconds, self.clock)

    def _looked_at(self, store: StoreSpec) -> _Told | None:
        """As `_model_of`, with what is at fault by its name in the file: the store, or its embedder."""
        try:
            return self._model_of(store)
        except ModelDiffers:
            with naming(self.file, f"stores.{store.name}.embedder", store.line):
                raise
        except ExitrampError:
            with naming(self.file, f"stores.{store.name}", store.line):
                raise

    def _model_of(self, store: StoreSpec) -> _Told | None:
        """What is to be told of whether the store's vectors are the embedder's. Raises `ModelDiffers`."""

        def look() -> str | None:
            with hearing(self.hear):
                embedder = self.embedder(store.embedder)
                return require_collections_model(
                    self._endpoint(store), store.vector_field, embedder, self._probe(store)
                )

        try:
            unshown = ThreadCalls("look")(look, timeout_seconds=2 * self.file.deadlines.retrieve_seconds)
        except (StoreError, ModelError, DependencyMissing, CallOverdue, OSError) as error:
            said = error.message if isinstance(error, ExitrampError) else str(error) or type(error).__name__
            whether = f"whether its vectors are of the embedder '{store.embedder}' is not known yet"
            return _Told(f"{whether}, and the first question looks: {said}", is_known=False)
        return None if unshown is None else _Told(unshown, is_known=True)

    def _retriever(self, spec: StoreSpec) -> Retriever:
        """The store is opened by the first question to it, so that one that is down is a failure to go round."""
        lock = threading.Lock()
        opened: list[StorePassages] = []
        seconds = self.file.deadlines.retrieve_seconds

        def vector(text: str) -> npt.NDArray[np.float32]:
            embedder = self.embedder(spec.embedder)
            found: npt.NDArray[np.float32] = embed_told(embedder, [text], Purpose.QUERY, seconds, self.clock)[0]
            return found

        def retrieve(question_text: str, k: int, /) -> Sequence[Passage]:
            with lock:
                if not opened:
                    endpoint = self._endpoint(spec)
                    embedder = self.embedder(spec.embedder)
                    require_collections_model(endpoint, spec.vector_field, embedder, self._probe(spec))
                    settings = SearchSettings(spec.exact, spec.options)
                    opened.append(StorePassages(endpoint, vector, vector_field=spec.vector_field, settings=settings))
            return opened[0](question_text, k)

        return retrieve


def _refused(model: ChatModel) -> tuple[str, ...]:
    return model.refuses() if isinstance(model, TellsRefusals) else ()


def _fetch_secrets(address: Address) -> None:
    """Raises `ConfigError` for a reference behind which there is nothing."""
    for name, value in address.options.items():
        if value.startswith(REFERENCE_KINDS):
            address.secret(name)


def _nothing(question_text: str, k: int, /) -> Sequence[Passage]:
    return ()


def _as_it_is(question: Question, passages: Sequence[Passage], /) -> RenderedPrompt:
    return RenderedPrompt((ChatMessage("user", question.text),))
