"""The side-car of an ONNX embedder, `exitramp-model.json`: what a graph does not say of itself, and which files it is.

    {"exitramp_model": 1, "name": "all-MiniLM-L6-v2", "pooling": "mean", "normalisation": "l2",
     "query_prefix": "", "passage_prefix": "", "maximum_tokens": 256,
     "sha256": {"model.onnx": "…", "tokenizer.json": "…"}}

pooling: `mean` over the text's tokens, or `cls`, the first token. normalisation: `l2` or `none`. `in_graph` lists
which of the two the graph does by itself (`["pooling", "normalisation"]`), `output` names the graph's output that is
meant where it has several, and `add_special_tokens: false` leaves out what the tokeniser would put around a text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from exitramp.errors import ConfigError

NAME: Final = "exitramp-model.json"
MODEL_FILE: Final = "model.onnx"
TOKENIZER_FILE: Final = "tokenizer.json"
VERSION: Final = 1
_CHOICES: Final = {"pooling": ("mean", "cls"), "normalisation": ("l2", "none")}
_STEPS: Final = tuple(_CHOICES)
_HASH_LETTERS: Final = frozenset("0123456789abcdef")


@dataclass(frozen=True, slots=True)
class SideCar:
    """What a side-car says; `sha256` by file name. `maximum_tokens` None: the model reads all of a text."""

    name: str
    pooling: str
    normalisation: str
    query_prefix: str
    passage_prefix: str
    maximum_tokens: int | None
    sha256: Mapping[str, str]
    in_graph: frozenset[str] = frozenset()
    output: str | None = None
    add_special_tokens: bool = True

    @classmethod
    def read(cls, folder: Path) -> Self:
        """That of a folder. Raises `ConfigError` naming the field that is wrong."""
        return cls.read_file(folder / NAME)

    @classmethod
    def read_file(cls, path: Path) -> Self:
        try:
            data = json.loads(path.read_text("utf-8"))
        except FileNotFoundError as error:
            raise ConfigError(
                f"{path.parent} has no {path.name}, so nobody knows which model it is",
                hint=f"write one: {example()}",
            ) from error
        except (OSError, ValueError) as error:
            raise ConfigError(f"{path} is no readable JSON ({type(error).__name__})") from error
        return cls.parse(data, str(path))

    @classmethod
    def parse(cls, data: Any, where: str) -> Self:
        if not isinstance(data, dict):
            raise ConfigError(f"{where} is no JSON object")
        if data.get("exitramp_model") != VERSION:
            raise ConfigError(f"{where}: 'exitramp_model' must be {VERSION}, the version of this form")
        unknown = sorted(set(data) - set(cls.__slots__) - {"exitramp_model"})
        if unknown:
            raise ConfigError(f"{where}: unknown field {unknown[0]!r}", hint=f"an example: {example()}")
        for field in ("name", "query_prefix", "passage_prefix", *_CHOICES):
            if not isinstance(data.get(field), str):
                raise ConfigError(f"{where}: {field!r} must be a text", hint=f"an example: {example()}")
        for field, choices in _CHOICES.items():
            if data[field] not in choices:
                raise ConfigError(f"{where}: {field!r} is one of: {', '.join(choices)}")
        maximum = data.get("maximum_tokens", 0)
        if maximum is not None and (not isinstance(maximum, int) or isinstance(maximum, bool) or maximum < 4):
            raise ConfigError(f"{where}: 'maximum_tokens' must be a whole number of at least 4, or null for no limit")
        in_graph = data.get("in_graph", [])
        if not isinstance(in_graph, list) or not set(in_graph) <= set(_STEPS):
            raise ConfigError(f"{where}: 'in_graph' is a list of: {', '.join(_STEPS)}")
        if not isinstance(data.get("output"), str | None) or not isinstance(data.get("add_special_tokens", True), bool):
            raise ConfigError(f"{where}: 'output' is a name, 'add_special_tokens' is true or false")
        values = {field: value for field, value in data.items() if field != "exitramp_model"}
        return cls(**values | {"sha256": _hashes(data.get("sha256"), where), "in_graph": frozenset(in_graph)})


def _hashes(data: Any, where: str) -> Mapping[str, str]:
    if not isinstance(data, dict):
        raise ConfigError(f"{where}: 'sha256' must hold the hashes of {MODEL_FILE} and {TOKENIZER_FILE}")
    for name in (MODEL_FILE, TOKENIZER_FILE):
        value = data.get(name)
        if not isinstance(value, str) or len(value) != 64 or not set(value) <= _HASH_LETTERS:
            raise ConfigError(
                f"{where}: 'sha256' holds no hash of {name}", hint="64 small hexadecimal digits, as sha256sum prints"
            )
    return {name: data[name] for name in (MODEL_FILE, TOKENIZER_FILE)}


def example() -> str:
    """A side-car on one line, to be filled in."""
    return json.dumps(
        {
            "exitramp_model": VERSION,
            "name": "NAME",
            "pooling": "mean",
            "normalisation": "l2",
            "query_prefix": "",
            "passage_prefix": "",
            "maximum_tokens": 256,
            "sha256": {MODEL_FILE: "…", TOKENIZER_FILE: "…"},
        },
        ensure_ascii=False,
    )
