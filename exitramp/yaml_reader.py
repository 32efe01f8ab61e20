"""Strict reading of YAML files: every key is asked for by name and type, and what nobody asked for is an error.

Every error is a `ConfigError` that begins with the file and the line.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from exitramp.errors import ConfigError
from exitramp.yaml_loader import NULL, compose, construct

_MISSING: Final = object()
_SURELY_MEANT: Final = 0.8
"""How like a key that is missing another must be to be taken for it, e.g. `fautl` for `fault`."""
LARGEST_INTEGER: Final = 2**53
LARGEST_NUMBER: Final = 1e9
"""As seconds 31 years. Beyond it waiting fails in the system's own arithmetic, long after the file was read."""
_MAP: Final = "tag:yaml.org,2002:map"


class Block:
    """A mapping of a YAML file. Ask for its keys, then call `finish`: a key that was not asked for is an error."""

    def __init__(self, node: yaml.MappingNode, file: str, path: str = "") -> None:
        self.file = file
        self.line = int(node.start_mark.line) + 1
        self.path = path
        if node.tag != _MAP:
            raise ConfigError(f"the tag '{node.tag}' is not known here", file=file, line=self.line)
        self._values: dict[str, yaml.Node] = {}
        self._lines: dict[str, int] = {}
        self._asked: dict[str, None] = {}
        for key, value in node.value:
            line = int(key.start_mark.line) + 1
            if not isinstance(key, yaml.ScalarNode):
                raise ConfigError("a key must be a plain word", file=file, line=line)
            if key.value in self._values:
                raise ConfigError(f"the key '{key.value}' stands twice", file=file, line=line)
            self._values[key.value] = value
            self._lines[key.value] = line

    def error(self, message: str, key: str | None = None, *, hint: str | None = None) -> ConfigError:
        """An error at `key`, or at the block's beginning."""
        return ConfigError(message, file=self.file, line=self._lines.get(key or "", self.line), hint=hint)

    def line_of(self, key: str) -> int:
        """Where `key` stands, or else the block."""
        return self._lines.get(key, self.line)

    def expect(self, *known: str) -> None:
        """Raises `ConfigError` for the first key that is not among `known`: before anything is called missing that was
        only misspelt."""
        for key in self._values:
            if key not in known:
                raise self._unknown(key, known)

    def _unknown(self, key: str, known: Iterable[str]) -> ConfigError:
        names = list(known)
        near = difflib.get_close_matches(key, names, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"known are: {', '.join(names) or 'none'}"
        return self.error(f"unknown key '{self._name(key)}'", key, hint=hint)

    def keys(self) -> list[str]:
        return list(self._values)

    def has(self, key: str) -> bool:
        self._asked[key] = None
        return key in self._values and not _is_null(self._values[key])

    def text(self, key: str, default: Any = _MISSING) -> Any:
        found = self._plain(key, str, "a text", default)
        if isinstance(found, str) and "\0" in found:
            raise self.error(f"'{self._name(key)}' holds a zero byte, which no path and no name can", key)
        return found

    def choice(self, key: str, known: Sequence[str], default: Any = _MISSING) -> Any:
        value = self.text(key, default)
        if value is not default and value not in known:
            raise self.error(f"'{self._name(key)}' is '{value}'; it can be {', '.join(known)}", key)
        return value

    def flag(self, key: str, default: Any = _MISSING) -> Any:
        return self._plain(key, bool, "true or false", default)

    def integer(self, key: str, default: Any = _MISSING, *, minimum: int | None = None) -> Any:
        value = self._plain(key, int, "a whole number", default)
        return self._within(key, value, minimum, LARGEST_INTEGER, default)

    def number(
        self, key: str, default: Any = _MISSING, *, minimum: float | None = None, maximum: float = LARGEST_NUMBER
    ) -> Any:
        """A finite number as a float."""
        value = self._plain(key, (int, float), "a number", default)
        if isinstance(value, float) and not math.isfinite(value):
            raise self.error(f"'{self._name(key)}' must be a number", key)
        value = self._within(key, value, minimum, maximum, default)
        return float(value) if isinstance(value, int) and not isinstance(value, bool) else value

    def texts(self, key: str, default: Any = _MISSING) -> Any:
        """A list of texts as a tuple."""
        node = self._node(key, default)
        if node is None:
            return default
        if not isinstance(node, yaml.SequenceNode):
            raise self.error(f"'{self._name(key)}' must be a list of texts", key)
        found = tuple(self._value(item, key) for item in node.value)
        if not all(isinstance(item, str) for item in found):
            raise self.error(f"'{self._name(key)}' must be a list of texts", key, hint="put quotes around each")
        return found

    def block(self, key: str, *, required: bool = True) -> Block | None:
        node = self._node(key, _MISSING if required else None)
        if node is None:
            return None
        if not isinstance(node, yaml.MappingNode):
            raise self.error(f"'{self._name(key)}' must hold keys and values", key)
        return Block(node, self.file, self._name(key))

    def blocks(self, key: str, default: Any = _MISSING) -> list[Block]:
        """A list of mappings."""
        node = self._node(key, default)
        if node is None:
            return list(default)
        if not isinstance(node, yaml.SequenceNode):
            raise self.error(f"'{self._name(key)}' must be a list", key)
        found: list[Block] = []
        for index, item in enumerate(node.value):
            if not isinstance(item, yaml.MappingNode):
                line = int(item.start_mark.line) + 1
                raise ConfigError(f"'{self._name(key)}' must be a list of keys and values", file=self.file, line=line)
            found.append(Block(item, self.file, f"{self._name(key)}[{index}]"))
        return found

    def anything(self, key: str, default: Any = _MISSING) -> Any:
        """The plain value of `key`, whatever it is."""
        node = self._node(key, default)
        return default if node is None else self._value(node, key)

    def finish(self) -> None:
        """Raises `ConfigError` for the first key that nobody asked for."""
        self.expect(*self._asked)

    def _name(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path else key

    def _node(self, key: str, default: Any) -> yaml.Node | None:
        self._asked[key] = None
        node = self._values.get(key)
        if node is None or _is_null(node):
            if default is _MISSING:
                others = [each for each in self._values if each not in self._asked]
                if near := difflib.get_close_matches(key, others, n=1, cutoff=_SURELY_MEANT):
                    raise self._unknown(near[0], [key])
                raise self.error(f"'{self._name(key)}' is missing")
            return None
        return node

    def _value(self, node: yaml.Node, key: str) -> Any:
        return construct(node, self.file, what=f"'{self._name(key)}' cannot be read: ")

    def _plain(self, key: str, kind: type | tuple[type, ...], what: str, default: Any) -> Any:
        node = self._node(key, default)
        if node is None:
            return default
        value = self._value(node, key)
        is_flag = isinstance(value, bool) and kind is not bool
        if is_flag or not isinstance(value, kind):
            raise self.error(f"'{self._name(key)}' must be {what}", key)
        return value

    def _within(self, key: str, value: Any, minimum: float | None, maximum: float, default: Any) -> Any:
        if value is default:
            return value
        if minimum is not None and value < minimum:
            raise self.error(f"'{self._name(key)}' must be at least {minimum:g}", key)
        if value > maximum or (minimum is None and value < -maximum):
            raise self.error(f"'{self._name(key)}' must be at most {maximum:g}", key)
        return value


def read_block(text: str, file: str) -> Block:
    """The top mapping of a YAML text. Raises `ConfigError` where it is no YAML or no mapping."""
    node = compose(text, file)
    if not isinstance(node, yaml.MappingNode):
        raise ConfigError("the file must hold keys and values", file=file, line=1)
    return Block(node, file)


def read_file(path: Path) -> Block:
    """`read_block` of a file. Raises `ConfigError` where it cannot be read."""
    try:
        return read_block(path.read_text(encoding="utf-8"), str(path))
    except FileNotFoundError as error:
        raise ConfigError(f"there is no file {path}") from error
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", file=str(path)) from error
    except UnicodeDecodeError as error:
        raise ConfigError("cannot be read: it is no text in UTF-8", file=str(path)) from error


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == NULL
