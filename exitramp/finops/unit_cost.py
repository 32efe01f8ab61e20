"""The cost of a request, by seven parts:

    unit cost = input + generation + retrieval + rerank + vector I/O + orchestration + human in the loop

    input          tokens of the prompt x price; cached ones at their own price where the book has one
    generation     generated tokens (reasoning tokens are among them) x price
    retrieval      queries x price, and the tokens of the question that were embedded for them
    rerank         candidates x price, or the tokens that a reranker read
    vector I/O     vectors read and written x price
    orchestration  an allocated amount, once per request
    human          minutes x price

Each part is rounded to nine places, half to even, and the unit cost is their sum, so that the parts add up exactly.
A part of which nothing was used costs 0 without needing a price. A part whose price is not in the book is unknown,
and so is the unit cost.

What a request asked of models beside its answer stands in records of its own (`ID:embed`, `ID:rerank`, `ID:cache` and
`ID:route`), and is part of the request ID. A reranker bills by candidates, which stand on the answer's record, or by
tokens, which stand on its own: whichever the book has a price for, and never both. What an embedder reads is retrieval,
also where it is the one that reranks. An embedder on one's own machine costs nothing unless the book says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final

from exitramp.errors import DataInvalid
from exitramp.finops.prices import MONEY, MissingPrice, Price, PriceBook, Unit, plain, round_usd
from exitramp.records import TraceRecord

ZERO_USD: Final = round_usd(Decimal(0))

IN_PROCESS: Final = frozenset({"local", "wordllama", "onnx", "minilm", "use", "glove"})
"""Providers of embedders on one's own machine: without a price of their own they cost nothing."""

_BESIDE: Final = {"embed": ("embed", "cache", "route"), "rerank": ("rerank",)}
"""Operations beside an answer, and what the ids of their records end with."""

_COUNTS: Final = (
    "prompt_tokens",
    "gen_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "queries",
    "vector_reads",
    "vector_writes",
    "rerank_n",
    "hitl_minutes",
)


class CostPart(StrEnum):
    """The seven parts, in the order of the formula."""

    INPUT = "input"
    GENERATION = "generation"
    RETRIEVAL = "retrieval"
    RERANK = "rerank"
    VECTOR_IO = "vector_io"
    ORCHESTRATION = "orchestration"
    HUMAN = "human_in_the_loop"


@dataclass(frozen=True, slots=True)
class Billed:
    """Who bills for something, as the price book calls them."""

    provider: str
    item: str


@dataclass(frozen=True, slots=True)
class Billing:
    """Whom the parts of a request are billed by, beyond the model that the trace names.

    The store is the provider that the trace names (`chroma+http` is looked up as `chroma` if it has no rows of its
    own), with `store_item`. `reranker` is None where nothing reranks; candidates in a trace are then unknown cost.
    """

    store_item: str = "vector_store"
    reranker: Billed | None = None
    orchestration: Billed = Billed("own", "orchestration")
    human: Billed = Billed("own", "human_review")


@dataclass(frozen=True, slots=True)
class PartCost:
    """One part: its amount with nine places, or None with what is `missing`; the prices it rests on."""

    usd: Decimal | None = ZERO_USD
    prices: tuple[Price, ...] = ()
    missing: tuple[MissingPrice, ...] = ()


@dataclass(frozen=True, slots=True)
class RequestCost:
    """What a request cost over all its attempts. `possibly_billed` says that a vendor may charge more than is here.

    `days` are the UTC days whose prices were used.
    """

    request_id: str
    use_case_id: str
    attempts: int
    parts: Mapping[CostPart, PartCost] = field(hash=False)
    possibly_billed: bool = False
    days: tuple[date, ...] = ()

    @property
    def unit_cost_usd(self) -> Decimal | None:
        """The sum of the parts, exactly; None if one of them is unknown."""
        return add_usd(part.usd for part in self.parts.values())

    @property
    def price_ids(self) -> tuple[str, ...]:
        return tuple(sorted({price.id for part in self.parts.values() for price in part.prices}))

    @property
    def illustrative(self) -> bool:
        """Whether any price in it is made up."""
        return any(price.illustrative for part in self.parts.values() for price in part.prices)

    @property
    def missing(self) -> tuple[MissingPrice, ...]:
        return tuple(dict.fromkeys(gap for part in self.parts.values() for gap in part.missing))

    def to_json(self) -> dict[str, Any]:
        return {
            "request_id": self.request_id,
            "use_case_id": self.use_case_id,
            "attempts": self.attempts,
            "parts": {part.value: plain(cost.usd) for part, cost in self.parts.items()},
            "unit_cost_usd": plain(self.unit_cost_usd),
            "price_ids": list(self.price_ids),
            "illustrative": self.illustrative,
            "missing_prices": [str(gap) for gap in self.missing],
            "possibly_billed": self.possibly_billed,
        }


