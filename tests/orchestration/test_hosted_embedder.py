"""An embedder that somebody bills for: a question is embedded by it once, and a collection is looked at by it where the
file asks for that."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from exitramp.errors import ConfigError
from exitramp.faults import Fault
from exitramp.orchestration import Application, NotAnswered, read_traces
from exitramp.registry import open_embedder
from exitramp.reindex.classifying import export_classifier
from tests.orchestration.libraries import NEAREST, QUESTION, fill, price_book
from tests.orchestration.test_classifier import ROWS as LABELLED
from tests.orchestration.vendors import Vendors, write

PRICES = [(provider, model, f"usd_per_million_{kind}_tokens", "1000")
          for provider, model in (("openai", "mock-large"), ("anthropic", "mock-medium"), ("openai", "mock-embed"))
          for kind in ("input", "output")]  # fmt: skip


class Place:
    """Two vendors, one of whom embeds too, a store of what it embedded, and a classifier over its vectors."""

    def __init__(self, folder: Path) -> None:
        self.vendors = Vendors(folder)
        base = self.vendors.addresses["main"].options["base_url"]
        self.hosted = f"openai:mock-embed?base_url={base}&dimensions=256&mock=true"
        self.stores = {
            "alike": fill(f"chroma:{folder}/alike#docs", model=self.hosted, is_marked=False),
            "other": fill(f"chroma:{folder}/other#docs", model=self.hosted, is_marked=False, shifted=3),
        }
        self.router = folder / "router"
        export_classifier(open_embedder(self.hosted), LABELLED, self.router, column="tier")

    def stack(self, folder: Path, store: str = "alike", *, said: dict[str, Any] | None = None, **more: Any) -> Path:
        (folder / "prices.yaml").write_text(price_book(PRICES))
        document: dict[str, Any] = {
            **self.vendors.document(),
            "embedders": {"hosted": {"address": self.hosted}},
            "stores": {"docs": {"address": self.stores[store], "embedder": "hosted", "depth_k": 3, **(said or {})}},
            "prompts": "packaged",
            "prices": "prices.yaml",
            "budget": {"daily_usd": "100"},
            "stacks": {"first": {"chat": "backup", "store": "docs"}, "then": {"chat": "main", "store": "docs"}},
            "trace": {"path": "t.jsonl"},
        }
        return write(folder / "stack.yaml", document | more)

    def embeddings(self) -> int:
        return sum(entry["operation"] == "embeddings" for entry in self.vendors["main"].account())


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    made = Place(tmp_path_factory.mktemp("place"))
    yield made
    made.vendors.stop()


@pytest.fixture
def place(shared: Place) -> Place:
    shared.vendors.heal()
    return shared


ROUTED = {"routing": {"classifier": {"onnx": "router", "threshold": 0.6, "embedder": "hosted"}}}
LOOKED_UP = {"cache": {"semantic": {"embedder": "hosted", "thresholds": {"hosted": 0.99}}}}


@pytest.mark.parametrize(
    ("more", "ending", "is_failed_over"),
    [(ROUTED, "route", False), (LOOKED_UP, "cache", False), (ROUTED | LOOKED_UP, "route", False), ({}, "embed", True)],
    ids=["routed", "looked up", "both", "failed over"],
)
def test_a_question_is_embedded_and_paid_once(
    place: Place, tmp_path: Path, more: dict[str, Any], ending: str, is_failed_over: bool
) -> None:
    shutil.copytree(place.router, tmp_path / "router")
    said = {"probe": False, "rerank": {"embedder": "hosted", "candidates": 4}}
    if is_failed_over:
        place.vendors["backup"].inject(Fault("unavailable"))
    with Application.open(place.stack(tmp_path, said=said, retry={"tries": 1}, **more)) as application:
        before = place.embeddings()
        answered = application.ask(QUESTION, use_case="docs_qa")
        assert answered.retrieved_ids
        assert len(answered.outcome.attempts) == 1 + is_failed_over
        [day] = application.budget
    records = list(read_traces(tmp_path / "t.jsonl"))
    embeds = [record for record in records if record.operation == "embed"]
    assert [record.request_id.rpartition(":")[2] for record in embeds] == [ending, "embed"], "then the passages' texts"
    assert place.embeddings() - before == 2
    assert day.spent_usd == Decimal(sum(record.prompt_tokens + record.gen_tokens for record in records)) / 1000


def test_the_same_question_to_another_embedder_is_embedded_by_that_one_too(place: Place, tmp_path: Path) -> None:
    shutil.copytree(place.router, tmp_path / "router")
    shorter = {"address": place.hosted.replace("=256", "=128")}
    more = LOOKED_UP | {"embedders": {"hosted": {"address": place.hosted}, "shorter": shorter}}
    more["cache"] = {"semantic": {"embedder": "shorter", "thresholds": {"shorter": 0.99}}}
    with Application.open(place.stack(tmp_path, said={"probe": False}, **more)) as application:
        application.ask(QUESTION, use_case="docs_qa")
    embeds = [
        each.request_id.rpartition(":")[2] for each in read_traces(tmp_path / "t.jsonl") if each.operation == "embed"
    ]
    assert embeds == ["cache", "embed"]


def test_a_hosted_embedder_looks_at_a_collection_where_the_file_asks_for_it_and_it_is_paid(
    place: Place, tmp_path: Path
) -> None:
    told: list[str] = []
    before = place.embeddings()
    with Application.open(place.stack(tmp_path), on_notice=told.append) as application:
        assert place.embeddings() == before
        [day] = application.budget
        assert day.spent_usd == 0
    assert any("cannot be shown" in each for each in told)
    told.clear()
    with Application.open(place.stack(tmp_path, said={"probe": True}), on_notice=told.append) as application:
        assert place.embeddings() == before + 1
        assert any("8 documents that were embedded again have the vectors that it holds" in each for each in told)
        [record] = read_traces(tmp_path / "t.jsonl")
        [day] = application.budget
        assert (record.use_case_id, record.operation, record.unit_cost_usd) == ("open", "embed", day.spent_usd)
        assert application.ask(QUESTION, use_case="docs_qa").retrieved_ids[0] == NEAREST
    assert place.embeddings() == before + 2, "looked at once"


def test_what_a_hosted_embedder_finds_wrong_is_named_by_whose_fault_it_is(place: Place, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"stack\.yaml:\d+: 'stores\.docs\.embedder': .*half have a cosine below"):
        Application.open(place.stack(tmp_path, "other", said={"probe": True}))
    missing = {"address": place.stores["alike"].replace("#docs", "#gone"), "probe": True}
    with pytest.raises(ConfigError, match=r"stack\.yaml:\d+: 'stores\.docs': .*gone"):
        Application.open(place.stack(tmp_path, said=missing))
    with pytest.raises(ConfigError, match=r"stack\.yaml:\d+: 'stores\.docs': .*no dense vector field 'title'"):
        Application.open(place.stack(tmp_path, said={"field": "title", "probe": True}))


def test_a_hosted_embedder_that_is_down_is_told_and_looked_at_by_the_first_question(
    place: Place, tmp_path: Path
) -> None:
    told: list[str] = []
    place.vendors["main"].inject(Fault("unavailable"))
    with Application.open(place.stack(tmp_path, "other", said={"probe": True}), on_notice=told.append) as application:
        assert any("is not known yet, and the first question looks" in each for each in told)
        place.vendors.heal()
        with pytest.raises(NotAnswered) as caught:
            application.ask(QUESTION, use_case="docs_qa")
        assert caught.value.error_class == "store_model_differs"
