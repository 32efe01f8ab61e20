"""One version of a stack file with everything in it open, for as long as a request is under way on it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from importlib.resources import files
from typing import Final

from exitramp.errors import ConfigError, ModelError
from exitramp.finops.prices import load_price_book
from exitramp.orchestration.bounded import Bounded, InlineCalls, ThreadCalls
from exitramp.orchestration.breaker import CircuitBreaker
from exitramp.orchestration.budget import Budget, BudgetNotice, Ledger
from exitramp.orchestration.building import Builder
from exitramp.orchestration.caching import ExactCache, SemanticCache
from exitramp.orchestration.classifying import TierClassifier
from exitramp.orchestration.client_keys import ClientKeys
from exitramp.orchestration.cutting_off import CallsUnderWay
from exitramp.orchestration.idempotency import IdempotencyJournal
from exitramp.orchestration.named import naming
from exitramp.orchestration.policy import Policy
from exitramp.orchestration.pool import Holding
from exitramp.orchestration.pricing import Pricing
from exitramp.orchestration.prompts import PromptSet, load_prompts
from exitramp.orchestration.router import Router
from exitramp.orchestration.side_calls import SideCall
from exitramp.orchestration.stack import Stack
from exitramp.orchestration.stack_file import PACKAGED, BudgetSpec, StackFile
from exitramp.orchestration.surroundings import Surroundings
from exitramp.orchestration.trace import UNKNOWN_USAGE, TraceLabels, supposed_record
from exitramp.orchestration.trace_files import PromptLog, TraceFile, open_traces
from exitramp.ports import ChatModel, ModelIdentity
from exitramp.records import TraceRecord

_FIXTURES: Final = "exitramp_fixtures"


class Generation:
    """Thread-safe. `retire` closes it when the last request on it has ended; what the next one has too stays open."""

    chats: Router
    stacks: Router | None
    prompts: PromptSet | None

    def __init__(self, file: StackFile, around: Surroundings, before: Generation | None) -> None:
        self.file = file
        self._around = around
        self._holding = Holding(around.pool)
        self._running = 0
        self._is_retired = False
        self._idle = threading.Condition()
        self.under_way = CallsUnderWay()
        self._uncounted: set[str] = set()
        try:
            with naming(file, "keys", file.line_of("keys")):
                around.check(file)
            self.client_keys = ClientKeys.of(file) if around.reads_keys else ClientKeys({})
            self.builder = Builder(file, self._holding, around.network, around.clock, around.around_chat, self._heard)
            self.builder.check()
            self.models: Mapping[str, ChatModel] = {
                name: self.builder.model(spec) for name, spec in file.models.items()
            }
            self.builder.tell_refusals(self.models, around.on_notice)
            self.prompts = self._prompts(None if before is None else before.prompts)
            self.pricing = self._pricing()
            self._open_files()
            self.classifier = self._classifier()
            pricing = self.pricing
            plain = {name: replace(self.builder.plain(name, model), price=None if pricing is None else pricing.priced)
                     for name, model in self.models.items()}  # fmt: skip
            # A model keeps its deadline by its contract, which a suite tests; a thread more was 0.5 ms a call. The
            # client library of a store may hang for good, so stacks have threads of their own.
            self.chats = self._router(
                list(plain.values()), None if before is None else before.chats, lambda name: InlineCalls()
            )
            self.stacks = None
            if file.stacks:
                stacks = [self.builder.stack(name, plain[spec.chat], self.prompts)
                          for name, spec in file.stacks.items()]  # fmt: skip
                if pricing is not None:
                    stacks = [replace(each, price=partial(pricing.priced, stack=each.name)) for each in stacks]
                self.builder.require_models(around.on_notice)
                self.stacks = self._router(stacks, None if before is None else before.stacks)
        except BaseException:  # an interrupt too: what was opened so far is closed
            self._holding.release()
            raise

    @contextmanager
    def request(self) -> Iterator[None]:
        """A request is under way on this version until the block ends."""
        with self._idle:
            self._running += 1
        try:
            yield
        finally:
            with self._idle:
                self._running -= 1
                is_last = self._is_retired and not self._running
                self._idle.notify_all()
            if is_last:
                self._release()

    def retire(self) -> None:
        """No request begins here any more."""
        with self._idle:
            self._is_retired = True
            is_idle = not self._running
        if is_idle:
            self._release()

    def cut_off(self) -> None:
        """Everything ends: what is under way is written down as it stands, and nothing begins any more."""
        if self.journal is not None:
            self.journal.take_no_more()
        self.under_way.cut_off()

    def _release(self) -> None:
        """A call that was left behind may still be under way, whose request has ended long ago."""
        try:
            self.under_way.cut_off()
        finally:
            self._holding.release()

    @property
    def is_retired(self) -> bool:
        with self._idle:
            return self._is_retired

    def wait_idle(self, seconds: float) -> bool:
        """Whether every request had ended in that time."""
        with self._idle:
            return self._idle.wait_for(lambda: not self._running, seconds)

    def append(self, record: TraceRecord) -> None:
        """Write a trace down, and count what it asked beside an answer, which no request has held."""
        if self.traces is not None:
            self.traces.append(record)
        is_beside = record.operation in ("embed", "rerank") and record.status == "ok"
        if self.budget is not None and self.pricing is not None and is_beside:
            spent = self.pricing.spent(record)
            if spent is not None:
                self.budget.spend(spent, record.use_case_id)
            else:
                self._tell_uncounted(record)
        if self._around.on_trace is not None:
            self._around.on_trace(record)

    def doubted(self, call: SideCall, *, use_case: str) -> None:
        """Count what a call beside an answer can have cost at most, where it brought nothing and may have been billed
        all the same; what it did cost is counted with its trace."""
        if self.budget is None or self.pricing is None or call.error is None or not call.error.maybe_billed:
            return
        self.budget.spend(self.pricing.side_call_at_most(call), use_case)

    def priced(self, record: TraceRecord) -> TraceRecord:
        """With what it cost, where there is a price book."""
        return record if self.pricing is None else self.pricing.priced(record)

    def _heard(self, call: SideCall) -> None:
        """What an embedder was asked when the file was opened, which is no question's."""
        usage = call.usage
        record = replace(
            supposed_record(call.identity, 0 if usage is None else usage.prompt_tokens, 0),
            operation=call.operation,
            request_id=f"open-{self.file.sha256[:12]}:{call.operation}",
            ts=self._around.clock.now(),
            use_case_id="open",
            model_id=call.model_id,
            latency_ms=call.latency_ms,
            usage_source=UNKNOWN_USAGE if usage is None else usage.source,
            status="ok" if call.error is None else "error",
            error_class=None if call.error is None else call.error.error_class,
            possibly_billed=call.error is not None and call.error.maybe_billed,
            environment=self.file.environment,
        )
        self.append(self.priced(record))
        self.doubted(call, use_case="open")

    def _tell_uncounted(self, record: TraceRecord) -> None:
        """A price that held when the file was opened holds no more."""
        what = f"{record.provider}/{record.model_id}"
        if what not in self._uncounted:
            self._uncounted.add(what)
            self._around.on_notice(f"the budget does not count what {what} costs: {'; '.join(record.prices_missing)}")

    def _open_files(self) -> None:
        """What keeps answers, counts money and takes traces; what did not change goes on as it is."""
        file, clock, take = self.file, self._around.clock, self._holding.take
        self.journal: IdempotencyJournal | None = None
        self.traces: TraceFile | None = None
        self.prompt_log: PromptLog | None = None
        self.exact: ExactCache | None = None
        self.semantic: SemanticCache | None = None
        self.budget: Budget | None = None
        if (journal := file.journal) is not None:
            with naming(file, "idempotency", file.line_of("idempotency"), hint="name another file, or move this away"):
                self.journal = take(
                    ("journal", journal),
                    lambda: IdempotencyJournal(
                        journal.path, clock=clock, spool=journal.spool, sync=journal.sync, keys_are_hashes=True
                    ),
                )
        if (trace := file.trace) is not None:
            with naming(file, "trace", file.line_of("trace"), hint="name another path, or move this away"):
                self.traces = take(("traces", trace.path, trace.format), lambda: open_traces(trace.path, trace.format))
                if trace.prompts:
                    path = trace.path.with_name(f"{trace.path.name}.prompts.jsonl")
                    self.prompt_log = take(("prompts", path), lambda: PromptLog(path))
        if (exact := file.exact_cache) is not None:
            ttl = exact.ttl_seconds
            with naming(file, "cache.exact", file.line_of("cache")):
                self.exact = take(
                    ("exact", exact),
                    lambda: ExactCache(exact.path, ttl_seconds=ttl, entries=exact.entries, clock=clock),
                )
        if (semantic := file.semantic_cache) is not None:
            address = file.embedders[semantic.embedder].address
            self.semantic = take(("semantic", semantic, address), lambda: SemanticCache(semantic, clock))
        if (budget := file.budget) is not None:
            with naming(file, "budget", file.line_of("budget")):
                self.budget = take(
                    ("budget", budget), lambda: Budget(budget, clock, self._tell_budget, self._ledger(budget))
                )

    def _classifier(self) -> TierClassifier | None:
        """Read anew with the file. Raises `ConfigError` where it is none, or its embedder is not the one that it was
        trained on; an embedder that does not answer is told, and looked at by the first question."""
        spec = None if self.file.routing is None else self.file.routing.classifier
        if spec is None:
            return None
        with naming(self.file, "routing.classifier", spec.line):
            found = TierClassifier(spec, self.builder.embedder(spec.embedder), self._around.clock)
            try:
                told = found.require_embedder()
            except ModelError as error:
                told = f"whether '{spec.embedder}' is the embedder it was trained on is not known yet: {error.message}"
        if told is not None:
            self._around.on_notice(f"routing.classifier: {told}")
        return found

    def _ledger(self, budget: BudgetSpec) -> Ledger:
        """The same for every version that names the same file, or none: a cap that is edited forgets nothing."""
        found: Ledger = self._holding.take(("ledger", budget.path), lambda: Ledger(budget.path))
        return found

    def _tell_budget(self, notice: BudgetNotice) -> None:
        actions = ", ".join(notice.actions)
        self._around.on_notice(
            f"budget of {notice.window}: {notice.share:.0%} is spent or held; from {notice.at:.0%} on: {actions}"
        )

    def _prompts(self, before: PromptSet | None) -> PromptSet | None:
        """Raises `ConfigError` where one cannot be used, or one is gone that questions are answered by."""
        file, line = self.file, self.file.line_of("prompts")
        if not file.packaged_prompts and file.prompts is None:
            return None
        with naming(file, "prompts", line):
            if file.prompts is not None and not file.prompts.is_dir():
                hint = f"name a folder of .mustache files, or write prompts: {PACKAGED}; a path is relative to the file"
                raise ConfigError(f"there is no folder {file.prompts}", hint=hint)
            place = file.prompts or files(_FIXTURES) / "prompts"
            found = load_prompts(place, where=f"{file.file}:{line}", clock=self._around.clock)
            if file.stacks:
                found.check()
        if before is not None:
            found.take_over(before)
        return found

    def _pricing(self) -> Pricing | None:
        """Raises `ConfigError` where there is a budget and no price for something that it would have to count."""
        file = self.file
        if file.prices is None:
            return None
        what = "docs/costs.md says what stands in a price book"
        with naming(file, "prices", file.line_of("prices"), hint=f"mend the price book; {what}"):
            if not file.prices.exists():
                hint = f"{what}; a path in the file is relative to the file"
                raise ConfigError(f"there is no file {file.prices}", hint=hint)
            book = load_price_book(file.prices)
        rerankers = self.builder.rerankers()
        found = Pricing(book, rerankers)
        if file.budget is None:
            return found
        chats = [(f"model '{name}'", model.identity(), "chat") for name, model in self.models.items()]
        embedders = [(f"embedder '{name}'", self.builder.embedder(name).identity(), "embed") for name in file.embedders]
        for what, identity, operation in [*chats, *embedders]:
            record = replace(supposed_record(identity, 1, int(operation == "chat")), operation=operation)
            if found.spent(record) is None:
                raise self._without_price(f"the tokens of the {what}", identity)
        for name, identity in rerankers.items():
            if not found.counts_reranking(identity):
                raise self._without_price(f"what reranks for the stack '{name}', by candidates or by tokens", identity)
        return found

    def _without_price(self, what: str, identity: ModelIdentity) -> ConfigError:
        assert self.file.prices is not None
        return ConfigError(
            f"a budget needs prices, and {self.file.prices.name} has none for {what} "
            f"({identity.provider}/{identity.model})",
            file=self.file.file,
            line=self.file.line_of("budget"),
            hint="add a row with its source; a price of zero is a row with amount 0",
        )

    def _router(
        self, stacks: Sequence[Stack], before: Router | None, bounded: Callable[[str], Bounded] = ThreadCalls
    ) -> Router:
        """With the breakers of the router before it, for what is asked in the same place as before."""
        file = self.file
        policy = Policy(
            deadline_seconds=file.deadlines.request_seconds,
            attempt_seconds=file.deadlines.attempt_seconds,
            retrieve_seconds=file.deadlines.retrieve_seconds,
            backoff=file.retry,
            retry_timeouts=file.retry_timeouts,
            breaker=file.breaker,
        )
        kept: dict[str, CircuitBreaker] = {}
        for stack in stacks:
            old = before.find(stack.name) if before is not None else None
            if before is not None and old is not None and old.model is stack.model and old.store == stack.store:
                breaker = before.breaker(stack.name)
                if breaker.settings == policy.breaker:
                    kept[stack.name] = breaker
        return Router(
            stacks,
            policy=policy,
            clock=self._around.clock,
            seed=self._around.seed,
            journal=self.journal,
            traces=self,
            labels=TraceLabels(environment=file.environment),
            breakers=kept,
            bounded=bounded,
            under_way=self.under_way,
        )
