"""Ids and names that a store does not take, mapped so that the way back is known.

A mapped id is derived from the original by SHA-256, so that the same record always lands on the same native id; the
original stands in the record's marker. Two originals on one native id are looked for before the first write.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from exitramp.errors import DataInvalid
from exitramp.ports import NameRule, SinkLimits
from exitramp.records import IdKind, RecordKey

_DECIMAL = re.compile(r"0|[1-9][0-9]{0,19}")
_SIGNED = re.compile(r"0|-?[1-9][0-9]{0,18}")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def is_uint64(text: str) -> bool:
    """Whether `text` is a number in [0, 2^64) in the one form that reads back the same ("7", never "007")."""
    return _DECIMAL.fullmatch(text) is not None and int(text) < 2**64


def is_int64(text: str) -> bool:
    return _SIGNED.fullmatch(text) is not None and -(2**63) <= int(text) < 2**63


def is_uuid(text: str) -> bool:
    return _UUID.fullmatch(text) is not None


def native_id(key: RecordKey, limits: SinkLimits) -> str:
    """The id under which a sink with `limits` keeps the record: the same wherever it takes it."""
    namespaced = key.namespace is not None and not limits.namespaces
    if not namespaced and _taken_as_is(key.id, limits):
        return key.id
    return _derived(key if namespaced else RecordKey(key.id), limits.id_kinds)


def candidate_ids(key: RecordKey) -> Iterator[str]:
    """Every native id under which some sink may keep this record; used to find it where the limits are not known."""
    yield key.id
    keys = [RecordKey(key.id)] if key.namespace is None else [RecordKey(key.id), key]
    for each in keys:
        for kind in (IdKind.STRING, IdKind.UUID, IdKind.INT64):
            yield _derived(each, frozenset({kind}))


def is_derived(native: str, id_: str, namespace: str | None) -> bool:
    """Whether a sink that does not take this id, or has no namespaces, keeps the record as `native`."""
    digest = _digest(id_, namespace)
    if native.startswith("x-"):
        return native == _as_text(digest)
    if "-" in native:
        return native == _as_uuid(digest)
    return native == _as_number(digest)


def _taken_as_is(text: str, limits: SinkLimits) -> bool:
    kinds = limits.id_kinds
    if IdKind.STRING in kinds and text and fits_text(text, limits):
        return True
    return (
        (IdKind.UINT64 in kinds and is_uint64(text))
        or (IdKind.INT64 in kinds and is_int64(text))
        or (IdKind.UUID in kinds and is_uuid(text))
    )


def are_taken_as_is(ids: pa.Array, limits: SinkLimits) -> bool:
    """Whether a sink that takes texts takes all of these, as far as their lengths tell; False says nothing."""
    if IdKind.STRING not in limits.id_kinds or limits.id_pattern is not None or not len(ids) or ids.null_count:
        return False
    lengths = pc.min_max(pc.binary_length(ids)).as_py()
    return bool(lengths["min"] > 0 and (limits.id_bytes is None or lengths["max"] <= limits.id_bytes))


def fits_text(text: str, limits: SinkLimits) -> bool:
    """Whether a sink that takes texts for ids takes this one."""
    if limits.id_bytes is not None and len(text.encode("utf-8")) > limits.id_bytes:
        return False
    return limits.id_pattern is None or re.fullmatch(limits.id_pattern, text) is not None


def _derived(key: RecordKey, kinds: frozenset[IdKind]) -> str:
    digest = _digest(key.id, key.namespace)
    if IdKind.STRING in kinds:
        return _as_text(digest)
    return _as_uuid(digest) if IdKind.UUID in kinds else _as_number(digest)


def _digest(id_: str, namespace: str | None) -> bytes:
    space = b"" if namespace is None else b"n" + namespace.encode("utf-8")
    material = b"exitramp/id/1\0" + len(space).to_bytes(8, "little") + space + id_.encode("utf-8")
    return hashlib.sha256(material).digest()


def _as_text(digest: bytes) -> str:
    return "x-" + digest[:20].hex()


def _as_uuid(digest: bytes) -> str:
    # RFC 9562 version 8: "custom", so that nobody mistakes it for a random or a name-based one.
    bits = bytearray(digest[:16])
    bits[6] = (bits[6] & 0x0F) | 0x80
    bits[8] = (bits[8] & 0x3F) | 0x80
    text = bits.hex()  # uuid.UUID would write the same in four times the time
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _as_number(digest: bytes) -> str:
    return str(int.from_bytes(digest[:8], "little") >> 1)


def native_name(name: str, rule: NameRule) -> str:
    """`name` where the store takes it; else its readable part and twelve hex digits of its hash."""
    return name if fits_rule(name, rule) else derived_name(name, name, rule)


def derived_name(name: str, material: str, rule: NameRule) -> str:
    """The readable part of `name` and twelve hex digits of the hash of `material`, joined as the rule takes it.

    Raises `DataInvalid` where it takes none of the spellings: `an-article-…`, `an_article_…`, `anarticle…`, and the
    same with a capital letter in front.
    """
    tail = name_hash(material)
    words = re.findall("[A-Za-z0-9]+", name.lower())
    for spelt in (str, str.capitalize):
        for joiner in ("-", "_", ""):
            readable = joiner.join(words)[: max(0, min(40, rule.maximum - len(tail) - 1))]
            mapped = spelt(f"{readable}{joiner}{tail}" if readable else f"c{joiner}{tail}")
            if fits_rule(mapped, rule):
                return mapped
    raise DataInvalid(f"no name that this store takes can be made from {name!r}", hint="rename it at its source")


def name_hash(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8")).hexdigest()[:12]


def fits_rule(name: str, rule: NameRule) -> bool:
    """Whether a store with this rule takes the name."""
    return rule.minimum <= len(name) <= rule.maximum and re.fullmatch(rule.pattern, name) is not None
