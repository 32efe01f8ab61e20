"""A chat model whose answers and failures are kept on a cassette while it answers."""

from __future__ import annotations

from collections.abc import Callable

from exitramp.errors import ModelError
from exitramp.ports import ChatAnswer, ChatDelta, ChatModel, ChatRequest, ModelIdentity
from exitramp.ports.cassette import CassetteWriter


class RecordingChat:
    """`model`, with every complete answer and every failure on `cassette` before it is given on.

    A request that has its answer on the cassette already, by its idempotency key, is not asked again. Closing it closes
    the model; the cassette belongs to whoever made it.
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
        kept = self._cassette.kept(self._model.identity(), request)
        if kept is not None:
            if on_delta is not None and request.stream:
                on_delta(ChatDelta(kept.text))
            return kept
        self._cassette.sending(request)
        pieces: list[int] = []

        def heard(delta: ChatDelta) -> None:
            pieces.append(len(delta.text))
            if on_delta is not None:
                on_delta(delta)

        try:
            answer = self._model.answer(
                request, timeout_seconds=timeout_seconds, on_delta=heard if request.stream else on_delta
            )
        except ModelError as error:
            self._cassette.add_error(self._model.identity(), request, error)
            raise
        # Asked after the answer: only then does an adapter know whether a mock gave it.
        lengths = tuple(each for each in pieces if each)
        told = lengths if sum(lengths) == len(answer.text) else ()
        self._cassette.add(self._model.identity(), request, answer, pieces=told)
        return answer

    def close(self) -> None:
        self._model.close()
