"""The words for what other readers of a store find in another form than it was."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

_FORMS: Final = {
    "tagged": 'for other readers {} stand as tagged JSON, {{"$exitramp:…": …}}',
    "text": "for other readers {} stand as text",
    "apart": "for other readers {} stand apart from the keys, in a text of JSON",
}
_MANY: Final = {
    "bytes": "bytes",
    "int": "integers beyond 2^53",
    "key": "keys like a tag",
    "list": "lists of several types or none",
    "nonfinite": "NaN and infinities",
}


def told_forms(forms: Collection[tuple[str, str]]) -> list[str]:
    """In which form other readers find which types, a sentence's part for each form."""
    told = []
    for form in sorted({form for form, _ in forms}):
        types = sorted(_MANY.get(name, f"{name}s") for other, name in forms if other == form)
        told.append(_FORMS[form].format(", ".join(types)))
    return told
