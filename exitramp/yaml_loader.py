"""YAML as its version 1.2 means it, which is what a reader takes it for: the one loader of every YAML file here.

A plain `1:30` is a text and not 90, `no` and `on` are texts and not booleans, a date is a text; true and false alone
are booleans. `017` and `0o17` are refused: they are 15 or 17, depending on who reads. So is a key that stands twice in
one mapping, of which one would be lost, and a file whose aliases, written out, are more than any file holds. What is
written here is quoted where a reader of either version would take a text for something else.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import Any, Final

import yaml

from exitramp.errors import ConfigError

NULL: Final = "tag:yaml.org,2002:null"
BOOL: Final = "tag:yaml.org,2002:bool"
DEEPEST: Final = 50
MOST_VALUES: Final = 100_000
"""Counted with every alias written out: ten lines of aliases to aliases are ten thousand million values. A text that is
longer than that may hold as many as it has letters, which needs no alias."""
_INT: Final = "tag:yaml.org,2002:int"
_DIGITS: Final = "-+0123456789"


class Loader(yaml.SafeLoader):
    """`yaml.SafeLoader`, of which texts without quotes are read by the core schema of YAML 1.2."""

    yaml_implicit_resolvers: Any = {}

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        known = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in known:
                    raise _refused(f"the key '{key.value}' stands twice", key)
                known.add((key.tag, key.value))
        return super().construct_mapping(node, deep=deep)

    def whole_number(self, node: yaml.ScalarNode) -> int:
        digits = node.value.lstrip("-+")
        if digits.startswith("0o") or (digits.isdigit() and len(digits) > 1 and digits.startswith("0")):
            raise _refused(f"'{node.value}' is one number to one reader of YAML and another one to the next", node)
        return int(node.value, 16 if digits.startswith("0x") else 10)


class Dumper(yaml.SafeDumper):
    """`yaml.SafeDumper`, that quotes also what version 1.2 alone takes for no text, such as `1e5`."""


for _tag, _pattern, _first in (
    (NULL, r"~|null|Null|NULL|", "~nN"),
    (BOOL, r"true|True|TRUE|false|False|FALSE", "tTfF"),
    (_INT, r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", _DIGITS),
    (
        "tag:yaml.org,2002:float",
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        f"{_DIGITS}.",
    ),
    ("tag:yaml.org,2002:merge", r"<<", "<"),
):
    for _kind in (Loader, Dumper):
        _letters = [*_first, *([""] if _tag == NULL else [])]
        _kind.add_implicit_resolver(_tag, re.compile(rf"^(?:{_pattern})$"), _letters)
Loader.add_constructor(_INT, Loader.whole_number)


def compose(text: str, file: str, *, first_line: int = 1) -> yaml.Node | None:
    """The nodes of a YAML text, None of an empty one. Raises `ConfigError` naming file and line."""
    try:
        node = yaml.compose(text.removeprefix("\ufeff"), Loader=Loader)
    except RecursionError as error:
        raise ConfigError("not YAML that can be read: nested too deeply", file=file, line=first_line) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + first_line
        raise ConfigError("not YAML: a character that is not allowed", file=file, line=line) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = int(mark.line) + first_line if mark is not None else first_line
        raise ConfigError(f"not YAML: {error.problem}", file=file, line=line) from error
    if node is not None:
        _values_under(node, file, {}, 0, max(MOST_VALUES, len(text)))
    return node


def construct(node: yaml.Node, file: str, *, first_line: int = 1, what: str = "") -> Any:
    """The value of a node. Raises `ConfigError` naming file and line; `what` is what its message begins with."""
    line = int(node.start_mark.line) + first_line
    try:
        return Loader("").construct_object(node, deep=True)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = int(mark.line) + first_line if mark is not None else line
        hint = error.note if isinstance(error, _Refused) else None
        raise ConfigError(f"{what}{error.problem}", file=file, line=where, hint=hint) from error
    # A type's own reader: a number of 5,000 digits.
    except (yaml.YAMLError, ValueError, TypeError) as error:
        raise ConfigError(f"{what}a value that no type can hold", file=file, line=line) from error


def load(text: str, file: str, *, first_line: int = 1) -> Any:
    """The value of a whole YAML text, None of an empty one. Raises `ConfigError` naming file and line."""
    node = compose(text, file, first_line=first_line)
    return None if node is None else construct(node, file, first_line=first_line)


def dump(data: Any, *, width: int = 80) -> str:
    """A value as YAML, its keys in their order."""
    text: str = yaml.dump(data, Dumper=Dumper, allow_unicode=True, sort_keys=False, width=width)
    return text


class _Refused(yaml.constructor.ConstructorError):
    """What YAML allows and two readers of it take for two things."""


def _refused(what: str, node: yaml.Node) -> _Refused:
    hint = "write it in decimal figures, or in quotes where it is a text" if "number" in what else "leave one of them"
    return _Refused(None, None, what, node.start_mark, hint)


def _values_under(node: yaml.Node, file: str, known: dict[int, int], depth: int, most: int) -> int:
    """How many values stand under `node`, aliases written out. Raises `ConfigError` where there are too many."""
    if id(node) in known and known[id(node)]:
        return known[id(node)]
    line = int(node.start_mark.line) + 1
    if id(node) in known:
        raise ConfigError("an alias stands inside what it stands for", file=file, line=line)
    if depth > DEEPEST:
        raise ConfigError("nested too deeply", file=file, line=line)
    known[id(node)] = 0  # being counted
    below = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
    count = 1
    if not isinstance(node, yaml.ScalarNode):
        count += sum(_values_under(each, file, known, depth + 1, most) for each in below)
    if count > most:
        raise ConfigError(f"holds more than {most:,} values, aliases written out", file=file, line=line)
    known[id(node)] = count
    return count
