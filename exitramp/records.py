"""The values that everything else speaks in: what a collection is, what was found, what a call used.

Nothing here does anything but check itself. Arrow schemas are in `exitramp.arrow`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final, Self

from exitramp.errors import DataInvalid

UNKNOWN: Final = "unknown"
_EMPTY: Mapping[str, Any] = MappingProxyType({})


class Metric(StrEnum):
    """How nearness is measured. There is no default: what a store does not say must be asked for."""

    COSINE = "cosine"
    DOT = "dot"
    EUCLIDEAN = "euclidean"
    MANHATTAN = "manhattan"
    HAMMING = "hamming"


class DType(StrEnum):
    """What one number of a vector is stored as; `binary` packs eight dimensions into a byte, first in the high bit."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    FLOAT64 = "float64"
    INT8 = "int8"
    BINARY = "binary"


class VectorKind(StrEnum):
    """One vector, a list of vectors, or a few weighted indices for each record."""

    DENSE = "dense"
    MULTI = "multi"
    SPARSE = "sparse"


class IdKind(StrEnum):
    """What an id is in the store it came from; in a stream it is always text."""

    UINT64 = "uint64"
    INT64 = "int64"
    UUID = "uuid"
    STRING = "string"


class Verdict(StrEnum):
    """Unknown, nothing measured and too little measured are all `inconclusive`, never `pass`."""

    PASS = "pass"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"

    @classmethod
    def worst(cls, verdicts: list[Verdict] | tuple[Verdict, ...]) -> Verdict:
        """Fail if any fails, else inconclusive if any is or there are none, else pass."""
        if cls.FAIL in verdicts:
            return cls.FAIL
        return cls.INCONCLUSIVE if not verdicts or cls.INCONCLUSIVE in verdicts else cls.PASS


def parse_metric(text: object, *, where: str) -> Metric:
    """The metric named `text`. Raises `DataInvalid` for one that is not known: it never becomes cosine."""
    try:
        return Metric(str(text))
    except ValueError:
        known = ", ".join(Metric)
        raise DataInvalid(f"{where}: the metric {text!r} is not known", hint=f"known are: {known}") from None


@dataclass(frozen=True, slots=True)
class EmbeddingModel:
    """Which model made the vectors of a field. What is not known stays `unknown` and is never guessed.

    `revision` is a version, or `sha256:…` of the weights. `maximum_tokens` is text so that it can be unknown too.
    """

    provider: str = UNKNOWN
    name: str = UNKNOWN
    revision: str = UNKNOWN
    query_prefix: str = UNKNOWN
    passage_prefix: str = UNKNOWN
    pooling: str = UNKNOWN
    normalisation: str = UNKNOWN
    maximum_tokens: str = UNKNOWN

    def to_json(self) -> dict[str, str]:
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        _no_unknown_keys(data, cls.__slots__, "model")
        return cls(**{name: str(value) for name, value in data.items()})


