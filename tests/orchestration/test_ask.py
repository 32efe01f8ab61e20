"""Questions through whole stacks: real stores, a real embedder, two vendors, and one application that never changes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from exitramp.errors import ConfigError
from exitramp.faults import Fault
from exitramp.orchestration import Application, NotAnswered, read_traces
from exitramp.orchestration.following import LOOKS_SECONDS
from tests.gateway.running import RunningGateway
from tests.orchestration.libraries import NEAREST, QUESTION, RerankServer, fill
from tests.orchestration.library import STORES, Library, after_edit, answers_of, the_application
from tests.orchestration.vendors import write


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    made = Library(tmp_path_factory.mktemp("library"))
    yield made
    made.end()


@pytest.fixture(autouse=True)
def healed(library: Library) -> None:
    library.vendors.heal()


def test_the_same_application_is_answered_by_either_vendor_out_of_either_store_by_edits_alone(
    library: Library, tmp_path: Path
) -> None:
    traces = tmp_path / "t.jsonl"
    path = tmp_path / "stack.yaml"
    ways = [(model, kind) for kind in STORES for model in ("main", "backup")]

    def document(way: tuple[str, str]) -> dict[str, Any]:
        return library.document(way, trace={"path": str(traces)})

    write(path, document(ways[0]))
    with Application.open(path) as application:
        answers = [the_application(application)]
        answers += [after_edit(application, path, document(way)) for way in ways[1:]]
    assert [answer.name for answer in answers] == [f"{model}-{kind}" for model, kind in ways]
    for answer in answers:
        assert answer.is_mock
        assert NEAREST in answer.text
        assert answer.retrieved_ids[0] == NEAREST
        assert answer.retrieved_ids == answers[0].retrieved_ids
    told = [(record.provider, record.store, record.depth_k, record.vector_reads) for record in answers_of(traces)]
    vendors = {"main": "openai", "backup": "anthropic"}
    assert told == [(vendors[model], kind, 3, 3) for model, kind in ways]
    embedded = [record for record in read_traces(traces) if record.operation == "embed"]
    assert [(record.provider, record.status) for record in embedded] == [("wordllama", "ok")] * 6
    assert all(record.prompt_tokens > 0 and record.use_case_id == "docs_qa" for record in embedded)


def test_depth_rerank_and_cache_are_edits_that_the_next_question_shows(library: Library, tmp_path: Path) -> None:
    traces = tmp_path / "t.jsonl"
    path = tmp_path / "stack.yaml"

    def document(**store: Any) -> dict[str, Any]:
        cache = store.pop("cache", {"exact": {}})
        return library.document(("main", "chroma"), store=store, cache=cache, trace={"path": str(traces)})

    write(path, document(depth_k=2))
    with Application.open(path) as application:
        assert len(the_application(application).retrieved_ids) == 2
        assert the_application(application).cache == "exact"
        deeper = after_edit(application, path, document(depth_k=5))
        assert (deeper.cache, len(deeper.retrieved_ids)) == ("none", 5), "kept answers are of another depth"
        reranked = after_edit(application, path, document(depth_k=2, rerank={"embedder": "words", "candidates": 8}))
        assert (reranked.cache, len(reranked.retrieved_ids)) == ("none", 2)
        uncached = document(depth_k=2, rerank={"embedder": "words", "candidates": 8}, cache={})
        assert after_edit(application, path, uncached).cache == "none"
        assert the_application(application).cache == "none"
    told = [(record.cache_hit, record.depth_k, record.vector_reads, record.rerank_n) for record in answers_of(traces)]
    assert told == [
        (False, 2, 2, 0), (True, 0, 0, 0), (False, 5, 5, 0), (False, 2, 8, 8), (False, 2, 8, 8), (False, 2, 8, 8),
    ]  # fmt: skip


def test_a_stack_fails_over_as_a_whole_when_its_store_or_its_model_is_gone(library: Library, tmp_path: Path) -> None:
    traces = tmp_path / "t.jsonl"
    document = library.document(("main", "chroma"), ("backup", "qdrant"), trace={"path": str(traces)})
    path = write(tmp_path / "stack.yaml", document)
    with Application.open(path) as application:
        library.vendors["main"].inject(Fault("unavailable"))
        assert the_application(application).name == "backup-qdrant"
    library.vendors.heal()
    document["stores"]["chroma"]["address"] = f"chroma:{library.folder}/chroma-db#gone"
    notices: list[str] = []
    with pytest.raises(ConfigError, match=r"stack\.yaml:\d+: 'stores\.chroma'.*gone.*\n  next: "):
        Application.open(write(path, document))
    document["stores"]["chroma"]["address"] = "qdrant+http://127.0.0.1:9#docs"
    with Application.open(write(path, document), on_notice=notices.append) as application:
        assert the_application(application).name == "backup-qdrant"
    assert sum("the first question looks" in notice for notice in notices) == 1
    records = [record for record in answers_of(traces) if record.status == "error"]
    assert records[-1].error_class == "store_unavailable"


def test_another_embedder_than_the_collections_is_refused_with_both_fingerprints_at_open_and_after_an_edit(
    library: Library, tmp_path: Path
) -> None:
    good = library.document(("main", "qdrant"))
    other = library.document(("main", "qdrant"), embedders={"words": {"address": "wordllama:?normalise=false"}})
    path = write(tmp_path / "stack.yaml", other)
    with pytest.raises(ConfigError) as caught:
        Application.open(path)
    said = str(caught.value)
    assert "'stores.qdrant.embedder'" in said
    assert said.count("256 dimensions") == 2
    notices: list[str] = []
    with Application.open(write(path, good), on_notice=notices.append) as application:
        assert NEAREST in the_application(application).text
        assert [notice for notice in notices if not notice.startswith("models.backup: does not take")] == []
        notices.clear()
        write(path, other)
        end = time.monotonic() + 10
        while application.problem is None and time.monotonic() < end:
            time.sleep(LOOKS_SECONDS / 2)
            assert NEAREST in the_application(application).text
        assert "normalisation" in str(application.problem)
        assert "the version before it is" in notices[0]


def test_a_model_that_cannot_be_shown_to_be_the_collections_is_said_and_not_refused(
    library: Library, tmp_path: Path
) -> None:
    document = library.document(("main", "qdrant"))
    document["stores"]["qdrant"]["address"] = fill(f"qdrant:{tmp_path}/unknown#docs", is_marked=False)
    notices: list[str] = []
    path = write(tmp_path / "stack.yaml", document)
    with Application.open(path, on_notice=notices.append) as application:
        assert NEAREST in the_application(application).text
        after_edit(application, path, document | {"environment": "edited"})
    [seen] = [notice for notice in notices if "they agree" in notice]  # an edit of other things repeats nothing
    assert "8 documents that were embedded again" in seen
    document["stores"]["qdrant"]["probe"] = False
    notices.clear()
    with Application.open(write(path, document), on_notice=notices.append):
        pass
    [unshown] = [notice for notice in notices if "cannot be shown" in notice]
    assert "; next: ask for a document that you know" in unshown


def test_an_unmarked_collection_of_another_model_is_refused_by_its_vectors(library: Library, tmp_path: Path) -> None:
    document = library.document(("main", "qdrant"))
    other = fill(f"qdrant:{tmp_path}/other#docs", is_marked=False, shifted=3)
    document["stores"]["qdrant"]["address"] = other
    with pytest.raises(ConfigError, match="of another embedding model than the questions"):
        Application.open(write(tmp_path / "stack.yaml", document))


def by_length(question: str, text: str) -> float:
    """The longest text first, which the store does not say."""
    return float(len(text))


def test_a_reranker_over_http_orders_the_passages_and_its_failure_keeps_the_stores_order(
    library: Library, tmp_path: Path
) -> None:
    traces = tmp_path / "t.jsonl"
    with RerankServer(by_length) as server:
        rerank = {"address": server.address, "candidates": 6, "timeout_seconds": 1}
        document = library.document(("main", "chroma"), store={"rerank": rerank}, trace={"path": str(traces)})
        with Application.open(write(tmp_path / "stack.yaml", document)) as application:
            ordered = the_application(application)
            [asked] = server.asked
            assert (asked["path"], asked["query"], asked["top_n"]) == ("/v1/rerank", QUESTION, 6)
            lengths = sorted((len(text) for text in asked["documents"]), reverse=True)
            assert [len(text) for text in asked["documents"]] != lengths
            breakages: list[tuple[int, Any]] = [
                (503, {"error": "down"}), (200, {"results": []}), (200, {"results": [{"index": 0}] * 6}),
            ]  # fmt: skip
            for broken in breakages:
                server.broken = broken
                kept = the_application(application)
                assert kept.retrieved_ids[0] == NEAREST
                assert len(kept.retrieved_ids) == 3
        assert len(ordered.retrieved_ids) == 3
        assert ordered.retrieved_ids != kept.retrieved_ids
    told = [(record.rerank_n, (record.route_reason or "").partition("; ")[2]) for record in answers_of(traces)]
    assert told == [(6, ""), (0, "not reranked: overloaded"), *[(0, "not reranked: malformed")] * 2]
    calls = [record for record in read_traces(traces) if record.operation == "rerank"]
    assert [(record.status, record.prompt_tokens) for record in calls] == [("ok", 60), *[("error", 0)] * 3]


@pytest.fixture
def gateway() -> Iterator[Callable[[Path], tuple[RunningGateway, openai.OpenAI]]]:
    running: list[tuple[RunningGateway, openai.OpenAI]] = []

    def start(path: Path) -> tuple[RunningGateway, openai.OpenAI]:
        made = RunningGateway(path)
        running.append((made, openai.OpenAI(base_url=made.address, api_key="unused", max_retries=0)))
        return running[-1]

    yield start
    for made, client in running:
        client.close()
        made.stop()


def test_an_application_at_the_gateway_gets_answers_out_of_the_store_by_a_stacks_name(
    library: Library, tmp_path: Path, gateway: Callable[[Path], tuple[RunningGateway, openai.OpenAI]]
) -> None:
    path = write(tmp_path / "stack.yaml", library.document(("main", "chroma"), ("backup", "qdrant")))
    _, client = gateway(path)
    headers = {"x-exitramp-use-case": "docs_qa"}
    messages: list[Any] = [{"role": "user", "content": QUESTION}]

    def ask(model: str, **more: Any) -> Any:
        return client.chat.completions.with_raw_response.create(
            model=model, messages=more.pop("messages", messages), extra_headers=headers, **more
        )

    for name in ("main-chroma", "backup-qdrant", "stacks"):
        raw = ask(name)
        found = raw.parse()
        assert NEAREST in str(found.choices[0].message.content)
        assert found.model_extra["exitramp"]["retrieved_ids"][0] == NEAREST
        assert raw.headers["x-exitramp-model"] == ("main-chroma" if name == "stacks" else name)
    shown = client.chat.completions.create(model="stacks", messages=messages, extra_headers=headers, stream=True)
    assert NEAREST in "".join(chunk.choices[0].delta.content or "" for chunk in shown if chunk.choices)
    assert {"main-chroma", "stacks", "main"} <= {each.id for each in client.models.list()}
    before: list[Any] = [{"role": "assistant", "content": "Hello"}, *messages]
    with pytest.raises(openai.BadRequestError, match="one message of the user"):
        ask("stacks", messages=before)
    with pytest.raises(openai.BadRequestError, match="'stop'"):
        ask("stacks", stop=["x"])
    with pytest.raises(openai.BadRequestError, match=r"use case 'gateway'\n  next: name one that it has, .*docs_qa"):
        client.chat.completions.create(model="stacks", messages=messages)
    library.vendors["main"].inject(Fault("unavailable"))
    assert ask("stacks").headers["x-exitramp-model"] == "backup-qdrant"
    assert ask("any").headers["x-exitramp-model"] == "backup", "another name is chat, by failover.models"


def test_what_is_personal_never_leaves_its_tier_through_a_stack_and_is_refused_without_one(
    library: Library, tmp_path: Path
) -> None:
    path = tmp_path / "stack.yaml"
    stacks = (("main", "chroma"), ("backup", "qdrant"))
    cache = {"exact": {}, "semantic": {"embedder": "words", "thresholds": {"words": 0.5}}}
    write(path, library.document(*stacks, routing={"pii": "medium"}, cache=cache))
    with Application.open(path) as application:
        asked = library.vendors["main"].counters()["requests"]
        for _ in range(2):
            found = application.ask(QUESTION, use_case="docs_qa", pii=True)
            assert (found.name, found.cache) == ("backup-qdrant", "none")
        library.vendors["backup"].inject(Fault("unavailable"))
        for _ in range(3):
            with pytest.raises(NotAnswered):
                application.ask(QUESTION, use_case="docs_qa", pii=True)
        assert library.vendors["main"].counters()["requests"] == asked
