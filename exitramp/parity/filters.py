"""What a filter means on canonical payloads, and filters to try on a collection that nobody has written any for.

The meaning is that of `exitramp.filters`. Values of payloads stay inside the filters: a proposed one is named by its
operator and its field.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from exitramp import canonical
from exitramp.filters import And, Eq, Exists, Filter, In, Leaf, Not, Or, Range, holds

Mask = npt.NDArray[np.bool_]
LEAST_SHARE = 0.01
MOST_SHARE = 0.5
"""A filter that lets fewer or more of the records through than this tests little, so none such is proposed."""

_NEEDLES = 20
_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_TEXT_LENGTH = 100


class Payloads:
    """A column of payloads, canonical JSON or null, each decoded at most once however many filters are asked of it."""

    def __init__(self, column: pa.Array | Sequence[str | None]) -> None:
        self._texts = column if isinstance(column, pa.Array) else pa.array(column, pa.string())
        self._decoded: dict[int, Any] = {}

    def mask(self, where: Filter) -> Mask:
        """bool[rows]: which rows pass the filter."""
        return self._within(where, np.ones(len(self._texts), np.bool_))

    def _within(self, where: Filter, rows: Mask) -> Mask:
        """Those of `rows` that pass; what an outer part has ruled out is not looked at again."""
        match where:
            case And(parts):
                for part in parts:
                    rows = self._within(part, rows)
                return rows
            case Or(parts):
                found = np.zeros(len(rows), np.bool_)
                for part in parts:
                    found |= self._within(part, rows & ~found)
                return found
            case Not(part):
                return rows & ~self._within(part, rows)
        found = np.zeros(len(rows), np.bool_)
        possible = np.flatnonzero(rows & self._possible(where)).tolist()
        found[possible] = [holds(where, value) for value in self.values(possible)]
        return found

    def values(self, rows: Sequence[int]) -> list[Any]:
        """The decoded payloads of `rows`, none of which is null."""
        new = [row for row in rows if row not in self._decoded]
        for row, text in zip(new, self._texts.take(pa.array(new, pa.int64())).to_pylist(), strict=True):
            self._decoded[row] = canonical.loads(text)
        return [self._decoded[row] for row in rows]

    def _possible(self, where: Leaf) -> Mask:
        """A look at the whole column as text, which spares decoding the rows that cannot pass.

        There is one canonical text for a key and for a string, so a row without it does not hold it. On a filter
        that lets 5 % through this is 9 times faster than decoding every row.
        """
        possible = pc.is_valid(self._texts)
        for key in where.field:
            possible = pc.and_(possible, self._contains(canonical.dumps({key: None})[1 : -len("null}")]))
        wanted = (where.value,) if isinstance(where, Eq) else where.values if isinstance(where, In) else ()
        if 0 < len(wanted) <= _NEEDLES and all(isinstance(value, str) for value in wanted):
            held = [self._contains(canonical.dumps(value)) for value in wanted]
            any_held = held[0]
            for each in held[1:]:
                any_held = pc.or_(any_held, each)
            possible = pc.and_(possible, any_held)
        return np.asarray(possible, dtype=np.bool_)

    def _contains(self, text: str) -> pa.Array:
        return pc.fill_null(pc.match_substring(self._texts, text), False)


def propose_filters(payloads: Sequence[str | None], *, seed: int, wanted: int = 4) -> list[tuple[str, Filter]]:
    """At most `wanted` filters over keys that occur in `payloads`, a sample of a collection's, each with a name.

    One operator after the other (eq, range, in, not, exists), on different keys where there are enough. Each lets
    between 1 % and 50 % of the sample through, and no two the same rows. Only plain top-level keys that hold one type
    of value are used, so that every store which has the operator can be asked. Float bounds lie halfway between two
    values, so that a store's rounding changes no answer. The same sample, in any order, and seed give the same filters.
    """
    held = Payloads(sorted(payloads, key=lambda text: (text is None, text or "")))
    there = sum(text is not None for text in payloads)
    columns = _columns(held.values(range(there)), len(payloads))
    rng = np.random.default_rng(seed)
    chosen: list[tuple[str, Filter]] = []
    used: set[str] = set()
    taken: set[bytes] = set()
    makers: list[tuple[str, Callable[[_Column, Any], Filter | None]]] = [
        ("eq", _eq),
        ("range", _range),
        ("in", _in),
        ("not", _not),
        ("exists", _exists),
    ]
    for operator, make in [*makers, *makers]:
        if len(chosen) >= wanted:
            break
        order = [columns[index] for index in rng.permutation(len(columns)).tolist()]
        for column in sorted(order, key=lambda column: column.key in used):
            name = f"{operator}:{column.key}"
            where = None if name in dict(chosen) else make(column, rng)
            if where is None:
                continue
            mask = held.mask(where)
            if LEAST_SHARE <= mask.mean() <= MOST_SHARE and mask.tobytes() not in taken:
                chosen.append((name, where))
                taken.add(mask.tobytes())
                used.add(column.key)
                break
    return chosen


class _Column:
    """One key's values in a sample of `rows` payloads: `counts` of its scalars, if they are of one `type`."""

    def __init__(self, key: str, values: list[Any], rows: int) -> None:
        self.key = key
        self.rows = rows
        self.present = len(values)
        types = {canonical.type_name(value) for value in values}
        self.type = types.pop() if len(types) == 1 else None
        self.values = values
        self.counts = Counter(values) if self.type in {"string", "int", "float"} else Counter()

    def texts(self) -> list[tuple[str, int]]:
        """Its texts with their numbers, the most frequent first; none if it holds something else than short texts."""
        if self.type != "string" or not all(0 < len(text) <= _TEXT_LENGTH for text in self.counts):
            return []
        return sorted(self.counts.items(), key=lambda item: (-item[1], item[0]))


