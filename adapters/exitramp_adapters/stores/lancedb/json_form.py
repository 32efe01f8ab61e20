"""Payloads out of LanceDB: its own JSON, or JSON in texts, as canonical texts and as values."""

from __future__ import annotations

import re
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from exitramp import canonical
from exitramp.errors import DataInvalid
from exitramp.payloads import canonical_faults
from exitramp.ports.tables import plain_values


def payload_objects(column: pa.Array, ids: pa.Array | None, *, tags: bool) -> list[Any]:
    """The values of a column of JSON, of texts that hold some, or of structs. Raises `DataInvalid` naming the id."""
    if not is_text(column.type):
        return plain_values(column)
    texts = (column.storage if isinstance(column, pa.ExtensionArray) else column).to_pylist()
    found = []
    for row, text in enumerate(texts):
        try:
            found.append(None if text is None else canonical.parse(text, tags=tags))
        except DataInvalid as error:
            name = "a value" if ids is None else payload_of(ids, row)
            raise DataInvalid(f"{name} is {error.message}") from error
    return found


def payload_of(ids: pa.Array, row: int) -> str:
    return f"the payload of the record '{ids[row]}'"


def lance_texts(texts: pa.Array, ids: pa.Array, *, tags: bool) -> pa.Array:
    """Payload texts that Lance itself wrote, each as the canonical text of what it holds."""
    faults = _odd_rows(texts, tags)
    if not faults:
        return texts
    right = payload_objects(texts.take(pa.array(faults)), ids.take(pa.array(faults)), tags=tags)
    changed = texts.to_pylist()
    for row, value in zip(faults, right, strict=True):
        changed[row] = canonical.dumps(value)
    return pa.array(changed, pa.string())


# Where a float stands that Lance writes in another way than `canonical.dumps`: 1e-6 for 1e-06, 0.00002 for 2e-05. Each
# begins with bytes that are searched for as such: together 0.2 us for 350 bytes, and a whole look at them takes 1.9.
_OTHER_FLOATS: Final = (re.compile(rb"e-[1-9][,}\]]"), re.compile(rb"0\.0000"))
_BEFORE_INTEGER: Final = np.frombuffer(b":,[-", np.uint8)


def _odd_rows(texts: pa.Array, tags: bool) -> list[int]:
    """The rows whose text, written by Lance, may be another than the canonical one."""
    offsets = np.frombuffer(texts.buffers()[1], np.int32)[texts.offset : texts.offset + len(texts) + 1]
    held = texts.buffers()[2]
    data = b"" if held is None else held[int(offsets[0]) : int(offsets[-1])].to_pybytes()
    # To look for a dollar first costs nothing, for the whole of the tag's name 0.1 us for 350 bytes.
    marked = b"$" in data and canonical.TAG_PREFIX.encode() in data
    if marked and not tags:
        return list(range(len(texts)))
    if marked or _has_long_integer(data):
        return canonical_faults(texts)
    hits = [found.start() for pattern in _OTHER_FLOATS for found in pattern.finditer(data)]
    if not hits:
        return []
    rows: list[int] = np.unique(np.searchsorted(offsets - offsets[0], np.array(hits), side="right") - 1).tolist()
    return rows


def _has_long_integer(data: bytes) -> bool:
    """Whether an integer may stand in these texts that has sixteen digits or more: others are below 2^53."""
    codes = np.frombuffer(data, np.uint8)
    runs: npt.NDArray[np.bool_] = (codes - np.uint8(ord("0"))) < 10
    for step in (1, 2, 4, 8):  # after each, `runs` says where twice as many digits begin
        runs = runs[:-step] & runs[step:]
    starts = np.flatnonzero(runs)
    return bool(np.isin(codes[starts[starts > 0] - 1], _BEFORE_INTEGER).any())


def is_text(kind: pa.DataType) -> bool:
    return isinstance(kind, pa.JsonType) or pa.types.is_string(kind) or pa.types.is_large_string(kind)
