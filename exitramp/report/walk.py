"""Going through a tree of frozen dataclasses and tuples, which is what a document is."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import TypeVar, cast

T = TypeVar("T")


def nodes(value: object) -> Iterator[object]:
    """`value` and every dataclass and leaf within it, in reading order."""
    yield value
    if isinstance(value, tuple):
        for item in value:
            yield from nodes(item)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from nodes(getattr(value, field.name))


def with_texts(value: T, change: Callable[[str], str]) -> T:
    """The same tree with `change` applied to each text in it; members of an enum are no texts."""
    return cast(T, _changed(value, change))


def _changed(value: object, change: Callable[[str], str]) -> object:
    if type(value) is str:
        return change(value)
    if isinstance(value, tuple):
        return tuple(_changed(item, change) for item in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        before = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        after = {name: _changed(item, change) for name, item in before.items()}
        return dataclasses.replace(value, **after) if after != before else value
    return value
