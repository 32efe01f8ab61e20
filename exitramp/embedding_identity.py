"""Which embedding model made vectors, and whether another one may be put beside them.

Vectors of two models have nothing to do with each other, not even where they are of one length: a query embedded by
another model than the collection's finds noise, and no error says so. Two models are the *same* where everything is
known of both and agrees, *different* where something is known of both and differs, and otherwise it *cannot be shown*:
what is not known is told, and never guessed.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from exitramp.errors import ModelDiffers
from exitramp.records import UNKNOWN, EmbeddingModel, Finding, VectorField, Verdict

WEIGHTS: Final = "sha256:"
"""How a revision begins that is the hash of the weights, and no version that somebody gave them."""
PROBES: Final = 8
"""So many texts are embedded again where it cannot be shown by name that a collection's vectors are the model's."""
PROBE_COSINE: Final = 0.999
"""Vectors of one text by one model agree to 0.9999 and better, also where a store keeps halves or a vendor rounds;
those of a model that was replaced behind its name do not come near it."""
_NEXT: Final = (
    "ask for a document that you know it holds before you rely on it; a collection made by exitramp reindex says which "
    "model made it"
)
_LABELS: Final = frozenset({"provider", "name"})
"""What a model is called. Of two with the same weights that does not matter."""
_WORDS: Final = {
    "revision": "weights",
    "query_prefix": "query prefix",
    "passage_prefix": "passage prefix",
    "maximum_tokens": "tokens read of a text",
}


class Sameness(StrEnum):
    """What can be said of two models."""

    SAME = "same"
    DIFFERENT = "different"
    CANNOT_BE_SHOWN = "cannot be shown"


@dataclass(frozen=True, slots=True)
class Identified:
    """A model, and how long its vectors are."""

    model: EmbeddingModel
    dimensions: int | None

    @classmethod
    def of(cls, field: VectorField) -> Identified:
        return cls(field.model, field.dimensions)

    def __str__(self) -> str:
        return fingerprint(self.model, self.dimensions)


@dataclass(frozen=True, slots=True)
class Comparison:
    """How two models stand to each other. `differing` and `unknown` are names of fields, and `dimensions`."""

    sameness: Sameness
    differing: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()

    @property
    def unknown_words(self) -> str:
        return ", ".join(_word(name) for name in self.unknown)

    @property
    def differing_words(self) -> str:
        return ", ".join(_word(name) for name in self.differing)


def fingerprint(model: EmbeddingModel, dimensions: int | None) -> str:
    """Everything that tells a model from another, on one line, and first a short hash of it for comparing at a glance.

    `6f1c…  wordllama/l2_supercat_256, weights sha256:9a…, 256 dimensions, query prefix "", …`
    """
    known = {**model.to_json(), "dimensions": dimensions}
    digest = hashlib.sha256(json.dumps(known, sort_keys=True).encode("utf-8", "surrogatepass")).hexdigest()[:12]
    name = model.name if model.provider == UNKNOWN else f"{model.provider}/{model.name}"
    length = f"{dimensions} dimensions" if dimensions is not None else "dimensions unknown"
    rest = [f"{_word(each)} {_shown(each, getattr(model, each))}" for each in model.__slots__ if each not in _LABELS]
    return f"{digest}  {name}, {length}, {', '.join(rest)}"


def compare(a: Identified, b: Identified) -> Comparison:
    """Whether `a` and `b` are one model."""
    differing: list[str] = []
    unknown: list[str] = []
    same_weights = a.model.revision == b.model.revision and a.model.revision.startswith(WEIGHTS)
    for name in a.model.__slots__:
        if same_weights and name in _LABELS:
            continue
        one, other = getattr(a.model, name), getattr(b.model, name)
        if UNKNOWN in (one, other) or (name == "revision" and one != other and not _are_comparable(one, other)):
            unknown.append(name)
        elif one != other:
            differing.append(name)
    if None in (a.dimensions, b.dimensions):
        unknown.append("dimensions")
    elif a.dimensions != b.dimensions:
        differing.append("dimensions")
    if differing:
        return Comparison(Sameness.DIFFERENT, tuple(differing), tuple(unknown))
    return Comparison(Sameness.CANNOT_BE_SHOWN if unknown else Sameness.SAME, (), tuple(unknown))


def require_same(collection: Identified, given: Identified, *, doing: str, where: str) -> Finding | None:
    """Raises `ModelDiffers` with both fingerprints where `given` is known to be another model than the collection's.

    `doing` is what was to be done, such as "a query" or "adding records"; `where` names the collection. Returns a
    finding that says what nobody knows where it cannot be shown that they are the same, and None where they are.
    """
    found = compare(collection, given)
    if found.sameness is Sameness.DIFFERENT:
        differ = "differs" if len(found.differing) == 1 else "differ"
        raise ModelDiffers(
            f"{where}: its vectors are of another embedding model than {doing}: {found.differing_words} {differ}; "
            f"the collection's is [{collection}], the one given is [{given}]",
            hint="use the model that made the collection, or embed the collection anew: exitramp reindex",
        )
    if found.sameness is Sameness.SAME:
        return None
    return Finding(
        "model.unshown",
        f"that {doing} and {where} are of one embedding model cannot be shown: unknown of one of them are "
        f"{found.unknown_words}; next: {_NEXT}",
        Verdict.INCONCLUSIVE,
        detail={"collection": str(collection), "given": str(given), "unknown": list(found.unknown)},
    )


def _are_comparable(one: str, other: str) -> bool:
    """A hash of weights and a version that somebody gave them say nothing of each other."""
    return one.startswith(WEIGHTS) == other.startswith(WEIGHTS)


def _word(name: str) -> str:
    return _WORDS.get(name, name)


def _shown(name: str, value: str) -> str:
    if value == UNKNOWN:
        return UNKNOWN
    if name == "revision" and value.startswith(WEIGHTS):
        return value[: len(WEIGHTS) + 12]
    return f"“{value}”" if name.endswith("prefix") else value
