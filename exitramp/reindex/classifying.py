"""A small routing classifier: which label a question is of, by logistic regression over an embedder's vectors.

Trained on any label of a set, its tier or its use case: softmax(x W + b) with an L2 penalty on W, by accelerated
gradient descent (Nesterov 1983) from zero, so that the same set gives the same weights. How often it is right is
measured on questions that it was not trained on (`exitramp.reindex.held_out`). As ONNX it is one Gemm and one Softmax
over a vector; the embedder in front of it is named by its fingerprint and stays a file of its own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from exitramp import __version__
from exitramp.durable import make_folder, write_atomically
from exitramp.embedding_identity import Identified
from exitramp.errors import CollectionExists, DataInvalid, IntegrityError
from exitramp.orchestration.classifier_file import (
    ABOUT,
    CLASSIFIER,
    INPUT,
    OUTPUT,
    VERSION,
    ClassifierFile,
    embedder_to_json,
)
from exitramp.orchestration.routing import by_rule
from exitramp.orchestration.stack_file import RoutingSpec, Tier
from exitramp.ports import Embedder, Purpose, embed_all
from exitramp.reindex.exporting import IR_VERSION, OPSET, PROBES, TOLERANCE, needed
from exitramp.reindex.held_out import HeldOut, held_out
from exitramp.reindex.labelled import USE_CASE, Labelled, require_labels

FOLDS: Final = 5
LEAST_OF_A_LABEL: Final = FOLDS
_PENALTY: Final = 0.001
_ROUNDS: Final = 3000
Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Classifier:
    """`weights` float32[dimensions, labels] and `bias` float32[labels]."""

    labels: tuple[str, ...]
    weights: npt.NDArray[np.float32] = field(repr=False, hash=False)
    bias: npt.NDArray[np.float32] = field(repr=False, hash=False)

    def probabilities(self, vectors: npt.NDArray[np.generic]) -> Matrix:
        """float64[rows, labels], each row adding up to 1."""
        return _softmax(vectors.astype(np.float64) @ self.weights.astype(np.float64) + self.bias.astype(np.float64))


@dataclass(frozen=True, slots=True)
class ExportedClassifier:
    """What was written, and how good it is of what it had not seen."""

    folder: Path
    column: str
    labels: tuple[str, ...]
    questions: int
    held_out: HeldOut
    embedder: Identified
    sha256: str
    bytes: int
    probes: int
    greatest_difference: float

    def to_json(self) -> dict[str, Any]:
        return {
            "exitramp_classifier": VERSION,
            "label": self.column,
            "labels": list(self.labels),
            "input": INPUT,
            "output": OUTPUT,
            "embedder": embedder_to_json(self.embedder),
            "sha256": {CLASSIFIER: self.sha256},
            "bytes": self.bytes,
            "opset": OPSET,
            "ir_version": IR_VERSION,
            "checker": "full",
            "trained_on": self.questions,
            "accuracy": self.held_out.to_json(),
            "parity": {
                "probes": self.probes,
                "greatest_difference": self.greatest_difference,
                "tolerance": TOLERANCE,
            },
        }


def export_classifier(
    embedder: Embedder, rows: Sequence[Labelled], folder: Path, *, column: str = USE_CASE
) -> ExportedClassifier:
    """Train on the rows' labels, write the model into `folder`, which must not hold one, and prove it. Where the labels
    are tiers, the written rule of the stack file is judged beside it, with its own thresholds.

    Raises `DataInvalid` for too few questions of a label, `IntegrityError` (and leaves no model) where the file gives
    other probabilities under onnxruntime.
    """
    if (folder / CLASSIFIER).exists():
        raise CollectionExists(f"{folder} holds a classifier already", hint="name another folder, or remove it")
    require_labels(rows, column, least=LEAST_OF_A_LABEL)
    named = [row.label for row in rows]
    vectors = embed_all(embedder, [row.text for row in rows], purpose=Purpose.QUERY)
    made = train(vectors, named)
    content = graph_of(made)
    difference, probes = _parity(made, content, embedder, vectors)
    if difference > TOLERANCE:
        raise IntegrityError(
            f"the exported classifier gives other probabilities: one differs by {difference:.2e}, "
            f"allowed are {TOLERANCE:g}"
        )
    rule = _written_rule if set(named) <= {tier.value for tier in Tier} else None
    found = ExportedClassifier(
        folder,
        column,
        made.labels,
        len(rows),
        held_out(train, vectors, rows, folds=FOLDS, rule=rule),
        Identified(embedder.model(), embedder.dimensions),
        hashlib.sha256(content).hexdigest(),
        len(content),
        probes,
        difference,
    )
    make_folder(folder)
    write_atomically(folder / CLASSIFIER, content)
    write_atomically(folder / ABOUT, json.dumps(found.to_json(), indent=2, ensure_ascii=False).encode() + b"\n")
    return found


def portability_of(folder: Path) -> dict[str, Any]:
    """The line of a portability inventory for an exported classifier. Raises `ConfigError` where it is none, and
    `IntegrityError` where its file is another than the one that was proven."""
    found = ClassifierFile.read(folder)
    name = f"routing classifier ({', '.join(found.labels)}) over {found.embedder}"
    exit_ = (
        f"it is ONNX already: keep {CLASSIFIER} ({found.sha256[:12]}…) and {ABOUT}; its embedder is a line of its own"
    )
    return {"model": name, "format": "onnx", "can_be_exported": True, "exit": exit_}


def train(vectors: npt.NDArray[np.generic], named: Sequence[str]) -> Classifier:
    """Softmax regression of the labels `named` on `vectors`."""
    labels = tuple(sorted(set(named)))
    x = vectors.astype(np.float64)
    wanted = np.array([[name == label for label in labels] for name in named], np.float64)
    mean = x.mean(axis=0)
    centred = x - mean
    step = 1.0 / (0.5 * (np.linalg.norm(centred, 2) ** 2 / len(x) + 1.0) + _PENALTY)
    weights, bias = np.zeros((x.shape[1], len(labels))), np.zeros(len(labels))
    ahead, ahead_bias = weights, bias
    for number in range(1, _ROUNDS + 1):
        error = (_softmax(centred @ ahead + ahead_bias) - wanted) / len(x)
        next_weights = ahead - step * (centred.T @ error + _PENALTY * ahead)
        next_bias = ahead_bias - step * error.sum(axis=0)
        momentum = (number - 1) / (number + 2)
        ahead = next_weights + momentum * (next_weights - weights)
        ahead_bias = next_bias + momentum * (next_bias - bias)
        weights, bias = next_weights, next_bias
    return Classifier(labels, weights.astype(np.float32), (bias - mean @ weights).astype(np.float32))


def graph_of(made: Classifier) -> bytes:
    """`vector` float32[questions, dimensions] to `probabilities` float32[questions, labels]; checked in full."""
    onnx = needed("onnx")
    helper, numbers = import_module("onnx.helper"), import_module("onnx.numpy_helper")
    kinds = onnx.TensorProto
    constants: Mapping[str, npt.NDArray[np.float32]] = {"weights": made.weights, "bias": made.bias}
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", [INPUT, "weights", "bias"], ["scores"]),
            helper.make_node("Softmax", ["scores"], [OUTPUT], axis=1),
        ],
        "routing_classifier",
        [helper.make_tensor_value_info(INPUT, kinds.FLOAT, ["questions", made.weights.shape[0]])],
        [helper.make_tensor_value_info(OUTPUT, kinds.FLOAT, ["questions", len(made.labels)])],
        [numbers.from_array(np.ascontiguousarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION,
                              producer_name="exitramp", producer_version=__version__)  # fmt: skip
    import_module("onnx.checker").check_model(model, full_check=True)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def _parity(
    made: Classifier, content: bytes, embedder: Embedder, trained_on: npt.NDArray[np.float32]
) -> tuple[float, int]:
    """The greatest difference of one probability, over hard texts and the questions themselves, alone and together.
    A hard text that the embedder has no vector of is left out."""
    runtime = needed("onnxruntime")
    session = runtime.InferenceSession(content, providers=["CPUExecutionProvider"])
    rows = [*trained_on]
    for text in PROBES:
        try:
            rows.append(embedder.embed([text], purpose=Purpose.QUERY).vectors[0])
        except DataInvalid:
            continue
    vectors = np.stack(rows).astype(np.float32)
    wanted = made.probabilities(vectors)
    together = session.run([OUTPUT], {INPUT: vectors})[0]
    alone = np.vstack([session.run([OUTPUT], {INPUT: row[None]})[0] for row in vectors])
    return float(max(np.abs(together - wanted).max(), np.abs(alone - wanted).max())), len(rows)


def _written_rule(text: str) -> str:
    return by_rule(RoutingSpec(), text)[0].value


def _softmax(scores: Matrix) -> Matrix:
    raised = np.exp(scores - scores.max(axis=1, keepdims=True))
    found: Matrix = raised / raised.sum(axis=1, keepdims=True)
    return found
