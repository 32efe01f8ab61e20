"""An exported classifier on disk: `classifier.onnx`, and beside it what the graph does not say of itself.

`exitramp-classifier.json` has the labels in the graph's order, the embedder whose vectors it was trained on, and the
graph's SHA-256. The bytes that were checked are the bytes that are loaded. A vector that another embedder made gives
probabilities all the same, and they mean nothing: whoever runs it compares the embedder first.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from exitramp.embedding_identity import Identified
from exitramp.errors import ConfigError, DependencyMissing, ExitrampError, IntegrityError
from exitramp.records import EmbeddingModel

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

CLASSIFIER: Final = "classifier.onnx"
ABOUT: Final = "exitramp-classifier.json"
VERSION: Final = 2
INPUT, OUTPUT = "vector", "probabilities"
MADE_BY: Final = "exitramp onnx export EMBEDDER DIR --routing SET makes one"


@dataclass(frozen=True, slots=True)
class ClassifierFile:
    """What the two files say. `model` are the graph's bytes, whose hash was looked at."""

    path: Path
    label: str
    labels: tuple[str, ...]
    embedder: Identified
    sha256: str
    model: bytes = field(repr=False, hash=False)

    @classmethod
    def read(cls, place: Path) -> Self:
        """`place` is the graph, or the folder in which it is. Raises `ConfigError` naming the file that is no such
        thing, `IntegrityError` where the graph is another than the one that was proven."""
        path = place / CLASSIFIER if place.is_dir() else place
        about = path.with_name(ABOUT)
        if not path.is_file():
            raise ConfigError(f"there is no file {path}", hint=f"{MADE_BY}; a path in a file is relative to it")
        try:
            data = json.loads(about.read_bytes())
        except FileNotFoundError as error:
            raise ConfigError(
                f"{about} is missing, so nobody knows what {path.name} was trained on", hint=MADE_BY
            ) from error
        except ValueError as error:
            raise ConfigError(f"{about} is no readable JSON ({type(error).__name__})", hint=MADE_BY) from error
        label, labels, embedder, wanted = _parsed(data, about)
        model = path.read_bytes()
        found = hashlib.sha256(model).hexdigest()
        if found != wanted:
            raise IntegrityError(
                f"{path} is another file than the one that was proven: sha256 {found}, expected {wanted}",
                hint="take it from where it was exported, or export it again",
            )
        return cls(path, label, labels, embedder, found, model)


class Session:
    """The graph under onnxruntime. Thread-safe; one thread a call."""

    def __init__(self, file: ClassifierFile) -> None:
        """Raises `DependencyMissing` without onnxruntime, `ConfigError` where the graph is no such classifier."""
        try:
            import onnxruntime
        except ImportError:
            raise DependencyMissing("routing classifier", "onnx-run", module="onnxruntime") from None
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = options.inter_op_num_threads = 1  # one small product: threads only cost
        try:
            self._session = onnxruntime.InferenceSession(file.model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's exceptions share no base but this one
            raise ConfigError(
                f"onnxruntime cannot load {file.path} ({type(error).__name__})", hint=f"it is damaged: {MADE_BY}"
            ) from error
        given = [(each.name, each.type, each.shape[1:]) for each in self._session.get_inputs()]
        made = [(each.name, each.type, each.shape[1:]) for each in self._session.get_outputs()]
        kind = "tensor(float)"
        wanted = [(INPUT, kind, [file.embedder.dimensions])], [(OUTPUT, kind, [len(file.labels)])]
        if (given, made) != wanted:
            raise ConfigError(
                f"{file.path} does not take {file.embedder.dimensions} numbers and give {len(file.labels)} "
                f"probabilities, as {ABOUT} says",
                hint=MADE_BY,
            )

    def probabilities(self, vector: npt.NDArray[np.float32]) -> list[float]:
        """Of one vector, in the order of the labels."""
        found: list[float] = self._session.run([OUTPUT], {INPUT: vector[None]})[0][0].tolist()
        return found


def embedder_to_json(embedder: Identified) -> dict[str, Any]:
    return {
        "fingerprint": str(embedder),
        "dimensions": embedder.dimensions,
        "model": embedder.model.to_json(),
    }


def _parsed(data: Any, about: Path) -> tuple[str, tuple[str, ...], Identified, str]:
    version = data.get("exitramp_classifier") if isinstance(data, Mapping) else None
    if version != VERSION:
        raise ConfigError(f"{about} is version {version!r} of its form, and {VERSION} is known", hint=MADE_BY)
    try:
        embedder = data["embedder"]
        identified = Identified(EmbeddingModel.from_json(embedder["model"]), embedder["dimensions"])
        label, labels, wanted = data["label"], data["labels"], data["sha256"][CLASSIFIER]
        texts = [label, wanted, embedder["fingerprint"], *labels]
        if not all(isinstance(each, str) for each in texts) or not isinstance(identified.dimensions, int):
            raise TypeError("not of the type that it has to be")
    except (KeyError, TypeError, ValueError, AttributeError, ExitrampError) as error:
        raise ConfigError(f"{about} does not say what it has to ({type(error).__name__})", hint=MADE_BY) from error
    if len(set(labels)) != len(labels) or len(labels) < 2:
        raise ConfigError(f"{about} names {len(labels)} labels, each to be one of its own, at least two", hint=MADE_BY)
    return label, tuple(labels), identified, wanted
