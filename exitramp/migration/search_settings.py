"""The search settings of an address, tried before anything is read."""

from __future__ import annotations

import numpy as np

from exitramp.errors import RoleUnsupported, UsageError
from exitramp.ports import DEFAULT_SETTINGS, Query, SearchSettings
from exitramp.records import DType, VectorField, VectorKind
from exitramp.wrappers import Endpoint


def require_search_settings(endpoint: Endpoint) -> None:
    """Raises `UsageError` for a `?search=` whose options the store does not have, or whose values it does not take.

    Names and ranges are the store's own to judge, and some depend on the index; so each vector field is asked for one
    neighbour, until one takes the options. One that refuses a search without them as well says nothing of them.
    """
    try:
        search = endpoint.native_search()
    except RoleUnsupported:
        return
    options = dict(search.standing.options)
    if not options:
        return
    known = search.search_options()
    for name in options if known else ():
        if name not in known:
            raise UsageError(
                f"{endpoint.address}: a search there has no option {name!r}", hint=f"its options: {', '.join(known)}"
            )
    refused: UsageError | None = None
    for field in endpoint.native_source().describe().vectors:
        query = _first_direction(field)
        search.standing = SearchSettings(options=options)
        try:
            search.search(query, k=1)
        except UsageError as error:
            search.standing = DEFAULT_SETTINGS
            try:
                search.search(query, k=1)
            except UsageError:
                continue
            refused = refused or error
        else:
            return
    if refused is not None:
        asked = ",".join(f"{name}:{value}" for name, value in options.items())
        raise UsageError(
            f"{endpoint.address}: search={asked} is refused: {refused.message}",
            hint=refused.hint or "nothing was read; give a value that the store takes",
        ) from refused


def _first_direction(field: VectorField) -> Query:
    if field.kind is VectorKind.SPARSE:
        return Query(field.name, sparse=(np.zeros(1, np.uint32), np.ones(1, np.float32)))
    vector = np.zeros(field.item_count, np.uint8 if field.dtype is DType.BINARY else np.dtype(field.dtype.value))
    vector[:1] = 1
    return Query(field.name, dense=vector) if field.kind is VectorKind.DENSE else Query(field.name, multi=vector[None])
