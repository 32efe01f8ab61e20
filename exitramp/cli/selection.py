"""What a move reads: from where, which namespaces, under which ids, and as which framework keeps them.

Whatever goes on from a place has to read just that: another choice would be put together with the first to a collection
that nobody has.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

from exitramp.cli.options import LIMITS
from exitramp.urls import Address
from exitramp.wrappers import Endpoint


def selection_of(one: Endpoint) -> Mapping[str, str]:
    """By what a move out of `one` is known again: how far one run of it may go is no part of it. Nothing is masked
    twice, and no secret stands in it."""
    found = {"source": str(without_limits(one.address))}
    if one.namespaces is not None:
        found["namespaces"] = json.dumps(sorted(one.namespaces, key=lambda name: (name is not None, name)))
    if one.arrangement is not None:
        found["layout"] = one.arrangement.framework
    if one.ids is not None:
        found["id_map"] = f"{one.ids.name} {one.ids.digest()}"
    return found


def without_limits(address: Address) -> Address:
    """`address` without how far one run may read there."""
    return replace(address, options={name: each for name, each in address.options.items() if name not in LIMITS})
