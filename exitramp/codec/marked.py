"""Which rows of a page carry a marker, found without looking at every payload by itself."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from exitramp.codec import marker
from exitramp.codec.noticed import Noticed
from exitramp.payloads import decoded_payloads

# As a pattern: 0.1 us for a payload of 450 bytes, as a plain text 0.7.
_MARKED = re.escape(f'"{marker.MARKER_KEY}"')
_KEY = f'"{marker.MARKER_KEY}"'.encode()
_LETTER = marker.MARKER_KEY[0].encode()


def marks_in(batch: pa.RecordBatch, noticed: Noticed) -> dict[int, tuple[dict[str, Any], dict[str, Any]]]:
    """The rows that carry a marker: their entries and their native payload without it."""
    texts = batch.column("payload")
    if not _may_be_marked(texts):
        return {}
    suspects = pc.fill_null(pc.match_substring_regex(texts, _MARKED), False)
    found: dict[int, tuple[dict[str, Any], dict[str, Any]]] = {}
    rows = np.flatnonzero(np.asarray(suspects))
    for row, native in zip(rows.tolist(), decoded_payloads(texts.take(pa.array(rows))), strict=True):
        text = native.get(marker.MARKER_KEY) if isinstance(native, dict) else None
        entries = marker.read(text)
        if entries is not None:
            del native[marker.MARKER_KEY]
            found[row] = (entries, native)
        elif marker.is_like(text):
            noticed.no_marker(batch.column("id")[row].as_py())
    return found


def _may_be_marked(texts: pa.Array) -> bool:
    """Whether a marker's key stands anywhere among the bytes of the texts: to look for it there takes 45 us for 1,000
    texts of 90 bytes, where the pattern on each, and what follows it, takes 200; and 2 us where its first letter does
    not stand there, since one byte is looked for many at once."""
    _, ends, data = texts.buffers()
    if texts.type != pa.string() or data is None:
        return data is not None
    offsets = np.frombuffer(ends, np.int32)[texts.offset : texts.offset + len(texts) + 1]
    if not len(texts):
        return False
    found = bytes(memoryview(data)[int(offsets[0]) : int(offsets[-1])])
    return _LETTER in found and _KEY in found
