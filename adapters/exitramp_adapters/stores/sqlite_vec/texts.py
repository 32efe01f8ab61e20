"""Columns of texts as SQLite gives them: documents, and payloads that are to be canonical JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from exitramp import canonical
from exitramp.errors import DataInvalid
from exitramp.payloads import canonical_objects


def documents(values: Sequence[Any], ids: Sequence[str]) -> pa.Array:
    if not set(map(type, values)) <= {str, type(None)}:
        for value, id_ in zip(values, ids, strict=True):
            if value is not None and type(value) is not str:
                raise DataInvalid(f"the document of the record '{id_}' is no text but a {canonical.type_name(value)}")
    return pa.array(values, pa.string())


def payload_texts(texts: Sequence[Any], ids: Sequence[str], *, tags: bool) -> pa.Array:
    """Payload texts as they stand; those that an application wrote in its own way are brought in order."""
    if not set(map(type, texts)) <= {str, type(None)}:
        row = next(row for row, text in enumerate(texts) if text is not None and type(text) is not str)
        raise _no_text(texts[row], ids[row])
    return canonical_objects(
        pa.array(texts, pa.string()), lambda row: f"the payload of the record '{ids[row]}'", tags=tags
    )


def parsed(text: Any, id_: str, *, tags: bool) -> Any:
    if text is None:
        return None
    if type(text) is not str:
        raise _no_text(text, id_)
    try:
        return canonical.parse(text, tags=tags)
    except DataInvalid as error:
        raise DataInvalid(f"the payload of the record '{id_}' is {error.message}") from error


def _no_text(value: Any, id_: str) -> DataInvalid:
    return DataInvalid(
        f"the payload of the record '{id_}' is no JSON text but a {canonical.type_name(value)}",
        hint="SQLite's own binary JSON becomes text with json(COLUMN)" if isinstance(value, bytes) else None,
    )
