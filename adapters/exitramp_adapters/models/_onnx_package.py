"""An ONNX embedder's files inside installed packages: `onnx:package=NAME`, or `onnx:package=NAME,OTHER`.

A package manager then brings the weights, with its hashes and its lock file, and nothing of a package is imported or
run. The side-car says by SHA-256 which files are meant, and that is how they are found: whatever they are called there
and wherever they lie. It stands in the package itself as `exitramp-model.json`, or is the user's own (`side_car=PATH`).
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import re
from pathlib import Path
from typing import Final

from exitramp.errors import AddressError, UsageError
from exitramp_adapters.models._onnx_side_car import MODEL_FILE, NAME, TOKENIZER_FILE, SideCar

PREFIX: Final = "package="
_PACKAGE: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")


def find(location: str, side_car: str | None, *, where: str) -> tuple[SideCar, Path, Path]:
    """The side-car, the graph and the tokeniser. Raises `AddressError` for a package that is not installed and
    `UsageError` where none of its files is the one that is meant."""
    names = location.removeprefix(PREFIX).split(",")
    files = [path for name in names for path in _files(name)]
    if side_car is None:
        own = [path for path in files if path.name == NAME]
        if len(own) != 1:
            raise AddressError(
                f"{where}: {len(own) or 'no'} {NAME} in {', '.join(names)}, so nobody knows which model it is",
                hint=f"write one (docs/models.md has an example) and name it: onnx:{location}?side_car=./{NAME}",
            )
        found = SideCar.read_file(own[0])
    else:
        found = SideCar.read_file(Path(side_car))
    graph = _by_hash(files, found.sha256[MODEL_FILE], Path(MODEL_FILE).suffix, what="graph", where=where)
    tokenizer = _by_hash(files, found.sha256[TOKENIZER_FILE], Path(TOKENIZER_FILE).suffix, what="tokeniser",
                         where=where)  # fmt: skip
    return found, graph, tokenizer


def _files(name: str) -> list[Path]:
    """Those of a package, by the name by which it is installed or imported."""
    if not _PACKAGE.fullmatch(name):
        raise AddressError(f"'{name}' is no package's name", hint="write onnx:package=NAME, or NAME,OTHER")
    try:
        listed = importlib.metadata.distribution(name).files
    except importlib.metadata.PackageNotFoundError:
        listed = None
    if listed:
        return [Path(str(each.locate())) for each in listed]
    module = name.replace("-", "_")
    spec = None if "." in module else importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise AddressError(f"no package {name} is installed here", hint=f"pip install {name}")
    return sorted(path for root in spec.submodule_search_locations for path in Path(root).rglob("*") if path.is_file())


def _by_hash(files: list[Path], sha256: str, suffix: str, *, what: str, where: str) -> Path:
    """Only files that end alike are read: a package may hold much else."""
    seen = []
    for path in files:
        if path.suffix == suffix and path.is_file():
            with path.open("rb") as opened:
                digest = hashlib.file_digest(opened, "sha256").hexdigest()
            if digest == sha256:
                return path
            seen.append(f"{path.name} {digest[:12]}…")
    listed = "; ".join(seen[:5]) or "none"
    raise UsageError(
        f"{where}: no file there is the {what} with sha256 {sha256}; of its kind there are: {listed}",
        hint="install the version that the side-car was written for, or name the package that has it too: NAME,OTHER",
    )
