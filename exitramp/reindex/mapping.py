"""A mapping between the spaces of two embedding models, fitted on texts of which both vectors are known.

*Orthogonal* is the rotation nearest to what was seen (Procrustes: Schönemann 1966, Psychometrika 31:1), after taking
both means away and with one factor of scale; where the lengths differ the shorter space is padded with zeros, which
comes to cutting the rotation. *Affine* is ridge regression, of which the penalty is chosen on a fifth of the sample.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from exitramp.durable import READ, storage_errors, write_atomically
from exitramp.embedding_identity import Identified, require_same
from exitramp.errors import DataInvalid, FormatUnknown
from exitramp.records import UNKNOWN, EmbeddingModel, Finding

Matrix = npt.NDArray[np.float64]
_VERSION: Final = 1
_PENALTIES: Final = (0.001, 0.01, 0.1, 1.0, 10.0)
_VALIDATION_SHARE: Final = 0.2
LEAST_SAMPLE: Final = 50


class MapKind(StrEnum):
    """How a mapping was fitted."""

    ORTHOGONAL = "orthogonal"
    AFFINE = "affine"


@dataclass(frozen=True, slots=True)
class Linear:
    """`(x - mean_in) @ matrix + mean_out`, cut to unit length where the space's own vectors have it."""

    kind: MapKind
    mean_in: Matrix = field(repr=False)
    matrix: Matrix = field(repr=False)
    mean_out: Matrix = field(repr=False)
    unit: bool

    def apply(self, vectors: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
        """float32[rows, q] of [rows, p]."""
        found = (vectors.astype(np.float64) - self.mean_in) @ self.matrix + self.mean_out
        if self.unit:
            found /= np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)
        return found.astype(np.float32)


@dataclass(frozen=True, slots=True)
class SpaceMap:
    """Both ways between an old and a new model: documents into the new space, questions back into the old one."""

    old: Identified
    new: Identified
    documents: Linear
    questions: Linear
    told: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """What it was fitted on, and under `recommended` of each way what its judging came to."""

    def recommended(self, way: str) -> str:
        """`yes`, `no`, `not shown` where there was too little to judge by, `unknown` for a file that does not tell."""
        said = self.told.get("recommended")
        return str(said.get(way, UNKNOWN)) if isinstance(said, Mapping) else UNKNOWN

    def digest(self) -> str:
        """Of the numbers: two maps that map alike have the same."""
        found = hashlib.sha256()
        for each in (self.documents, self.questions):
            for part in (each.mean_in, each.matrix, each.mean_out):
                found.update(np.ascontiguousarray(part, "<f8").tobytes())
        return found.hexdigest()

    def model(self) -> EmbeddingModel:
        """What the mapped documents are of: neither of the two models, and known by this map's hash."""
        new = self.new.model
        return EmbeddingModel(
            provider="mapped",
            name=f"{self.old.model.name} → {new.name}",
            revision=f"sha256:{self.digest()}",
            query_prefix=new.query_prefix,
            passage_prefix=self.old.model.passage_prefix,
            pooling=new.pooling,
            normalisation="l2" if self.documents.unit else "none",
            maximum_tokens=self.old.model.maximum_tokens,
        )

    def save(self, path: Path) -> None:
        told = {"version": _VERSION, "old": _json(self.old), "new": _json(self.new), "told": dict(self.told)}
        arrays: dict[str, Any] = {}
        for name, each in (("documents", self.documents), ("questions", self.questions)):
            told[name] = {"kind": each.kind.value, "unit": each.unit}
            arrays |= {f"{name}.{part}": getattr(each, part) for part in ("mean_in", "matrix", "mean_out")}
        arrays["about"] = np.frombuffer(json.dumps(told).encode(), np.uint8)
        held = io.BytesIO()
        np.savez(held, **arrays)
        write_atomically(path, held.getvalue())

    @classmethod
    def load(cls, path: Path) -> SpaceMap:
        """Raises `DataInvalid` for a file that is no map, `FormatUnknown` for one of another version."""
        try:
            with storage_errors(path, READ), np.load(path, allow_pickle=False) as held:
                told = json.loads(held["about"].tobytes())
                parts = {name: held[name].astype(np.float64) for name in held.files if name != "about"}
            if told["version"] != _VERSION:
                raise FormatUnknown(f"{path}: a map of version {told['version']}", hint="fit it again")
            ways = []
            for name in ("documents", "questions"):
                mean_in, matrix, mean_out = (parts[f"{name}.{part}"] for part in ("mean_in", "matrix", "mean_out"))
                ways.append(Linear(MapKind(told[name]["kind"]), mean_in, matrix, mean_out, bool(told[name]["unit"])))
            return cls(_identified(told["old"]), _identified(told["new"]), ways[0], ways[1], told["told"])
        except (ValueError, KeyError, TypeError) as error:
            raise DataInvalid(
                f"{path}: is no map between two models", hint="exitramp reindex --map makes one"
            ) from error