def unit_cost(record: TraceRecord, book: PriceBook, billing: Billing = Billing()) -> RequestCost:
    """What one attempt cost, at the prices of its UTC day. Orchestration is charged to the first attempt alone, and not
    to what was asked beside it.

    Raises `DataInvalid` for a negative count, more cached than prompt tokens, or a time without a zone.
    """
    return _attempt_cost(record, book, billing, allocate=record.attempt == 1 and answer_of(record) is None)


def request_costs(
    records: Iterable[TraceRecord],
    book: PriceBook,
    billing: Billing = Billing(),
) -> tuple[RequestCost, ...]:
    """The cost of each request, its attempts and what it asked beside them added up, in the order in which the requests
    first appear.

    Orchestration is charged once per request, to the earliest attempt there is. Raises `DataInvalid` where one
    attempt of a request stands twice, or its attempts name different use cases.
    """
    grouped: dict[str, dict[tuple[str, int], TraceRecord]] = {}
    for record in records:
        attempts = grouped.setdefault(answer_of(record) or record.request_id, {})
        if (record.request_id, record.attempt) in attempts:
            raise DataInvalid(f"attempt {record.attempt} of request {record.request_id!r} stands twice in the trace")
        attempts[record.request_id, record.attempt] = record
    return tuple(_request_cost(name, attempts, book, billing) for name, attempts in grouped.items())


def _request_cost(
    request_id: str, attempts: Mapping[tuple[str, int], TraceRecord], book: PriceBook, billing: Billing
) -> RequestCost:
    made = [attempts[key] for key in sorted(attempts)]
    answers = [record for record in made if answer_of(record) is None]
    beside = [record for record in made if answer_of(record) is not None]
    if beside and billing.reranker is None:
        answers, beside, billing = _reranked(answers, beside, book, billing)
    elif billing.reranker is not None:
        beside = [replace(record, prompt_tokens=0) if record.operation == "rerank" else record for record in beside]
    first, *later = (*answers, *beside)
    cost = _attempt_cost(first, book, billing, allocate=True)
    for record in later:
        cost = _added(cost, _attempt_cost(record, book, billing, allocate=False))
    return replace(cost, request_id=request_id, attempts=len(answers))


def _reranked(
    answers: list[TraceRecord], beside: list[TraceRecord], book: PriceBook, billing: Billing
) -> tuple[list[TraceRecord], list[TraceRecord], Billing]:
    """Whom reranking is billed by, which the records beside the answer say: by candidates, or by tokens."""
    ranked = next((record for record in beside if record.operation == "rerank" and record.status == "ok"), None)
    if ranked is None:  # an embedder ordered them, or nobody did
        return [replace(record, rerank_n=0) for record in answers], beside, billing
    if not _has(book, ranked, Unit.RERANK_CANDIDATE) and _has(book, ranked, Unit.INPUT_TOKENS):
        return [replace(record, rerank_n=0) for record in answers], beside, billing
    beside = [replace(record, prompt_tokens=0) if record.operation == "rerank" else record for record in beside]
    return answers, beside, replace(billing, reranker=Billed(ranked.provider, _billed_model(book, ranked)))


def _billed_model(book: PriceBook, record: TraceRecord) -> str:
    """The model that answered, or the one that was asked for if the book has candidates of that one alone."""
    day = record.ts.astimezone(UTC).date()
    names = [name for name in dict.fromkeys((record.model_id, record.model_id_requested)) if name]
    priced = (name for name in names if book.find(record.provider, name, Unit.RERANK_CANDIDATE, day=day))
    return next(priced, names[0] if names else "unknown model")


def _has(book: PriceBook, record: TraceRecord, unit: Unit) -> bool:
    day = record.ts.astimezone(UTC).date()
    names = (record.model_id, record.model_id_requested)
    return any(book.find(record.provider, name, unit, day=day) is not None for name in names if name)


def answer_of(record: TraceRecord) -> str | None:
    """The id of the request that this record stands beside, or None: it is a request of its own."""
    request_id, _, ending = record.request_id.rpartition(":")
    return request_id if request_id and ending in _BESIDE.get(record.operation, ()) else None


def tokens_part(record: TraceRecord) -> CostPart:
    """Which part the tokens that were read belong to."""
    if answer_of(record) is None:
        return CostPart.INPUT
    return CostPart.RERANK if record.operation == "rerank" else CostPart.RETRIEVAL


def add_usd(amounts: Iterable[Decimal | None]) -> Decimal | None:
    """The sum, or None if one of the amounts is unknown."""
    total = ZERO_USD
    for amount in amounts:
        if amount is None:
            return None
        total = MONEY.add(total, amount)
    return total


