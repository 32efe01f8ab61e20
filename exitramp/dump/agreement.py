"""Whether everything that a dump says twice is said alike: by its manifest, by its journal, and by its shards.

What is compared, and what nothing repeats, stands in docs/format.md, "Verifying". A contradiction names the place by
its path in the file; of two files that contradict each other nobody can say which was changed.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from exitramp.digests import CollectionDigests
from exitramp.dump.layout import JOURNAL, MANIFEST
from exitramp.dump.manifest import Manifest
from exitramp.dump.progress import Progress, ShardRecord
from exitramp.dump.shape import quoted
from exitramp.inventory import MAXIMUM_PATHS, Inventory
from exitramp.records import CollectionSpec
from exitramp.secrets import MASK
from exitramp.vector_facts import VectorFacts

# Sums of squares come out differently in their last digits with another order of adding, which is the machine's choice.
_NORM_TOLERANCE: Final = 1e-9
_MEASURES: Final = frozenset({"norm_minimum", "norm_maximum", "magnitude_maximum"})
_ABSENT: Final = object()

_FINISH_ALWAYS: Final = ("ended_at", "digests")
_FINISH_MAY: Final = ("started_at", "tool", "source", "consistency")


@dataclass(frozen=True, slots=True)
class Contradiction:
    """`field` of `file` is not what `other` (a file, or the shards) says. Both values, where they are short."""

    file: str
    field: str
    other: str
    here: str
    there: str

    def __str__(self) -> str:
        return f"'{self.field}' is {self.here}; by {self.other} it is {self.there}"


@dataclass(frozen=True, slots=True)
class Measured:
    """What was found in one shard, or by merging in all of them."""

    digests: CollectionDigests
    inventory: Inventory
    vector_facts: Mapping[str, VectorFacts]

    @classmethod
    def nothing(cls, spec: CollectionSpec) -> Measured:
        facts = {vector.column: VectorFacts() for vector in spec.vectors}
        return cls(CollectionDigests.empty(spec), Inventory(), facts)

    def merge(self, other: Measured) -> Measured:
        facts = {name: item.merge(other.vector_facts[name]) for name, item in self.vector_facts.items()}
        return Measured(self.digests.merge(other.digests), self.inventory.merge(other.inventory), facts)


def manifest_against_journal(manifest: Manifest, progress: Progress) -> Iterator[Contradiction]:
    """What the manifest and the journal's lines say differently, shards aside."""
    said = manifest.to_json()
    told: dict[str, Any] = {
        "collection": progress.collection.to_json(),
        "origin": progress.origin.to_json(),
        "resumed": progress.resumed,
    }
    if progress.resumed:
        told["started_at"] = progress.started_at  # of a run in one piece the time is that of the copy, a moment before
    finish = progress.finish or {}
    told |= {name: finish.get(name, _ABSENT) for name in _FINISH_ALWAYS}
    told |= {name: finish[name] for name in _FINISH_MAY if name in finish}
    for name, value in told.items():
        yield from _differences(MANIFEST, name, said[name], JOURNAL, value)


def manifest_against_shards(manifest: Manifest, measured: Measured) -> Iterator[Contradiction]:
    """What the manifest says about the records otherwise than they are; the digests aside."""
    yield from _against(MANIFEST, "", manifest.inventory, manifest.vector_facts, measured)


def line_against_shard(record: ShardRecord, measured: Measured) -> Iterator[Contradiction]:
    """What the journal's line of a shard says otherwise than the shard is."""
    prefix = f"{record.file.path}: "
    for name in record.digests.differences(measured.digests):
        yield Contradiction(JOURNAL, f"{prefix}digests.{name}", "the shard", "one digest", "another")
    yield from _against(JOURNAL, prefix, record.inventory, record.vector_facts, measured)


