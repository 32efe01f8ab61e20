"""What a run writes down of every call: of the subject, of a judge, of an embedder that measures. All carry the tag of
an eval, so that nobody takes them for the application's."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from exitramp.clock import Clock
from exitramp.errors import ModelError
from exitramp.evals.runs.folder import Place
from exitramp.evals.runs.subject import Prompted, Reply
from exitramp.evals.sets.case import Case
from exitramp.finops.unit_cost import answer_of
from exitramp.orchestration.side_calls import SideCall
from exitramp.orchestration.stack import Question
from exitramp.orchestration.trace import (
    RECORD_VERSION,
    UNKNOWN_USAGE,
    TraceLabels,
    TraceWriter,
    side_trace_of,
    supposed_record,
)
from exitramp.ports import ChatAnswer, ModelIdentity
from exitramp.records import EVAL_TAG, TraceRecord
from exitramp.secrets import redact

_TAGS: Final = (EVAL_TAG, "golden")


def request_id(place: Place) -> str:
    """A question's id in the traces."""
    return f"{place[0]}/{place[1]}"


class RunTraces:
    """Writes the records of one run, from any number of threads: a question is one thread's alone.

    attempts: how many of each request were written before, by a start of the same run that ended.
    """

    def __init__(self, writer: TraceWriter, clock: Clock, attempts: Counter[str], run_id: str) -> None:
        self._writer = writer
        self._run_id = run_id
        self._clock = clock
        self._attempts = attempts

    def own(self, place: Place, records: Sequence[TraceRecord]) -> list[TraceRecord]:
        """What a subject traced itself, under the run's id of the question, what it asked beside the answer too."""
        key, written = request_id(place), []
        for record in records:
            beside = answer_of(record)
            name = key if beside is None else f"{key}{record.request_id.removeprefix(beside)}"
            tags = tuple(dict.fromkeys((*record.tags, *_TAGS)))
            told = replace(record, model_id=redact(record.model_id), tags=tags)
            told = replace(told, request_id=name, attempt=self._number(name))  # its span says what it is a copy of
            self._writer.append(told)
            written.append(told)
        return written

    def asked(
        self,
        case: Case,
        place: Place,
        sent: Prompted,
        identity: ModelIdentity,
        reply: Reply | None,
        error: ModelError | None,
        *,
        latency_ms: float,
        retries: int,
        deadline_seconds: float,
    ) -> TraceRecord:
        """One try of a subject that traces nothing itself."""
        key = request_id(place)
        usage = reply.usage if reply else None
        prompt = (reply.prompt if reply else None) or sent.prompt or (None, None, None)
        return self._written(
            TraceRecord(
                record_version=RECORD_VERSION,
                request_id=key,
                attempt=self._number(key),
                ts=self._clock.now(),
                use_case_id=case.use_case,
                operation="answer",
                provider=identity.provider,
                model_id_requested=identity.model,
                model_id=reply.model_id if reply else identity.model,
                status="ok" if reply else "error",
                latency_ms=latency_ms,
                prompt_tokens=usage.prompt_tokens if usage else 0,
                gen_tokens=usage.gen_tokens if usage else 0,
                cache_read_tokens=usage.cache_read_tokens if usage else 0,
                cache_write_tokens=usage.cache_write_tokens if usage else 0,
                reasoning_tokens=usage.reasoning_tokens if usage else 0,
                usage_source=usage.source if usage else UNKNOWN_USAGE,
                time_to_first_token_ms=reply.time_to_first_token_ms if reply else None,
                error_class=error.error_class if error else None,
                http_status=error.http_status if error else None,
                finish_reason=reply.finish_reason if reply else None,
                retries=retries,
                deadline_seconds=deadline_seconds,
                idempotency_key_sha256=hashlib.sha256(key.encode()).hexdigest(),
                possibly_billed=error.maybe_billed if error else False,
                prompt_name=prompt[0],
                prompt_version=prompt[1],
                prompt_sha256=prompt[2],
                tags=_TAGS,
                synthetic=identity.is_mock,
            )
        )

    def compared(self, case: Case, place: Place, call: SideCall) -> TraceRecord:
        """An embedding for a check by similarity: not the subject's cost, but the run's."""
        question = Question(f"{request_id(place)}/check", "", case.use_case, tags=(*_TAGS, "check"))
        number = self._number(f"{question.id}:{call.operation}")
        labels = TraceLabels(synthetic=call.identity.is_mock)
        return self._written(side_trace_of(question, call, number, labels, ended=self._clock.now()))

    def judged(
        self, case: Case, place: Place, number: int, identity: ModelIdentity, said: ChatAnswer | ModelError
    ) -> TraceRecord:
        """A judgement costs too, as a request of its own, and one that failed may."""
        key = f"{request_id(place)}/judge/{number}"
        record = replace(
            supposed_record(identity, 0, 0),
            request_id=key,
            attempt=self._number(key),
            ts=self._clock.now(),
            use_case_id=case.use_case,
            operation="judge",
            usage_source=UNKNOWN_USAGE,
            tags=(*_TAGS, "judge"),
            synthetic=identity.is_mock,
        )
        if isinstance(said, ModelError):
            return self._written(
                replace(
                    record,
                    status="error",
                    error_class=said.error_class,
                    http_status=said.http_status,
                    possibly_billed=said.maybe_billed,
                )
            )
        return self._written(
            replace(
                record,
                model_id=said.model_id,
                latency_ms=said.latency_ms,
                prompt_tokens=said.usage.prompt_tokens,
                gen_tokens=said.usage.gen_tokens,
                cache_read_tokens=said.usage.cache_read_tokens,
                cache_write_tokens=said.usage.cache_write_tokens,
                reasoning_tokens=said.usage.reasoning_tokens,
                usage_source=said.usage.source,
                finish_reason=said.finish_reason,
            )
        )

    def _number(self, request: str) -> int:
        self._attempts[request] += 1
        return self._attempts[request]

    def _written(self, record: TraceRecord) -> TraceRecord:
        """Under ids that are this run's: another run of the same set names its questions alike."""
        trace = hashlib.sha256(f"{self._run_id}/{answer_of(record) or record.request_id}".encode()).hexdigest()[:32]
        span = hashlib.sha256(f"{trace}/{record.request_id}#{record.attempt}".encode()).hexdigest()[:16]
        record = replace(record, trace_id=trace, span_id=span)
        self._writer.append(record)
        return record
