"""Trace records on disk: a line each as it happens, a Parquet file at the end. No text of a prompt or an answer."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

from exitramp.clock import iso_utc
from exitramp.errors import JournalCorrupt, UsageError
from exitramp.orchestration.attempts import Try
from exitramp.orchestration.handling import PLAIN, Handling
from exitramp.orchestration.outcome import RouteReason
from exitramp.orchestration.side_calls import SideCall
from exitramp.orchestration.stack import Question
from exitramp.orchestration.trace_fields import KINDS, NotARecord, record_of
from exitramp.ports import ModelIdentity
from exitramp.records import TraceRecord

if TYPE_CHECKING:
    import pyarrow as pa

RECORD_VERSION: Final = 2
"""2 has the cost by part; what 1 wrote is read as well."""
UNKNOWN_USAGE: Final = "unknown"
_MONEY: Final = tuple(name for name, kind in KINDS.items() if kind == "Decimal")
_LISTS: Final = tuple(name for name, kind in KINDS.items() if kind.startswith("tuple"))


@dataclass(frozen=True, slots=True)
class TraceLabels:
    """What every trace of a run is marked with."""

    tenant: str | None = None
    environment: str | None = None
    tags: tuple[str, ...] = ()
    drill_id: str | None = None
    synthetic: bool = False


@dataclass(frozen=True, slots=True)
class Route:
    """How an attempt came about: its number in the request and on its stack, and whom it stands in for.

    is_late: another stack's answer was taken before this one's came, which is paid all the same.
    """

    number: int
    retries: int
    reason: RouteReason
    fallback_from: str | None
    store: str
    deadline_seconds: float
    queue_ms: float
    is_late: bool = False


def trace_of(
    question: Question,
    made: Try,
    route: Route,
    identity: ModelIdentity,
    labels: TraceLabels,
    *,
    ended: datetime,
    handling: Handling = PLAIN,
) -> TraceRecord:
    """The record of one attempt. `ts` is when it ended; the cost is filled in by whoever knows the prices."""
    answer, failure, prompt = made.answer, made.failure, made.prompt
    usage = answer.usage if answer else None
    return TraceRecord(
        record_version=RECORD_VERSION,
        request_id=question.id,
        attempt=route.number,
        ts=ended,
        use_case_id=question.use_case_id,
        operation=handling.operation,
        provider=identity.provider,
        model_id_requested=identity.model,
        model_id=answer.model_id if answer else identity.model,
        status="cancelled" if answer and route.is_late else "ok" if answer else "error",
        latency_ms=made.duration_seconds * 1000.0,
        prompt_tokens=usage.prompt_tokens if usage else 0,
        gen_tokens=usage.gen_tokens if usage else 0,
        cache_read_tokens=usage.cache_read_tokens if usage else 0,
        cache_write_tokens=usage.cache_write_tokens if usage else 0,
        reasoning_tokens=usage.reasoning_tokens if usage else 0,
        usage_source=usage.source if usage else UNKNOWN_USAGE,
        queries=1 if made.has_retrieved else 0,
        depth_k=question.depth_k if question.request is None else 0,
        vector_reads=made.fetched if made.has_retrieved else 0,
        rerank_n=made.reranked,
        time_to_first_token_ms=answer.time_to_first_token_ms if answer else None,
        queue_ms=route.queue_ms + made.queued_seconds * 1000.0,
        error_class=failure.error_class if failure else None,
        http_status=failure.http_status if failure else None,
        finish_reason=answer.finish_reason if answer else None,
        retries=route.retries,
        deadline_seconds=route.deadline_seconds,
        idempotency_key_sha256=hashlib.sha256(question.id.encode()).hexdigest(),
        possibly_billed=failure.maybe_billed if failure else route.is_late,
        store=route.store,
        route_tier=handling.tier,
        route_reason="; ".join(_reasons(made, route, handling)),
        fallback_from=route.fallback_from,
        prompt_name=prompt.name if prompt else None,
        prompt_version=prompt.version if prompt else None,
        prompt_sha256=prompt.sha256 if prompt else None,
        tenant=handling.tenant or labels.tenant,
        environment=labels.environment,
        tags=(*labels.tags, *question.tags),
        trace_id=_hex(question.id, 32),
        span_id=_hex(f"{question.id}#{route.number}", 16),
        drill_id=labels.drill_id,
        synthetic=labels.synthetic,
    )


def _hex(text: str, digits: int) -> str:
    """An id as OpenTelemetry writes them: the records of one request have one trace id."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:digits]


def _reasons(made: Try, route: Route, handling: Handling) -> list[str]:
    found = [route.reason.value]
    if handling.reason is not None:
        found.append(handling.reason)
    if made.not_reranked is not None:
        found.append(f"not reranked: {made.not_reranked}")
    return found


def side_trace_of(
    question: Question,
    call: SideCall,
    number: int,
    labels: TraceLabels,
    *,
    ended: datetime,
    handling: Handling = PLAIN,
    ending: str | None = None,
) -> TraceRecord:
    """The record of what was asked of a model beside the answer, the `number`th of its request: a request of its own,
    named after the other, so that the answer's attempts stay what they are. `ending` is what its id ends with."""
    usage, error = call.usage, call.error
    request_id = f"{question.id}:{ending or call.operation}"
    return replace(
        supposed_record(call.identity, usage.prompt_tokens if usage else 0, 0),
        request_id=request_id,
        trace_id=_hex(question.id, 32),
        span_id=_hex(f"{request_id}#{number}", 16),
        attempt=number,
        ts=ended,
        use_case_id=question.use_case_id,
        operation=call.operation,
        model_id=call.model_id,
        latency_ms=call.latency_ms,
        usage_source=usage.source if usage else UNKNOWN_USAGE,
        status="ok" if error is None else "error",
        error_class=None if error is None else error.error_class,
        http_status=None if error is None else error.http_status,
        possibly_billed=error is not None and error.maybe_billed,
        tenant=handling.tenant or labels.tenant,
        environment=labels.environment,
        tags=(*labels.tags, *question.tags),
        drill_id=labels.drill_id,
        synthetic=labels.synthetic,
    )


