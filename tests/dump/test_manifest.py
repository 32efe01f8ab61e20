"""The manifest: its JSON Schema and its dataclasses agree, and it is read strictly."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from exitramp.dump.manifest import Manifest
from exitramp.errors import DumpCorrupt, FormatUnknown, IntegrityError
from exitramp.ports import StoreIdentity, TransferAccount

SCHEMA = json.loads(resources.files("exitramp.dump").joinpath("manifest.schema.json").read_text("utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
# Objects whose keys are a store's or a user's own names.
FREE = {("collection", "index"), ("origin", "spec", "index"), ("digests", "vectors"), ("vector_facts",)}


@pytest.fixture
def data(collection: Any, write_dump: Any) -> dict[str, Any]:
    identity = StoreIdentity("chroma", "chroma:./db#a", "1", "2", evidence="real")
    account = TransferAccount(source=identity, source_count_before=120, source_count_after=120)
    folder: Path = write_dump(collection, account=account)
    found: dict[str, Any] = json.loads((folder / "manifest.json").read_bytes())
    return found


def read(data: dict[str, Any]) -> Manifest:
    return Manifest.from_bytes(json.dumps(data).encode())


def objects(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], dict[str, Any]]]:
    """Every object of a manifest whose keys the format fixes, with its path."""
    if isinstance(value, dict):
        named = tuple(part for part in path if isinstance(part, str))
        if named not in FREE and named[-1:] != ("types",):
            yield path, value
        if named[-1:] == ("index",):
            return
        for key, item in value.items():
            yield from objects(item, (*path, key))
    elif isinstance(value, list):
        for at, item in enumerate(value):
            yield from objects(item, (*path, at))


def at(data: dict[str, Any], path: tuple[Any, ...]) -> dict[str, Any]:
    place: Any = data
    for part in path:
        place = place[part]
    found: dict[str, Any] = place
    return found


def test_the_schema_is_one_and_real_manifests_satisfy_it(data: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    VALIDATOR.validate(data)
    assert read(data).to_json() == data


def test_without_an_account_it_satisfies_the_schema_too(plain: Any, write_dump: Any) -> None:
    VALIDATOR.validate(json.loads((write_dump(plain) / "manifest.json").read_bytes()))


def test_a_missing_or_an_unknown_key_at_any_place_is_refused_by_both(data: dict[str, Any]) -> None:
    kinds: set[tuple[str, ...]] = set()
    for path, found in list(objects(data)):
        kind = tuple("*" if isinstance(part, int) else part for part in path)
        if kind in kinds:
            continue
        kinds.add(kind)
        for key in [*found, "unknown"]:
            changed = copy.deepcopy(data)
            place = at(changed, path)
            if key == "unknown":
                place[key] = 1
            else:
                del place[key]
            assert not VALIDATOR.is_valid(changed), (path, key)
            with pytest.raises(IntegrityError) as caught:
                read(changed)
            if path:
                assert isinstance(caught.value, DumpCorrupt), (path, key)
    assert len(kinds) >= 12


@pytest.mark.parametrize("value", [None, -1, 1.5, "text", [], {}, True])
def test_a_value_of_the_wrong_type_never_ends_in_anything_but_an_integrity_error(
    data: dict[str, Any], value: Any
) -> None:
    for key in data:
        changed = {**data, key: value}
        if changed[key] == data[key] or (key == "source" and value is None):
            continue
        if isinstance(value, str) and isinstance(data[key], str) and key != "format":
            continue
        with pytest.raises(IntegrityError):
            read(changed)


def test_manifests_that_contradict_themselves_are_refused(data: dict[str, Any]) -> None:
    for change in (
        {"rows": data["rows"] + 1},
        {"shards": data["shards"][1:]},
        {"shards": [*data["shards"], data["shards"][0]]},
        {"vector_facts": {}},
        {"digests": {**data["digests"], "vectors": {}}},
        {"digests": {**data["digests"], "rows": 0}},
        {"consistency": {**data["consistency"], "state": "fine"}},
    ):
        with pytest.raises(DumpCorrupt):
            read({**data, **change})


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"a":1,"a":1}', b'{"a":NaN}', b"\xff", b'"x"', b"[" * 10_000])
def test_what_is_no_manifest_is_refused(content: bytes) -> None:
    with pytest.raises(DumpCorrupt, match=r"manifest\.json"):
        Manifest.from_bytes(content)


def test_a_key_that_stands_twice_is_refused(data: dict[str, Any]) -> None:
    text = json.dumps(data).replace('"encryption": null', '"encryption": null, "encryption": null')
    with pytest.raises(DumpCorrupt):
        Manifest.from_bytes(text.encode())


def test_another_version_is_told_from_damage_whatever_else_it_holds() -> None:
    with pytest.raises(FormatUnknown, match="version 2"):
        Manifest.from_bytes(b'{"format":"exitramp-dump","format_version":2,"anything":[]}')


def test_the_documentation_names_every_key(data: dict[str, Any]) -> None:
    text = (Path(__file__).parents[2] / "docs" / "format.md").read_text(encoding="utf-8")
    for path, found in objects(data):
        for key in found:
            assert f"`{key}`" in text or f"`{key}," in text, (path, key)