def _against(
    file: str, prefix: str, inventory: Inventory, facts: Mapping[str, VectorFacts], measured: Measured
) -> Iterator[Contradiction]:
    other = "the shards" if file == MANIFEST else "the shard"
    yield from _inventories(file, f"{prefix}inventory", inventory, other, measured.inventory)
    for column in sorted(set(facts) | set(measured.vector_facts)):
        one, two = facts.get(column), measured.vector_facts.get(column)
        where = f"{prefix}vector_facts.{quoted(column)[1:-1]}"
        if one is None or two is None:
            yield Contradiction(file, where, other, _presence(one is not None), _presence(two is not None))
            continue
        if one == two:
            continue
        for name, value in one.to_json().items():
            found = two.to_json()[name]
            if name not in _MEASURES or not _is_near(value, found):
                yield from _differences(file, f"{where}.{name}", value, other, found)


def _is_near(one: float | None, two: float | None) -> bool:
    return one is not None and two is not None and math.isclose(one, two, rel_tol=_NORM_TOLERANCE, abs_tol=1e-300)


def _inventories(file: str, where: str, one: Inventory, other: str, two: Inventory) -> Iterator[Contradiction]:
    if one == two:
        return
    said, found = one.to_json(), two.to_json()
    fields_said, fields_found = said.pop("fields"), found.pop("fields")
    yield from _differences(file, where, said, other, found)
    if _is_cut_off(one) or _is_cut_off(two):
        return
    here = {tuple(item["path"]): item for item in fields_said}
    there = {tuple(item["path"]): item for item in fields_found}
    masked = [path for path in here.keys() ^ there.keys() if _is_masked(path)]
    for path in sorted({*here, *there}, key=str):
        if _is_masked(path):
            continue  # what looked like secrets to whoever wrote the dump, fallen together
        place = f"{where}.fields[{quoted(json.dumps(path, ensure_ascii=False))[1:-1]}]"
        if path in here and path in there:
            yield from _differences(file, place, here[path], other, there[path])
        elif not any(_may_be(path, hidden) for hidden in masked):
            yield Contradiction(file, place, other, _presence(path in here), _presence(path in there))


def _presence(is_there: bool) -> str:
    return "there" if is_there else "missing"


def _is_cut_off(inventory: Inventory) -> bool:
    """Whether there may be more paths than are listed: which of them are depends on how the rows came in batches."""
    masked = any(_is_masked(path) for path in inventory.fields)
    return not inventory.complete and (masked or len(inventory.fields) >= MAXIMUM_PATHS)


def _is_masked(path: tuple[str | None, ...]) -> bool:
    return any(key is not None and MASK in key for key in path)


def _may_be(path: tuple[str | None, ...], hidden: tuple[str | None, ...]) -> bool:
    """Whether `hidden` may be what `path` became when keys in it were masked."""
    return len(path) == len(hidden) and all(
        key == other or (key is not None and other is not None and _pattern(other).fullmatch(key) is not None)
        for key, other in zip(path, hidden, strict=True)
    )


def _pattern(masked: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, masked.split(MASK))), re.DOTALL)


def _differences(file: str, where: str, here: Any, other: str, there: Any) -> Iterator[Contradiction]:
    """The places, as deep as they can be named, at which two JSON values differ."""
    if isinstance(here, Mapping) and isinstance(there, Mapping):
        for name in sorted({*here, *there}):
            place = f"{where}.{quoted(name)[1:-1]}"
            yield from _differences(file, place, here.get(name, _ABSENT), other, there.get(name, _ABSENT))
    elif isinstance(here, list | tuple) and isinstance(there, list | tuple) and len(here) == len(there):
        for at, (one, two) in enumerate(zip(here, there, strict=True)):
            yield from _differences(file, f"{where}[{at}]", one, other, two)
    elif _text(here) != _text(there):
        yield Contradiction(file, where, other, _short(here), _short(there))


def _text(value: Any) -> str:
    return "" if value is _ABSENT else json.dumps(value, sort_keys=True)


def _short(value: Any) -> str:
    if value is _ABSENT:
        return "missing"
    if isinstance(value, Mapping | list | tuple):
        return f"one with {len(value)} parts"
    return quoted(value) if isinstance(value, str) else quoted(json.dumps(value))[1:-1]