@dataclass(frozen=True, slots=True)
class Way:
    """How a question of the new model gets into a collection: `maps` it first, or None where it goes as it is.

    `goes` is what was mapped on that way: the questions, or the collection's documents."""

    maps: Linear | None
    unshown: Finding | None
    goes: str = "questions"


def way_through(found: SpaceMap, collection: Identified, given: Identified, where: str) -> Way:
    """How questions of the model `given` are asked of `collection` with the help of `found`.

    Raises `ModelDiffers` where `given` is not the map's new model, or the collection neither of its old model nor
    mapped by just this map.
    """
    unshown = require_same(found.new, given, doing="the query", where="the map's new side")
    if collection.model.revision == found.model().revision:  # the map's own hash
        return Way(None, unshown, "documents")
    other = require_same(collection, found.old, doing="the map's old side", where=where)
    return Way(found.questions, other or unshown)


def fit(old: npt.NDArray[np.generic], new: npt.NDArray[np.generic], kind: MapKind | None, *, seed: int) -> Linear:
    """A mapping of `old` [n, p] to `new` [n, q]. `kind` None: whichever is nearer on a fifth that was held back.

    Raises `DataInvalid` for fewer than `LEAST_SAMPLE` rows.
    """
    if len(old) < LEAST_SAMPLE:
        raise DataInvalid(f"{len(old)} texts with both vectors, and a mapping needs {LEAST_SAMPLE}")
    x, y = old.astype(np.float64), new.astype(np.float64)
    unit = bool(np.abs(np.linalg.norm(y, axis=1) - 1).max() < 1e-3)
    order = np.random.default_rng(seed).permutation(len(x))
    cut = max(1, int(len(x) * _VALIDATION_SHARE))
    held, rest = order[:cut], order[cut:]
    tried: list[tuple[float, MapKind, float]] = []
    if kind in (None, MapKind.ORTHOGONAL):
        tried.append((_nearness(_orthogonal(x[rest], y[rest], unit), x[held], y[held]), MapKind.ORTHOGONAL, 0.0))
    if kind in (None, MapKind.AFFINE):
        for penalty in _PENALTIES:
            found = _affine(x[rest], y[rest], penalty, unit)
            tried.append((_nearness(found, x[held], y[held]), MapKind.AFFINE, penalty))
    _, best, penalty = max(tried, key=lambda each: each[0])
    return _orthogonal(x, y, unit) if best is MapKind.ORTHOGONAL else _affine(x, y, penalty, unit)


def _orthogonal(x: Matrix, y: Matrix, unit: bool) -> Linear:
    mean_in, mean_out = x.mean(axis=0), y.mean(axis=0)
    a, b = x - mean_in, y - mean_out
    left, sizes, right = np.linalg.svd(a.T @ b, full_matrices=False)
    scale = float(sizes.sum() / max(float((a * a).sum()), 1e-12))
    return Linear(MapKind.ORTHOGONAL, mean_in, scale * (left @ right), mean_out, unit)


def _affine(x: Matrix, y: Matrix, penalty: float, unit: bool) -> Linear:
    """`penalty` is a share of the mean variance of a dimension, so that it means the same whatever the lengths are."""
    mean_in, mean_out = x.mean(axis=0), y.mean(axis=0)
    a, b = x - mean_in, y - mean_out
    gram = a.T @ a
    gram[np.diag_indices_from(gram)] += penalty * float(np.trace(gram)) / len(gram) + 1e-12
    return Linear(MapKind.AFFINE, mean_in, np.linalg.solve(gram, a.T @ b), mean_out, unit)


def _nearness(found: Linear, x: Matrix, y: Matrix) -> float:
    """The mean cosine of what is mapped and what it should be."""
    made = found.apply(x).astype(np.float64)
    lengths = np.linalg.norm(made, axis=1) * np.linalg.norm(y, axis=1)
    return float(((made * y).sum(axis=1) / np.maximum(lengths, 1e-12)).mean())


def _json(each: Identified) -> dict[str, Any]:
    return {"model": each.model.to_json(), "dimensions": each.dimensions}


def _identified(data: Mapping[str, Any]) -> Identified:
    return Identified(EmbeddingModel.from_json(data["model"]), data["dimensions"])
