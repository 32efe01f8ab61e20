"""What becomes of a collection's own metadata in a sink, key by key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from exitramp.ports import SinkLimits
from exitramp.ports.collection_metadata import OwnMetadata, holds

_KEYS_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Kept:
    """Keys that are metadata of the new collection, that wait in the origin for the way back, and that are lost.

    `unwritten` are those that a collection which is there already has not: nobody writes to what its user wrote down.
    """

    exact: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    unwritten: tuple[str, ...] = ()


def kept(metadata: OwnMetadata, limits: SinkLimits, *, there: OwnMetadata | None, told: bool) -> Kept:
    """`there` is what the sink's collection has and was told; None where it is to be made. `told` says that it will be
    told of the origin."""
    exact: list[str] = []
    beside: list[str] = []
    lost: list[str] = []
    unwritten: list[str] = []
    for place, values in metadata.items():
        for key in values:
            if there is not None and (place == limits.metadata or not told):
                same = holds(there, place, key, metadata)
                (exact if same and place == limits.metadata else beside if same else unwritten).append(key)
            elif place == limits.metadata:
                exact.append(key)
            else:
                (beside if limits.keeps_origin else lost).append(key)
    return Kept(*(tuple(sorted(set(keys))) for keys in (exact, beside, lost, unwritten)))


def named(keys: Sequence[str]) -> str:
    """The keys for people; of many, the first."""
    more = f" and {len(keys) - _KEYS_SHOWN} more" if len(keys) > _KEYS_SHOWN else ""
    return ", ".join(keys[:_KEYS_SHOWN]) + more