def _attempt_cost(record: TraceRecord, book: PriceBook, billing: Billing, *, allocate: bool) -> RequestCost:
    day = _checked_day(record)
    amounts: dict[CostPart, list[Decimal | None]] = {part: [] for part in CostPart}
    prices: dict[CostPart, list[Price]] = {part: [] for part in CostPart}
    missing: dict[CostPart, list[MissingPrice]] = {part: [] for part in CostPart}
    for part, unit, quantity, candidates in _charges(record, book, billing, day, allocate):
        if not quantity:
            continue
        price = next((found for bill in candidates if (found := book.find(*bill, unit, day=day))), None)
        if price is None:
            provider, item = candidates[0]
            amounts[part].append(None)
            missing[part].append(MissingPrice(provider, item, unit, day, book.name))
        else:
            amounts[part].append(price.cost(quantity))
            prices[part].append(price)
    return RequestCost(
        request_id=record.request_id,
        use_case_id=record.use_case_id,
        attempts=1,
        parts={
            part: PartCost(_rounded_sum(amounts[part]), tuple(prices[part]), tuple(missing[part])) for part in CostPart
        },
        possibly_billed=record.possibly_billed,
        days=(day,),
    )


_Charge = tuple[CostPart, Unit, Decimal, tuple[tuple[str, str], ...]]


def _charges(record: TraceRecord, book: PriceBook, billing: Billing, day: date, allocate: bool) -> Iterator[_Charge]:
    models = tuple(
        (record.provider, model) for model in dict.fromkeys((record.model_id, record.model_id_requested)) if model
    ) or ((record.provider, "unknown model"),)
    input_tokens, part = record.prompt_tokens, tokens_part(record)
    if record.operation == "embed" and record.provider in IN_PROCESS and not _has(book, record, Unit.INPUT_TOKENS):
        input_tokens = 0
    for unit, tokens in (
        (Unit.CACHE_READ_TOKENS, record.cache_read_tokens),
        (Unit.CACHE_WRITE_TOKENS, record.cache_write_tokens),
    ):
        # Without a price of its own a cached token is billed as any other: dearer for a read, never free.
        if tokens and any(book.find(*model, unit, day=day) for model in models):
            input_tokens -= tokens
            yield part, unit, Decimal(tokens), models
    yield part, Unit.INPUT_TOKENS, Decimal(input_tokens), models
    yield CostPart.GENERATION, Unit.OUTPUT_TOKENS, Decimal(record.gen_tokens), models
    store = record.store or "unknown store"
    stores = tuple((name, billing.store_item) for name in dict.fromkeys((store, store.partition("+")[0])))
    yield CostPart.RETRIEVAL, Unit.QUERY, Decimal(record.queries), stores
    reranker = billing.reranker or Billed("unknown provider", "reranker")
    yield (
        CostPart.RERANK,
        Unit.RERANK_CANDIDATE,
        Decimal(record.rerank_n),
        ((reranker.provider, reranker.item),),
    )
    yield CostPart.VECTOR_IO, Unit.VECTOR_READS, Decimal(record.vector_reads), stores
    yield CostPart.VECTOR_IO, Unit.VECTOR_WRITES, Decimal(record.vector_writes), stores
    allocated = billing.orchestration
    yield (
        CostPart.ORCHESTRATION,
        Unit.ORCHESTRATION_REQUEST,
        Decimal(allocate),
        ((allocated.provider, allocated.item),),
    )
    # Through its shortest text: the binary expansion of 0.1 minutes is not what anybody wrote down.
    minutes = Decimal(str(record.hitl_minutes))
    yield CostPart.HUMAN, Unit.HITL_MINUTE, minutes, ((billing.human.provider, billing.human.item),)


def _rounded_sum(amounts: list[Decimal | None]) -> Decimal | None:
    total = add_usd(amounts)
    return None if total is None else round_usd(total)


def _added(one: RequestCost, other: RequestCost) -> RequestCost:
    if one.use_case_id != other.use_case_id:
        raise DataInvalid(f"the attempts of request {one.request_id!r} name different use cases")
    parts = {}
    for part in CostPart:
        first, second = one.parts[part], other.parts[part]
        parts[part] = PartCost(
            add_usd((first.usd, second.usd)),
            tuple(dict.fromkeys((*first.prices, *second.prices))),
            tuple(dict.fromkeys((*first.missing, *second.missing))),
        )
    return replace(
        one,
        attempts=one.attempts + other.attempts,
        parts=parts,
        possibly_billed=one.possibly_billed or other.possibly_billed,
        days=tuple(sorted({*one.days, *other.days})),
    )


def _checked_day(record: TraceRecord) -> date:
    where = f"request {record.request_id!r}, attempt {record.attempt}"
    for name in _COUNTS:
        if not getattr(record, name) >= 0:
            raise DataInvalid(f"{where}: {name} is {getattr(record, name)}")
    if record.cache_read_tokens + record.cache_write_tokens > record.prompt_tokens:
        raise DataInvalid(f"{where}: more cached than prompt tokens; prompt_tokens includes the cached ones")
    if record.ts.tzinfo is None:
        raise DataInvalid(f"{where}: its time has no zone, so its prices cannot be told")
    return record.ts.astimezone(UTC).date()
