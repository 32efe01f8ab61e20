"""A chat model whose complete answers are kept on a cassette while it answers."""

from __future__ import annotations

from collections.abc import Callable

from exitramp.ports import ChatAnswer, ChatDelta, ChatModel, ChatRequest, ModelIdentity
from exitramp.ports.cassette import CassetteWriter


class RecordingChat:
    """`model`, with every complete answer written to `cassette` before it is given on. Failures are not recorded.

    Closing it closes the model; the cassette belongs to whoever made it.
    """

    def __init__(self, model: ChatModel, cassette: CassetteWriter) -> None:
        self._model = model
        self._cassette = cassette

    def identity(self) -> ModelIdentity:
        return self._model.identity()

    def answer(
        self,
        request: ChatRequest,
        *,
        timeout_seconds: float,
        on_delta: Callable[[ChatDelta], None] | None = None,
    ) -> ChatAnswer:
        answer = self._model.answer(request, timeout_seconds=timeout_seconds, on_delta=on_delta)
        # Asked after the answer: only then does an adapter know whether a mock gave it.
        self._cassette.add(self._model.identity(), request, answer)
        return answer

    def close(self) -> None:
        self._model.close()
