"""A small routing classifier: which use case a question is of, by logistic regression over an embedder's vectors.

Trained on the use cases of a golden set: softmax(x W + b) with an L2 penalty on W, by accelerated gradient descent
(Nesterov 1983) from zero, so that the same set gives the same weights. How often it is right is measured by
cross-validation on questions that it was not trained on, beside always saying the commonest use case. As ONNX it is one
Gemm and one Softmax over a vector; the embedder in front of it is named by its fingerprint and stays a file of its own.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
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
from exitramp.evals.golden import GoldenCase
from exitramp.ports import Embedder, Purpose, embed_all
from exitramp.reindex.exporting import IR_VERSION, OPSET, PROBES, TOLERANCE, needed

CLASSIFIER: Final = "classifier.onnx"
ABOUT: Final = "exitramp-classifier.json"
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
    """What was written, and how good it is. `accuracy` by cross-validation; `commonest` of always the same label."""

    folder: Path
    labels: tuple[str, ...]
    questions: int
    accuracy: float
    commonest: float
    embedder: str
    sha256: str
    bytes: int
    probes: int
    greatest_difference: float

    def to_json(self) -> dict[str, Any]:
        return {
            "exitramp_classifier": 1,
            "labels": list(self.labels),
            "input": "vector",
            "output": "probabilities",
            "embedder": self.embedder,
            "sha256": {CLASSIFIER: self.sha256},
            "bytes": self.bytes,
            "opset": OPSET,
            "ir_version": IR_VERSION,
            "checker": "full",
            "trained_on": self.questions,
            "accuracy": {"cross_validated": self.accuracy, "folds": FOLDS, "always_the_commonest": self.commonest},
            "parity": {
                "probes": self.probes,
                "greatest_difference": self.greatest_difference,
                "tolerance": TOLERANCE,
            },
        }


def export_classifier(embedder: Embedder, cases: Sequence[GoldenCase], folder: Path) -> ExportedClassifier:
    """Train on the cases' use cases, write the model into `folder`, which must not hold one, and prove it.

    Raises `DataInvalid` for too few questions of a use case, `IntegrityError` (and leaves no model) where the file
    gives other probabilities under onnxruntime.
    """
    if (folder / CLASSIFIER).exists():
        raise CollectionExists(f"{folder} holds a classifier already", hint="name another folder, or remove it")
    _require_labels(cases)
    named = [case.use_case for case in cases]
    vectors = embed_all(embedder, [case.question for case in cases], purpose=Purpose.QUERY)
    made = train(vectors, named)
    content = graph_of(made)
    difference, probes = _parity(made, content, embedder, vectors)
    if difference > TOLERANCE:
        raise IntegrityError(
            f"the exported classifier gives other probabilities: one differs by {difference:.2e}, "
            f"allowed are {TOLERANCE:g}"
        )
    found = ExportedClassifier(
        folder,
        made.labels,
        len(cases),
        cross_validated(vectors, named),
        max(Counter(named).values()) / len(named),
        str(Identified(embedder.model(), embedder.dimensions)),
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
    """The line of a portability inventory for an exported classifier. Raises `DataInvalid` where its file is another
    than the one that was proven."""
    try:
        told = json.loads((folder / ABOUT).read_text("utf-8"))
        digest, wanted = hashlib.sha256((folder / CLASSIFIER).read_bytes()).hexdigest(), told["sha256"][CLASSIFIER]
        name = f"routing classifier ({', '.join(told['labels'])}) over {told['embedder']}"
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataInvalid(
            f"{folder} holds no exported classifier ({type(error).__name__})",
            hint="exitramp onnx export MODEL DIR --routing SET makes one",
        ) from error
    if digest != wanted:
        raise DataInvalid(f"{folder / CLASSIFIER} is another file than the one that was proven: sha256 {digest}")
    exit_ = f"it is ONNX already: keep {CLASSIFIER} ({digest[:12]}…) and {ABOUT}; its embedder is a line of its own"
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


def cross_validated(vectors: npt.NDArray[np.generic], named: Sequence[str]) -> float:
    """The share that is right of questions left out of training, every label spread over the folds alike."""
    order = sorted(range(len(named)), key=lambda row: (named[row], row))
    fold_of = {row: place % FOLDS for place, row in enumerate(order)}
    right = 0
    for fold in range(FOLDS):
        rest = [row for row in range(len(named)) if fold_of[row] != fold]
        held = [row for row in range(len(named)) if fold_of[row] == fold]
        made = train(vectors[rest], [named[row] for row in rest])
        best = made.probabilities(vectors[held]).argmax(axis=1)
        right += sum(made.labels[column] == named[row] for row, column in zip(held, best, strict=True))
    return right / len(named)


def graph_of(made: Classifier) -> bytes:
    """`vector` float32[questions, dimensions] to `probabilities` float32[questions, labels]; checked in full."""
    onnx = needed("onnx")
    helper, numbers = import_module("onnx.helper"), import_module("onnx.numpy_helper")
    kinds = onnx.TensorProto
    constants: Mapping[str, npt.NDArray[np.float32]] = {"weights": made.weights, "bias": made.bias}
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["vector", "weights", "bias"], ["scores"]),
            helper.make_node("Softmax", ["scores"], ["probabilities"], axis=1),
        ],
        "routing_classifier",
        [helper.make_tensor_value_info("vector", kinds.FLOAT, ["questions", made.weights.shape[0]])],
        [helper.make_tensor_value_info("probabilities", kinds.FLOAT, ["questions", len(made.labels)])],
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
    together = session.run(["probabilities"], {"vector": vectors})[0]
    alone = np.vstack([session.run(["probabilities"], {"vector": row[None]})[0] for row in vectors])
    return float(max(np.abs(together - wanted).max(), np.abs(alone - wanted).max())), len(rows)


def _require_labels(cases: Sequence[GoldenCase]) -> None:
    counts = Counter(case.use_case for case in cases)
    if len(counts) < 2:
        raise DataInvalid("all questions are of one use case, so there is nothing to tell apart",
                          hint="give the golden questions their 'use_case'")  # fmt: skip
    few = [name for name, count in sorted(counts.items()) if count < LEAST_OF_A_LABEL]
    if few:
        text = f"fewer than {LEAST_OF_A_LABEL} questions are of the use case {few[0]!r}, too few to judge it"
        raise DataInvalid(text)


def _softmax(scores: Matrix) -> Matrix:
    raised = np.exp(scores - scores.max(axis=1, keepdims=True))
    found: Matrix = raised / raised.sum(axis=1, keepdims=True)
    return found
