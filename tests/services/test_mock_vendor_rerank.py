"""The mock's rerank shape: its rule as documented, its strictness, its faults, and its account."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from exitramp.errors import ModelError, UsageError
from exitramp.faults import Fault
from exitramp.registry import open_reranker
from exitramp_adapters.services.mock_vendor.adapter import ANTHROPIC, OPENAI, MockVendor
from exitramp_adapters.services.mock_vendor.reranking import scores_of

QUERY = "join a path"
DOCUMENTS = ("The weather of the sea.", "Join two parts of a path.", "A path through the wood.")


@pytest.fixture(name="vendor", scope="module")
def _vendor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MockVendor]:
    vendor = OPENAI.make(str(tmp_path_factory.mktemp("rerank")), 3, {})
    assert isinstance(vendor, MockVendor)
    vendor.start()
    yield vendor
    vendor.stop()


def post(vendor: MockVendor, body: Any, path: str = "/v1/rerank", key: str = "any") -> httpx.Response:
    base = vendor.address.options["base_url"].removesuffix("/v1")
    headers = {"authorization": f"Bearer {key}"} if key else {}
    return httpx.post(base + path, json=body, headers=headers, trust_env=False, timeout=10)


def body(**changes: Any) -> dict[str, Any]:
    return {"model": "mock-rerank", "query": QUERY, "documents": list(DOCUMENTS)} | changes


def test_the_score_is_the_share_of_the_querys_weight_shortened_by_length() -> None:
    """Worked out by hand: of three documents one holds `join`, two hold `path`; `a` is a stop word."""
    join, path = math.log(1 + 3 / 1), math.log(1 + 3 / 2)
    terms = (("weather", "sea"), ("join", "two", "part", "path"), ("path", "through", "wood"))
    expected = [0.0, 1.0 / (1 + len(terms[1]) / 60), path / (join + path) / (1 + len(terms[2]) / 60)]
    assert scores_of(QUERY, DOCUMENTS) == pytest.approx(expected)
    assert scores_of("of the a", DOCUMENTS) == [0.0, 0.0, 0.0]


def test_the_first_version_sorts_counts_and_gives_back(vendor: MockVendor) -> None:
    answer = post(vendor, body(documents=[{"text": text} for text in DOCUMENTS], return_documents=True, top_n=2))
    assert answer.headers["x-exitramp-mock"] == "1"
    said = answer.json()
    assert [row["index"] for row in said["results"]] == [1, 2]
    assert [row["document"]["text"] for row in said["results"]] == [DOCUMENTS[1], DOCUMENTS[2]]
    assert said["model"] == "mock-rerank"
    # Words and marks: 6 + 7 + 6 of the documents, 3 of the query for each.
    assert said["usage"] == {"prompt_tokens": 28, "total_tokens": 28}
    assert post(vendor, body(), "/rerank").json()["results"] == post(vendor, body()).json()["results"]


def test_the_second_version_bills_by_searches_and_cuts_documents(vendor: MockVendor) -> None:
    said = post(vendor, body(), "/v2/rerank").json()
    assert set(said) == {"id", "results", "meta"}
    assert said["meta"]["billed_units"] == {"search_units": 1}
    cut = post(vendor, body(max_tokens_per_doc=2), "/v2/rerank").json()
    assert [row["index"] for row in cut["results"]] == [2, 1, 0], "each holds one of the two terms, and one is shorter"
    assert cut["results"][0]["relevance_score"] < said["results"][0]["relevance_score"]


@pytest.mark.parametrize(
    ("wrong", "path", "field"),
    [
        ({"query": " "}, "/v1/rerank", "query"),
        ({"documents": []}, "/v1/rerank", "documents"),
        ({"documents": ["fine", ""]}, "/v1/rerank", "documents"),
        ({"documents": ["fine", 3]}, "/v1/rerank", "documents"),
        ({"documents": [{"title": "x"}]}, "/v1/rerank", "documents"),
        ({"documents": [{"text": "x"}]}, "/v2/rerank", "documents"),
        ({"documents": ["x"] * 1001}, "/v2/rerank", "documents"),
        ({"top_n": 0}, "/v1/rerank", "top_n"),
        ({"top_n": True}, "/v1/rerank", "top_n"),
        ({"return_documents": True}, "/v2/rerank", "return_documents"),
        ({"rank_fields": ["a"]}, "/v1/rerank", "rank_fields"),
        ({"documentz": []}, "/v1/rerank", "documentz"),
    ],
)
def test_what_the_contract_does_not_allow_is_refused_by_name(
    vendor: MockVendor, wrong: dict[str, Any], path: str, field: str
) -> None:
    answer = post(vendor, body(**wrong), path)
    assert answer.status_code == 400
    if path == "/v2/rerank":
        assert set(answer.json()) == {"id", "message"}
        assert f"'{field}" in answer.json()["message"]
    else:
        assert answer.json()["error"]["param"] == field


@pytest.mark.parametrize(("kind", "status"), [("quota", 402), ("rate_limit", 429), ("overloaded", 503), ("auth", 401)])
def test_the_second_version_fails_as_its_vendor_says_it_does(vendor: MockVendor, kind: str, status: int) -> None:
    vendor.inject(Fault(kind))
    try:
        answer = post(vendor, body(), "/v2/rerank")
    finally:
        vendor.inject(Fault("none"))
    assert (answer.status_code, set(answer.json())) == (status, {"id", "message"})


def test_another_model_and_no_key_are_refused_and_it_stands_in_the_list(vendor: MockVendor) -> None:
    assert post(vendor, body(model="mock-large")).status_code == 404
    assert post(vendor, body(), key="").status_code == 401
    listed = httpx.get(
        vendor.address.options["base_url"] + "/models", headers={"authorization": "Bearer x"}, trust_env=False
    ).json()
    assert "mock-rerank" in {row["id"] for row in listed["data"]}


@pytest.mark.parametrize(
    ("fault", "error_class"),
    [
        (Fault("rate_limit", {"retry_after_seconds": 2}), "rate_limit"),
        (Fault("quota"), "quota_exhausted"),
        (Fault("overloaded"), "overloaded"),
        (Fault("auth"), "auth"),
        (Fault("model_gone"), "model_gone"),
        (Fault("hang"), "timeout"),
        (Fault("reset"), "connection"),
        (Fault("truncate"), "malformed"),
        (Fault("truncate", {"after_bytes": 20}), "truncated"),
        (Fault("malformed"), "malformed"),
        (Fault("slow_stream", {"delay_seconds": 1.0}), "timeout"),
        (Fault("refuse"), "connection"),
    ],
    ids=lambda each: each.kind if isinstance(each, Fault) else "",
)
def test_it_fails_as_its_other_endpoints_do_and_never_gives_half_the_scores(
    vendor: MockVendor, fault: Fault, error_class: str
) -> None:
    reranker = open_reranker(vendor.rerank_address)
    vendor.inject(fault)
    try:
        with pytest.raises(ModelError) as caught:
            reranker.rerank(QUERY, DOCUMENTS, timeout_seconds=0.5)
        assert caught.value.error_class in (error_class, "truncated" if error_class == "connection" else error_class)
        if fault.options.get("retry_after_seconds"):
            assert caught.value.retry_after_seconds == 2
    finally:
        vendor.inject(Fault("none"))
        reranker.close()


def test_another_model_behind_the_same_name_turns_the_order_round(vendor: MockVendor) -> None:
    reranker = open_reranker(vendor.rerank_address)
    before = reranker.rerank(QUERY, DOCUMENTS)
    vendor.inject(Fault("quality_drift"))
    after = reranker.rerank(QUERY, DOCUMENTS)
    vendor.inject(Fault("none"))
    reranker.close()
    assert before.model_id == after.model_id
    assert after.scores == pytest.approx([1 - score for score in before.scores])


def test_each_request_has_its_line_in_the_account(vendor: MockVendor) -> None:
    number = len(list(vendor.account()))
    reranker = open_reranker(vendor.rerank_address)
    given = reranker.rerank(QUERY, DOCUMENTS, idempotency_key="k")
    vendor.inject(Fault("error_500"))
    with pytest.raises(ModelError):
        reranker.rerank(QUERY, DOCUMENTS, idempotency_key="k")
    vendor.inject(Fault("none"))
    reranker.close()
    first, second = list(vendor.account())[number:]
    assert (first["operation"], first["outcome"], first["prompt_tokens"]) == ("rerank", "answered", 28)
    assert given.usage.prompt_tokens == 28
    assert second["outcome"] == "failed"
    assert first["request_sha256"] == second["request_sha256"] is not None
    assert QUERY not in str(first)


def test_the_messages_shape_does_not_rerank(tmp_path_factory: pytest.TempPathFactory) -> None:
    vendor = ANTHROPIC.make(str(tmp_path_factory.mktemp("messages")), 3, {})
    assert isinstance(vendor, MockVendor)
    vendor.start()
    try:
        assert post(vendor, body()).status_code == 404
        with pytest.raises(UsageError, match="does not rerank"):
            _ = vendor.rerank_address
    finally:
        vendor.stop()
