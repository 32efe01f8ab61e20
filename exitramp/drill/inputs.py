"""Finding a drill's real input: packaged golden sets, prompts, price books and drills, or the user's own files."""

from __future__ import annotations

import importlib.util
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from exitramp.drill.application_file import FIXTURES, load_application, require_way
from exitramp.drill.spec import DrillSpec
from exitramp.errors import ConfigError, DependencyMissing
from exitramp.evals.golden import load_golden
from exitramp.evals.sets.case import Case
from exitramp.finops.prices import PriceBook, load_price_book
from exitramp.registry import model_adapter, service_adapter, store_adapter
from exitramp.urls import Address

DRILLS = "exitramp_drills"
DRILL_FILE = "drill.yaml"
"""What `drill init` calls the file that it writes."""


def load_cases(spec: DrillSpec) -> tuple[Case, ...]:
    """The golden questions of a drill; none where it names none."""
    if spec.data.golden is None:
        return ()
    return load_golden(_found(spec, "golden", spec.data.golden, "golden", ".jsonl"), name=spec.data.golden)


def load_prices(spec: DrillSpec) -> PriceBook | None:
    """The price book of a drill; None where it names none."""
    if spec.data.prices is None:
        return None
    return load_price_book(_found(spec, "prices", spec.data.prices, "pricebooks", ".yaml"), name=spec.data.prices)


def prompt_folder(spec: DrillSpec) -> Traversable | Path | None:
    """The folder of a drill's prompts: the packaged one for `packaged`, else a folder beside the drill file."""
    name = spec.data.prompts
    if name is None:
        return None
    if name == "packaged":
        return files(FIXTURES) / "prompts"
    folder = (spec.folder or Path()) / name
    if not folder.is_dir():
        raise ConfigError(f"data.prompts: there is no folder {folder}", file=spec.file, line=_line(spec, "prompts"))
    return folder


def check_inputs(spec: DrillSpec) -> None:
    """Raises `ConfigError` for a file of the drill that is missing or wrong, and `DependencyMissing` or
    `AdapterUnknown` for what is not installed: before anything is started."""
    cases = load_cases(spec)
    load_prices(spec)
    application = load_application(spec)
    has_application = application is not None
    if application is not None:
        require_way(spec, application)
    _require_installed(spec, asks=bool(cases))
    if prompt_folder(spec) is None and not has_application:
        for stack in (spec.primary, spec.substitute):
            if stack.chat is not None:
                raise ConfigError(
                    f"{stack.name}.chat is asked by prompts, and data.prompts names none",
                    file=spec.file,
                    hint="write 'prompts: packaged' under data, or name a folder of .mustache files",
                )
    if spec.primary.embedding is not None:
        _require_embedding(spec)
    elif spec.data.embedder is not None:
        scheme = Address.parse(spec.data.embedder).scheme
        if model_adapter(scheme).open_embedder is None:
            raise ConfigError(
                f"data.embedder: '{scheme}' is no embedding model",
                file=spec.file,
                line=_line(spec, "embedder"),
                hint="'exitramp models' lists them; or give each golden question its 'vector' and name no embedder",
            )
    elif not has_application and (bare := next((case for case in cases if case.vector is None), None)) is not None:
        raise ConfigError(
            f"the golden question {bare.id!r} has no 'vector', and data.embedder names no model to make one",
            file=spec.data.golden,
            hint="give every question the vector that your embedding model made of it, or name an embedder",
        )


def _require_embedding(spec: DrillSpec) -> None:
    for stack in (spec.primary, spec.substitute):
        part = stack.embedding
        if part is None or part.address is None:
            continue
        scheme = Address.parse(part.address).scheme
        if model_adapter(scheme).open_embedder is None:
            raise ConfigError(
                f"{stack.name}.embedding: '{scheme}' is no embedding model",
                file=spec.file,
                hint="'exitramp models' lists them",
            )


def _require_installed(spec: DrillSpec, *, asks: bool) -> None:
    for stack in (spec.primary, spec.substitute):
        parts = ((stack.store, store_adapter), (stack.chat, model_adapter), (stack.embedding, model_adapter))
        for part, adapter in parts:
            if part is not None and part.service is not None:
                service_adapter(part.service)
            elif part is not None and part.address is not None:
                adapter(Address.parse(part.address).scheme)
    needed = [*(("golden questions", each) for each in ("scipy", "ir_measures") if asks)]
    if spec.data.prompts is not None:
        needed.append(("prompts", "combustache"))
    for what, module in needed:
        if importlib.util.find_spec(module) is None:
            raise DependencyMissing(what, "evals", module=module)


def packaged_drills() -> dict[str, str]:
    """The YAML text of every packaged drill, by name."""
    found = {}
    for entry in files(DRILLS).iterdir():
        if entry.name.endswith(".yaml"):
            found[entry.name.removesuffix(".yaml")] = entry.read_text(encoding="utf-8")
    return dict(sorted(found.items()))


def _line(spec: DrillSpec, key: str) -> int | None:
    return spec.lines.get(f"data.{key}")


def _found(spec: DrillSpec, key: str, name: str, folder: str, ending: str) -> Traversable | Path:
    beside = (spec.folder or Path()) / name
    if spec.folder is not None and beside.is_file():
        return beside
    packaged = files(FIXTURES) / folder / (name + ending)
    if packaged.is_file():
        return packaged
    there = f"there is neither a file {beside} nor a packaged {folder} named '{name}'"
    raise ConfigError(f"data.{key}: {there}", file=spec.file, line=_line(spec, key))
