"""A static embedder as an ONNX model: Gather, mask, mean, length; and what is to be said of one that stays where it is.

Text is turned into tokens outside the graph, by the tokeniser file beside it: ONNX's own string operators break on
accents and locales. The export is kept only if the vectors that onnxruntime makes of it are the embedder's own, also of
texts that are hard on tokenisers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from exitramp import __version__
from exitramp.durable import make_folder, write_atomically
from exitramp.embedding_identity import Identified
from exitramp.errors import CollectionExists, DependencyMissing, IntegrityError, RoleUnsupported
from exitramp.ports import Embedder, Purpose
from exitramp.ports.embedding import HoldsStaticWeights, StaticWeights

OPSET: Final = 17
IR_VERSION: Final = 8
"""Pinned, so that the file is one that runtimes of 2022 and later read, whatever this machine's library would write."""
MODEL, TOKENIZER, SIDE_CAR, EXPORT = "model.onnx", "tokenizer.json", "exitramp-model.json", "exitramp-export.json"
TOLERANCE: Final = 1e-5
"""The greatest difference of one number: float32 sums in another order differ by 1e-7."""
PROBES: Final = (
    "plain words in a row",
    "a",
    "Ünïcödé, naïve façade, Straße",
    "e\u0301 is not é but should not break",
    "ＦＵＬＬ ｗｉｄｔｈ and ½ ﬁ ligatures",
    "日本語の文章です。",
    "Привет, мир",
    "مرحبا بالعالم",
    "🙂🏳️‍🌈 emoji",
    "tabs\tand\nlines\r\n",
    "zero\u200bwidth\u00a0space",
    "word " * 600,
)


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written. `greatest_difference` is of any number of any probe's vector, under onnxruntime."""

    folder: Path
    model: str
    sha256: dict[str, str]
    probes: int
    greatest_difference: float
    least_cosine: float

    def to_json(self) -> dict[str, Any]:
        return {
            "exitramp_export": 1,
            "model": self.model,
            "sha256": dict(self.sha256),
            "opset": OPSET,
            "ir_version": IR_VERSION,
            "checker": "full",
            "parity": {
                "probes": self.probes,
                "greatest_difference": self.greatest_difference,
                "least_cosine": self.least_cosine,
                "tolerance": TOLERANCE,
            },
            "made_by": {"exitramp": __version__, "onnx": version("onnx"), "onnxruntime": version("onnxruntime")},
        }


def portability(embedder: Embedder) -> dict[str, Any]:
    """The line of a portability inventory: whether the model can be taken out, and if not, what its exit is."""
    given = str(Identified(embedder.model(), embedder.dimensions))
    if isinstance(embedder, HoldsStaticWeights):
        return {"model": given, "format": "onnx", "can_be_exported": True, "exit": "exitramp onnx export"}
    if embedder.model().revision.startswith("sha256:"):
        exit_ = "its weights are files on this machine already: keep them, and their hash"
        return {"model": given, "format": "its own files", "can_be_exported": True, "exit": exit_}
    return {
        "model": given,
        "format": None,
        "can_be_exported": False,
        "exit": "cannot be exported: the vendor holds its weights; embed anew by another model (exitramp reindex), or "
        "map to one (exitramp reindex --map)",
    }


def export(embedder: Embedder, folder: Path, *, reopen: Callable[[Path], Embedder]) -> Exported:
    """Write the model into `folder`, which must not hold one, and prove it; `reopen` opens what was written.

    Raises `RoleUnsupported` for a model whose weights are not here, `IntegrityError` (and leaves no model) where the
    export makes other vectors.
    """
    if not isinstance(embedder, HoldsStaticWeights):
        told = portability(embedder)
        raise RoleUnsupported(f"{embedder.identity().address} is no table of weights that could be written as ONNX",
                              hint=told["exit"])  # fmt: skip
    if (folder / MODEL).exists():
        raise CollectionExists(f"{folder} holds a model already", hint="name another folder, or remove it")
    weights, known = embedder.static_weights(), embedder.model()
    make_folder(folder)
    parts = {MODEL: graph_of(weights), TOKENIZER: weights.tokenizer.encode("utf-8")}
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in parts.items()}
    side_car = {
        "exitramp_model": 1,
        "name": f"{known.name}-onnx",
        "pooling": "mean",
        "normalisation": "l2" if weights.unit else "none",
        "query_prefix": known.query_prefix,
        "passage_prefix": known.passage_prefix,
        "maximum_tokens": None,
        "sha256": hashes,
        "in_graph": ["pooling", *(["normalisation"] if weights.unit else [])],
        "output": "embedding",
        "add_special_tokens": False,
    }
    parts[SIDE_CAR] = json.dumps(side_car, indent=2, ensure_ascii=False).encode() + b"\n"
    for name, content in parts.items():
        write_atomically(folder / name, content)
    try:
        greatest, least = _parity(embedder, reopen(folder))
        if greatest > TOLERANCE:
            raise IntegrityError(
                f"the exported model makes other vectors: a number differs by {greatest:.2e}, allowed are {TOLERANCE:g}"
            )
    except BaseException:
        for name in parts:
            (folder / name).unlink(missing_ok=True)
        raise
    found = Exported(folder, str(Identified(known, embedder.dimensions)), hashes, len(PROBES), greatest, least)
    write_atomically(folder / EXPORT, json.dumps(found.to_json(), indent=2, ensure_ascii=False).encode() + b"\n")
    return found


