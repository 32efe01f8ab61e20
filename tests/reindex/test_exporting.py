"""What leaves as ONNX makes the same vectors, or does not leave; and what cannot leave is told with its exit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from exitramp.cli.main import run
from exitramp.errors import CollectionExists, IntegrityError, RoleUnsupported
from exitramp.ports import Embedder, Purpose
from exitramp.registry import open_embedder
from exitramp.reindex.exporting import EXPORT, IR_VERSION, MODEL, OPSET, PROBES, export, portability
from exitramp.urls import path_address

TEXTS = [*PROBES, "Zażółć gęślą jaźń", "ﷺ ligature", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢", "a\u0300\u0301\u0302 stacked", "१२३ ४५६"]


def reopen(folder: Path) -> Embedder:
    return open_embedder(path_address("onnx", folder))


@pytest.mark.parametrize("address", ["wordllama:", "wordllama:?normalise=false"])
def test_the_exported_model_makes_the_models_own_vectors_of_any_text(address: str, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    embedder = open_embedder(address)
    done = export(embedder, tmp_path / "out", reopen=reopen)
    again = reopen(tmp_path / "out")
    one, two = (each.embed(TEXTS, purpose=Purpose.DOCUMENT).vectors for each in (embedder, again))
    assert np.abs(one - two).max() < 1e-5
    told = json.loads((tmp_path / "out" / EXPORT).read_text())
    assert told["sha256"] == done.sha256
    made = onnx.load(str(tmp_path / "out" / MODEL))
    assert (made.ir_version, made.opset_import[0].version) == (IR_VERSION, OPSET)
    with pytest.raises(CollectionExists):
        export(embedder, tmp_path / "out", reopen=reopen)


def test_the_inventory_takes_an_exported_folder_as_it_takes_its_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    monkeypatch.chdir(tmp_path)
    export(open_embedder("wordllama:"), tmp_path / "out", reopen=reopen)
    assert run(["onnx", "inventory", "./out", "onnx:./out", "--json"]) == 0
    by_folder, by_address = json.loads(capsys.readouterr().out)["models"]
    assert by_folder["model"] == by_address["model"]
    assert by_folder["can_be_exported"] is True


def test_an_export_that_makes_other_vectors_is_removed(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    other = open_embedder("wordllama:?normalise=false")
    with pytest.raises(IntegrityError, match="other vectors"):
        export(open_embedder("wordllama:"), tmp_path / "out", reopen=lambda folder: other)
    assert not list((tmp_path / "out").iterdir())


def test_a_model_that_a_vendor_hosts_cannot_be_exported_and_its_exit_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosted = open_embedder("openai:some-model?base_url=http://127.0.0.1:9/v1&dimensions=8")
    told = portability(hosted)
    assert told["can_be_exported"] is False
    assert "exitramp reindex" in told["exit"]
    with pytest.raises(RoleUnsupported) as caught:
        export(hosted, tmp_path / "out", reopen=reopen)
    assert "cannot be exported" in str(caught.value)
    assert not (tmp_path / "out").exists()