def _columns(payloads: list[Any], rows: int) -> list[_Column]:
    values: dict[str, list[Any]] = {}
    for payload in payloads:
        if isinstance(payload, dict):
            for key, value in payload.items():
                if _PLAIN_KEY.fullmatch(key):
                    values.setdefault(key, []).append(value)
    return [_Column(key, values[key], rows) for key in sorted(values)]


def _few(column: _Column) -> Iterator[str]:
    """The texts that are each in 1 % to 50 % of the rows."""
    for text, count in column.texts():
        if LEAST_SHARE * column.rows <= count <= MOST_SHARE * column.rows:
            yield text


def _eq(column: _Column, rng: Any) -> Filter | None:
    texts = list(_few(column))
    return Eq((column.key,), texts[int(rng.integers(len(texts)))]) if texts else None


def _in(column: _Column, rng: Any) -> Filter | None:
    texts, room = list(_few(column)), MOST_SHARE * column.rows
    taken: list[str] = []
    for index in rng.permutation(len(texts)).tolist():
        if len(taken) < 3 and column.counts[texts[index]] <= room:
            taken.append(texts[index])
            room -= column.counts[texts[index]]
    return In((column.key,), tuple(taken)) if len(taken) > 1 else None


def _not(column: _Column, rng: Any) -> Filter | None:
    """Everything but the most frequent texts: as many of them as it takes to leave half of the rows or less."""
    taken: list[str] = []
    left = column.rows
    for text, count in column.texts():
        if left <= MOST_SHARE * column.rows or len(taken) == _NEEDLES:
            break
        taken.append(text)
        left -= count
    return Not(In((column.key,), tuple(taken)) if len(taken) > 1 else Eq((column.key,), taken[0])) if taken else None


def _exists(column: _Column, rng: Any) -> Filter | None:
    return Exists((column.key,)) if column.type in {"string", "int", "float", "bool"} else None


def _range(column: _Column, rng: Any) -> Filter | None:
    if column.type not in {"int", "float"}:
        return None
    numbers = sorted(column.values)
    if max(abs(numbers[0]), abs(numbers[-1])) > canonical.INTEGER_LIMIT:
        return None
    low = int(len(numbers) * rng.uniform(0.1, 0.5))
    high = min(len(numbers) - 1, low + math.ceil(column.rows * rng.uniform(0.05, 0.3)))
    if low < 1 or numbers[low] == numbers[high]:
        return None
    if column.type == "int":
        return Range((column.key,), gte=numbers[low], lt=numbers[high])
    return Range(
        (column.key,), gt=_halfway_to(column.counts, numbers[low]), lt=_halfway_to(column.counts, numbers[high])
    )


def _halfway_to(counts: Counter[Any], value: float) -> float:
    """The middle between `value` and the greatest of the values below it."""
    below = max((other for other in counts if other < value), default=value - 1.0)
    return float(below + (value - below) / 2)
