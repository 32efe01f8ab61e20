"""The marker: one reserved payload key in which a sink keeps what it cannot hold by itself.

Its value is a JSON text, since a text is what every store can keep. It is written per record and only where a record
needs it, so that a store filled by exitramp can be read, copied and dumped without any file beside it.

    id     the record's own id, where the store's differs
    ns     its namespace, where the store has none
    p      0: the record had no payload at all · 1: it had an empty one
    doc    the document: {"k": payload key} where it is kept natively, {"o": text} where it is not
    top    payload keys that are not kept natively as they are: {key: {"o": original, "n": hash of the native value}};
           "n" is null where nothing was written natively, and "~" where a float was written that may come back
           within 4 ulp
    vec    vectors by column: {"s": shape, "b": base64 of the little-endian bits, "n": how it stands natively,
           "c": what the store does to vectors}; of a sparse one "i" is the indices' bits
    null   dense fields in which the record has no vector although the store wanted one
    has    where the store cannot say it itself: "d" if the collection has documents, "n" if it has namespaces
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

from exitramp import canonical
from exitramp.errors import DataInvalid

MARKER_KEY: Final = "_exitramp"
DOCUMENT_KEY: Final = "document"
VERSION: Final = 1
FLOAT_TOLERANT: Final = "~"

_HEAD: Final = '{"$marker":1'


def write(entries: Mapping[str, Any]) -> str:
    """The marker's text. The version stands first under a key that no payload of ours begins with."""
    body = canonical.dumps(dict(entries), keys_are_text=True)
    return _HEAD + ("," + body[1:] if len(body) > 2 else "}")


def read(value: object) -> dict[str, Any] | None:
    """The entries of a marker, or None if `value` is something else that a user keeps under the same key."""
    if not isinstance(value, str) or not value.startswith(_HEAD):
        return None
    try:
        entries = canonical.loads(value)
    except DataInvalid:
        return None
    if not isinstance(entries, dict) or entries.pop("$marker", None) != VERSION:
        return None
    return entries


def value_hash(value: object) -> str:
    """Sixteen hex digits that tell whether a natively kept value is still the one that was written."""
    return hashlib.sha256(canonical.dumps(value).encode("utf-8")).hexdigest()[:16]
