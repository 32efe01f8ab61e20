"""What a thread does with one question: ask until there is an answer or no hope, and measure what came."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from exitramp.backoff import Backoff
from exitramp.clock import Clock
from exitramp.errors import ModelError
from exitramp.evals.checks import ASKS_A_MODEL
from exitramp.evals.measuring import Measured, Measurer
from exitramp.evals.runs.folder import Place
from exitramp.evals.runs.replay_cache import ReplayCache
from exitramp.evals.runs.spending import supposed_ways
from exitramp.evals.runs.subject import Prompted, Reply, Subject, SubjectFailed
from exitramp.evals.runs.tracing import RunTraces, request_id
from exitramp.evals.sets.case import Case
from exitramp.finops.unit_cost import answer_of
from exitramp.orchestration.holding import Limit, covered
from exitramp.orchestration.side_calls import SideCall, hearing
from exitramp.ports import ChatAnswer, ModelIdentity
from exitramp.records import TraceRecord
from exitramp.secrets import redact


@dataclass(frozen=True, slots=True)
class Asking:
    """How cases are asked. `maximum_tokens` is for cost estimates."""

    repeats: int = 1
    concurrency: int = 4
    timeout_seconds: float = 60.0
    backoff: Backoff = Backoff()
    keep_answers: bool = False
    retry_errors: bool = False
    maximum_tokens: int = 512


@dataclass(frozen=True, slots=True)
class Answered:
    """What a run keeps of one question, and what its tries and judgements cost."""

    place: Place
    data: dict[str, Any]
    traces: tuple[TraceRecord, ...]


class Questions:
    """Questions of one run, asked by any number of threads."""

    def __init__(
        self,
        subject: Subject,
        measurer: Measurer,
        traces: RunTraces,
        asking: Asking,
        cache: ReplayCache | None,
        clock: Clock,
        run_id: str,
        is_sent: Callable[[str], bool],
        covers: Callable[[str, int], bool] = lambda key, tries: True,
        was_answered: Callable[[Place], bool] = lambda place: False,
        covers_more: Callable[[str, TraceRecord, TraceRecord], bool] = lambda key, record, thought: True,
    ) -> None:
        """`is_sent`: whether a question of that idempotency key left, and was not given again what it had got.
        `covers`: whether so many tries of a request may be billed; `covers_more`: whether it may be sent as the first
        record says, where the second was put aside for. `was_answered`: whether this run itself had the
        answer before, in a start that was killed."""
        self.subject = subject
        self.asking = asking
        self.asked = 0
        self._measurer = measurer
        self._traces = traces
        self._cache = cache
        self._clock = clock
        self._run_id = run_id
        self._is_sent = is_sent
        self._covers = covers
        self._more_covered = covers_more
        self._was_answered = was_answered
        self._described = dict(subject.describe())

    def ask(self, case: Case, place: Place) -> Answered:
        self.asked += 1
        sent = self.subject.sent(case)
        cached = self._cache.key(self._described, case, sent, place[1]) if self._cache is not None else None
        found = self._cache.get(cached) if self._cache is not None and cached is not None else None
        if found is not None and (found.answered_by is not None or self._described["kind"] != "stack"):
            return self._measured(case, place, found, None, (), is_kept=True)
        reply, error, traces = self._asked(case, place, sent)
        answered = self._measured(case, place, reply, error, traces, is_kept=False)
        is_whole = reply is not None and answered.data["outcome"] != "truncated"
        # A stand-in's answer is not kept: once the first one answers again, it is to be asked.
        is_kept = is_whole and reply is not None and reply.stands_in_for is None
        if reply is not None and is_kept and self._cache is not None and cached is not None:
            self._cache.put(cached, reply)
        return answered

    def _asked(
        self, case: Case, place: Place, sent: Prompted
    ) -> tuple[Reply | None, ModelError | None, tuple[TraceRecord, ...]]:
        """One answer, after as many tries as may help. Every try has its trace."""
        key = request_id(place)
        rng = random.Random(key)
        traces: list[TraceRecord] = []
        retry = 0
        while True:
            started = self._clock.monotonic()
            doubtful = sum(trace.possibly_billed for trace in traces)
            try:
                limit = Limit(partial(self._covers_more, key, doubtful), partial(self._more_covered, key))
                with covered(limit):
                    reply = _named(self.subject.ask(case, key=self._key(case, place), timeout_seconds=self._timeout))
            except ModelError as error:
                milliseconds = (self._clock.monotonic() - started) * 1000.0
                own = error.traces if isinstance(error, SubjectFailed) else None
                traces += self._traced(case, place, sent, own, None, error, milliseconds, retry)
                retry += 1
                after = error.retry_after_seconds
                pause = self.asking.backoff.wait_seconds(retry, rng, retry_after_seconds=after)
                doubtful = sum(trace.possibly_billed for trace in traces)
                if not error.retryable or pause is None or not self._covers(key, doubtful + 1):
                    return None, error, tuple(traces)
                self._clock.sleep(pause)
                continue
            traces += self._traced(case, place, sent, reply.traces, reply, None, reply.latency_ms, retry)
            return reply, None, tuple(traces)

    def _traced(
        self,
        case: Case,
        place: Place,
        sent: Prompted,
        own: Sequence[TraceRecord] | None,
        reply: Reply | None,
        error: ModelError | None,
        latency_ms: float,
        retries: int,
    ) -> list[TraceRecord]:
        """A try's records: those that the subject traced itself, which are none where nobody was asked; or one."""
        if own is not None:
            return self._traces.own(place, own)
        return [
            self._traces.asked(
                case,
                place,
                sent,
                self.subject.identity(),
                reply,
                error,
                latency_ms=latency_ms,
                retries=retries,
                deadline_seconds=self._timeout,
            )
        ]

    def _covers_more(self, key: str, doubtful: int, tries: int) -> bool:
        return self._covers(key, doubtful + tries)

    def measuring(self, case: Case) -> tuple[TraceRecord, ...]:
        """What measuring an answer would ask of models at most."""
        return self._measurer.supposed(case, self.asking.maximum_tokens)

    def ways(self, case: Case) -> list[tuple[TraceRecord, ...]]:
        return supposed_ways(self.subject, self._measurer, case, self.asking.maximum_tokens)

    @property
    def _timeout(self) -> float:
        return self.asking.timeout_seconds

    def _key(self, case: Case, place: Place) -> str:
        """Stable over retries and over starts of the same run, and another one in another run."""
        return hashlib.sha256(f"{self._run_id}/{case.sha256}/{place[1]}".encode()).hexdigest()

    def _measured(
        self,
        case: Case,
        place: Place,
        reply: Reply | None,
        error: ModelError | None,
        traces: tuple[TraceRecord, ...],
        *,
        is_kept: bool,
    ) -> Answered:
        """`is_kept`: whether the reply is out of the replay cache."""
        error_class = error.error_class if error else None
        embedded: list[SideCall] = []
        with hearing(embedded.append):
            measured = self._measurer.measure(
                case,
                reply.text if reply else None,
                finish_reason=reply.finish_reason if reply else None,
                error_class=error_class,
                retrieved_ids=reply.retrieved_ids if reply else None,
                key=self._key(case, place),
            )
        alike = tuple(self._traces.compared(case, place, call) for call in embedded)
        judged = tuple(
            self._traces.judged(case, place, number, self._measurer.judge_identity(), said)
            for number, said in enumerate(measured.judgements)
        )
        replayed = is_kept and not self._was_answered(place)
        data = self._result(case, reply, error_class, measured, traces, replayed) | _whose(reply, error)
        # A judge, an embedder for similarity and retrieval are asked anew and may bill anew, whatever was recorded.
        asks_others = any(check.kind in ASKS_A_MODEL for check in case.checks)
        retrieves = not is_kept and reply is not None and reply.retrieved_ids is not None
        is_sent = not is_kept and self._is_sent(self._key(case, place))
        if reply is not None and not (asks_others or retrieves or is_sent):
            data["given_again"] = True
        return Answered(place, data, (*traces, *judged, *alike))

    def _result(
        self,
        case: Case,
        reply: Reply | None,
        error_class: str | None,
        measured: Measured,
        traces: tuple[TraceRecord, ...],
        replayed: bool,
    ) -> dict[str, Any]:
        usage = reply.usage if reply else None
        identity: ModelIdentity = self.subject.identity()
        judged = [said.usage for said in measured.judgements if isinstance(said, ChatAnswer)]
        data: dict[str, Any] = {
            "case_sha256": case.sha256,
            "question_sha256": case.question_sha256,
            "use_case": case.use_case,
            "labelled": bool(case.checks),
            "outcome": measured.outcome.value if measured.outcome else None,
            "checks": [check.to_json() for check in measured.checks],
            "values": dict(measured.values),
            "error_class": error_class,
            "finish_reason": reply.finish_reason if reply else None,
            "model_id": reply.model_id if reply else None,
            "mock": identity.is_mock,
            "latency_ms": round(reply.latency_ms, 3) if reply else None,
            "attempts": sum(answer_of(trace) is None for trace in traces),
            "replayed": replayed,
            "retrieved_ids": list(reply.retrieved_ids) if reply and reply.retrieved_ids is not None else None,
            "answer_sha256": _sha256(reply.text) if reply else None,
            "prompt_tokens": usage.prompt_tokens if usage else 0,
            "gen_tokens": usage.gen_tokens if usage else 0,
            "judge_tokens": [sum(each.prompt_tokens for each in judged), sum(each.gen_tokens for each in judged)],
        }
        if self.asking.keep_answers:
            data["answer"] = reply.text if reply else None
        return data


def _whose(reply: Reply | None, error: ModelError | None) -> dict[str, Any]:
    """Which stack answered, and for whom it stood in; or what kept a stack from answering, where its store tells."""
    if reply is not None and reply.answered_by is not None:
        found: dict[str, Any] = {"answered_by": reply.answered_by}
        if reply.stands_in_for is not None:
            found |= {"stands_in_for": reply.stands_in_for, "stands_in_because": reply.stands_in_because}
        return found
    if not isinstance(error, SubjectFailed):
        return {}
    said = {} if error.store_said is None else {"store_said": redact(error.store_said)}
    return said | ({} if error.was_asked else {"was_asked": False})


def _named(reply: Reply) -> Reply:
    """With nothing secret in the vendor's own names: some put the key that they were sent there."""
    finish = reply.finish_reason
    return replace(reply, model_id=redact(reply.model_id), finish_reason=None if finish is None else redact(finish))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
