"""One request on its way through an opened stack file: routed, looked up, reserved for, asked, settled."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final

from exitramp.clock import Clock
from exitramp.errors import DataInvalid, ModelError, SpendExceeded
from exitramp.orchestration.answered import Answered, NotAnswered
from exitramp.orchestration.caching import KEPT_REASONS, cache_key, unit
from exitramp.orchestration.handling import Handling
from exitramp.orchestration.idempotency import StoredAnswer
from exitramp.orchestration.opened import Generation
from exitramp.orchestration.outcome import Outcome
from exitramp.orchestration.reranking import embed_told
from exitramp.orchestration.router import Router
from exitramp.orchestration.routing import Judged, Routed, route
from exitramp.orchestration.side_calls import QuestionVectors, SideCall, hearing
from exitramp.orchestration.spending import Spending
from exitramp.orchestration.stack import Question
from exitramp.orchestration.stack_file import Action, Commit
from exitramp.orchestration.trace import TraceLabels, side_trace_of, supposed_record
from exitramp.ports import ChatDelta, ChatMessage, ModelIdentity, Purpose
from exitramp.records import TraceRecord

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

FREE: Final = "local"
"""The provider of models on one's own machine, which cost no tokens and are asked when nothing may be spent."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the caller says of one request."""

    operation: str
    is_keyed: bool
    tenant: str | None = None
    pii: bool = False
    complexity: float | None = None
    use_cache: bool = True
    on_delta: Callable[[ChatDelta], None] | None = None
    on_restart: Callable[[], None] | None = None


