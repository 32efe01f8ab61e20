"""Routing by an exported classifier: where it is sure it decides, else the written rule; a wrong file is one error."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from exitramp.clock import SystemClock
from exitramp.errors import ExitrampError, IntegrityError, ModelError
from exitramp.finops.unit_cost import answer_of
from exitramp.orchestration import Application, read_traces
from exitramp.orchestration import following as following_module
from exitramp.orchestration.classifier_file import ABOUT, CLASSIFIER
from exitramp.orchestration.classifying import TierClassifier
from exitramp.orchestration.stack_file import ClassifierSpec, Tier
from exitramp.registry import open_embedder
from exitramp.reindex.classifying import export_classifier
from exitramp.reindex.labelled import Labelled
from tests.orchestration.vendors import Vendors, request, write

HARD = "prove the theorem and derive every bound from the axioms"
EASY = "what time is it in town today"
ROWS = [
    *(Labelled(f"{EASY} {word}", "small") for word in ("please", "now", "sir", "again", "there", "friend")),
    *(Labelled(f"{HARD} {word}", "large") for word in ("fully", "rigorously", "twice", "formally", "anew", "well")),
]
SURE = {"threshold": 0.6, "embedder": "words"}


@pytest.fixture(scope="module")
def vendors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vendors]:
    made = Vendors(tmp_path_factory.mktemp("vendors"))
    yield made
    made.stop()


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classifier") / "router"
    export_classifier(open_embedder("wordllama:"), ROWS, folder, column="tier")
    return folder


@pytest.fixture
def place(tmp_path: Path, exported: Path, vendors: Vendors) -> Callable[..., Path]:
    """Writes a stack file beside a copy of the classifier; `classifier` is said otherwise by what is given."""
    shutil.copytree(exported, tmp_path / "router")

    def at(**classifier: Any) -> Path:
        said = {key: value for key, value in ({"onnx": "router"} | SURE | classifier).items() if value is not None}
        document = vendors.document(
            embedders={"words": {"address": "wordllama:"}, "raw": {"address": "wordllama:?normalise=false"}},
            routing={"pii": "medium", "classifier": said},
            trace={"path": "t.jsonl"},
        )
        document["models"]["backup"]["tier"] = "medium"
        return write(tmp_path / "stack.yaml", document)

    return at


def told(path: Path) -> list[tuple[str | None, str | None]]:
    """Of each request, in their order, what its last try says: on a busy machine there may be two."""
    records = {each.request_id: each for each in read_traces(path.with_name("t.jsonl")) if answer_of(each) is None}
    return [(each.route_tier, each.route_reason) for each in records.values()]


def test_where_it_is_sure_it_decides_and_else_the_written_rule(place: Callable[..., Path]) -> None:
    path = place()
    with Application.open(path) as application:
        application.chat(request(text=EASY))
        application.chat(request(text=HARD))
        application.chat(request(text=HARD), pii=True)
        application.chat(request(text=HARD), complexity=0.5)
        application.chat(request(text="Kartoffel"))
    found = told(path)
    assert [tier for tier, _ in found] == ["small", "large", "medium", "medium", "small"]
    reasons = [str(reason).partition("; ")[2] for _, reason in found]
    assert reasons[0].startswith("classifier small 0.")
    assert reasons[0].endswith(" >= 0.6")
    assert reasons[1].startswith("classifier large 0.")
    assert reasons[1].endswith(" >= 0.6")
    assert reasons[2] == "pii"
    assert reasons[3] == "complexity 0.5 < 0.7", "whoever knows how complex it is needs no guess"
    assert " < 0.6; complexity 0.0023 (estimated) < 0.4" in reasons[4], "it was not sure"
    beside = [each for each in read_traces(path.with_name("t.jsonl")) if each.request_id.endswith(":route")]
    assert len(beside) == 3, "a text that was seen is not embedded again; what is personal is embedded by nobody"
    assert {each.operation for each in beside} == {"embed"}
    assert all(answer_of(each) for each in beside)


def test_what_was_answered_before_is_not_classified_again(place: Callable[..., Path]) -> None:
    path = place()
    document = yaml.safe_load(path.read_text()) | {"idempotency": {"path": "journal.jsonl", "spool": "answers"}}
    write(path, document)
    for _ in range(2):  # the second time after a restart, whose classifier has kept no vector
        with Application.open(path) as application:
            assert application.chat(request("a-key", text=EASY)).text
    beside = [each for each in read_traces(path.with_name("t.jsonl")) if each.request_id.endswith(":route")]
    assert len(beside) == 1


def test_an_edit_of_the_threshold_is_in_force_without_a_restart(
    place: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LOOKS_SECONDS", "RESTS_SECONDS"):
        monkeypatch.setattr(following_module, name, 0.0)
    path = place()
    with Application.open(path, on_notice=lambda text: None) as application:
        application.chat(request(text=EASY))
        place(threshold=1)
        application.chat(request(text=EASY))
        place(onnx="nowhere")
        application.chat(request(text=EASY))
        problem = application.problem
    assert [tier for tier, _ in told(path)] == ["small"] * 3
    last = str(told(path)[-1][1])
    assert " < 1; complexity" in last, "a wrong edit changes nothing"
    assert problem is not None
    assert problem.startswith(f"{path}:")
    assert "there is no file" in problem


def test_labels_of_another_kind_are_tiers_by_what_the_file_says(place: Callable[..., Path]) -> None:
    path = place(tiers={"small": "medium", "large": "large"})
    with Application.open(path) as application:
        application.chat(request(text=EASY))
    [(tier, reason)] = told(path)
    assert tier == "medium"
    assert "classifier small (medium) 0." in str(reason)


def _graph_damaged(folder: Path) -> None:
    (folder / CLASSIFIER).write_bytes((folder / CLASSIFIER).read_bytes()[:-9])


def _about(folder: Path, **more: Any) -> None:
    path = folder / ABOUT
    path.write_text(json.dumps(json.loads(path.read_text()) | more))


def _another_graph(folder: Path) -> None:
    """One that is whole, and not over vectors of this length."""
    import hashlib

    from exitramp.reindex.classifying import Classifier, graph_of

    data = graph_of(Classifier(("large", "small"), np.zeros((7, 2), np.float32), np.zeros(2, np.float32)))
    (folder / CLASSIFIER).write_bytes(data)
    _about(folder, sha256={CLASSIFIER: hashlib.sha256(data).hexdigest()})


WRONG: dict[str, tuple[Callable[[Path], object], dict[str, Any], str]] = {
    "no file": (lambda folder: None, {"onnx": "nowhere"}, "there is no file"),
    "damaged": (_graph_damaged, {}, "is another file than the one that was proven"),
    "nothing beside it": (lambda folder: (folder / ABOUT).unlink(), {}, "is missing, so nobody knows"),
    "no JSON beside it": (lambda folder: (folder / ABOUT).write_bytes(b"\xff{"), {}, "is no readable JSON"),
    "another form": (lambda folder: _about(folder, exitramp_classifier=1), {}, "is version 1 of its form"),
    "half of it": (lambda folder: _about(folder, embedder={}), {}, "does not say what it has to"),
    "not of tiers": (lambda folder: _about(folder, labels=["small", "huge"]), {}, "tells 'huge', and nothing says"),
    "a tier of nothing": (lambda folder: None, {"tiers": {"tiny": "small"}}, "'tiers' names 'tiny', which"),
    "half of the tiers": (lambda folder: None, {"tiers": {"small": "small"}}, "tells 'large', and nothing says"),
    "another embedder": (lambda folder: None, {"embedder": "raw"}, "different are normalisation; it was trained on ["),
    "another graph": (_another_graph, {}, "does not take 256 numbers and give 2"),
    "no such embedder": (lambda folder: None, {"embedder": "none"}, "which this file does not name"),
    "no threshold": (lambda folder: None, {"threshold": None}, "'routing.classifier.threshold' is missing"),
    "above one": (lambda folder: None, {"threshold": 80}, "must be at most 1"),
}


@pytest.mark.parametrize("what", list(WRONG))
def test_what_is_no_classifier_of_this_file_is_one_error_with_its_line(place: Callable[..., Path], what: str) -> None:
    spoil, said, message = WRONG[what]
    path = place(**said)
    spoil(path.with_name("router"))
    with pytest.raises(ExitrampError) as caught:
        Application.open(path)
    line = next(number for number, each in enumerate(path.read_text().splitlines(), 1) if each.strip() == "classifier:")
    file, number = str(caught.value).split(":")[:2]
    assert (file, line <= int(number) <= line + 5) == (str(path), True), str(caught.value)
    assert message in str(caught.value)
    assert "next: " in str(caught.value)
    assert isinstance(caught.value, IntegrityError) is (what == "damaged")


def test_without_onnxruntime_it_says_which_line_installs_it(
    place: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ExitrampError, match=r"routing\.classifier(.|\n)*pip install 'exitramp\[onnx-run\]'"):
        Application.open(place())


def test_an_embedder_that_fails_leaves_it_to_the_written_rule(exported: Path) -> None:
    class Failing:
        """Knows who it is, and is down; or gives vectors of another length."""

        def __init__(self, error: Exception | None) -> None:
            self._inner: Any = open_embedder("wordllama:")
            self._error = error
            self.model, self.dimensions, self.identity = self._inner.model, 256, self._inner.identity

        def embed(self, texts: Any, **how: Any) -> Any:
            if self._error is not None:
                raise self._error
            found = self._inner.embed(texts, **how)
            return replace(found, vectors=found.vectors[:, :9])

    spec = ClassifierSpec(exported, 0.0, "words")
    down: Any = Failing(ModelError("down", error_class="connection"))
    short: Any = Failing(None)
    assert TierClassifier(spec, down, SystemClock()).judge(EASY).said == "not classified: connection"
    assert TierClassifier(spec, short, SystemClock()).judge(EASY).said == "not classified: malformed"
    whole = TierClassifier(spec, open_embedder("wordllama:"), SystemClock())
    assert whole.judge("").said == "not classified: invalid_text"
    assert whole.judge(HARD).tier is Tier.LARGE
