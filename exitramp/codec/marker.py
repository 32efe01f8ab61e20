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

A user may keep something of his own under that key, and an application may copy or change what we wrote. Only a text of
just this shape is read as a marker; whether what it says goes with the record is asked entry by entry (`decoding`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from exitramp import canonical
from exitramp.errors import DataInvalid

MARKER_KEY: Final = "_exitramp"
DOCUMENT_KEY: Final = "document"
VERSION: Final = 1
FLOAT_TOLERANT: Final = "~"

_HEAD: Final = '{"$marker":1'
_LIKE: Final = '{"$marker":'
_HASH_DIGITS: Final = 16
_HEX: Final = frozenset("0123456789abcdef")
# Half a character, which only an escape can hide in a text, and which Arrow does not take; or a backslash of a user's.
_SURROGATE: Final = re.compile(r"\\u[dD]")


def write(entries: Mapping[str, Any]) -> str:
    """The marker's text. The version stands first under a key that no payload of ours begins with."""
    body = canonical.dumps(dict(entries), keys_are_text=True)
    return _HEAD + ("," + body[1:] if len(body) > 2 else "}")


def read(value: object) -> dict[str, Any] | None:
    """The entries of a marker, each of the shape that `write` is given; None if `value` is anything else, which is a
    user's own under the same key."""
    if not isinstance(value, str) or not value.startswith(_HEAD) or value[-1] != "}":
        return None
    try:
        entries = canonical.loads(value)
    except DataInvalid:
        return None
    if not isinstance(entries, dict) or entries.pop("$marker", None) != VERSION or not _is_ours(entries):
        return None
    return None if _SURROGATE.search(value) and not _is_unicode(entries) else entries


def is_like(value: object) -> bool:
    """Whether `value` begins as a marker does, of this version or another one."""
    return isinstance(value, str) and value.startswith(_LIKE)


def _is_ours(entries: Mapping[str, Any]) -> bool:
    for name, entry in entries.items():
        shape = _SHAPES.get(name)
        if shape is None or not shape(entry):
            return False
    # None is written of nothing, and an id in a namespace that the store lacks is always another one there.
    return bool(entries) and ("ns" not in entries or "id" in entries)


def _is_unicode(entries: Mapping[str, Any]) -> bool:
    try:
        canonical.dumps(entries)
    except DataInvalid:
        return False
    return True


def _is_text(entry: Any) -> bool:
    return type(entry) is str


def _is_document(entry: Any) -> bool:
    return entry == {"k": DOCUMENT_KEY} or (type(entry) is dict and entry.keys() == {"o"} and _is_text(entry["o"]))


def _is_top(entry: Any) -> bool:
    return type(entry) is dict and bool(entry) and all(map(_is_key, entry.values()))


def _is_key(entry: Any) -> bool:
    if type(entry) is not dict or entry.keys() != {"o", "n"}:
        return False
    written = entry["n"]
    if written is None:
        return True
    if written == FLOAT_TOLERANT:
        return type(entry["o"]) in (float, list, dict)
    return type(written) is str and len(written) == _HASH_DIGITS and _HEX.issuperset(written)


def _is_vectors(entry: Any) -> bool:
    return type(entry) is dict and bool(entry) and all(map(_is_vector, entry.values()))


def _is_vector(entry: Any) -> bool:
    """Its numbers are looked at where the field is known that they belong to."""
    if type(entry) is not dict or entry.keys() - {"n", "c"} not in ({"s", "b"}, {"i", "b"}):
        return False
    return ("n" in entry) is ("c" in entry) and entry.get("n", "p") in _STANDS and entry.get("c", "x") in _CHANGES


def _is_fields(entry: Any) -> bool:
    return type(entry) is list and bool(entry) and all(map(_is_text, entry))


_STANDS: Final = ("p", "z", "t", "a")
_CHANGES: Final = ("x", "r", "s")
_SHAPES: Final[Mapping[str, Callable[[Any], bool]]] = {
    "id": _is_text,
    "ns": _is_text,
    "p": lambda entry: type(entry) is int and entry in (0, 1),
    "doc": _is_document,
    "top": _is_top,
    "vec": _is_vectors,
    "null": _is_fields,
    "has": lambda entry: entry in ("d", "n", "dn"),
}


def value_hash(value: object) -> str:
    """Sixteen hex digits that tell whether a natively kept value is still the one that was written."""
    return hashlib.sha256(canonical.dumps(value).encode("utf-8")).hexdigest()[:16]