class Asking:
    """A question to the models or the stacks of one version. Used once.

    names: who may be asked, in the file's order. models: of each of them, which model it asks.
    """

    def __init__(
        self,
        opened: Generation,
        router: Router,
        question: Question,
        names: tuple[str, ...],
        models: Mapping[str, str],
        wishes: Wishes,
        clock: Clock,
    ) -> None:
        self._opened = opened
        self._router = router
        self._question = question
        self._models = models
        self._wishes = wishes
        self._clock = clock
        self._began = clock.monotonic()
        self._spending = Spending(opened, router, question, self._identity)
        self._beside: list[TraceRecord] = []
        self._vectors = QuestionVectors()
        self._vector: npt.NDArray[np.float32] | None = None
        self._key = self._group = ""
        actions = opened.budget.actions(question.use_case_id) if opened.budget is not None else frozenset()
        self._is_cache_only = Action.CACHE_ONLY in actions
        tiers = {name: opened.file.models[models[name]].tier for name in names}
        journal = opened.journal
        is_known = wishes.is_keyed and journal is not None and journal.has_answer(question.id)
        is_degraded = Action.DEGRADE_TO_SMALL in actions

        def routed(*, small_only: bool) -> Routed:
            return route(
                opened.file.routing,
                names,
                tiers,
                text=question.text,
                complexity=wishes.complexity,
                pii=wishes.pii,
                small_only=small_only,
                judge=None if opened.classifier is None or is_known else self._judged,
            )

        self._routed = routed(small_only=is_degraded)
        # What was kept while there was money is given too; what a small model said since is kept as what it is.
        self._tiers = dict.fromkeys((routed(small_only=False).tier, self._routed.tier) if is_degraded else ())
        self._tiers[self._routed.tier] = None
        if self._is_cache_only:
            free = tuple(name for name in self._routed.order if self._identity(name).provider == FREE)
            self._routed = Routed(free, self._routed.tier, "budget")

    def _judged(self, text: str) -> Judged:
        """What the stack file's classifier says of it; its embedder is asked for nothing that no money is left for."""
        classifier = self._opened.classifier
        assert classifier is not None
        if self._is_cache_only and not self._is_free(classifier.spec.embedder):
            return Judged(None, "not classified: budget")
        with hearing(partial(self._heard, ending="route"), self._vectors, self._opened.under_way):
            return classifier.judge(text)

    def answered(self) -> Answered:
        """Raises `NotAnswered`, or `SpendExceeded` where it may not be asked."""
        wishes = self._wishes
        handling = Handling(
            order=self._routed.order,
            tier=self._routed.tier,
            reason=self._routed.reason,
            tenant=wishes.tenant,
            operation=wishes.operation,
            is_keyed=wishes.is_keyed,
            on_delta=wishes.on_delta,
            on_restart=wishes.on_restart,
            at_first_token=self._opened.file.commit is Commit.FIRST_TOKEN,
            beforehand=self._beforehand,
            begins=self._spending.begins,
            may_send=self._spending.may_send,
            ended=self._spending.ended,
            doubted=partial(self._opened.doubted, use_case=self._question.use_case_id),
            under_way=self._opened.request,
            vectors=self._vectors,
            hedge_after_seconds=self._opened.file.hedge_after_seconds,
        )
        begun = self._opened.under_way.begins(self._spending.settle)
        try:
            outcome = self._router.ask(self._question, handling=handling)
        finally:
            with begun.ends():
                self._spending.settle()
        return self._ended(replace(outcome, beside=(*self._beside, *outcome.beside)))

    def _ended(self, outcome: Outcome) -> Answered:
        answer = outcome.answer
        if self._opened.prompt_log is not None:
            self._opened.prompt_log.append(outcome.question_id, self._messages(), answer)
        if answer is None or outcome.stack is None:
            raise NotAnswered(outcome)
        if not outcome.attempts and self._wishes.on_delta is not None:  # it was known, and nobody told its pieces
            if answer.text:
                self._wishes.on_delta(ChatDelta(answer.text))
            for place, call in enumerate(answer.tool_calls):
                self._wishes.on_delta(ChatDelta(tool_call=(place, call)))
        if outcome.attempts and self._may_cache and answer.finish_reason in KEPT_REASONS:
            stored = StoredAnswer(answer, outcome.stack, outcome.retrieved_ids, outcome.is_mock)
            if self._opened.exact is not None:
                self._opened.exact.put(self._key, stored)
            if self._opened.semantic is not None and self._vector is not None:
                self._opened.semantic.put(self._group, self._vector, stored)
        return Answered(outcome.question_id, answer, outcome.stack, outcome.is_mock, outcome.from_cache, outcome)

    def _beforehand(self) -> tuple[StoredAnswer, str] | None:
        found = self._cached()
        if found is not None:
            self._opened.append(self._cache_record(*found))
            return found
        if self._is_cache_only and not self._routed.order:
            raise SpendExceeded(
                "so much of the budget is spent or held that only answers that are kept are given, and this is none",
                hint="wait for the next day or month in UTC, or raise the cap in the stack file",
            )
        self._spending.hold(self._routed.order)
        return None

    @property
    def _may_cache(self) -> bool:
        return self._wishes.use_cache and not self._wishes.pii and bool(self._routed.order or self._is_cache_only)

    def _cached(self) -> tuple[StoredAnswer, str] | None:
        opened, question = self._opened, self._question
        if not self._may_cache or (opened.exact is None and opened.semantic is None):
            return None
        request = question.request
        asked = None if request is None else asdict(replace(request, idempotency_key=None, stream=False))
        places = [(name, opened.file.models[self._models[name]].address.text) for name in self._models]
        common = [
            (
                self._wishes.operation, self._wishes.tenant, question.use_case_id, question.depth_k,
                question.maximum_tokens, question.temperature, tier, places, self._setting(),
                *([question.stop] if question.stop else []),
            )
            for tier in self._tiers
        ]  # fmt: skip
        keys = [cache_key(each, question.text, asked) for each in common]
        self._key = keys[-1]
        if opened.exact is not None:
            for key in keys:
                if (stored := opened.exact.get(key)) is not None:
                    return stored, "exact"
        if opened.semantic is None or (request is not None and request.messages[-1].role != "user"):
            return None
        if request is not None:
            asked = asdict(replace(request, idempotency_key=None, stream=False, messages=request.messages[:-1]))
        groups = [cache_key(each, asked) for each in common]
        self._group = groups[-1]
        if (
            self._is_cache_only
            and opened.file.semantic_cache
            and not self._is_free(opened.file.semantic_cache.embedder)
        ):
            return None
        self._vector = self._embedded(question.text)
        if self._vector is None:
            return None
        for group in groups:
            if (stored := opened.semantic.get(group, self._vector)) is not None:
                return stored, "semantic"
        return None

    def _is_free(self, embedder: str) -> bool:
        """Whether one of the file's embedders costs nothing."""
        pricing = self._opened.pricing
        if pricing is None:
            return True
        identity = self._opened.builder.embedder(embedder).identity()
        return pricing.spent(replace(supposed_record(identity, 1000, 0), operation="embed")) == 0

    def _setting(self) -> list[object]:
        """What a stack answers from: another store or another prompt is another answer."""
        file = self._opened.file
        if self._question.request is not None:
            return []
        stores = [(name, "" if spec.store is None else repr(replace(file.stores[spec.store], line=0)))
                  for name, spec in file.stacks.items()]  # fmt: skip
        embedders = [(name, spec.address.text) for name, spec in file.embedders.items()]
        prompts = self._opened.prompts
        return [stores, embedders, None if prompts is None else prompts.for_use_case(self._question.use_case_id).sha256]

    def _embedded(self, text: str) -> npt.NDArray[np.float32] | None:
        """None where the embedder fails: then the question is asked, and the failure stands in the traces."""
        opened = self._opened
        spec = opened.file.semantic_cache
        assert spec is not None
        embedder = opened.builder.embedder(spec.embedder)
        seconds = opened.file.deadlines.retrieve_seconds
        classifier = opened.classifier
        try:
            with hearing(partial(self._heard, ending="cache"), self._vectors, opened.under_way):
                if classifier is not None and classifier.spec.embedder == spec.embedder:
                    return unit(classifier.vector(text))
                return unit(embed_told(embedder, [text], Purpose.QUERY, seconds, self._clock)[0])
        except (ModelError, DataInvalid):
            return None

    def _heard(self, call: SideCall, *, ending: str) -> None:
        labels, handling = TraceLabels(environment=self._opened.file.environment), Handling(tenant=self._wishes.tenant)
        number = len(self._beside) + 1
        record = self._opened.priced(
            side_trace_of(
                self._question, call, number, labels, ended=self._clock.now(), handling=handling, ending=ending
            )
        )
        self._beside.append(record)
        self._opened.append(record)
        self._opened.doubted(call, use_case=self._question.use_case_id)

    def _cache_record(self, stored: StoredAnswer, kind: str) -> TraceRecord:
        """An answer that nobody was asked for: no tokens, no vendor."""
        model = self._opened.models[self._models.get(stored.stack, stored.stack)]
        record = replace(
            supposed_record(model.identity(), 0, 0),
            request_id=self._question.id,
            ts=self._clock.now(),
            use_case_id=self._question.use_case_id,
            operation=self._wishes.operation,
            model_id=stored.answer.model_id,
            latency_ms=(self._clock.monotonic() - self._began) * 1000.0,
            cache_hit=True,
            cache_hit_kind=kind,
            finish_reason=stored.answer.finish_reason,
            route_tier=self._routed.tier,
            route_reason="cache" if self._routed.reason is None else f"cache; {self._routed.reason}",
            tenant=self._wishes.tenant,
            environment=self._opened.file.environment,
            tags=self._question.tags,
        )
        return self._opened.priced(record)

    def _messages(self) -> tuple[ChatMessage, ...]:
        request = self._question.request
        return (ChatMessage("user", self._question.text),) if request is None else request.messages

    def _identity(self, name: str) -> ModelIdentity:
        return self._opened.models[self._models[name]].identity()


def new_id() -> str:
    return uuid.uuid4().hex
