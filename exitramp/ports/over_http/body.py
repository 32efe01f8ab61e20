"""The bytes of an answer, decompressed in pieces of a bounded size.

An HTTP library decompresses whatever a read gave it in one go: 64 KiB of gzip become 64 MiB, and gzip within gzip as
many GiB, before anybody can look at a limit. Here a piece is at most 64 KiB, so that the reader's limit holds.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import httpx

ACCEPTED: Final = "gzip, deflate"
_PIECE_BYTES: Final = 64 * 1024
_GZIP: Final = frozenset({"gzip", "x-gzip"})


class NotDecodable(Exception):
    """The body is not in the coding that its header names, or in several on top of each other."""


async def pieces_of(response: httpx.Response) -> AsyncIterator[bytes]:
    """The body as it comes. What is in a coding that nobody asked for is given as it is. Raises `NotDecodable`."""
    codings = [each.strip().lower() for each in response.headers.get("content-encoding", "").split(",")]
    codings = [each for each in codings if each not in ("", "identity")]
    if len(codings) > 1:
        raise NotDecodable
    if not codings or codings[0] not in (*_GZIP, "deflate"):
        async for chunk in response.aiter_raw():
            yield chunk
        return
    coding = _Gzip() if codings[0] in _GZIP else _Deflate()
    async for chunk in response.aiter_raw():
        left = chunk
        while left:
            piece, left = coding.some_of(left)
            if piece:
                yield piece


class _Gzip:
    """The header of gzip, one member after the other."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(zlib.MAX_WBITS | 16)

    def some_of(self, data: bytes) -> tuple[bytes, bytes]:
        """A piece, and what is left to be read for the next one. Raises `NotDecodable`."""
        if self._member.eof:
            self._member = zlib.decompressobj(zlib.MAX_WBITS | 16)
        return _some_of(self._member, data)


class _Deflate:
    """`deflate` is zlib's form by its standard, and bare in what some servers send."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj()
        self._has_begun = False

    def some_of(self, data: bytes) -> tuple[bytes, bytes]:
        """As of `_Gzip`; what follows the end is left away."""
        if self._stream.eof:
            return b"", b""
        try:
            found = _some_of(self._stream, data)
        except NotDecodable:
            if self._has_begun:
                raise
            self._stream = zlib.decompressobj(-zlib.MAX_WBITS)
            found = _some_of(self._stream, data)
        self._has_begun = True
        return found


def _some_of(stream: zlib._Decompress, data: bytes) -> tuple[bytes, bytes]:
    try:
        piece = stream.decompress(data, _PIECE_BYTES)
    except zlib.error:
        raise NotDecodable from None
    return piece, stream.unconsumed_tail or stream.unused_data
