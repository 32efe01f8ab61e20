"""Rows of JSON: one object on each line, or an array of objects."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
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
        try:
            text = line.decode("utf-8")
            if canonical.TAG_PREFIX in text:
                return canonical.parse(text)
            return json.loads(text, object_pairs_hook=_unique, parse_constant=_CONSTANTS.__getitem__)
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
            columns[key] = _json_column(values, lambda row, key=key: f"{self.path} row {first + row + 1}: '{key}'")
        return Chunk(first, len(held), columns, held)

    def close(self) -> None:
        """Nothing is held."""


class JsonArrayRows(JsonRows):
    """A file that is one JSON array of objects. It is read whole: it has no end before its end."""

    def _objects(self, skip: int = 0) -> Iterator[dict[str, Any]]:
        with storage_errors(self.path, READ):
            found = self._loads(self.path.read_bytes(), str(self.path))
        if not isinstance(found, list):
            raise DataInvalid(f"{self.path}: an array of objects is wanted, not a {canonical.type_name(found)}")
        for number, each in enumerate(found[skip:], start=skip + 1):
            yield self._as_object(each, f"{self.path} row {number}")


def _json_column(values: list[Any], where: Any) -> pa.Array:
    """The values of one key as an Arrow column; what is of no one type is kept as JSON text, as a vector's may be."""
    sparse = [value if value is None or not isinstance(value, dict) else _sparse(value) for value in values]
    for row, value in enumerate(sparse):
        if isinstance(value, bool) or value is NotImplemented:
            raise DataInvalid(f"{where(row)} holds what this column cannot have")
    try:
        return pa.array(sparse)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        pass
    if all(value is None or isinstance(value, str | int) for value in sparse):
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
    if all(key.isascii() and key.isdigit() for key in value):
        return {"indices": [int(key) for key in value], "values": [float(number) for number in value.values()]}
    return NotImplemented


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return found


def _reason(error: BaseException) -> str:
    return "a key stands twice in one object" if "stands twice" in str(error) else type(error).__name__
