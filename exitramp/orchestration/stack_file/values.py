"""What a stack file says, as values: nothing of it has been opened yet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Any

from exitramp.backoff import Backoff
from exitramp.orchestration.breaker import BreakerSettings
from exitramp.urls import Address


class Tier(StrEnum):
    """How much a model can do, and costs."""

    SMALL = "small"
    MEDIUM = "medium"
    LARGE = "large"


class Commit(StrEnum):
    """When a streamed answer is shown: once it is whole, or from its first token on."""

    WHOLE = "whole"
    FIRST_TOKEN = "first_token"


class Action(StrEnum):
    """What happens when a share of a budget is spent."""

    NOTIFY = "notify"
    DEGRADE_TO_SMALL = "degrade_to_small"
    CACHE_ONLY = "cache_only"


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A chat model. `concurrency` calls are under way at most; `billed_as` is who sends the bill, where that is not
    the vendor whose shape it speaks."""

    name: str
    address: Address
    tier: Tier | None = None
    concurrency: int = 64
    billed_as: str | None = None
    line: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class EmbedderSpec:
    """`aliases` are names of other models under which applications at the gateway may ask for it."""

    name: str
    address: Address
    aliases: tuple[str, ...] = ()
    line: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class RerankSpec:
    """More passages are fetched than a question gets, and put in order by an embedder of the file or by a reranker.

    Exactly one of `embedder` and `address` is set. `timeout_seconds` is for scoring all `candidates`. `billed_as` is
    who sends the reranker's bill.
    """

    candidates: int = 50
    timeout_seconds: float = 2.0
    embedder: str | None = None
    address: Address | None = None
    billed_as: str | None = None


@dataclass(frozen=True, slots=True)
class StoreSpec:
    """A collection, and the embedder that makes vectors of questions to it.

    vector_field: which vectors are searched; None takes the first dense ones.
    depth_k: how many passages a question gets.
    probe: whether a few documents are embedded to see if the embedder made the vectors, where the collection does not
        say; None where that costs nothing.
    """

    name: str
    address: Address
    embedder: str
    vector_field: str | None = None
    depth_k: int = 5
    exact: bool = False
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    rerank: RerankSpec | None = None
    probe: bool | None = None
    line: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class StackSpec:
    """A model and a store that are switched as one; without a store the question goes to the model as it is."""

    name: str
    chat: str
    store: str | None = None
    line: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds. `first_token_seconds` None leaves it to the attempt."""

    request_seconds: float = 30.0
    attempt_seconds: float = 10.0
    first_token_seconds: float | None = None
    retrieve_seconds: float = 5.0


@dataclass(frozen=True, slots=True)
class ClassifierSpec:
    """An exported classifier that says a question's tier where it is at least `threshold` sure.

    path: its graph, or the folder in which that is. embedder: of the file, and the one that it was trained on.
    tiers: of each label, its tier; empty where the labels are tiers. timeout_seconds: for the question's vector.
    """

    path: Path
    threshold: float
    embedder: str
    tiers: Mapping[str, Tier] = field(default_factory=dict, hash=False)
    timeout_seconds: float = 1.0
    line: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class RoutingSpec:
    """Which tier a question goes to: small below one complexity, medium below another, else large.

    pii: the tier of what is marked as personal, and of nothing else but it. classifier: decides where it is sure.
    """

    small_below: float = 0.4
    medium_below: float = 0.7
    pii: Tier = Tier.MEDIUM
    classifier: ClassifierSpec | None = None


@dataclass(frozen=True, slots=True)
class ExactCacheSpec:
    ttl_seconds: float = 3600.0
    path: Path | None = None
    entries: int = 100_000


@dataclass(frozen=True, slots=True)
class SemanticCacheSpec:
    """`threshold` is the least cosine at which two questions count as one, as this embedder measures it."""

    embedder: str
    threshold: float
    ttl_seconds: float = 3600.0
    entries: int = 10_000


@dataclass(frozen=True, slots=True)
class BudgetThreshold:
    """From this share of a cap on (0.75: three quarters), these actions are taken."""

    at: float
    actions: tuple[Action, ...]


@dataclass(frozen=True, slots=True)
class UseCaseCap:
    """What one use case may take of the whole, by day and month in UTC."""

    use_case: str
    daily_usd: Decimal | None
    monthly_usd: Decimal | None


@dataclass(frozen=True, slots=True)
class BudgetSpec:
    """Caps by day and month in UTC, of everything and of single use cases; what the cap is beyond is refused unless it
    costs nothing."""

    daily_usd: Decimal | None
    monthly_usd: Decimal | None
    thresholds: tuple[BudgetThreshold, ...] = ()
    path: Path | None = None
    use_cases: tuple[UseCaseCap, ...] = ()


@dataclass(frozen=True, slots=True)
class TraceSpec:
    path: Path
    format: str = "jsonl"
    prompts: bool = False


@dataclass(frozen=True, slots=True)
class JournalSpec:
    """Where answers by idempotency key are kept; `sync` waits for the disk with every line."""

    path: Path
    spool: Path | None = None
    sync: bool = False


@dataclass(frozen=True, slots=True)
class StackFile:
    """Everything of one file, checked as far as a file can be by itself; `sha256` is over its bytes."""

    file: str
    sha256: str
    models: Mapping[str, ModelSpec] = field(hash=False)
    embedders: Mapping[str, EmbedderSpec] = field(default_factory=dict, hash=False)
    stores: Mapping[str, StoreSpec] = field(default_factory=dict, hash=False)
    stacks: Mapping[str, StackSpec] = field(default_factory=dict, hash=False)
    model_order: tuple[str, ...] = ()
    stack_order: tuple[str, ...] = ()
    prompts: Path | None = None
    packaged_prompts: bool = False
    prices: Path | None = None
    retry: Backoff = Backoff(tries=2, base_seconds=0.1, cap_seconds=1.0, retry_after_cap_seconds=1.0)
    retry_timeouts: bool = False
    deadlines: Deadlines = Deadlines()
    breaker: BreakerSettings = BreakerSettings()
    hedge_after_seconds: float | None = None
    routing: RoutingSpec | None = None
    exact_cache: ExactCacheSpec | None = None
    semantic_cache: SemanticCacheSpec | None = None
    budget: BudgetSpec | None = None
    trace: TraceSpec | None = None
    journal: JournalSpec | None = None
    commit: Commit = Commit.WHOLE
    keys: Mapping[str, str] = field(default_factory=dict, hash=False)
    environment: str | None = None
    lines: Mapping[str, int] = field(default_factory=dict, hash=False, compare=False)

    def embedder_named(self, name: str) -> str | None:
        """The embedder that is meant by its name or an alias."""
        if name in self.embedders:
            return name
        return next((each.name for each in self.embedders.values() if name in each.aliases), None)

    def line_of(self, key: str) -> int:
        """Where a key of the file's top stands, or one of `keys` as `keys.NAME`."""
        return self.lines.get(key, 1)