def graph_of(weights: StaticWeights) -> bytes:
    """The numeric graph, from `input_ids` and `attention_mask` (int64[texts, tokens]) to `embedding`
    (float32[texts, dimensions]). Checked in full before it is given back.
    """
    onnx = needed("onnx")
    helper, numbers = import_module("onnx.helper"), import_module("onnx.numpy_helper")
    kinds, last = onnx.TensorProto, len(weights.matrix) - 1
    constants = {
        "weights": np.ascontiguousarray(weights.matrix, np.float32),
        "first": np.array(0, np.int64),
        "last": np.array(last, np.int64),
        "tokens_axis": np.array([1], np.int64),
        "last_axis": np.array([2], np.int64),
        "one": np.array(1.0, np.float32),
        "tiny": np.array(1e-12, np.float32),
    }
    mean = "mean" if weights.unit else "embedding"
    nodes = [
        helper.make_node("Clip", ["input_ids", "first", "last"], ["ids"]),
        helper.make_node("Gather", ["weights", "ids"], ["vectors"], axis=0),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=kinds.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last_axis"], ["wide"]),
        helper.make_node("Mul", ["vectors", "wide"], ["masked"]),
        helper.make_node("ReduceSum", ["masked", "tokens_axis"], ["sum"], keepdims=0),
        helper.make_node("ReduceSum", ["mask", "tokens_axis"], ["count"], keepdims=1),
        helper.make_node("Max", ["count", "one"], ["counted"]),
        helper.make_node("Div", ["sum", "counted"], [mean]),
    ]
    if weights.unit:
        nodes += [
            helper.make_node("ReduceL2", ["mean"], ["length"], axes=[1], keepdims=1),
            helper.make_node("Max", ["length", "tiny"], ["divisor"]),
            helper.make_node("Div", ["mean", "divisor"], ["embedding"]),
        ]
    shape = ["texts", "tokens"]
    graph = helper.make_graph(
        nodes,
        "static_embedder",
        [helper.make_tensor_value_info(name, kinds.INT64, shape) for name in ("input_ids", "attention_mask")],
        [helper.make_tensor_value_info("embedding", kinds.FLOAT, ["texts", weights.matrix.shape[1]])],
        [numbers.from_array(value, name) for name, value in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION,
                             producer_name="exitramp", producer_version=__version__)  # fmt: skip
    import_module("onnx.checker").check_model(made, full_check=True)
    content: bytes = made.SerializeToString(deterministic=True)
    return content


def _parity(embedder: Embedder, other: Embedder) -> tuple[float, float]:
    """The greatest difference of one number, and the least cosine, over the probes."""
    try:
        one, two = (_vectors(each) for each in (embedder, other))
    finally:
        other.close()
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(two, axis=1)
    return float(np.abs(one - two).max()), float(((one * two).sum(axis=1) / lengths).min())


def _vectors(embedder: Embedder) -> npt.NDArray[np.float64]:
    """Of the probes one by one, so that the padding of a batch can hide nothing, and then all at once."""
    alone = [embedder.embed([text], purpose=Purpose.DOCUMENT).vectors[0] for text in PROBES]
    together = embedder.embed(list(PROBES), purpose=Purpose.DOCUMENT).vectors
    return np.vstack([np.stack(alone), together]).astype(np.float64)


def needed(module: str) -> Any:
    """The module, or `DependencyMissing` with the extra that brings it."""
    try:
        return import_module(module)
    except ImportError:
        raise DependencyMissing("onnx export", "onnx", module=module) from None
