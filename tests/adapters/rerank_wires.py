"""The shapes of the reranking vendors, written from their published contracts and not with the adapter's code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from exitramp.testing.conformance.chat_harness import WireError
from exitramp.testing.conformance.rerank_wire import AskedOrder
from exitramp.testing.scripted import Arrived
from tests.adapters.chat_wires import OpenAIWire


class _Wire:
    fields: frozenset[str]

    def asked(self, arrived: Arrived) -> AskedOrder:
        data = arrived.json()
        assert set(data) <= self.fields, set(data) - self.fields
        key = arrived.headers["authorization"].removeprefix("Bearer ")
        texts = tuple(data["documents"])
        assert all(isinstance(text, str) for text in texts)
        return AskedOrder(data["query"], texts, data.get("top_n"), arrived.headers.get("idempotency-key"), key)

    def answer(self, scores: Sequence[float], tokens: int | None) -> dict[str, Any]:
        raise NotImplementedError

    def broken(self, scores: Sequence[float]) -> Mapping[str, Mapping[str, Any]]:
        whole = self.answer(scores, 3)
        rows = whole["results"]
        return {
            "a score less": whole | {"results": rows[1:]},
            "a score more": whole | {"results": [*rows, rows[0]]},
            "one twice": whole | {"results": [rows[0], *rows[:-1]]},
            "one that was not asked": whole | {"results": [*rows[1:], rows[0] | {"index": len(rows)}]},
            "counted from one": whole | {"results": [row | {"index": row["index"] + 1} for row in rows]},
            "a place as text": whole | {"results": [row | {"index": str(row["index"])} for row in rows]},
            "half a place": whole | {"results": [row | {"index": row["index"] + 0.25} for row in rows]},
            "no scores": whole | {"results": [{"index": row["index"]} for row in rows]},
            "scores as text": whole | {"results": [row | {"relevance_score": "0.5"} for row in rows]},
            "scores that are true": whole | {"results": [row | {"relevance_score": True} for row in rows]},
            "numbers alone": whole | {"results": [row["relevance_score"] for row in rows]},
            "no list": whole | {"results": {"0": 0.5}},
        }

    def error(self, error_class: str) -> Sequence[WireError]:
        raise NotImplementedError


class JinaWire(_Wire):
    """`/v1/rerank` as Jina, vLLM and llama.cpp have it: `usage` with `total_tokens`, errors as `detail` or `error`."""

    path = "/v1/rerank"
    fields = frozenset({"model", "query", "documents", "top_n", "return_documents"})

    def answer(self, scores: Sequence[float], tokens: int | None) -> dict[str, Any]:
        rows = [{"index": place, "relevance_score": score} for place, score in enumerate(scores)]
        rows.sort(key=lambda row: -row["relevance_score"])
        body: dict[str, Any] = {"model": "m-1", "object": "list", "results": rows}
        return body if tokens is None else body | {"usage": {"total_tokens": tokens}}

    def broken(self, scores: Sequence[float]) -> Mapping[str, Mapping[str, Any]]:
        whole = self.answer(scores, 3)
        return {
            **super().broken(scores),
            "usage that is none": whole | {"usage": {"total_tokens": "many"}},
            "usage below nothing": whole | {"usage": {"total_tokens": -3}},
        }

    def error(self, error_class: str) -> Sequence[WireError]:
        return (*OpenAIWire().error(error_class), *_BY_STATUS.get(error_class, ()))


class CohereWire(_Wire):
    """`/v2/rerank` of Cohere: `meta` in place of model and usage, errors as `message` and `id`.

    From its published description, which its own client's models are made of: numbers are floats there, tokens may be
    told, and may not.
    """

    path = "/v2/rerank"
    fields = frozenset({"model", "query", "documents", "top_n", "max_tokens_per_doc", "priority"})

    def answer(self, scores: Sequence[float], tokens: int | None) -> dict[str, Any]:
        rows = [{"index": place, "relevance_score": score} for place, score in enumerate(scores)]
        rows.sort(key=lambda row: -row["relevance_score"])
        version = {"version": "2", "is_experimental": False}
        meta: dict[str, Any] = {"api_version": version, "billed_units": {"search_units": 1.0}, "warnings": None}
        if tokens is not None:
            meta |= {"tokens": {"input_tokens": float(tokens), "output_tokens": None}, "cached_tokens": 0.0}
        return {"id": "07734bd2-2473-4f07-94e1-0d9f0e6843cf", "results": rows, "meta": meta}

    def broken(self, scores: Sequence[float]) -> Mapping[str, Mapping[str, Any]]:
        whole = self.answer(scores, 3)
        return {
            **super().broken(scores),
            "half a token": whole | {"meta": {"tokens": {"input_tokens": 3.5}}},
            "tokens as text": whole | {"meta": {"tokens": {"input_tokens": "3"}}},
            "a list for meta": whole | {"meta": [3]},
        }

    def error(self, error_class: str) -> Sequence[WireError]:
        return (*_BY_STATUS.get(error_class, ()), *_COHERE.get(error_class, ()))


def _cohere(status: int, message: str) -> WireError:
    return WireError(status, {"id": "0b6e2c4e-94f4-4bd5-9f6a-9f0a39e1f1a5", "message": message})


# Statuses and examples of Cohere's own page of errors, and of its description of the API (498, 499, 501, 504).
_COHERE: Mapping[str, Sequence[WireError]] = {
    "auth": (_cohere(401, "no api key supplied"), _cohere(401, "Your API key has expired.")),
    "model_gone": (_cohere(404, "model 'xyz' not found, make sure the correct model ID was used"),),
    "rate_limit": (
        _cohere(429, "You are past the per minute request limit, please wait and try again later."),
        _cohere(429, "You are using a Trial key, which is limited to 40 API calls / minute."),
        _cohere(429, "trial token rate limit exceeded, limit is 100000 tokens per minute"),
    ),
    "quota_exhausted": (
        _cohere(402, "Maximum billing reached for this API key as set in your dashboard"),
        _cohere(429, "You are using a Trial key, which is limited to 1000 API calls / month."),
    ),
    "invalid_request": (
        _cohere(400, "invalid request: document at index 0 cannot be empty"),
        _cohere(404, "404 page not found"),
        _cohere(422, "invalid request: query must not be empty or be only whitespace"),
        _cohere(501, "not implemented"),
    ),
    "context_length": (_cohere(400, "too many tokens: size limit exceeded by 11326 tokens."),),
    "content_filter": (_cohere(498, "a deny-listed token"),),
    "timeout": (_cohere(499, "failed to get rerank inference: request cancelled"),),
    "server_error": (_cohere(500, "internal server error"), _cohere(504, "an internal service took too long")),
    "overloaded": (_cohere(503, "the service is unavailable"),),
}

_BY_STATUS: Mapping[str, Sequence[WireError]] = {
    "auth": (WireError(401, {"message": "invalid api token"}), WireError(403, {"detail": "forbidden"})),
    "model_gone": (WireError(404, {"message": "model 'rerank-old' not found"}),),
    "rate_limit": (WireError(429, {"message": "you are using a trial key, limited to 10 calls a minute"}),),
    "quota_exhausted": (
        WireError(402, {"message": "please add a payment method"}),
        WireError(429, {"message": "you exceeded your current quota"}),
    ),
    "invalid_request": (
        WireError(400, {"message": "documents must not be empty"}),
        WireError(422, {"detail": [{"loc": ["body", "query"], "msg": "field required"}]}),
    ),
    "context_length": (WireError(400, {"message": "too many tokens: the context length is 8192"}),),
    "server_error": (WireError(500, {"message": "internal server error"}),),
    "overloaded": (WireError(503, {"message": "no model is ready"}),),
}
