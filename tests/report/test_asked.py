"""Drills that ask an application, or nobody that answers: what was not told or not seen is said to be so."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from exitramp.report.model import Document, Notice
from tests.report.drill_journals import STEPS, VERDICTS, Play, document_of_run, drill, judged, section_text, text_of
from tests.report.drill_results import DIGESTS, results, store

APPLICATION = {"name": "help-desk", "kind": "http", "mock": True, "tells_sources": True, "switch": "by itself"}
ACCOUNT = {"requests": 18, "by_stack": {"primary": 18, "substitute": 0}, "failed": 0}
BACK = {**ACCOUNT, "application": "help-desk", "answers_well": True, "back_on_primary": True, "switched": None}
LEFT_OUT = {"dump", "verify_dump", "plan", "restore", "parity", "measure_loss", "cost"}


def through_an_application(folder: Path, **traffic: Any) -> Document:
    """What `application_over_a_bad_network` writes down: nothing is moved, and no store is compared."""
    spec = drill(application={"file": "help_desk"})
    spec["steps"] = [each for each in spec["steps"] if each["name"] not in LEFT_OUT]
    spec["objectives"] = {"rto_seconds": 5.0, "error_rate": 0.1, "quality_margin": 0.1}
    found = {name: data for name, data in copy.deepcopy(results()).items() if name not in LEFT_OUT}
    for name in ("baseline", "replay", "outage"):
        found[name] |= {"application": APPLICATION}
    for name in ("baseline", "replay"):
        found[name] |= {"prompt_tokens": None, "gen_tokens": None}
    found["start"]["stacks"]["substitute"]["store"]["in_process"] = True
    found["start"]["stacks"]["primary"]["store"]["in_process"] = False
    found["rollback"] = {"traffic": BACK | traffic, "sync": None, "primary_unchanged": True}
    found["rollback"] |= {"primary_digests": DIGESTS, "primary_digests_before": DIGESTS}
    return _played(folder, spec, found)


def retrieval_only(folder: Path, **more: dict[str, Any]) -> Document:
    """What `embedding_vendor_gone` writes down: a mock vendor that embeds by a real model, and no chat model. `more`:
    what its steps found."""
    embedding = {"address": "openai:use?base_url=http://127.0.0.1:1/v1&mock=true", "service": "mock-openai"}
    embedding |= {"mock": True, "started_by_the_drill": True, "described": {"mock": True, "embedder": "use:"}}
    embedding |= {"service_summary": "Mock chat vendor in the OpenAI chat completions shape"}
    stacks = {
        "primary": {"store": store("chroma+http://127.0.0.1:8000#c", "chroma-run"), "embedding": embedding},
        "substitute": {"store": store("qdrant:/runs/s#c")},
    }
    spec = drill(primary={"store": {}, "embedding": {}}, substitute={"store": {}})
    spec["steps"] = [{"name": name} for name in ("start", "load_golden", "check_hypothesis", "baseline", "dump")]
    ways = [name for name in ("map_embeddings", "reembed") if name in more]
    spec["steps"] += [{"name": name} for name in ("embedding_gone", *ways, "replay", "compare_quality")]
    spec["objectives"] = {"quality_margin": 0.1}
    found = copy.deepcopy(results())
    found["start"] = {"stacks": stacks}
    checks = [{"stack": "primary", "part": "store", "answers": True, "records": 40, "error": None}]
    checks += [{"stack": "substitute", "part": "store", "answers": True, "records": None, "error": None}]
    checks += [
        {"stack": "primary", "part": "embedding", "answers": True, "model": "use", "dimensions": 512, "error": None}
    ]
    found["check_hypothesis"]["checks"] = checks
    none = {"mock": False, "prompt_tokens": None, "gen_tokens": None, "assertions_passed": 0, "assertions_judged": 0}
    for name in ("baseline", "replay"):
        found[name] |= none | {"outcomes": {}}
    found["compare_quality"] |= {"mock": False, "flips": []}
    found["compare_quality"]["use_cases"] = {}
    found["compare_quality"]["metrics"][0] |= {"metric": "ndcg@10", "counts": None}
    state = {"asked": 40, "embedded": 40, "k": 10, "ndcg": {}}
    found["embedding_gone"] = {"fault": "sigkill", "how": "live", "before": state, "gone": {**state, "embedded": 0}}
    found |= more
    return _played(folder, spec, {each["name"]: found[each["name"]] for each in spec["steps"]})


def _played(folder: Path, spec: dict[str, Any], found: dict[str, Any]) -> Document:
    play = Play(folder, spec)
    for name, data in found.items():
        play.step(name, data, VERDICTS.get(name) if name in STEPS else None)
    kept = [each for each in judged() if each["name"] in spec["objectives"]]
    return document_of_run(play.end("pass", kept))


def told(document: Document, title: str) -> str:
    return section_text(document, title).replace("\xa0", " ")


def row_of(section: str, title: str) -> str:
    return next(line for line in section.splitlines() if line.startswith(f"| {title} |"))


# ------------------------------------------------------------------------------ an application


@pytest.mark.parametrize("tokens", [None, 0])
def test_tokens_that_an_application_does_not_tell_are_never_zero(tmp_path: Path, tokens: int | None) -> None:
    """0 is what journals of older versions hold."""
    found = copy.deepcopy(results())
    told_ = {"prompt_tokens": tokens, "gen_tokens": tokens, "application": APPLICATION}
    found["baseline"] |= told_
    found["replay"] |= told_
    document = _played(tmp_path, drill(application={"file": "app.yaml"}), found)
    for title, sides in (("Baseline", 1), ("Quality parity", 2)):
        for name in ("Tokens read", "Tokens written"):
            assert row_of(told(document, title), name).count("not told by the application") == sides


def test_what_a_vendor_counted_is_shown_as_it_was(tmp_path: Path) -> None:
    document = _played(tmp_path, drill(), results())
    assert row_of(told(document, "Baseline"), "Tokens read") == "| Tokens read | 13,800 |"


def test_which_vendor_stood_behind_an_applications_answer_is_not_said(tmp_path: Path) -> None:
    document = through_an_application(tmp_path)
    rollback = told(document, "Rollback")
    assert "Answered by" not in rollback
    assert "The last ones came from the primary" not in rollback
    assert "by the account of the primary’s vendor | 18 |" in rollback
    assert "by the account of the substitute’s vendor | 0 |" in rollback
    assert "was not seen" in rollback


def test_where_no_account_tells_nothing_is_said_of_the_way_back(tmp_path: Path) -> None:
    rollback = told(through_an_application(tmp_path, by_stack={}, back_on_primary=None), "Rollback")
    assert row_of(rollback, "The primary’s vendor was asked again").endswith("| no account tells |")
    assert "by the account of" not in rollback


def test_digests_of_a_drill_that_moves_nothing_are_not_inconclusive(tmp_path: Path) -> None:
    rollback = told(through_an_application(tmp_path), "Rollback")
    assert "Inconclusive" not in rollback
    assert "Substitute, after it" not in rollback
    assert rollback.count("the primary is as it was; nothing was moved") == 4


def test_a_substitute_that_was_filled_and_not_compared_stays_inconclusive(tmp_path: Path) -> None:
    found = copy.deepcopy(results())
    found["rollback"] |= {"sync": None, "substitute_digests": None, "parity": None}
    rollback = told(_played(tmp_path, drill(), found), "Rollback")
    assert rollback.count("the substitute was not compared") == 4
    assert rollback.count("Inconclusive") == 4


def test_an_applications_way_to_its_stores_is_not_compared(tmp_path: Path) -> None:
    assert "The two stores are reached" not in told(through_an_application(tmp_path / "one"), "Verdict")
    found = copy.deepcopy(results())
    for side, inside in (("primary", False), ("substitute", True)):
        found["start"]["stacks"][side]["store"]["in_process"] = inside
    first = told(_played(tmp_path / "two", drill(), found), "Verdict")
    assert "The two stores are reached" in first
    assert "Their latencies compare" in first
    for name in ("baseline", "outage", "replay"):
        del found[name]
    first = told(_played(tmp_path / "three", drill(), found), "Verdict")
    assert "The two stores are reached" in first
    assert "latencies compare" not in first, "nobody took any time"


def test_an_application_is_asked_twice_and_no_stack_is_named_for_its_answers(tmp_path: Path) -> None:
    document = through_an_application(tmp_path)
    whole = text_of(document).replace("\xa0", " ")
    for untrue in (
        "asked of the primary",
        "asked of the substitute",
        "asked of both stacks",
        "measured on the stores themselves",
        "the orchestration layer noticed",
        "rendered for both stacks",
        "while nothing was broken",
    ):
        assert untrue not in whole, untrue
    quality = told(document, "Quality parity")
    assert "Paired differences, replay minus baseline" in quality
    assert "asked twice of the application" in quality
    assert "broken of the primary at the second time: the chat vendor answers 503" in quality


# ------------------------------------------------------------------------------ nobody that answers


def test_a_mock_that_embeds_stands_among_the_stamps_and_in_the_mode(tmp_path: Path) -> None:
    document = retrieval_only(tmp_path)
    assert [each.text for each in document.stamps if each.kind is Notice.MOCK] == ["mock embedding vendor"]
    assert "The embedding vendor was a mock" in document.verdict_reason
    mode = told(document, "Mode and scenario")
    assert "against a mock embedding vendor" in mode
    assert "Mock: the embedding vendor is a mock" in mode
    assert "chat" not in row_of(told(document, "Annex"), "Primary’s embedding: kind")


def test_an_embedding_model_has_no_collection_to_miss(tmp_path: Path) -> None:
    baseline = told(retrieval_only(tmp_path), "Baseline")
    assert "| use, 512 dimensions |" in row_of(baseline, "Primary: embedding model")
    assert baseline.count("no collection yet") == 1


def test_where_nobody_answers_there_are_no_words_about_answers(tmp_path: Path) -> None:
    document = retrieval_only(tmp_path)
    for title in ("Baseline", "Quality parity"):
        section = told(document, title)
        for absent in ("Tokens read", "Assertions met", "Wrong answers", "An assertion is", "met its assertion"):
            assert absent not in section, (title, absent)
        assert "nothing was generated" in section


def test_a_drill_without_a_restore_judges_none(tmp_path: Path) -> None:
    inventory = told(retrieval_only(tmp_path), "Portability inventory")
    assert inventory.count("not proven: no step of this drill puts it back") == 3
    assert "Inconclusive" not in inventory


def test_a_dump_put_back_while_the_outage_ran_is_put_back(tmp_path: Path) -> None:
    found = copy.deepcopy(results())
    del found["restore"]
    found["outage"]["restore"] = {"restored": True}
    spec = drill()
    spec["steps"] = [each for each in spec["steps"] if each["name"] != "restore"]
    inventory = told(_played(tmp_path / "whole", spec, found), "Portability inventory")
    assert inventory.count("put back while the outage ran, read back and compared") == 3
    found["outage"]["restore"] = {"restored": False}
    inventory = told(_played(tmp_path / "half", spec, found), "Portability inventory")
    assert inventory.count("not put back whole") == inventory.count("Inconclusive") == 3


# ------------------------------------------------------------------------------ what is not known of a cost, or a model


def test_peoples_time_is_not_counted_and_not_called_a_missing_measurement(tmp_path: Path) -> None:
    line = row_of(told(_played(tmp_path, drill(), results()), "Cost before, after and once"), "People’s time")
    assert line.count("not counted") == 2
    assert "not measured" not in line


def test_the_count_and_hash_of_an_unknown_model_are_unknown(tmp_path: Path) -> None:
    found = copy.deepcopy(results())
    found["plan"]["target"] = {"vectors": [{"model": {"name": "unknown"}}]}
    line = row_of(told(_played(tmp_path, drill(), found), "Portability inventory"), "Embedding model")
    assert line.count("| unknown") == 3
    assert "not applicable" not in line


def test_whose_error_it_was_behind_an_application_is_not_said(tmp_path: Path) -> None:
    section = told(through_an_application(tmp_path), "Baseline")
    assert "| Errors of the application | 0 |" in section
    assert "Vendor errors" not in section
    assert "Store errors" not in section


def test_an_embedding_vendor_that_was_cut_off_leaves_no_outage_undone(tmp_path: Path) -> None:
    line = next(
        each for each in told(retrieval_only(tmp_path), "Verdict").splitlines() if "Not done in this run" in each
    )
    assert "outage" not in line
    assert "measure loss" not in line
    assert "restore" in line


def test_the_first_page_says_what_embedding_anew_brought_back_and_what_its_time_contains(tmp_path: Path) -> None:
    state = {"asked": 40, "embedded": 40, "k": 10, "ndcg": {"primary": 0.8240, "substitute": 0.8344}}
    anew = {"reembedded": {**state, "recovered_seconds": 7.34, "own_seconds": 2.1}, "rto_seconds": 7.34}
    gone = {"fault": "sigkill", "how": "live", "before": state, "gone": {**state, "embedded": 0}}
    mapped = retrieval_only(tmp_path / "1", embedding_gone=gone, map_embeddings={"once": {}}, reembed=anew)
    reason = mapped.verdict_reason.replace("\xa0", " ")
    assert "none of 40 golden questions could be embedded" in reason
    assert "nDCG@10 was 0.834 (before: 0.824), 7.34 s after the cut. That time contains" in reason
    unmapped = retrieval_only(tmp_path / "2", embedding_gone=gone, reembed=anew)
    assert "contains" not in unmapped.verdict_reason
    assert "embedded anew" not in retrieval_only(tmp_path / "3").verdict_reason
