"""Cache and routing are edits of the file, in Python and at the gateway; a caller's key stands nowhere."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from exitramp.orchestration import Application
from exitramp.orchestration.following import LOOKS_SECONDS
from tests.gateway.running import RunningGateway
from tests.orchestration.libraries import QUESTION
from tests.orchestration.library import Library, after_edit, answers_of, the_application
from tests.orchestration.vendors import write


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    made = Library(tmp_path_factory.mktemp("library"), ("chroma", "qdrant"))
    yield made
    made.end()


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


ALIKE = "How can I join two pathname components?"


def test_the_semantic_cache_is_an_edit_its_threshold_too_and_a_switch_is_never_answered_from_before_it(
    library: Library, tmp_path: Path
) -> None:
    path = tmp_path / "stack.yaml"

    def document(threshold: float | None, model: str = "main") -> dict[str, Any]:
        semantic = {"embedder": "words", "thresholds": {"words": threshold}}
        return library.document((model, "chroma"), cache={} if threshold is None else {"semantic": semantic})

    def caches(application: Application) -> list[str]:
        return [application.ask(text, use_case="docs_qa").cache for text in (QUESTION, ALIKE)]

    write(path, document(None))
    with Application.open(path) as application:
        assert caches(application) == ["none", "none"]
        assert after_edit(application, path, document(0.8)).cache == "none"
        assert caches(application) == ["semantic", "semantic"]
        after_edit(application, path, document(0.9999))
        assert caches(application) == ["semantic", "none"], "the same question alone is alike enough"
        switched = after_edit(application, path, document(0.8, "backup"))
        assert (switched.name, switched.cache) == ("backup-chroma", "none")
        after_edit(application, path, document(None, "backup"))
        assert caches(application) == ["none", "none"]


def test_routing_is_an_edit_that_the_next_question_shows(library: Library, tmp_path: Path) -> None:
    path, traces = tmp_path / "stack.yaml", tmp_path / "t.jsonl"
    stacks = (("main", "chroma"), ("backup", "qdrant"))

    def document(**routing: float) -> dict[str, Any]:
        routed = {"routing": {**routing, "pii": "medium"}} if routing else {}
        return library.document(*stacks, trace={"path": str(traces)}, **routed)

    write(path, document())
    with Application.open(path) as application:
        names = [the_application(application).name]
        names.append(after_edit(application, path, document(small_below=0.0, medium_below=1.0)).name)
        names.append(after_edit(application, path, document(small_below=0.0, medium_below=0.0)).name)
    assert names == ["main-chroma", "backup-qdrant", "main-chroma"]
    told = [(record.route_tier, "complexity" in (record.route_reason or "")) for record in answers_of(traces)]
    assert told == [(None, False), ("medium", True), ("large", True)]


def test_a_callers_key_is_nowhere_but_its_hash_is_and_the_answer_outlives_the_process(
    library: Library, tmp_path: Path
) -> None:
    key = "Order of Ms Example, 12 High Street – überall"
    path = tmp_path / "stack.yaml"
    journal = {"path": "journal.jsonl", "spool": "answers"}
    trace = {"path": "t.jsonl", "prompts": True}
    write(path, library.document(("main", "chroma"), trace=trace, idempotency=journal))
    asked = library.vendors["main"].counters()["requests"]
    answers = []
    for _ in range(2):
        with Application.open(path) as application:
            answers.append(application.ask(QUESTION, use_case="docs_qa", key=key))
    assert library.vendors["main"].counters()["requests"] == asked + 1
    assert answers[1].outcome.from_journal
    assert answers[0].text == answers[1].text
    hashed = hashlib.sha256(key.encode()).hexdigest()
    [record] = answers_of(tmp_path / "t.jsonl")
    assert record.request_id == answers[0].request_id == hashed
    assert json.loads((tmp_path / "journal.jsonl").read_text().splitlines()[0])["key"] == hashed
    written = b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file() and file != path)
    assert b"Example" not in written
    assert hashed.encode() in written


def test_cache_and_routing_are_edits_behind_the_gateway_too(
    library: Library, tmp_path: Path, gateway: Callable[[Path], tuple[RunningGateway, openai.OpenAI]]
) -> None:
    path = tmp_path / "stack.yaml"
    stacks = (("main", "chroma"), ("backup", "qdrant"))
    write(path, library.document(*stacks))
    running, client = gateway(path)

    def ask(text: str = QUESTION) -> tuple[str, str]:
        raw = client.chat.completions.with_raw_response.create(
            model="stacks", messages=[{"role": "user", "content": text}],
            extra_headers={"x-exitramp-use-case": "docs_qa"},
        )  # fmt: skip
        return raw.headers["x-exitramp-model"], raw.headers["x-exitramp-cache"]

    def edited(**more: Any) -> None:
        before = httpx.get(f"{running.root}/healthz").json()["stack_sha256"]
        write(path, library.document(*stacks, **more))
        end = time.monotonic() + 10
        while (told := httpx.get(f"{running.root}/healthz").json())["stack_sha256"] == before:
            assert time.monotonic() < end, told["problem"]
            time.sleep(LOOKS_SECONDS / 2)

    assert [ask(), ask()] == [("main-chroma", "none")] * 2
    edited(cache={"semantic": {"embedder": "words", "thresholds": {"words": 0.8}}})
    assert [ask(), ask(ALIKE)] == [("main-chroma", "none"), ("main-chroma", "semantic")]
    edited(routing={"small_below": 0, "medium_below": 1, "pii": "medium"})
    assert [ask(), ask(ALIKE)] == [("backup-qdrant", "none")] * 2
