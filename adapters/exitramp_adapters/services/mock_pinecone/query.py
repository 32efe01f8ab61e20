"""What the mock of Pinecone answers to a query: exact scores, and filters by the operators that are documented.

Where the documentation leaves a filter's meaning open, the mock takes the meaning that makes things harder: a clause
under `$ne`, `$nin` and `$not` does not match a record that lacks the field.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from exitramp_adapters.services.mock_pinecone.records import Refused, Stored

MOST_HITS: Final = 10_000
_MOST_VALUES: Final = 10_000
_NUMERIC: Final[Mapping[str, Callable[[float, float], bool]]] = {
    "$gt": lambda found, wanted: found > wanted,
    "$gte": lambda found, wanted: found >= wanted,
    "$lt": lambda found, wanted: found < wanted,
    "$lte": lambda found, wanted: found <= wanted,
}


def ranked(
    held: Sequence[Stored],
    *,
    metric: str | None,
    dense: Any,
    sparse: Any,
    top_k: int,
    where: Mapping[str, Any] | None,
) -> list[tuple[Stored, float]]:
    """The `top_k` nearest of those that match, nearest first: highest score, but lowest under euclidean."""
    matching = [record for record in held if where is None or passes(where, record.metadata or {})]
    scores = np.zeros(len(matching), np.float64)
    if dense is not None:
        query = np.array(dense, np.float64)
        matrix = np.array([record.values for record in matching], np.float64).reshape(len(matching), len(query))
        scores += _similarities(matrix, query, metric)
    if sparse is not None:
        wanted = dict(zip(sparse["indices"], sparse["values"], strict=True))
        for row, record in enumerate(matching):
            if record.sparse is not None:
                pairs = zip(record.sparse[0].tolist(), record.sparse[1].tolist(), strict=True)
                scores[row] += sum(wanted.get(index, 0.0) * weight for index, weight in pairs)
        if dense is None:  # a record that shares no index is no match
            shared = [row for row in range(len(matching)) if scores[row] != 0]
            matching, scores = [matching[row] for row in shared], scores[shared]
    order = np.argsort(scores if metric == "euclidean" and dense is not None else -scores, kind="stable")[:top_k]
    return [(matching[row], float(np.float32(scores[row]))) for row in order.tolist()]


def _similarities(
    matrix: npt.NDArray[np.float64], query: npt.NDArray[np.float64], metric: str | None
) -> npt.NDArray[np.float64]:
    found: npt.NDArray[np.float64]
    match metric:
        case "dotproduct":
            found = matrix @ query
        case "cosine":
            norms = np.linalg.norm(matrix, axis=1) * np.linalg.norm(query)
            found = np.divide(matrix @ query, norms, out=np.zeros(len(matrix)), where=norms > 0)
        case "euclidean":
            found = ((matrix - query) ** 2).sum(axis=1)
        case _:
            raise Refused(400, "The index has no dense field")
    return found


def passes(where: Any, metadata: Mapping[str, Any]) -> bool:
    """Whether a record's metadata matches; raises `Refused` for what is not documented."""
    if not isinstance(where, dict) or not where:
        raise Refused(400, "The filter must be an object with at least one condition")
    return all(_clause(key, condition, metadata) for key, condition in where.items())


def _clause(key: str, condition: Any, metadata: Mapping[str, Any]) -> bool:
    if key in ("$and", "$or"):
        if not isinstance(condition, list) or not condition:
            raise Refused(400, f"{key} takes a list of conditions")
        answers = [passes(part, metadata) for part in condition]
        return all(answers) if key == "$and" else any(answers)
    if key.startswith("$"):
        raise Refused(400, f"The operator {key} cannot stand at the top level")
    if not isinstance(condition, dict):
        condition = {"$eq": condition}
    return all(_compared(operator, value, key, metadata) for operator, value in condition.items())


def _compared(operator: str, value: Any, key: str, metadata: Mapping[str, Any]) -> bool:
    there = key in metadata
    if operator == "$exists":
        _require(isinstance(value, bool), operator)
        return there is value
    found = metadata.get(key)
    match operator:
        case "$eq" | "$ne":
            _require(isinstance(value, str | bool | int | float), operator)
            return there and _equals(found, value) is (operator == "$eq")
        case "$in" | "$nin":
            listed = isinstance(value, list) and len(value) <= _MOST_VALUES
            _require(listed and all(isinstance(each, str | int | float) for each in value), operator)
            _require(not any(isinstance(each, bool) for each in value), operator)
            return there and any(_equals(found, each) for each in value) is (operator == "$in")
        case "$gt" | "$gte" | "$lt" | "$lte":
            _require(isinstance(value, int | float) and not isinstance(value, bool), operator)
            return isinstance(found, float) and _NUMERIC[operator](found, value)
        case "$not":
            _require(isinstance(value, dict) and bool(value), operator)
            return there and not all(_compared(inner, each, key, metadata) for inner, each in value.items())
    raise Refused(400, f"The operator {operator} is not known")


def _equals(found: Any, wanted: Any) -> bool:
    if isinstance(found, list):
        return isinstance(wanted, str) and wanted in found
    if isinstance(found, bool) or isinstance(wanted, bool):
        return found is wanted
    if isinstance(found, str) or isinstance(wanted, str):
        return isinstance(found, str) and found == wanted
    return bool(found == wanted)


def _require(right: bool, operator: str) -> None:
    if not right:
        raise Refused(400, f"The value of {operator} is of a type that it does not take")