@dataclass(frozen=True, slots=True)
class VectorField:
    """One vector field of a collection. The unnamed field has the name "".

    `dimensions` is None only for sparse fields, whose indices are bounded by 2^32 alone.
    """

    name: str
    kind: VectorKind
    dtype: DType
    metric: Metric
    dimensions: int | None
    model: EmbeddingModel = EmbeddingModel()

    def __post_init__(self) -> None:
        if (self.dimensions is None) != (self.kind is VectorKind.SPARSE):
            raise DataInvalid(
                f"vector field {self.column!r}: dense and multi fields state dimensions, sparse ones do not"
            )
        if self.dimensions is not None and self.dimensions < 1:
            raise DataInvalid(f"vector field {self.column!r}: {self.dimensions} dimensions")
        if self.dtype is DType.BINARY and (self.dimensions or 0) % 8:
            raise DataInvalid(f"vector field {self.column!r}: binary dimensions come in eights, not {self.dimensions}")

    @property
    def column(self) -> str:
        """Its column in a stream: `vector`, `vector:NAME`, `multi:NAME` or `sparse:NAME`."""
        if self.kind is VectorKind.DENSE:
            return f"vector:{self.name}" if self.name else "vector"
        return f"{self.kind.value}:{self.name}"

    @property
    def item_count(self) -> int:
        """Numbers in one vector as stored: dimensions, or bytes for binary."""
        if self.dimensions is None:
            raise DataInvalid(f"vector field {self.column!r} is sparse and has no fixed length")
        return self.dimensions // 8 if self.dtype is DType.BINARY else self.dimensions

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "kind": self.kind.value,
            "dtype": self.dtype.value,
            "metric": self.metric.value,
            "dimensions": self.dimensions,
            "model": self.model.to_json(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        _no_unknown_keys(data, cls.__slots__, "vector field")
        try:
            return cls(
                name=str(data["name"]),
                kind=VectorKind(data["kind"]),
                dtype=DType(data["dtype"]),
                metric=parse_metric(data["metric"], where=f"vector field {data['name']!r}"),
                dimensions=data["dimensions"],
                model=EmbeddingModel.from_json(data.get("model", {})),
            )
        except (KeyError, ValueError) as error:
            raise DataInvalid(f"vector field: {error}") from error


@dataclass(frozen=True, slots=True)
class CollectionSpec:
    """What a collection is, apart from its records. `index` is the store's own index configuration, as it gave it."""

    name: str
    id_kind: IdKind
    vectors: tuple[VectorField, ...]
    has_namespaces: bool = False
    has_documents: bool = False
    index: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        columns = [vector.column for vector in self.vectors]
        if len(set(columns)) != len(columns):
            raise DataInvalid(f"collection {self.name!r} names a vector field twice")

    def vector(self, name: str) -> VectorField:
        """The field called `name`. Raises `DataInvalid` naming the fields there are."""
        for vector in self.vectors:
            if vector.name == name:
                return vector
        known = ", ".join(repr(vector.name) for vector in self.vectors) or "none"
        raise DataInvalid(f"collection {self.name!r} has no vector field {name!r}; it has {known}")

    def renamed(self, name: str) -> Self:
        return replace(self, name=name)

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "id_kind": self.id_kind.value,
            "vectors": [vector.to_json() for vector in self.vectors],
            "has_namespaces": self.has_namespaces,
            "has_documents": self.has_documents,
            "index": dict(self.index),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        _no_unknown_keys(data, cls.__slots__, "collection spec")
        try:
            return cls(
                name=str(data["name"]),
                id_kind=IdKind(data["id_kind"]),
                vectors=tuple(VectorField.from_json(item) for item in data["vectors"]),
                has_namespaces=bool(data["has_namespaces"]),
                has_documents=bool(data["has_documents"]),
                index=data.get("index", {}),
            )
        except (KeyError, ValueError) as error:
            raise DataInvalid(f"collection spec: {error}") from error


@dataclass(frozen=True, slots=True, order=True)
class RecordKey:
    """Which record: its id within its namespace; "" and None are different namespaces."""

    id: str
    namespace: str | None = None

    def __str__(self) -> str:
        return self.id if self.namespace is None else f"{self.namespace}/{self.id}"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something a reader must know. `code` is stable (`records.missing`); `ids` are at most the first twenty.

    `verdict` is what the finding by itself means for the result it stands in; None for information.
    """

    code: str
    message: str
    verdict: Verdict | None = None
    ids: tuple[str, ...] = ()
    count: int | None = None
    detail: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def to_json(self) -> dict[str, Any]:
        return {
            "code": self.code,
            "message": self.message,
            "verdict": self.verdict.value if self.verdict else None,
            "ids": list(self.ids),
            "count": self.count,
            "detail": dict(self.detail),
        }


@dataclass(frozen=True, slots=True)
class CorpusDocument:
    """One text of a corpus, before it is embedded."""

    id: str
    text: str
    payload: Mapping[str, object] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one model call. `prompt_tokens` includes those read from or written to the vendor's cache, `gen_tokens`
    the `reasoning_tokens`.

    `source` is `provider` when the vendor counted, `estimated` when exitramp did.
    """

    prompt_tokens: int
    gen_tokens: int
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    source: str = "provider"


EVAL_TAG: Final = "eval"
"""The tag of calls that an eval made: not the application's, whatever file their traces stand in."""


@dataclass(frozen=True, slots=True)
class TraceRecord:
    """One attempt at one request, as the cost commands read it. Times are UTC; no prompt or answer text.

    `attempt` counts from 1 within a request. `status` is ok, error or cancelled. `route_reason` says why this
    vendor was chosen, `fallback_from` which one it stands in for. `cache_hit_kind` is exact, semantic or none.

    `usage_source` is provider, estimated, or unknown: then the tokens are 0 as nobody said how many there were.

    `unit_cost_usd` is the sum of the seven parts, and None where one is not known; a part that is None and a price by
    name in `prices_missing` go together. `cost_source` is the price book and its hash, None where nobody looked.
    `price_validity` is FIRST/LAST day of each of `price_ids`, without a last one while it is open.
    """

    record_version: int
    request_id: str
    attempt: int
    ts: datetime
    use_case_id: str
    operation: str
    provider: str
    model_id_requested: str
    model_id: str
    status: str
    latency_ms: float
    prompt_tokens: int = 0
    gen_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    usage_source: str = "provider"
    queries: int = 0
    depth_k: int = 0
    vector_reads: int = 0
    vector_writes: int = 0
    rerank_n: int = 0
    cache_hit: bool = False
    cache_hit_kind: str = "none"
    time_to_first_token_ms: float | None = None
    queue_ms: float = 0.0
    error_class: str | None = None
    http_status: int | None = None
    finish_reason: str | None = None
    retries: int = 0
    deadline_seconds: float | None = None
    idempotency_key_sha256: str | None = None
    possibly_billed: bool = False
    store: str | None = None
    route_tier: str | None = None
    route_reason: str | None = None
    fallback_from: str | None = None
    prompt_name: str | None = None
    prompt_version: str | None = None
    prompt_sha256: str | None = None
    tenant: str | None = None
    environment: str | None = None
    tags: tuple[str, ...] = ()
    trace_id: str | None = None
    span_id: str | None = None
    hitl_minutes: float = 0.0
    drill_id: str | None = None
    synthetic: bool = False
    unit_cost_usd: Decimal | None = None
    cost_input_usd: Decimal | None = None
    cost_generation_usd: Decimal | None = None
    cost_retrieval_usd: Decimal | None = None
    cost_rerank_usd: Decimal | None = None
    cost_vector_io_usd: Decimal | None = None
    cost_orchestration_usd: Decimal | None = None
    cost_human_usd: Decimal | None = None
    cost_source: str | None = None
    price_ids: tuple[str, ...] = ()
    price_validity: tuple[str, ...] = ()
    prices_missing: tuple[str, ...] = ()


def _no_unknown_keys(data: Mapping[str, Any], known: Any, where: str) -> None:
    extra = sorted(set(data) - set(known))
    if extra:
        raise DataInvalid(f"{where}: unknown key {extra[0]!r}")
