"""The embeddings shape over HTTP: OpenAI, and what speaks like it (llama.cpp, Ollama, vLLM, the mock vendor).

`openai:MODEL?base_url=http://127.0.0.1:8080/v1&key=env:NAME`. Options beside those of the chat shape: `dimensions`
(shorter vectors, where the model can), `query_prefix` and `passage_prefix` (put before each text), `batch` (texts a
call, 128), `text_tokens` (how much of a text the model reads, where that is known), and `encoding=float` for servers
that know no base64.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from exitramp.errors import AddressError, DataInvalid, ModelError
from exitramp.ports import Embedded, EmbedderLimits, ModelIdentity, Purpose, check_texts
from exitramp.ports.over_http import (
    WRONG_SHAPE,
    ModelHttp,
    count,
    estimated_tokens,
    fields,
    optional_text,
)
from exitramp.records import UNKNOWN, EmbeddingModel, Usage
from exitramp.urls import Address, Network

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

OPTIONS: Final = (
    "dimensions",
    "query_prefix",
    "passage_prefix",
    "batch",
    "text_tokens",
    "encoding",
    "max_tokens_field",
)
_BATCH_TEXTS: Final = 128
_ANSWER_LIMIT_BYTES: Final = 64 * 1024 * 1024  # 128 vectors of 16,384 numbers, written as decimals


class OpenAIEmbedder:
    """An embedding model behind the embeddings shape. Thread-safe."""

    def __init__(self, address: Address, network: Network, *, provider: str, known_options: tuple[str, ...]) -> None:
        self._http = ModelHttp(
            address,
            network,
            provider=provider,
            known_options=known_options,
            example_url="http://127.0.0.1:8080/v1",
            answer_limit_bytes=_ANSWER_LIMIT_BYTES,
        )
        self._provider = provider
        self._model = address.location
        self._asked_dimensions = _number(address, "dimensions")
        self._batch = _number(address, "batch") or _BATCH_TEXTS
        self._text_tokens = _number(address, "text_tokens")
        self._encoding = address.options.get("encoding", "base64")
        if self._encoding not in ("base64", "float"):
            raise AddressError(f"{address.scheme}: option 'encoding' is base64 or float")
        self._prefixes = {
            Purpose.QUERY: address.options.get("query_prefix", ""),
            Purpose.DOCUMENT: address.options.get("passage_prefix", ""),
        }

    def identity(self) -> ModelIdentity:
        return ModelIdentity(self._provider, self._model, str(self._http.address), self._http.is_mock)

    def model(self) -> EmbeddingModel:
        """What a vendor does not tell of its weights stays unknown; the prefixes are those that are put there."""
        return EmbeddingModel(
            provider=self._provider,
            name=self._model,
            query_prefix=self._prefixes[Purpose.QUERY],
            passage_prefix=self._prefixes[Purpose.DOCUMENT],
            maximum_tokens=UNKNOWN if self._text_tokens is None else str(self._text_tokens),
        )

    @cached_property
    def dimensions(self) -> int:
        """As asked for, or as the model answers when it is asked once."""
        if self._asked_dimensions is not None:
            return self._asked_dimensions
        return int(self.embed(["dimensions"], purpose=Purpose.DOCUMENT).vectors.shape[1])

    def limits(self) -> EmbedderLimits:
        return EmbedderLimits(self._batch, text_tokens=self._text_tokens)

    def count_tokens(self, texts: Sequence[str]) -> Usage:
        return Usage(sum(map(estimated_tokens, texts)), 0, source="estimated")

    def embed(
        self,
        texts: Sequence[str],
        *,
        purpose: Purpose,
        timeout_seconds: float = 60.0,
        idempotency_key: str | None = None,
    ) -> Embedded:
        check_texts(texts, self._batch)
        empty = next((row for row, text in enumerate(texts) if not text), None)
        if empty is not None:
            raise DataInvalid(f"text {empty} of {len(texts)} is empty, and the vendor makes no vector of that")
        said = [self._prefixes[purpose] + text for text in texts]
        body: dict[str, Any] = {"model": self._model, "input": said, "encoding_format": self._encoding}
        if self._asked_dimensions is not None:
            body["dimensions"] = self._asked_dimensions
        prompt = "\n".join(said)
        received = self._http.post(
            "/embeddings",
            body,
            {"authorization": f"Bearer {self._http.endpoint.key}"},
            idempotency_key=idempotency_key,
            timeout_seconds=timeout_seconds,
            prompt=prompt,
        )
        if received.data.get("error") or ("error" in received.data and "data" not in received.data):
            raise self._http.error_inside(received.data, prompt)
        try:
            vectors = _vectors(received.data["data"], len(texts))
            usage = _usage(fields(received.data.get("usage")), said)
            model = optional_text(received.data.get("model")) or self._model
        except (*WRONG_SHAPE, binascii.Error):
            raise self._broken("sent vectors that are not in its shape") from None
        if self._asked_dimensions is not None and vectors.shape[1] != self._asked_dimensions:
            raise self._broken(f"sent vectors of {vectors.shape[1]} numbers, asked were {self._asked_dimensions}")
        return Embedded(vectors, usage, received.latency_ms, model)

    def close(self) -> None:
        self._http.close()

    def _broken(self, what: str) -> ModelError:
        return self._http.broken("malformed", what)


def _vectors(rows: Sequence[Mapping[str, Any]], texts: int) -> npt.NDArray[np.float32]:
    """In the order of the texts, which the rows' own numbers tell. Raises `ValueError` and the like."""
    import numpy as np

    by_place = {count(row.get("index", place)): row["embedding"] for place, row in enumerate(rows)}
    if len(rows) != texts or sorted(by_place) != list(range(texts)):
        raise ValueError("rows")
    with np.errstate(over="ignore"):  # 1e39 becomes infinite, and that is refused below
        found = [
            np.frombuffer(base64.b64decode(value, validate=True), "<f4")
            if isinstance(value, str)
            else np.asarray(value, np.float32)
            for _, value in sorted(by_place.items())
        ]
    vectors = np.stack(found).astype(np.float32, copy=False)
    if vectors.ndim != 2 or not vectors.shape[1] or not np.isfinite(vectors).all():
        raise ValueError("vectors")
    return vectors


def _usage(data: Mapping[str, Any], said: Sequence[str]) -> Usage:
    if data.get("prompt_tokens") is None:
        return Usage(sum(map(estimated_tokens, said)), 0, source="estimated")
    return Usage(count(data["prompt_tokens"]), 0)


def _number(address: Address, name: str) -> int | None:
    text = address.options.get(name)
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 1_000_000:
        raise AddressError(f"{address.scheme}: option '{name}' must be a whole number above 0")
    return int(text)
