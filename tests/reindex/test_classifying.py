"""A routing classifier as ONNX: trained alike every time, proven under onnxruntime, and never better than it is."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from exitramp.cli.onnx import onnx as onnx_commands
from exitramp.errors import CollectionExists, DataInvalid, IntegrityError
from exitramp.evals.golden import load_golden
from exitramp.ports import Purpose
from exitramp.registry import open_embedder
from exitramp.reindex import classifying
from exitramp.reindex.classifying import CLASSIFIER, cross_validated, export_classifier, portability_of, train

CASES = load_golden(files("exitramp_fixtures") / "golden" / "pydocs.jsonl")
HARD = ["Ünïcödé, naïve façade, Straße", "日本語の文章です。", "🙂🏳️‍🌈 emoji", "zero\u200bwidth", "word " * 600]


def test_a_classifier_gives_its_own_probabilities_under_onnxruntime(tmp_path: Path) -> None:
    import onnx
    import onnxruntime

    embedder = open_embedder("wordllama:")
    found = export_classifier(embedder, CASES, tmp_path / "router")
    assert found.labels == ("api_lookup", "docs_qa", "error_triage")
    assert found.accuracy > found.commonest + 0.2, "it has learned something"
    onnx.checker.check_model(onnx.load(str(tmp_path / "router" / CLASSIFIER)), full_check=True)
    session = onnxruntime.InferenceSession(str(tmp_path / "router" / CLASSIFIER), providers=["CPUExecutionProvider"])
    texts = [case.question for case in CASES]
    made = train(embedder.embed(texts, purpose=Purpose.QUERY).vectors, [case.use_case for case in CASES])
    hard = embedder.embed(HARD, purpose=Purpose.QUERY).vectors
    given = session.run(None, {"vector": hard})[0]
    np.testing.assert_allclose(given, made.probabilities(hard), atol=1e-5)
    np.testing.assert_allclose(given.sum(axis=1), 1, atol=1e-5)
    again = export_classifier(embedder, CASES, tmp_path / "again")
    assert again.sha256 == found.sha256, "the same set gives the same weights"
    with pytest.raises(CollectionExists):
        export_classifier(embedder, CASES, tmp_path / "router")


def test_labels_that_mean_nothing_are_not_learned() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((300, 64))
    assert cross_validated(vectors, list(rng.choice(["a", "b"], 300))) < 0.65


def test_a_file_that_gives_other_probabilities_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = classifying.graph_of
    monkeypatch.setattr(
        classifying,
        "graph_of",
        lambda made: real(classifying.Classifier(made.labels, made.weights * np.float32(1.01), made.bias)),
    )
    with pytest.raises(IntegrityError, match="other probabilities"):
        export_classifier(open_embedder("wordllama:"), CASES, tmp_path / "router")
    assert not (tmp_path / "router").exists()


def test_too_few_questions_of_a_use_case_are_refused(tmp_path: Path) -> None:
    one = [case for case in CASES if case.use_case == "docs_qa"]
    few = [*one, *[case for case in CASES if case.use_case == "api_lookup"][:3]]
    with pytest.raises(DataInvalid, match="all questions are of one use case"):
        export_classifier(open_embedder("wordllama:"), one, tmp_path)
    with pytest.raises(DataInvalid, match="fewer than 5 questions are of the use case 'api_lookup'"):
        export_classifier(open_embedder("wordllama:"), few, tmp_path)


def test_the_command_writes_it_and_the_inventory_has_a_line_for_it(tmp_path: Path) -> None:
    folder = tmp_path / "router"
    done = CliRunner().invoke(onnx_commands, ["export", "wordllama:", str(folder), "--routing", "pydocs", "--json"],
                              standalone_mode=False, catch_exceptions=False)  # fmt: skip
    assert json.loads(done.output)["accuracy"]["folds"] == 5
    listed = CliRunner().invoke(onnx_commands, ["inventory", "wordllama:", str(folder), "--json"],
                                standalone_mode=False, catch_exceptions=False)  # fmt: skip
    rows = json.loads(listed.output)["models"]
    assert [row["can_be_exported"] for row in rows] == [True, True]
    assert "routing classifier" in rows[1]["model"]
    (folder / CLASSIFIER).write_bytes(b"something else")
    with pytest.raises(DataInvalid, match="another file than the one that was proven"):
        portability_of(folder)
