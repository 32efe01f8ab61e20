"""Where two payloads differ, by path; never what the values are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from exitramp import canonical

LIST = "[]"


def differing_paths(a: str | None, b: str | None) -> Iterator[tuple[str, str]]:
    """Pairs of path and kind of difference: `missing` (only in A), `extra` (only in B), `type` or `value`.

    A path is written as JSON keys joined by dots after `$`; items of a list share one path that ends in `[]`.
    """
    if a == b:
        return
    if a is None or b is None:
        yield "$", "extra" if a is None else "missing"
        return
    yield from _walk(canonical.loads(a), canonical.loads(b), "$")


def _walk(a: Any, b: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(a, dict) and isinstance(b, dict):
        for key in sorted(a.keys() | b.keys()):
            inner = f"{path}.{key}"
            if key not in b:
                yield inner, "missing"
            elif key not in a:
                yield inner, "extra"
            else:
                yield from _walk(a[key], b[key], inner)
        return
    if isinstance(a, list) and isinstance(b, list):
        if len(a) != len(b):
            yield path + LIST, "value"
            return
        seen: set[tuple[str, str]] = set()
        for item_a, item_b in zip(a, b, strict=True):
            for found in _walk(item_a, item_b, path + LIST):
                if found not in seen:
                    seen.add(found)
                    yield found
        return
    if canonical.type_name(a) != canonical.type_name(b):
        yield path, "type"
    elif canonical.dumps(a) != canonical.dumps(b):
        yield path, "value"
