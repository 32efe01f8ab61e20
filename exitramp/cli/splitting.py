"""Each namespace of a collection into a collection of its own, for stores that keep their tenants apart like that."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from exitramp.cli.moving import choose, moved, within
from exitramp.cli.options import EVERYTHING, Choice
from exitramp.cli.whole import Part, each_part, tell
from exitramp.codec.ids import native_name
from exitramp.errors import UsageError
from exitramp.wrappers import Endpoint, OpenSettings, open_endpoint, require_write_allowed
from exitramp.wrappers.opening import parse_address

JOINT = "--"


def collection_of(name: str, namespace: str | None) -> str:
    """The collection that a namespace goes to: those records that are in none stay in the one of the old name."""
    return name if namespace is None else f"{name}{JOINT}{namespace}"


def move_split(
    source: str,
    target: str,
    *,
    every: bool,
    as_json: bool,
    settings: OpenSettings,
    allow_writes: tuple[str, ...] = (),
    state: Path | None = None,
    choice: Choice = EVERYTHING,
    **how: Any,
) -> int:
    """Copy each namespace of `source` into a collection of its own in the store `target`; returns the exit code.

    The collection that `target` names, or else the source's own name, is what their names begin with. Every record
    keeps its namespace, so that the way back puts it where it came from.
    """
    to, from_ = parse_address(target), parse_address(source)
    if every or state is not None:
        word = "--all" if every else "--state"
        raise UsageError(f"--split-namespaces is for one collection, and does not go with {word}", hint="leave one out")
    require_write_allowed(to, allow_writes)
    with open_endpoint(from_, settings) as here, open_endpoint(to.with_collection(None), settings) as there:
        spec, rule = here.source().describe(), there.raw_sink().limits().names
        if not spec.has_namespaces:
            raise UsageError(f"{from_}: the collection has no namespaces", hint="leave out --split-namespaces")
        choose(here, choice)
        found = choice.namespaces or frozenset(here.rows_by_namespace())
    name = to.collection or spec.name
    natives = {each: native_name(collection_of(name, each), rule) for each in _ordered(found)}
    if len(set(natives.values())) != len(natives):
        raise UsageError("two namespaces would go to one collection", hint="move them one by one, with --namespace")

    def one(namespace: str | None) -> Part:
        with open_endpoint(from_, settings) as here, _at(natives[namespace]) as other:
            within(here, other, replace(choice, namespaces=frozenset({namespace})))
            return Part(str(namespace), str(other.address), moved(here, other, **how))

    def _at(native: str) -> Endpoint:
        return open_endpoint(to.with_collection(native), settings)

    parts = {
        f"{'no namespace' if each is None else f'namespace {each!r}'} → {native}": partial(one, each)
        for each, native in natives.items()
    }
    return tell(each_part(parts, str(to), as_json=as_json), str(from_), str(to), as_json=as_json, what="namespace")


def _ordered(found: frozenset[str | None]) -> list[str | None]:
    return sorted(found, key=lambda name: (name is not None, name or ""))
