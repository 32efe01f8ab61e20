"""The rerank shape: `POST /v1/rerank` (and `/rerank`) and `POST /v2/rerank`, answered by shared terms.

A term is what the extractive rule takes for one. The weight of a term is ln(1 + D / d): D documents in the request, d
of them with the term, at least 1. A document's score is the share of the query's weight that it holds, divided by
1 + terms / 60 of its own; 0 where the query has no terms. The best come first, equal ones in the order of the request.
Documents that share words with the query come first, and such that only mean the same do not: it is a mock.

The first path speaks as Cohere's first version, Jina, vLLM and llama.cpp do: documents are texts or `{"text": …}`,
`return_documents` gives them back, `usage` tells tokens. The second speaks as Cohere's second version: documents are
texts, `max_tokens_per_doc` cuts them, `meta.billed_units` stands in place of model and usage, and an error is an object
of `id` and `message`, told apart by its status alone.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from exitramp_adapters.services import extractive
from exitramp_adapters.services.mock_vendor.shape import (
    ErrorAnswer,
    Refusal,
    fields,
    need,
    need_range,
    only_fields,
    read_json,
)

MODEL: Final = "mock-rerank"
SECOND_VERSION: Final = "/v2/rerank"
PATHS: Final = ("/v1/rerank", "/rerank", SECOND_VERSION)
MOST_DOCUMENTS: Final = 1000
CALL_TOKENS: Final = 300_000
_DOCUMENT_TOKENS: Final = 4096
# kind: (status, message), by the vendor's page of errors. It has no 529, and a used-up budget is a 402.
_SECOND_ERRORS: Final = {
    "rate_limit": (429, "trial token rate limit exceeded. This is a mock."),
    "quota": (402, "Maximum billing reached for this API key. This is a mock."),
    "error_500": (500, "internal server error. This is a mock."),
    "unavailable": (503, "the service is unavailable. This is a mock."),
    "overloaded": (503, "the service is overloaded. This is a mock."),
    "auth": (401, "invalid api token. This is a mock."),
    "model_gone": (404, "the model was not found. This is a mock."),
    "context_length": (400, "too many tokens."),
}
_UNIT_DOCUMENTS: Final = 100
_KNOWN: Final = {
    False: fields("model query documents top_n return_documents"),
    True: fields("model query documents top_n max_tokens_per_doc"),
}
_UNSUPPORTED: Final = fields("rank_fields priority truncation truncate_prompt_tokens")
_TOKEN = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True, slots=True)
class RerankAsk:
    """Documents to order by how well they answer `query`. `tokens`: the query's once for each document, and its own."""

    model: str
    query: str
    documents: tuple[str, ...]
    top_n: int
    tokens: int
    gives_back: bool
    is_second: bool


def read(path: str, headers: Mapping[str, str], body: bytes) -> RerankAsk:
    """What the request asks for. Raises `Refusal` for whatever the contract does not allow."""
    is_second = path == SECOND_VERSION
    data = read_json(headers, body)
    only_fields(data, _KNOWN[is_second], _UNSUPPORTED)
    model = need(data, "model", str, what="a string")
    query = need(data, "query", str, what="a string")
    if not query.strip():
        raise Refusal("invalid_request", "'query' is empty", field="query")
    given = need(data, "documents", list, what="a list of documents")
    if not given:
        raise Refusal("invalid_request", "'documents' is empty", field="documents")
    if len(given) > MOST_DOCUMENTS:
        raise Refusal("invalid_request", f"'documents' may hold at most {MOST_DOCUMENTS}", field="documents")
    texts = [_text(each, place, is_second) for place, each in enumerate(given)]
    top_n = need(data, "top_n", int, default=len(texts), what="an integer")
    need_range(top_n, "top_n", 1, 1_000_000)
    gives_back = need(data, "return_documents", bool, default=False, what="true or false")
    most = need(data, "max_tokens_per_doc", int, default=_DOCUMENT_TOKENS, what="an integer")
    need_range(most, "max_tokens_per_doc", 1, 1_000_000)
    texts = [_cut(text, most) for text in texts]
    tokens = sum(map(extractive.count_tokens, texts)) + len(texts) * extractive.count_tokens(query)
    if tokens > CALL_TOKENS:
        raise Refusal("context_length", f"the request has {tokens} tokens, the model reads {CALL_TOKENS}")
    return RerankAsk(model, query, tuple(texts), min(top_n, len(texts)), tokens, gives_back, is_second)


def body_of(ask: RerankAsk, number: int, *, drifted: bool = False) -> dict[str, Any]:
    """The answer's body, the best first. `drifted` is another model behind the same name: the worst is its best."""
    scores = scores_of(ask.query, ask.documents)
    if drifted:
        scores = [1.0 - score for score in scores]
    best = sorted(range(len(scores)), key=lambda place: -scores[place])[: ask.top_n]
    results: list[dict[str, Any]] = [{"index": place, "relevance_score": scores[place]} for place in best]
    if ask.gives_back:
        results = [row | {"document": {"text": ask.documents[row["index"]]}} for row in results]
    if ask.is_second:
        units = -(-len(ask.documents) // _UNIT_DOCUMENTS)
        meta = {"api_version": {"version": "2"}, "billed_units": {"search_units": units}}
        return {"id": f"rerank-mock-{number:06d}", "results": results, "meta": meta}
    usage = {"prompt_tokens": ask.tokens, "total_tokens": ask.tokens}
    return {
        "id": f"rerank-mock-{number:06d}",
        "object": "list",
        "model": ask.model,
        "results": results,
        "usage": usage,
    }


def scores_of(query: str, documents: tuple[str, ...]) -> list[float]:
    """One for each document, from 0 to 1, by the rule on top."""
    held = [extractive.terms_of(text) for text in documents]
    weights = {
        term: math.log(1.0 + len(documents) / max(1, sum(term in terms for terms in held)))
        for term in sorted(extractive.terms_of(query))
    }
    whole = sum(weights.values())
    if not whole:
        return [0.0] * len(documents)
    return [
        sum(weight for term, weight in weights.items() if term in terms) / whole / (1.0 + len(terms) / 60.0)
        for terms in held
    ]


def _text(given: object, place: int, is_second: bool) -> str:
    if isinstance(given, dict) and not is_second and set(given) == {"text"}:
        given = given["text"]
    if not isinstance(given, str):
        kind = "a string" if is_second else "a string or an object with 'text'"
        raise Refusal("invalid_request", f"'documents[{place}]' must be {kind}", field="documents")
    if not given.strip():
        raise Refusal("invalid_request", f"'documents[{place}]' is empty", field="documents")
    return given


def _cut(text: str, most: int) -> str:
    """`text` as far as its first `most` tokens."""
    for number, found in enumerate(_TOKEN.finditer(text), start=1):
        if number == most:
            return text[: found.end()]
    return text


def second_error(refusal: Refusal, request_id: str, first: ErrorAnswer) -> ErrorAnswer:
    """The error of the second version in place of the `first`'s."""
    status, message = _SECOND_ERRORS.get(refusal.kind, (first.status, str(refusal)))
    body = {"id": request_id, "message": refusal.message or message}
    return ErrorAnswer(status, json.dumps(body, ensure_ascii=False).encode())