def supposed_record(identity: ModelIdentity, prompt_tokens: int, gen_tokens: int) -> TraceRecord:
    """A call of that many tokens, to ask a price for."""
    return TraceRecord(
        record_version=RECORD_VERSION,
        request_id="estimate",
        attempt=1,
        ts=datetime.now(UTC),
        use_case_id="estimate",
        operation="chat",
        provider=identity.provider,
        model_id_requested=identity.model,
        model_id=identity.model,
        status="ok",
        latency_ms=0.0,
        prompt_tokens=prompt_tokens,
        gen_tokens=gen_tokens,
        usage_source="estimated",
    )


class TraceSink(Protocol):
    """Takes every record as it happens, from any thread."""

    def append(self, record: TraceRecord) -> None: ...


class TraceWriter:
    """Appends records to a JSONL file. Thread-safe; a line is one unbuffered write, so it survives a kill -9."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        _cut_torn_line(path)
        self._descriptor: int | None = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def append(self, record: TraceRecord) -> None:
        line = json.dumps(trace_to_json(record), separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
        with self._lock:
            if self._descriptor is None:
                raise UsageError(f"the trace file {self.path.name} is closed")
            os.write(self._descriptor, line)

    def close(self) -> None:
        """Make what was written durable; calling it again does nothing."""
        with self._lock:
            if self._descriptor is not None:
                os.fsync(self._descriptor)
                os.close(self._descriptor)
                self._descriptor = None


def trace_to_json(record: TraceRecord) -> dict[str, Any]:
    """Money as text with all its digits, times as RFC 3339 in UTC."""
    values = {name.name: getattr(record, name.name) for name in fields(record)}
    values["ts"] = iso_utc(record.ts)
    for name in _LISTS:
        values[name] = list(values[name])
    for name in _MONEY:
        values[name] = None if values[name] is None else format(values[name], "f")
    return values


def trace_from_json(data: Any) -> TraceRecord:
    """Raises `ValueError`, `KeyError` or `TypeError` for what is no trace record."""
    if not isinstance(data, dict):
        raise TypeError("not an object")
    money = {name: Decimal(data[name]) for name in _MONEY if data.get(name) is not None}
    lists = {name: tuple(data[name]) for name in _LISTS if name in data}
    record = record_of(data | money | lists | {"ts": datetime.fromisoformat(data["ts"])})
    return replace(record, ts=record.ts.astimezone(UTC))


def read_traces(path: Path, *, on_torn: Callable[[int], None] = lambda line: None) -> Iterator[TraceRecord]:
    """Every record of a JSONL file, in order. A torn last line is no record, of which `on_torn` is told; one that only
    lacks its end is one; any other broken one raises `JournalCorrupt` naming the line."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                record = trace_from_json(json.loads(line))
            except (ValueError, KeyError, TypeError, ArithmeticError, RecursionError) as error:
                if not line.endswith(b"\n"):
                    on_torn(number)
                    return
                raise JournalCorrupt(f"{path.name}:{number}: no trace record ({_why(error)})") from error
            yield record


def _why(error: Exception) -> str:
    return str(error) if isinstance(error, NotARecord) else type(error).__name__


def trace_schema() -> pa.Schema:
    """The Arrow schema of a trace file: money decimal(18, 9), times in UTC by the microsecond."""
    import pyarrow as pa

    by_type = {
        "int": pa.int64(),
        "str": pa.string(),
        "float": pa.float64(),
        "bool": pa.bool_(),
        "datetime": pa.timestamp("us", tz="UTC"),
        "Decimal": pa.decimal128(18, 9),
        "tuple[str, ...]": pa.list_(pa.string()),
    }
    columns = []
    for field in fields(TraceRecord):
        kind, _, rest = str(field.type).partition(" | ")
        columns.append(pa.field(field.name, by_type[kind], nullable=rest == "None"))
    return pa.schema(columns)


def write_parquet(records: Iterable[TraceRecord], path: Path) -> int:
    """Write `records` to a Parquet file under a temporary name, then rename it; returns how many there are."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = [field.name for field in fields(TraceRecord)]
    rows = [{name: getattr(record, name) for name in names} for record in records]
    for row in rows:
        for name in _MONEY:
            row[name] = None if row[name] is None else row[name].quantize(Decimal("1e-9"))
    table = pa.Table.from_pylist(rows, schema=trace_schema())
    partial = path.with_name(path.name + ".partial")
    pq.write_table(table, partial, write_page_checksum=True)
    partial.replace(path)
    return len(rows)


def read_parquet(path: Path) -> Iterator[TraceRecord]:
    """Every record of a Parquet file of traces. Raises `JournalCorrupt` where it is none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            for batch in file.iter_batches():
                for row in batch.to_pylist():
                    yield record_of(row | {name: tuple(row[name] or ()) for name in _LISTS if name in row})
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        raise JournalCorrupt(f"{path.name}: no file of traces ({_why(error)})") from error


def _cut_torn_line(path: Path) -> None:
    """A process that was killed may have left half a line; what is appended must not become part of it."""
    if not path.exists():
        return
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        try:
            trace_from_json(json.loads(data[whole:]))
        except (ValueError, KeyError, TypeError, ArithmeticError, RecursionError):
            os.truncate(path, whole)
        else:  # all of it is there but its end
            with path.open("ab") as file:
                file.write(b"\n")
