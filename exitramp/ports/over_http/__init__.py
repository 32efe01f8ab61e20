"""What an adapter of a model behind HTTP needs, so that it is left with its vendor's shape alone.

`ModelHttp` reads the address (`base_url`, `key`, `mock`, `connect_seconds`, `first_token_seconds`, `connections`),
sends one request and gives the whole answer within its deadline, or raises the `ModelError` that it is. An answer is
read with `text`, `count`, `fields` and the like, which raise one of `WRONG_SHAPE` for what is none, and `Pieces` puts
it together. httpx is imported by the first request and not before.
"""

from exitramp.ports.over_http.endpoint import Endpoint
from exitramp.ports.over_http.events import ServerEvent
from exitramp.ports.over_http.exchange import ModelHttp, Received, StreamParts, estimated_tokens, said_in
from exitramp.ports.over_http.pieces import Pieces
from exitramp.ports.over_http.shapes import (
    WRONG_SHAPE,
    consistent,
    count,
    fields,
    optional_count,
    optional_text,
    text,
    word,
)
from exitramp.ports.over_http.vendor_errors import SaidError

__all__ = [
    "WRONG_SHAPE",
    "Endpoint",
    "ModelHttp",
    "Pieces",
    "Received",
    "SaidError",
    "ServerEvent",
    "StreamParts",
    "consistent",
    "count",
    "estimated_tokens",
    "fields",
    "optional_count",
    "optional_text",
    "said_in",
    "text",
    "word",
]
