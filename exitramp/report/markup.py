"""Elements as text: whatever is not markup already is made visible and escaped on the way in."""

from __future__ import annotations

import html
from typing import Self

from exitramp.report.text import visible

_VOID = frozenset({"br", "hr", "img", "link", "meta", "wbr", "col"})

Attribute = str | int | float | bool | None


class Markup(str):
    """Text that is HTML already and is not escaped again."""

    __slots__ = ()

    def __new__(cls, text: str = "") -> Self:
        return super().__new__(cls, text)


def escape(text: str, *, keep_newlines: bool = False) -> Markup:
    """`text` as HTML, for content and for quoted attributes alike."""
    return Markup(html.escape(visible(text, keep_newlines=keep_newlines), quote=True))


def tag(name: str, /, *children: str | None, **attributes: Attribute) -> Markup:
    """One element. Children that are not `Markup` are escaped, None is left out.

    An attribute's trailing underscore is dropped and others become hyphens (`class_`, `aria_label`); None and False
    leave it out, True writes its name alone, floats are written to one decimal place.
    """
    written = "".join(_attribute(key, value) for key, value in attributes.items())
    if name in _VOID:
        return Markup(f"<{name}{written}>")
    return Markup(f"<{name}{written}>{join(*children)}</{name}>")


def join(*children: str | None) -> Markup:
    """The children one after the other, escaped where they are not markup."""
    return Markup("".join(child if isinstance(child, Markup) else escape(child) for child in children if child))


def point(value: float) -> str:
    """A coordinate: one decimal place, no trailing zero."""
    text = f"{value:.1f}"
    return text[:-2] if text.endswith(".0") else text


def _attribute(key: str, value: Attribute) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    if value is True:
        return f" {name}"
    text = point(value) if isinstance(value, float) else str(value)
    return f' {name}="{escape(text)}"'
