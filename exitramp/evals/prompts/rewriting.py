"""Templates of other languages as mustache: what is filled in becomes `{{{name}}}`, all the rest stays the text it was.

Three languages: Python's f-strings, Jinja (and nunjucks, which promptfoo has), and Langfuse's `{{name}}`. What they can
do beyond filling in a name stands in the template as it was written, as text, and is told. A text with braces of its
own, such as an example of JSON, can look like a tag: delimiters are then changed around it, which is told too, since
not every engine can do that.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

Lose = Callable[[str], None]

_NAME: Final = re.compile(r"[A-Za-z_]\w*(?:\.\w+)*")
_FLAT_NAME: Final = re.compile(r"[A-Za-z_][\w-]*")
_JINJA: Final = re.compile(
    r"\{%-?\s*raw\s*-?%\}(?P<raw>.*?)\{%-?\s*endraw\s*-?%\}"
    r"|\{\{(?P<before>-?)\s*(?P<said>.*?)\s*(?P<after>-?)\}\}"
    r"|(?P<comment>\{#.*?#\})|(?P<statement>\{%.*?%\})",
    re.DOTALL,
)
_LANGFUSE: Final = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
_ESCAPED: Final = re.compile(r"(?<!\{)\{\{\s*([A-Za-z_][\w.-]*)\s*\}\}(?!\})")
_DELIMITERS: Final = (("<%", "%>"), ("[[", "]]"), ("<<", ">>"), ("((", "))"))


@dataclass(frozen=True, slots=True)
class _Filled:
    """A place where a variable's value is put."""

    name: str


_Piece = str | _Filled


def from_f_string(template: str, lose: Lose) -> str:
    """Of Python's `str.format`, as LangChain has it."""
    try:
        parsed = list(string.Formatter().parse(template))
    except ValueError:
        lose("the template, which is no f-string: it stands there as it was, with nothing filled in")
        return _written([template], lose)
    pieces: list[_Piece] = []
    for text, name, form, conversion in parsed:
        pieces.append(text)
        if name is None:
            continue
        if form or conversion:
            lose(f"how the variable {name!r} is formatted")
        if _NAME.fullmatch(name):
            pieces.append(_Filled(name))
        else:
            lose("a place that is no name: it stands in the template as it was")
            pieces.append("{" + name + "}")
    return _written(pieces, lose)


def from_jinja(template: str, lose: Lose) -> str:
    """Of Jinja and nunjucks; `-` at a place takes the white space beside it away."""
    pieces: list[_Piece] = []
    end, takes = 0, False
    for found in _JINJA.finditer(template):
        text, end = template[end : found.start()], found.end()
        text, takes = text.lstrip() if takes else text, False
        if found["comment"] is not None:
            lose("comments")
            pieces.append(text)
        elif found["raw"] is not None:
            pieces += [text, found["raw"]]
        elif found["said"] is not None and _NAME.fullmatch(found["said"]):
            takes = bool(found["after"])
            pieces += [text.rstrip() if found["before"] else text, _Filled(found["said"])]
        else:
            lose("loops, conditions or filters: they stand in the template as they were")
            pieces += [text, found[0]]
    rest = template[end:]
    return _written([*pieces, rest.lstrip() if takes else rest], lose)


def from_langfuse(template: str, lose: Lose) -> str:
    """Of Langfuse, which knows names alone."""
    if "@@@langfusePrompt:" in template:
        lose("a reference to another prompt of Langfuse: it stands in the template as it was")
    pieces: list[_Piece] = []
    end = 0
    for found in _LANGFUSE.finditer(template):
        pieces.append(template[end : found.start()])
        end, name = found.end(), found[1].strip()
        if _FLAT_NAME.fullmatch(name):
            pieces.append(_Filled(name))
        elif _NAME.fullmatch(name):
            lose(f"that {name!r} is one name: mustache looks for its parts inside one another")
            pieces.append(_Filled(name))
        else:
            lose("a place that is no name: it stands in the template as it was")
            pieces.append(found[0])
    return _written([*pieces, template[end:]], lose)


def from_mustache(template: str, lose: Lose) -> str:
    """Of mustache itself: values as they are, where it escaped them."""
    return _ESCAPED.sub(r"{{{\1}}}", template)


def as_text(text: str, lose: Lose) -> str:
    """A text in which nothing is filled in."""
    return _written([text], lose)


def _written(pieces: Sequence[_Piece], lose: Lose) -> str:
    merged = list(_merged(pieces))
    texts = "".join(piece for piece in merged if isinstance(piece, str))
    # `{{` is a tag's beginning; a brace before one moves where it begins, and one behind it where it ends.
    unclear = "{{" in texts or any(
        (isinstance(one, str) and one.endswith("{")) or (isinstance(other, str) and other.startswith("}"))
        for one, other in pairwise(merged)
    )
    if not unclear:
        return "".join(piece if isinstance(piece, str) else f"{{{{{{{piece.name}}}}}}}" for piece in merged)
    opening, closing = next((each for each in _DELIMITERS if each[0] not in texts), _DELIMITERS[0])
    if opening in texts:
        lose("braces: it holds every kind that delimiters could be made of, and has to be looked at by hand")
    lose("mustache's own delimiters: braces in the text would look like a tag, so that others stand around it")
    body = "".join(piece if isinstance(piece, str) else f"{opening}& {piece.name} {closing}" for piece in merged)
    # A tag that is alone on its line takes the line's end away.
    inner = body.strip("\n")
    before, after = body[: body.index(inner)], body[body.index(inner) + len(inner) :]
    return f"{before}{{{{={opening} {closing}=}}}}{inner}{opening}={{{{ }}}}={closing}{after}"


def _merged(pieces: Sequence[_Piece]) -> Iterator[_Piece]:
    """With no empty text, and no two texts beside each other."""
    text = ""
    for piece in pieces:
        if isinstance(piece, str):
            text += piece
            continue
        if text:
            yield text
        text = ""
        yield piece
    if text:
        yield text
