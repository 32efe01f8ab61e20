"""A routing classifier as ONNX: trained alike every time, proven under onnxruntime, and never better than it is."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from exitramp.cli.onnx import onnx as onnx_commands
from exitramp.errors import CollectionExists, ConfigError, DataInvalid, IntegrityError
from exitramp.evals.sets.fields import case_sha256
from exitramp.ports import Purpose
from exitramp.registry import open_embedder
from exitramp.reindex import classifying
from exitramp.reindex.classifying import CLASSIFIER, export_classifier, portability_of, train
from exitramp.reindex.held_out import held_out, parts_of
from exitramp.reindex.labelled import Labelled, read_labelled

CASES = read_labelled(files("exitramp_fixtures") / "golden" / "pydocs.jsonl", "use_case", name="pydocs")
HARD = ["Ünïcödé, naïve façade, Straße", "日本語の文章です。", "🙂🏳️‍🌈 emoji", "zero\u200bwidth", "word " * 600]


def test_a_classifier_gives_its_own_probabilities_under_onnxruntime(tmp_path: Path) -> None:
    import onnx
    import onnxruntime

    embedder = open_embedder("wordllama:")
    found = export_classifier(embedder, CASES, tmp_path / "router")
    assert found.labels == ("api_lookup", "docs_qa", "error_triage")
    assert found.held_out.share.right > found.held_out.baselines[0].share.right + 0.2 * len(CASES), (
        "it has learned something"
    )
    onnx.checker.check_model(onnx.load(str(tmp_path / "router" / CLASSIFIER)), full_check=True)
    session = onnxruntime.InferenceSession(str(tmp_path / "router" / CLASSIFIER), providers=["CPUExecutionProvider"])
    texts = [case.text for case in CASES]
    made = train(embedder.embed(texts, purpose=Purpose.QUERY).vectors, [case.label for case in CASES])
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
    rows = [Labelled(f"question {number}", str(rng.choice(["a", "b"]))) for number in range(300)]
    found = held_out(train, rng.standard_normal((300, 64)), rows, folds=5)
    assert found.share.right / found.share.of < 0.65
    assert found.baselines[0].p > 0.001, "and it is not said to be better than saying always the same"


def test_what_is_right_is_counted_once_and_adds_up() -> None:
    found = held_out(train, np.eye(12)[[*range(12)]], [Labelled(str(row), "ab"[row % 2]) for row in range(12)], folds=3)
    assert sum(map(sum, found.confusion)) == found.share.of == 12
    assert sum(found.of_label(place).right for place in range(2)) == found.share.right
    assert [share.of for _, share in found.sure] == sorted((share.of for _, share in found.sure), reverse=True)
    base = found.baselines[0]
    assert found.share.right - base.share.right == base.only_classifier - base.only_baseline
    assert base.name == "always 'a'", "of equally frequent ones the first by name"


def test_a_text_that_stands_there_twice_is_in_one_part() -> None:
    rows = [Labelled(text, "x") for text in ("Join  paths?", "sort", "join paths?", "open", "JOIN PATHS?", "read")]
    parts = parts_of(rows, 3)
    assert parts[0] == parts[2] == parts[4]
    assert set(parts) == {0, 1, 2}


def test_the_written_rule_stands_beside_a_classifier_of_tiers(tmp_path: Path) -> None:
    rows = [*(Labelled(f"what time is it {word}", "small") for word in "abcdefg"),
            *(Labelled(f"why and how? compare {word}; explain?", "large") for word in "hijklmn")]  # fmt: skip
    found = export_classifier(open_embedder("wordllama:"), rows, tmp_path / "router", column="tier")
    assert [each.name for each in found.held_out.baselines] == ["always 'large'", "the written rule"]
    assert found.held_out.baselines[1].share.right == 7, "0.3 + 0.1 and a little is medium: right of the small ones"


def test_any_column_is_learned_and_a_line_without_it_is_named(tmp_path: Path) -> None:
    path = tmp_path / "set.jsonl"
    case = {"id": "1", "question": "a?", "relevant": {"x": 1}, "metadata": {"tier": "small"}}
    lines = [
        case | {"sha256": case_sha256(case)},
        {"text": "b?", "tier": "large"},
        {"messages": [{"role": "user", "content": "c?"}, {"role": "assistant", "content": "-"}], "tier": "medium"},
    ]
    path.write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    assert [(row.text, row.label) for row in read_labelled(path, "tier", name="set")] == [
        ("a?", "small"), ("b?", "large"), ("c?", "medium"),
    ]  # fmt: skip
    for wrong, message in (
        ({"question": "secret words"}, "has no text under 'tier'"),
        ({"question": "secret words", "tier": 3}, "has no text under 'tier'"),
        ({"tier": "small"}, "has no question"),
        ({"question": " ", "tier": "small"}, "has no question"),
        ({"question": "secret words", "tier": "small", "sha256": "0" * 64}, "'sha256' is not that of this case"),
        ([], "is no JSON object"),
    ):
        path.write_text(json.dumps(lines[1]) + "\n" + json.dumps(wrong))
        with pytest.raises(ConfigError, match=f"^set:2: {message}") as caught:
            read_labelled(path, "tier", name="set")
        assert "secret" not in str(caught.value)


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
    one = [case for case in CASES if case.label == "docs_qa"]
    few = [*one, *[case for case in CASES if case.label == "api_lookup"][:3]]
    with pytest.raises(DataInvalid, match="all questions are of one use_case"):
        export_classifier(open_embedder("wordllama:"), one, tmp_path)
    with pytest.raises(DataInvalid, match="fewer than 5 questions are of the use_case 'api_lookup'"):
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
    with pytest.raises(IntegrityError, match="another file than the one that was proven"):
        portability_of(folder)
