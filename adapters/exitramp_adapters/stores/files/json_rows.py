"""Rows of JSON: one object on each line, or an array of objects."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from exitramp import canonical
from exitramp.durable import READ, storage_errors
from exitramp.errors import DataInvalid
from exitramp_adapters.stores.files.chunks import Chunk, reading

JSON_ROWS: Final = 512
_CONSTANTS: Final = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


class JsonRows:
    """One JSON object on each line. Blank lines are none; the words NaN and Infinity are as Python writes them."""

    schema: pa.Schema | None = None
    rows: int | None = None

    def __init__(self, path: Path) -> None:
        self.path = path
        self._booleans = False
        """Whether the words true or false were met: which Arrow makes numbers of, so that each list is looked into."""
        with reading(path, "JSON"):
            path.open("rb").close()

    def names(self) -> list[str]:
        """The keys of the first lines."""
        found: dict[str, None] = {}
        for each in islice(self._objects(), 100):
            found.update(dict.fromkeys(each))
        return list(found)

    def chunks(self, keys: Sequence[str], skip: int = 0, only: Sequence[str] | None = None) -> Iterator[Chunk]:
        held: list[dict[str, Any]] = []
        at = 0
        for at, each in enumerate(self._objects(skip), start=1 + skip):
            held.append(each)
            if len(held) == JSON_ROWS:
                yield self._chunk(held, at - len(held), keys)
                held = []
        if held:
            yield self._chunk(held, at - len(held), keys)

    def _objects(self, skip: int = 0) -> Iterator[dict[str, Any]]:
        with reading(self.path, "JSON"), self.path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.isspace():
                    continue
                if skip:
                    skip -= 1
                    continue
                found = self._loads(
                    line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line, f"{self.path}:{number}"
                )
                yield self._as_object(found, f"{self.path}:{number}")

    def _loads(self, line: bytes, where: str) -> Any:
        self._booleans = self._booleans or b"true" in line or b"false" in line
        try:
            text = line.decode("utf-8")
            if canonical.TAG_PREFIX in text:
                return canonical.parse(text, tags=False)
            return _LOADS(text)
        except DataInvalid as error:
            raise DataInvalid(f"{where}: {error.message}") from error
        except (ValueError, RecursionError) as error:
            raise DataInvalid(f"{where}: no JSON that can be read ({_reason(error)})") from error

    def _as_object(self, found: Any, where: str) -> dict[str, Any]:
        if not isinstance(found, dict):
            raise DataInvalid(f"{where}: a JSON object is wanted for each row, not a {canonical.type_name(found)}")
        return found

    def _chunk(self, held: list[dict[str, Any]], first: int, keys: Sequence[str]) -> Chunk:
        columns = {}
        for key in keys:
            values = [found.pop(key, None) for found in held]
            where = partial(self._where, first, key)
            if self._booleans:
                _refuse_booleans(values, where)
            columns[key] = _json_column(values, where, is_id=key == keys[0])
        return Chunk(first, len(held), columns, held)

    def _where(self, first: int, key: str, row: int) -> str:
        return f"{self.path} row {first + row + 1}: '{key}'"

    def close(self) -> None:
        """Nothing is held."""


class JsonArrayRows(JsonRows):
    """A file that is one JSON array of objects. It is read whole: it has no end before its end."""

    def _objects(self, skip: int = 0) -> Iterator[dict[str, Any]]:
        with storage_errors(self.path, READ):
            found = self._loads(self.path.read_bytes().removeprefix(b"\xef\xbb\xbf"), str(self.path))
        if not isinstance(found, list):
            raise DataInvalid(f"{self.path}: an array of objects is wanted, not a {canonical.type_name(found)}")
        for number, each in enumerate(found[skip:], start=skip + 1):
            yield self._as_object(each, f"{self.path} row {number}")


def _refuse_booleans(values: list[Any], where: Callable[[int], str]) -> None:
    """Raises `DataInvalid` for a list with booleans among its numbers; one of booleans alone may be bits."""
    for row, value in enumerate(values):
        if isinstance(value, list):
            kinds = set(map(type, value))
            if bool in kinds and len(kinds) > 1:
                raise DataInvalid(f"{where(row)} holds booleans among its numbers")
            if list in kinds:
                _refuse_booleans(value, lambda _, row=row: where(row))  # type: ignore[misc]


def _json_column(values: list[Any], where: Callable[[int], str], *, is_id: bool) -> pa.Array:
    """The values of one key as an Arrow column. Only ids may be texts in one row and integers in another."""
    sparse = [value if value is None or not isinstance(value, dict) else _sparse(value) for value in values]
    for row, value in enumerate(sparse):
        if isinstance(value, bool) or value is NotImplemented:
            raise DataInvalid(f"{where(row)} holds what this column cannot have")
    try:
        return pa.array(sparse)
    except UnicodeEncodeError:
        row = next(row for row, value in enumerate(sparse) if _has_surrogate(value))
        raise DataInvalid(f"{where(row)} holds a lone surrogate, which is no character") from None
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        pass
    if is_id and all(value is None or isinstance(value, str | int) for value in sparse):
        return pa.array([None if value is None else str(value) for value in sparse], pa.string())
    try:
        return pa.array(sparse, pa.list_(pa.float64()))
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
        kinds = [None if value is None else type(value) for value in sparse]
        first = next((kind for kind in kinds if kind is not None), None)
        row = next((row for row, kind in enumerate(kinds) if kind not in (None, first)), 0)
        raise DataInvalid(f"{where(row)} is of another kind than in the rows before") from error


def _sparse(value: dict[str, Any]) -> Any:
    """`{"indices": […], "values": […]}` as it is, and `{"12": 0.5, …}` as the same."""
    if value.keys() == {"indices", "values"}:
        return value
    numbers = list(value.values())
    if all(key.isascii() and key.isdigit() for key in value) and set(map(type, numbers)) <= {int, float}:
        indices = [int(key) for key in value]
        exact = all(type(number) is float or abs(number) <= canonical.INTEGER_LIMIT for number in numbers)
        if exact and len(set(indices)) == len(indices):  # "12" and "012" are one
            return {"indices": indices, "values": [float(number) for number in numbers]}
    return NotImplemented


def _has_surrogate(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return found


_LOADS: Final = json.JSONDecoder(
    object_pairs_hook=_unique, parse_constant=_CONSTANTS.__getitem__, parse_float=canonical.finite
).decode


def _reason(error: BaseException) -> str:
    return "a key stands twice in one object" if "stands twice" in str(error) else type(error).__name__
