"""Every collection of a server in one command: each moved, compared or planned by itself, and told of together."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from exitramp import __version__
from exitramp.cli import output
from exitramp.cli.moving import Moved, moved, within
from exitramp.cli.options import EVERYTHING, Choice
from exitramp.cli.planning import planned
from exitramp.clock import SystemClock, iso_utc
from exitramp.codec.ids import native_name
from exitramp.dump.absence import is_there
from exitramp.dump.layout import MANIFEST, read_whole
from exitramp.dump.manifest import SourceInfo, read_manifest
from exitramp.dump.server import SERVER, ServerEntry, ServerManifest, collection_folder, read_server, write_server
from exitramp.errors import CollectionExists, CollectionMissing, ExitCode, ExitrampError, RoleUnsupported, UsageError
from exitramp.ports import NameRule, StoreIdentity
from exitramp.records import Finding, Verdict
from exitramp.registry import store_adapter
from exitramp.urls import Address, path_address
from exitramp.wording import counted
from exitramp.wrappers import Endpoint, OpenSettings, open_endpoint, require_write_allowed
from exitramp.wrappers.opening import parse_address

FILE_NAMES = NameRule(r"[A-Za-z0-9_][A-Za-z0-9._-]*", maximum=80)
"""Which names of collections can stand in the name of a file as they are."""


@dataclass(frozen=True, slots=True)
class Part:
    """What became of one collection: `error` where it came to nothing."""

    name: str
    target: str
    done: Moved | None
    error: ExitrampError | None = None

    def to_json(self) -> dict[str, Any]:
        told: dict[str, Any] = {"name": self.name, "target": self.target}
        if self.error is not None:
            return told | {"verdict": None, "error": self.error.message, "hint": self.error.hint}
        assert self.done is not None
        return told | dict(self.done.told)


def every_collection(source: Address, settings: OpenSettings) -> tuple[StoreIdentity, tuple[str, ...]]:
    """Who answers at an address without a collection, and the names of those it has, sorted.

    Raises `UsageError` for an address that names one, `CollectionMissing` where there is none.
    """
    if source.collection is not None:
        raise UsageError(
            f"{source} names one collection, and --all takes every one",
            hint=f"leave out #{source.collection}, or --all",
        )
    with open_endpoint(source, settings) as endpoint:
        identity = endpoint.native_source().identity()
    names = tuple(sorted(identity.collections))
    if not names:
        raise CollectionMissing(
            f"{source} holds no collection", hint="is it the right place, and may this user see them?"
        )
    return identity, names


def move_every(
    source: str,
    target: str,
    *,
    as_json: bool,
    settings: OpenSettings,
    allow_writes: tuple[str, ...] = (),
    state: Path | None = None,
    choice: Choice = EVERYTHING,
    **how: Any,
) -> int:
    """Copy every collection of one store into another, under their own names; returns the exit code."""
    to = parse_address(target)
    if state is not None:
        raise UsageError("--state names one file, and --all keeps a place for each collection", hint="leave one out")
    if to.collection is not None:
        raise UsageError(f"{to} names one collection, and --all fills several", hint=f"leave out #{to.collection}")
    require_write_allowed(to, allow_writes)

    def one(address: Address) -> Part:
        with open_endpoint(address, settings) as here, _counterpart(here, to, settings) as other:
            _require_own_place(here, other)
            within(here, other, choice)
            return Part(address.require_collection(), str(other.address), moved(here, other, **how))

    parts = _each(parse_address(source), settings, one, str(to), as_json=as_json)
    return tell(parts, str(parse_address(source)), str(to), as_json=as_json)


def plan_every(
    source: str,
    target: str,
    *,
    measure: bool | None,
    as_json: bool,
    settings: OpenSettings,
    choice: Choice = EVERYTHING,
) -> int:
    """Plan for every collection of `source` what `move_every` would do with it; returns the exit code."""
    to = parse_address(target)
    if to.collection is not None:
        raise UsageError(f"{to} names one collection, and --all fills several", hint=f"leave out #{to.collection}")
    taken: dict[str, str] = {}

    def one(address: Address) -> Part:
        listed = address.require_collection()
        with open_endpoint(address, settings) as here, _counterpart(here, to, settings) as other:
            _require_own_place(here, other)
            place = str(other.address if _holds_several(to) else to)
            if taken.setdefault(place, listed) != listed:
                raise CollectionExists(
                    f"{other.address} is where {taken[place]!r} would go, too",
                    hint="two names become one there: move them one by one",
                )
            done = planned(here, other, choice, measure=measure)
            # Alone a plan calls the collection that it would make `target`; of several, each is named by its address.
            spec = {} if isinstance(done.told["target"], str) else {"target_spec": done.told["target"]}
            told = {**done.told, **spec, "target": str(other.address)}
            return Part(listed, str(other.address), replace(done, told=told))

    parts = _each(parse_address(source), settings, one, str(to), as_json=as_json)
    return tell(parts, str(parse_address(source)), str(to), as_json=as_json, only_planned=True)


def _holds_several(store: Address) -> bool:
    """Whether the name of a collection makes another place of the address, by the form of its kind."""
    return "#" in store_adapter(store.scheme).address_form


def compare_every(
    a: str,
    b: str,
    pair: Callable[[Endpoint, Endpoint, Path], Moved],
    ids_file: Path,
    settings: OpenSettings,
    *,
    as_json: bool,
) -> int:
    """Compare every collection of `a` with the one in `b` that a copy of it would be; returns the exit code."""
    to = parse_address(b)
    if to.collection is not None:
        raise UsageError(f"{to} names one collection, and --all means each", hint=f"leave out #{to.collection}")

    def one(address: Address) -> Part:
        listed = address.require_collection()
        ids = ids_file.with_name(f"{ids_file.stem}-{native_name(listed, FILE_NAMES)}{ids_file.suffix}")
        with open_endpoint(address, settings) as here, _counterpart(here, to, settings) as other:
            done = pair(here, other, ids) if _is_there(other) else _missing(other)
            return Part(listed, str(other.address), done)

    parts = _each(parse_address(a), settings, one, str(to), as_json=as_json)
    return tell(parts, str(parse_address(a)), str(to), as_json=as_json)


def _missing(other: Endpoint) -> Moved:
    found = Finding("collection.missing", f"{other.address}: B has no such collection", Verdict.FAIL)
    told = {"verdict": Verdict.FAIL.value, "rows": 0, "findings": [found.to_json()]}
    return Moved(Verdict.FAIL, told, lambda: output.say_findings([found]))


def _counterpart(here: Endpoint, to: Address, settings: OpenSettings) -> Endpoint:
    """The collection in the store `to` that a copy of `here` goes to: of its own name, or one made of it."""
    name = here.source().describe().name
    # What nothing is written to has the names that it has.
    with open_endpoint(to, settings) as any_there, suppress(RoleUnsupported):
        name = native_name(name, any_there.raw_sink().limits().names)
    return open_endpoint(to.with_collection(name), settings)


def _require_own_place(here: Endpoint, other: Endpoint) -> None:
    """Raises `CollectionExists` where two collections of the source would end in one of the target."""
    origin = other.source().origin() if _is_there(other) else None
    name = here.source().describe().name
    if origin is not None and origin.spec.name != name:
        raise CollectionExists(
            f"{other.address} holds the records of another collection, {origin.spec.name!r}",
            hint="the target keeps one collection only, or two names became one: move them one by one",
        )


def _is_there(endpoint: Endpoint) -> bool:
    try:
        endpoint.source().describe()
    except (CollectionMissing, RoleUnsupported):
        return False
    return True


def dump_every(
    source: str,
    folder: Path,
    *,
    as_json: bool,
    settings: OpenSettings,
    choice: Choice = EVERYTHING,
) -> int:
    """Take every collection out into one folder, with one manifest above theirs; returns the exit code.

    The manifest is written when the dump of each is finished, and lists those that were there at the beginning.
    """
    address = parse_address(source)
    started = iso_utc(SystemClock().now())
    identity, names = every_collection(address, settings)
    if is_there(folder / MANIFEST):
        raise CollectionExists(f"{folder} holds the dump of one collection", hint="choose another folder")
    if is_there(folder / SERVER):
        _require_same(folder, identity, names)

    def one(part: Address) -> Part:
        there = Address.parse(path_address("dump", folder / collection_folder(part.require_collection())))
        with open_endpoint(part, settings) as here, open_endpoint(there, settings) as other:
            within(here, other, choice)
            return Part(part.require_collection(), str(there), moved(here, other))

    parts = _each(address, settings, one, str(folder), as_json=as_json, known=names)
    if all(part.error is None for part in parts) and not is_there(folder / SERVER):
        entries = tuple(_entry(folder, part.name) for part in parts)
        ended = iso_utc(SystemClock().now())
        write_server(folder, ServerManifest(__version__, SourceInfo.of(identity), started, ended, entries))
    return tell(parts, str(address), str(folder), as_json=as_json)


def _require_same(folder: Path, identity: StoreIdentity, names: tuple[str, ...]) -> None:
    there = read_server(folder)
    listed = tuple(entry.name for entry in there.collections)
    if there.source.address != SourceInfo.of(identity).address or listed != names:
        raise CollectionExists(
            f"{folder} holds a finished dump of {there.source.address} with {counted(len(listed), 'collection')}",
            hint="choose another folder for a new one; a finished dump is never written to again",
        )


def _entry(folder: Path, name: str) -> ServerEntry:
    inside = collection_folder(name)
    digits = hashlib.sha256(read_whole(folder / inside, MANIFEST)).hexdigest()
    return ServerEntry(name, inside, read_manifest(folder / inside).rows, digits)


def _each(
    source: Address,
    settings: OpenSettings,
    one: Callable[[Address], Part],
    target: str,
    *,
    as_json: bool,
    known: tuple[str, ...] | None = None,
) -> list[Part]:
    """`one` for every collection."""
    names = every_collection(source, settings)[1] if known is None else known
    parts = {name: partial(one, replace(source, collection=name)) for name in names}
    return each_part(parts, target, as_json=as_json)


def each_part(parts: Mapping[str, Callable[[], Part]], target: str, *, as_json: bool) -> list[Part]:
    """All of them, by name. What ends one of them is kept, and the others have their turn."""
    done = []
    for number, (name, one) in enumerate(parts.items(), start=1):
        if not as_json:
            output.say(f"{'' if number == 1 else chr(10)}── {output.visible(name)} ({number} of {len(parts)})")
        try:
            part = one()
        except ExitrampError as error:
            part = Part(name, target, None, error)
        done.append(part)
        if as_json:
            continue
        if part.done is not None:
            part.done.say()
        elif part.error is not None:
            output.say(output.error_text(part.error))
    return done


def tell(
    parts: list[Part], source: str, target: str, *, as_json: bool, what: str = "collection", only_planned: bool = False
) -> int:
    """What is said of all together. An error weighs more than a verdict: nobody knows what it left undone."""
    failed = [part for part in parts if part.error is not None]
    verdicts = [part.done.verdict for part in parts if part.done is not None]
    verdict = Verdict.worst(verdicts)
    rows = sum(int(part.done.told.get("rows", 0)) for part in parts if part.done is not None)
    if as_json:
        told: Mapping[str, Any] = {
            "verdict": None if failed else verdict.value,
            "source": source,
            "target": target,
            "rows": rows,
            "collections": [part.to_json() for part in parts],
        }
        output.emit_json(told)
    else:
        output.say()
        if failed:
            names = ", ".join(output.visible(part.name, 60) for part in failed[:20])
            output.say(f"{counted(len(failed), what)} of {len(parts)} came to nothing: {names}")
        else:
            dry = only_planned or all(part.done is not None and part.done.told.get("dry_run") for part in parts)
            done = f"{counted(len(parts), what)}, {counted(rows, 'record')}"
            if dry:
                output.say(f"{output.verdict_word(verdict)}  planned: {done} to {target}; nothing was written")
            else:
                output.say(f"{output.verdict_word(verdict)}  {done} → {target}")
    if failed:
        codes = [part.error.exit_code for part in failed if part.error is not None]
        return int(next((code for code in (ExitCode.INTEGRITY, ExitCode.REMOTE) if code in codes), codes[0]))
    return output.exit_code(verdict)
