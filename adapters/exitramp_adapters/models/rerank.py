"""The rerank shape over HTTP, as Cohere, Jina, llama.cpp and vLLM speak it: `POST BASE_URL/rerank`.

`rerank:MODEL?base_url=http://127.0.0.1:8080/v1&key=env:NAME`. Sent are `model`, `query`, `documents` and `top_n` (all
of them: what is left away has no score). Read are `results` with `index` and `relevance_score`, and the tokens of
`usage` or `meta` where a server tells them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from exitramp.errors import ModelError
from exitramp.ports import ModelAdapter, ModelIdentity, Reranked, Reranker
from exitramp.ports.over_http import (
    ModelHttp,
    estimated_tokens,
)
from exitramp.records import Usage
from exitramp.urls import Address, Network

PROVIDER: Final = "rerank"


class HttpReranker:
    """A reranker behind the rerank shape. Thread-safe."""

    def __init__(self, address: Address, network: Network) -> None:
        self._http = ModelHttp(address, network, provider=PROVIDER, example_url="http://127.0.0.1:8080/v1")
        self._model = address.location

    def identity(self) -> ModelIdentity:
        return ModelIdentity(PROVIDER, self._model, str(self._http.address), self._http.is_mock)

    def rerank(
        self,
        question: str,
        texts: Sequence[str],
        *,
        timeout_seconds: float = 60.0,
        idempotency_key: str | None = None,
    ) -> Reranked:
        prompt = "\n".join([question, *texts])
        received = self._http.post(
            "/rerank",
            {"model": self._model, "query": question, "documents": list(texts), "top_n": len(texts)},
            {"authorization": f"Bearer {self._http.endpoint.key}"},
            idempotency_key=idempotency_key,
            timeout_seconds=timeout_seconds,
            prompt=prompt,
        )
        if "error" in received.data and "results" not in received.data:
            raise self._http.error_inside(received.data, prompt)
        try:
            scores = _scores(received.data["results"], len(texts))
            usage = _usage(_told_tokens(received.data), prompt)
        except (TypeError, KeyError, ValueError, AttributeError, OverflowError):
            raise self._broken() from None
        return Reranked(scores, usage, received.latency_ms, str(received.data.get("model") or self._model))

    def close(self) -> None:
        self._http.close()

    def _broken(self) -> ModelError:
        return self._http.broken("malformed", "sent scores that are not in its shape")


def _scores(results: Sequence[Mapping[str, Any]], count: int) -> tuple[float, ...]:
    """Raises `ValueError` and the like where a text has no score, two, or one that is no number."""
    by_place = {_number(row["index"], int): float(_number(row["relevance_score"], int, float)) for row in results}
    if len(results) != count or sorted(by_place) != list(range(count)):
        raise ValueError("rows")
    if not all(math.isfinite(score) for score in by_place.values()):
        raise ValueError("scores")
    return tuple(by_place[place] for place in range(count))


def _number(given: Any, *kinds: type) -> Any:
    """Raises `TypeError` for a text that could be read as a number, for true, and for half a place."""
    if not isinstance(given, kinds) or isinstance(given, bool):
        raise TypeError("no number")
    return given


def _told_tokens(data: Mapping[str, Any]) -> Any:
    """The tokens that were read: `usage` of most, Cohere's `meta.tokens`, or what it billed of them; None untold."""
    usage, meta = data.get("usage") or {}, data.get("meta") or {}
    places = (
        (usage, "prompt_tokens"),
        (usage, "total_tokens"),
        (meta.get("tokens") or {}, "input_tokens"),
        (meta.get("billed_units") or {}, "input_tokens"),
    )
    return next((part[name] for part, name in places if part.get(name) is not None), None)


def _usage(told: Any, prompt: str) -> Usage:
    if told is None:
        return Usage(estimated_tokens(prompt), 0, source="estimated")
    count = _number(told, int, float)
    if count < 0 or count != int(count):  # Cohere's numbers are 12.0
        raise ValueError("tokens")
    return Usage(int(count), 0)


def _open(address: Address, network: Network) -> Reranker:
    return HttpReranker(address, network)


ADAPTER = ModelAdapter(
    scheme=PROVIDER,
    summary="Reranking over HTTP: Cohere, Jina, llama.cpp, vLLM",
    address_form="rerank:MODEL?base_url=http://127.0.0.1:8080/v1&key=env:NAME",
    roles=("reranker",),
    open_reranker=_open,
    requires=("httpx",),
    evidence="wire mocked",
)
