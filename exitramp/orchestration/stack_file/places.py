"""The parts of a stack file that say where something is: addresses, stores, and what reranks them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from exitramp.errors import AddressError
from exitramp.orchestration.stack_file.values import RerankSpec, StoreSpec
from exitramp.urls import Address
from exitramp.yaml_reader import Block

LONGEST_SECONDS: Final = 86_400.0


def read_store(name: str, block: Block, folder: Path, embedders: Mapping[str, object]) -> StoreSpec:
    place = address(block, folder)
    if place.collection is None:
        raise block.error(f"'{block.path}.address' names no collection", "address", hint="write …#COLLECTION")
    search = block.block("search", required=False)
    exact = search.flag("exact", False) if search is not None else False
    options: dict[str, Any] = {}
    settings = search.block("options", required=False) if search is not None else None
    for key in settings.keys() if settings is not None else ():
        assert settings is not None
        options[key] = settings.anything(key)
        if not isinstance(options[key], str | int | float | bool):
            raise settings.error(f"'{settings.path}.{key}' must be a text, a number, true or false", key)
    if search is not None:
        search.finish()
    return StoreSpec(
        name,
        place,
        one_of(block, "embedder", embedders),
        block.text("field", None),
        whole(block, "depth_k", 5, 1, 10_000),
        exact,
        options,
        _rerank(block, folder, embedders),
        block.flag("probe", None),
        block.line,
    )


def _rerank(store: Block, folder: Path, embedders: Mapping[str, object]) -> RerankSpec | None:
    block = store.block("rerank", required=False)
    if block is None:
        return None
    standing = RerankSpec()
    if block.has("embedder") == block.has("address"):
        raise block.error(f"'{block.path}' names an embedder or an address, and one of them",
                          hint="write embedder: NAME, or address: rerank:MODEL?base_url=…")  # fmt: skip
    found = RerankSpec(
        whole(block, "candidates", standing.candidates, 1, 1000),
        seconds(block, "timeout_seconds", standing.timeout_seconds, 0.001),
        one_of(block, "embedder", embedders) if block.has("embedder") else None,
        address(block, folder) if block.has("address") else None,
        block.text("billed_as", None),
    )
    depth_k = whole(store, "depth_k", 5, 1, 10_000)
    if found.candidates < depth_k:
        raise block.error(f"'{block.path}.candidates' is {found.candidates}, fewer than the depth_k of {depth_k}",
                          "candidates")  # fmt: skip
    block.finish()
    return found


def address(block: Block, folder: Path) -> Address:
    """A path that begins with ./ or ../ is the file's own, wherever the program was started."""
    try:
        found = Address.parse(block.text("address"))
    except AddressError as error:
        raise block.error(f"'{block.path}.address': {error.message}", "address", hint=error.hint) from error
    options = {key: _resolved(value, folder) for key, value in found.options.items()}
    return replace(found, location=_resolved(found.location, folder), options=options)


def _resolved(path: str, folder: Path) -> str:
    return str((folder / path).resolve()) if path.startswith(("./", "../")) else path


def one_of(block: Block, key: str, known: Iterable[str]) -> str:
    name: str = block.text(key)
    if name not in known:
        listed = ", ".join(known) or "none"
        raise block.error(f"'{block.path}.{key}' is '{name}', which this file does not name", key,
                          hint=f"it names: {listed}")  # fmt: skip
    return name


def seconds(block: Block, key: str, default: Any, minimum: float = 0.0) -> Any:
    return block.number(key, default, minimum=minimum, maximum=LONGEST_SECONDS)


def whole(block: Block, key: str, default: int, minimum: int, maximum: int) -> int:
    value: int = block.integer(key, default, minimum=minimum)
    if value > maximum:
        raise block.error(f"'{block.path}.{key}' must be at most {maximum}", key)
    return value
