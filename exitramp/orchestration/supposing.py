"""What a question would ask of models at most, as records to ask prices for before anything is spent."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from exitramp.orchestration.opened import Generation
from exitramp.orchestration.stack_file import StoreSpec
from exitramp.orchestration.supposed_tokens import supposed_tokens
from exitramp.orchestration.trace import supposed_record
from exitramp.ports import ModelIdentity
from exitramp.records import TraceRecord

PASSAGE_TOKENS: Final = 512
"""Of a passage that nobody has seen yet."""


def supposed_ways(
    opened: Generation, text: str, *, use_case: str, maximum_tokens: int, only: str | None = None
) -> tuple[tuple[TraceRecord, ...], ...]:
    """The calls of each stack that may answer, or of each model where the file names no stacks: the answer, the
    question's embedding, the reranking. `maximum_tokens` is for a model that is asked without a prompt of the file.
    `only`: the calls of that one alone."""
    file, tokens = opened.file, supposed_tokens(text)
    routed = _routed(opened, tokens)
    if not file.stacks:
        return tuple(
            (supposed_record(opened.models[name].identity(), tokens, maximum_tokens), *routed)
            for name in (file.model_order if only is None else (only,))
        )
    ways: list[tuple[TraceRecord, ...]] = []
    for name in file.stack_order if only is None else (only,):
        spec = file.stacks[name]
        prompt = None if opened.prompts is None else opened.prompts.for_use_case(use_case)
        most = maximum_tokens if prompt is None else prompt.maximum_tokens
        identity = opened.models[spec.chat].identity()
        if spec.store is None:
            ways.append((supposed_record(identity, tokens, most), *routed))
            continue
        store = file.stores[spec.store]
        read = tokens + store.depth_k * PASSAGE_TOKENS + (0 if prompt is None else supposed_tokens(prompt.template))
        beside = _beside(opened, store, tokens)
        reranked = sum(record.operation == "rerank" for record in beside)
        candidates = store.rerank.candidates if store.rerank is not None and reranked else 0
        ways.append((replace(supposed_record(identity, read, most), rerank_n=candidates), *beside, *routed))
    return tuple(ways)


def _routed(opened: Generation, tokens: int) -> tuple[TraceRecord, ...]:
    """What a classifier that routes asks of its embedder."""
    if opened.classifier is None:
        return ()
    identity = opened.builder.embedder(opened.classifier.spec.embedder).identity()
    record = _side("embed", identity, tokens, 1)
    return (replace(record, request_id=f"{record.request_id.removesuffix(':embed')}:route"),)


def _beside(opened: Generation, store: StoreSpec, tokens: int) -> tuple[TraceRecord, ...]:
    made = [_side("embed", opened.builder.embedder(store.embedder).identity(), tokens, 1)]
    if store.rerank is not None:
        read = tokens + store.rerank.candidates * PASSAGE_TOKENS
        name = store.rerank.embedder
        if name is not None:
            made.append(_side("embed", opened.builder.embedder(name).identity(), read, 2))
        else:
            made.append(_side("rerank", opened.builder.reranker(store).identity(), read, 1))
    return tuple(made)


def _side(operation: str, identity: ModelIdentity, tokens: int, number: int) -> TraceRecord:
    record = supposed_record(identity, tokens, 0)
    return replace(record, request_id=f"{record.request_id}:{operation}", operation=operation, attempt=number)
