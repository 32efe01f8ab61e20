"""The pieces of an answer, put together as they come and told to whoever listens."""

from __future__ import annotations

from collections.abc import Callable

from exitramp.ports import ChatDelta, ToolCall


class Pieces:
    """Text and tool calls of one answer. A call's id and name come with its first piece, its arguments in several."""

    def __init__(self, on_delta: Callable[[ChatDelta], None] | None) -> None:
        self._on_delta = on_delta
        self._texts: list[str] = []
        self._calls: dict[int, list[ToolCall]] = {}

    @property
    def has_token(self) -> bool:
        return bool(self._texts or self._calls)

    @property
    def text(self) -> str:
        return "".join(self._texts)

    @property
    def said(self) -> str:
        """All that was generated, to be counted where the vendor counts nothing: a tool's arguments are billed too."""
        calls = [piece.name + piece.arguments for pieces in self._calls.values() for piece in pieces]
        return "".join([*self._texts, *calls])

    def calls(self) -> tuple[ToolCall, ...]:
        """In the order of their places."""
        return tuple(
            ToolCall(
                next((piece.id for piece in pieces if piece.id), ""),
                next((piece.name for piece in pieces if piece.name), ""),
                "".join(piece.arguments for piece in pieces),
            )
            for _, pieces in sorted(self._calls.items())
        )

    def add_text(self, text: str) -> None:
        if text:
            self._texts.append(text)
            self._tell(ChatDelta(text=text))

    def add_call(self, place: int, piece: ToolCall) -> None:
        self._calls.setdefault(place, []).append(piece)
        self._tell(ChatDelta(tool_call=(place, piece)))

    def _tell(self, delta: ChatDelta) -> None:
        if self._on_delta is not None:
            self._on_delta(delta)
