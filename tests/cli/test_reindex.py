"""`exitramp reindex`: nothing is paid twice, nothing is lost, and what stands in the way is said before it costs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from exitramp.arrow import dense_matrix, record_keys
from exitramp.cli.search import score_meaning
from exitramp.errors import CollectionMissing
from exitramp.parity.alignment import read_all
from exitramp.records import DType, EmbeddingModel, Metric, VectorField, VectorKind
from exitramp.wrappers import open_endpoint
from tests.cli.conftest import Cli
from tests.reindex.documents import OLD, SPEC, fill, texts_for
from tests.reindex.embedding_server import DIMENSIONS, Server, vector_of

SERVER = Path(__file__).parents[1] / "reindex" / "embedding_server.py"


@pytest.fixture(name="server")
def _server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("TEST_EMBED_KEY", "nothing-secret")
    server = Server(tmp_path)
    yield server
    server.close()


def read(address: str, column: str = "vector") -> dict[str, tuple[str | None, str | None, list[float] | None]]:
    """Document, payload and vector by id."""
    found = {}
    with open_endpoint(address) as endpoint:
        for batch in read_all(endpoint.source(), batch_rows=500):
            vectors, valid = dense_matrix(batch.column(column)), batch.column(column).is_valid().to_pylist()
            rows = zip(record_keys(batch), batch["document"].to_pylist(), batch["payload"].to_pylist(), strict=True)
            for row, (key, document, payload) in enumerate(rows):
                found[key.id] = document, payload, [float(x) for x in vectors[row]] if valid[row] else None
    return found


def billed_texts(server: Server) -> Counter[str]:
    return Counter(text for line in server.billed() for text in line["texts"])


def test_ids_documents_and_payloads_stay_and_each_vector_is_the_models_own(cli: Cli, name: str, server: Server) -> None:
    texts = texts_for(300)
    source, target = fill(f"memory:{name}#docs", texts), f"memory:{name}#new"
    told = cli("reindex", source, target, "--model", server.address(batch=64), "--json", code=0).json
    before, after = read(source), read(target)
    assert {key: value[:2] for key, value in after.items()} == {key: value[:2] for key, value in before.items()}
    for document, _, vector in after.values():
        assert vector == vector_of(str(document))
    assert told["estimate"]["requests"] == 5 == told["spent"]["requests"] == len(server.billed())
    assert told["spent"]["tokens"] == sum(line["tokens"] for line in server.billed())
    assert told["spent"]["tokens_by"] == "provider"
    with open_endpoint(target) as endpoint:
        (field,) = endpoint.source().describe().vectors
    assert (field.model.name, field.dimensions) == ("test-embed", DIMENSIONS)


def test_a_plan_sends_nothing_and_says_what_it_would_take(cli: Cli, name: str, server: Server, tmp_path: Path) -> None:
    source = fill(f"memory:{name}#docs", [*texts_for(100), *texts_for(20)])
    told = cli("reindex", source, f"memory:{name}#new", "--model", server.address(batch=32), "--dry-run", "--json").json
    assert (told["estimate"]["texts_to_embed"], told["estimate"]["texts_repeated"]) == (100, 20)
    assert told["estimate"]["requests"] == 4
    assert told["estimate"]["usd"] is None
    assert server.calls == 0
    assert not list((tmp_path / ".exitramp").glob("*"))


def test_a_text_that_stands_in_several_records_is_embedded_once(cli: Cli, name: str, server: Server) -> None:
    source, target = fill(f"memory:{name}#docs", ["same"] * 50 + ["other"]), f"memory:{name}#new"
    cli("reindex", source, target, "--model", server.address(), code=0)
    assert set(billed_texts(server).values()) == {1}
    assert len(billed_texts(server)) == 2
    assert all(vector == vector_of(str(document)) for document, _, vector in read(target).values())


def test_missing_documents_stop_it_before_anything_is_sent_and_are_left_out_when_told_so(
    cli: Cli, name: str, server: Server
) -> None:
    source, target = fill(f"memory:{name}#docs", [*texts_for(30), None, "  "]), f"memory:{name}#new"
    ended = cli("reindex", source, target, "--model", server.address(), code=2)
    assert "2 records have no document" in ended.err
    assert "d00030" in ended.err
    assert server.calls == 0
    told = cli("reindex", source, target, "--model", server.address(), "--skip-missing", "--json", code=0).json
    assert told["documents_missing"] == {"count": 2, "ids": ["d00030", "d00031"]}
    assert told["records_left_out"] == 2
    assert len(read(target)) == 30


def test_texts_may_stand_in_the_payload(cli: Cli, name: str, server: Server) -> None:
    source, target = fill(f"memory:{name}#docs", [None] * 20, keyed="body"), f"memory:{name}#new"
    ended = cli("reindex", source, target, "--model", server.address(), code=2)
    assert "--document-key" in ended.err
    cli("reindex", source, target, "--model", server.address(), "--document-key", "body", code=0)
    assert read(target)["d00003"][2] == vector_of("body 3")
    told = cli("reindex", source, target, "--model", server.address(), "--document-key", "body", "--json", code=0).json
    assert told["estimate"]["texts_unchanged"] == 20


def test_two_models_stand_side_by_side_where_the_target_has_named_vectors(cli: Cli, name: str, server: Server) -> None:
    source, target = fill(f"memory:{name}#docs", [*texts_for(40), None]), f"memory:{name}#new"
    cli("reindex", source, target, "--model", server.address(), "--field", "fresh", "--skip-missing", code=0)
    before, old, new = read(source), read(target), read(target, "vector:fresh")
    assert old == before
    assert new["d00003"][2] == vector_of(texts_for(4)[3])
    assert new["d00040"][2] is None
    with open_endpoint(target) as endpoint:
        models = [each.model.name for each in endpoint.source().describe().vectors]
    assert models == ["old-8", "test-embed"]


def test_a_store_without_room_for_two_fields_says_so_before_anything_is_sent(
    cli: Cli, name: str, server: Server
) -> None:
    source = fill(f"memory:{name}#docs", texts_for(5))
    ended = cli("reindex", source, "faiss:./x.faiss#new", "--model", server.address(), "--field", "fresh", code=2)
    assert "cannot search by the field" in ended.err
    assert server.calls == 0


def test_what_a_store_does_to_the_lengths_of_vectors_is_agreed_to_before_any_is_made(cli: Cli, name: str) -> None:
    source, target = fill(f"memory:{name}#docs", texts_for(20)), "qdrant:./q#new"
    command = ("reindex", source, target, "--model", "wordllama:?normalise=false")
    ended = cli(*command, code=2)
    assert "magnitude" in ended.err
    assert "to embed" not in ended.err  # the estimate, which is said before the first text is sent
    cli(*command, "--accept-loss", "vector", code=0)
    assert len(read(target)) == 20


def test_unchanged_documents_are_not_embedded_again_and_changed_ones_are(cli: Cli, name: str, server: Server) -> None:
    texts = texts_for(200)
    source, target = fill(f"memory:{name}#docs", texts), f"memory:{name}#new"
    cli("reindex", source, target, "--model", server.address(), code=0)
    paid = len(billed_texts(server))
    texts[7], texts[150] = "changed", "changed too"
    fill(source, texts)
    told = cli("reindex", source, target, "--model", server.address(), "--json", code=0).json
    assert told["estimate"]["texts_to_embed"] == 2
    assert told["estimate"]["texts_unchanged"] == 198
    assert told["sync"]["upserted"] == 2
    again = billed_texts(server)
    # The vendor tells no weights: eight texts are embedded again to see that it is the same model still.
    assert sum(again.values()) == paid + 2 + 8
    assert read(target)["d00007"][2] == vector_of("changed")
    said = cli("reindex", source, target, "--model", server.address(), code=0).out
    assert "checked   8 texts of the target embedded again" in said


def test_a_target_of_another_model_is_refused_with_both_fingerprints(cli: Cli, name: str, server: Server) -> None:
    source, target = fill(f"memory:{name}#docs", texts_for(5)), fill(f"memory:{name}#new", texts_for(5))
    ended = cli("reindex", source, target, "--model", server.address(), code=2)
    assert "old/old-8" in ended.err
    assert "openai/test-embed" in ended.err
    assert server.calls == 0


def test_a_model_that_was_exchanged_behind_its_name_is_found_by_its_vectors(
    cli: Cli, name: str, server: Server
) -> None:
    field = VectorField(
        "", VectorKind.DENSE, DType.FLOAT32, Metric.COSINE, DIMENSIONS,
        EmbeddingModel(provider="openai", name="test-embed", query_prefix="", passage_prefix=""),
    )  # fmt: skip
    spec = type(SPEC)("docs", SPEC.id_kind, (field,), has_documents=True)
    source, target = fill(f"memory:{name}#docs", texts_for(20)), fill(f"memory:{name}#new", texts_for(20), spec)
    ended = cli("reindex", source, target, "--model", server.address(), code=2)
    assert "least cosine" in ended.err


def test_failures_are_tried_again_under_one_key_and_a_retried_batch_is_billed_once(
    cli: Cli, name: str, server: Server
) -> None:
    server.fail = [429, None, 503, 500, None]
    source = fill(f"memory:{name}#docs", texts_for(64))
    address = server.address(batch=32)
    told = cli("reindex", source, f"memory:{name}#new", "--model", address, "--json", code=0).json
    assert told["spent"]["retries"] == 3
    assert set(billed_texts(server).values()) == {1}


def test_a_vendor_that_fails_for_good_leaves_what_was_paid_and_the_next_run_goes_on(
    cli: Cli, name: str, server: Server
) -> None:
    server.fail = [None, 401]
    source, target = fill(f"memory:{name}#docs", texts_for(96)), f"memory:{name}#new"
    command = ("reindex", source, target, "--model", server.address(batch=32))
    cli(*command, code=5)
    assert len(billed_texts(server)) == 32
    told = cli(*command, "--json", code=0).json
    assert set(billed_texts(server).values()) == {1}
    assert told["spent"]["texts_embedded"] == 96
    assert told["spent"]["batches_sent_again"] == 1


def test_one_text_that_the_model_refuses_is_named_and_costs_the_others_nothing(
    cli: Cli, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_EMBED_KEY", "nothing-secret")
    server = Server(tmp_path, refuse="number 13 ")
    source, target = fill(f"memory:{name}#docs", texts_for(40)), f"memory:{name}#new"
    ended = cli("reindex", source, target, "--model", server.address(), code=2)
    assert "d00013" in ended.err
    assert "context_length" in ended.err
    told = cli("reindex", source, target, "--model", server.address(), "--skip-missing", "--json", code=0).json
    assert told["texts_refused"]["ids"] == ["d00013"]
    assert len(read(target)) == 39
    assert set(billed_texts(server).values()) == {1}
    server.close()


PRICES = """
version: 1
name: book
currency: USD
prices:
  - {id: row, provider: openai, model: test-embed, unit: usd_per_million_input_tokens, amount: "10",
     source: "a test", retrieved: 2026-01-01, valid_from: 2020-01-01, illustrative: true}
"""


def test_money_is_told_before_and_after_and_a_limit_holds(cli: Cli, name: str, server: Server, tmp_path: Path) -> None:
    (tmp_path / "book.yaml").write_text(PRICES)
    source, target = fill(f"memory:{name}#docs", texts_for(100)), f"memory:{name}#new"
    command = ("reindex", source, target, "--model", server.address(batch=10), "--json", "--prices", "book.yaml")
    plan = cli(*command, "--dry-run", code=0).json["estimate"]
    assert float(plan["usd"]) == plan["tokens"] / 1e5
    cli(*command, "--max-usd", "0.0001", code=5)
    assert server.calls == 0
    told = cli(*command, "--max-usd", "1", code=0).json["spent"]
    assert float(told["usd"]) == sum(line["tokens"] for line in server.billed()) / 1e5


def test_a_limit_of_money_without_a_price_is_refused(cli: Cli, name: str, server: Server) -> None:
    source = fill(f"memory:{name}#docs", texts_for(3))
    ended = cli("reindex", source, f"memory:{name}#n", "--model", server.address(), "--max-usd", "1", code=2)
    assert "no price" in ended.err


def test_minutes_end_a_run_and_what_it_paid_for_is_kept(cli: Cli, name: str, server: Server) -> None:
    source, target = fill(f"memory:{name}#docs", texts_for(30)), f"memory:{name}#new"
    command = ("reindex", source, target, "--model", server.address(batch=10))
    ended = cli(*command, "--max-minutes", "0", code=5)
    assert "--max-minutes" in ended.err
    cli(*command, code=0)
    assert set(billed_texts(server).values()) == {1}


def test_batches_are_on_their_way_together_and_no_more_than_asked(
    cli: Cli, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_EMBED_KEY", "nothing-secret")
    server = Server(tmp_path, delay_seconds=0.05)
    source = fill(f"memory:{name}#docs", texts_for(120))
    cli("reindex", source, f"memory:{name}#new", "--model", server.address(batch=10), "--parallel", 3, code=0)
    assert server.most_at_once == 3
    assert set(billed_texts(server).values()) == {1}
    server.close()


@pytest.mark.parametrize("kills", [(1, 4, 6), (2, 2, 9)])
def test_a_run_killed_anywhere_goes_on_and_the_vendor_bills_nothing_twice(
    tmp_path: Path, kills: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    texts = texts_for(240)
    source, target = fill("dump:./src", texts), "dump:./new"
    process = subprocess.Popen([sys.executable, SERVER, tmp_path, "0.05"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        server = Server(tmp_path)  # for its account, which is a file, and the form of its address
        server.close()
        server.port = port
        command = [sys.executable, "-m", "exitramp", "reindex", source, target, "--model", server.address(batch=20)]
        environment = {**os.environ, "TEST_EMBED_KEY": "nothing-secret"}
        for batches in kills:
            run = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)
            wanted, deadline = len(server.billed()) + batches, time.monotonic() + 30
            while run.poll() is None and len(server.billed()) < min(wanted, 12) and time.monotonic() < deadline:
                time.sleep(0.002)
            run.send_signal(signal.SIGKILL)
            run.wait()
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert billed_texts(server) == Counter(dict.fromkeys(billed_texts(server), 1))
        assert len(billed_texts(server)) == 240
        assert all(vector == vector_of(str(document)) for document, _, vector in read(target).values())
        assert len(read(target)) == 240
        assert not list((tmp_path / ".exitramp").glob("reindex-*"))
    finally:
        process.kill()
        process.wait()


def test_another_model_does_not_take_up_what_one_has_begun(cli: Cli, name: str, server: Server) -> None:
    server.fail = [None, 401]
    source, target = fill(f"memory:{name}#docs", texts_for(20)), f"memory:{name}#new"
    cli("reindex", source, target, "--model", server.address(batch=10), "--state", "here", code=5)
    ended = cli("reindex", source, target, "--model", server.address(batch=10, passage_prefix="x"), "--state", "here")
    assert ended.code == 2
    assert "belongs to another re-embedding" in ended.err


def test_a_search_asks_by_text_and_refuses_another_model(cli: Cli, name: str, server: Server) -> None:
    source, target = fill(f"memory:{name}#docs", texts_for(20)), f"memory:{name}#new"
    cli("reindex", source, target, "--model", server.address(), code=0)
    found = cli("search", target, "--query", texts_for(6)[5], "--model", server.address(), "-k", 3, "--json", code=0)
    assert found.json["hits"][0]["id"] == "d00005"
    assert found.json["findings"][0]["code"] == "model.unshown"
    ended = cli("search", source, "--query", "x", "--model", server.address(), code=2)
    assert "old/old-8" in ended.err
    assert OLD.model.name in ended.err
    assert np.array(vector_of("x")).shape == (DIMENSIONS,)


def test_a_mapping_that_loses_too_much_writes_nothing_but_by_consent_and_is_known_as_what_it_is(
    cli: Cli, name: str, server: Server
) -> None:
    source, target = fill(f"memory:{name}#docs", texts_for(400)), f"memory:{name}#new"
    command = ("reindex", source, target, "--model", server.address(), "--map", "--sample", "200")
    told = cli(*command, "--json", code=1).json
    assert told["recommended"] == {"documents": False, "questions": False}
    assert told["moved"] is False
    assert told["spent"]["texts_embedded"] == 300
    paid = len(server.billed())
    told = cli(*command, "--accept-loss", "mapping", "--json", code=1).json
    assert told["moved"] is True
    assert len(server.billed()) == paid
    assert len(read(target)) == 400
    assert "mapped/old-8 → test-embed" in cli("search", target, "--query", "x", "--model", server.address(), code=2).err
    through = ("--model", server.address(), "--through", "map.npz", "-k", "3", "--json")
    for place, way in ((source, "questions"), (target, "documents")):
        found = cli("search", place, "--query", "x", *through, code=0).json
        assert len(found["hits"]) == 3
        (unrecommended,) = [each["message"] for each in found["findings"] if each["code"] == "map.unrecommended"]
        assert f"map.npz was not recommended for {way}" in unrecommended


def test_a_mapping_is_judged_by_a_set_of_eval_run_which_says_what_of_it_does_not_count(
    cli: Cli, name: str, server: Server, tmp_path: Path
) -> None:
    source = fill(f"memory:{name}#docs", texts_for(400))
    row = {"question": "Which one?", "checks": [{"kind": "contains", "text": "a"}], "relevant": {"d00003": 3}}
    rows = [row | {"id": f"same-{n}", "use_case": f"u{n}"} for n in range(100)]
    rows += [row | {"id": "gone", "question": "?", "relevant": {"nowhere": 3}}]
    rows += [{"id": "bare", "question": "Who?", "checks": [{"kind": "contains", "text": "a"}]}]
    path = tmp_path / "set.jsonl"
    path.write_text("".join(f"{json.dumps(each)}\n" for each in rows), "utf-8")
    command = ("reindex", source, "--model", server.address(), "--map", "--sample", 200, "--golden", path, "--json")
    told = cli(*command, code=3).json
    judged = [each for each in told["judgements"] if each["by"] == "golden questions"]
    assert [(each["questions"], each["ndcg_at_10"]["n"]) for each in judged] == [(1, 1), (1, 1)]
    assert told["recommended"] == {"documents": False, "questions": False}
    counts = {each["code"]: each["count"] for each in told["findings"]}
    assert counts == {"golden.unlabelled": 1, "golden.absent": 1, "golden.doubles": 99}
    paid = len(server.billed())
    path.write_text(json.dumps(rows[-1]), "utf-8")
    assert "none of its 1 cases says what is to be found" in cli(*command, code=2).err
    path.write_text(json.dumps(rows[-2]), "utf-8")
    assert "leave --golden away" in cli(*command, code=2).err
    assert len(server.billed()) == paid


def test_a_vendor_that_answers_zeros_is_named_and_nothing_is_written_or_searched_by_them(
    cli: Cli, name: str, server: Server
) -> None:
    source = fill(f"memory:{name}#docs", texts_for(20))
    server.zeros = texts_for(6)[5]
    command = ("--model", server.address(), "--model-retries", 0)
    said = cli("reindex", source, f"memory:{name}#new", *command, code=5).err
    assert "openai: test-embed sent a vector of zeros and nothing else for 1 of 20 texts" in said
    with pytest.raises(CollectionMissing):
        read(f"memory:{name}#new")
    server.zeros = None
    cli("reindex", fill(f"memory:{name}#few", texts_for(3)), f"memory:{name}#made", *command, code=0)
    server.zeros = "where"
    said = cli("search", f"memory:{name}#made", "--query", "where?", "--model", server.address(), code=5).err
    assert "openai: test-embed sent a vector of zeros and nothing else for 1 of 1 texts" in said


def test_an_ending_without_a_copy_names_the_map_that_was_kept_and_why_the_sample_was_smaller(
    cli: Cli, name: str, server: Server
) -> None:
    source = fill(f"memory:{name}#docs", texts_for(150))
    command = ("reindex", source, f"memory:{name}#new", "--model", server.address(), "--map", "--sample", 140)
    said = cli(*command, code=3).out
    assert "the mapping alone is kept, in map.npz" in said
    assert "fitted on 100 texts and not the 140 of --sample: there are 150 different ones with a vector, and 50" in said


@pytest.mark.parametrize(
    ("scores", "meaning"),
    [
        ((0.1, 0.2), "distance, smaller is nearer"),
        ((0.9, 0.9, 0.2), "similarity, larger is nearer"),
        ((-0.9, -0.2), "distance, smaller is nearer"),
        ((0.5,), None),
        ((float("nan"), 0.5), None),
    ],
)
def test_which_way_scores_go_is_read_off_their_order(scores: tuple[float, ...], meaning: str | None) -> None:
    assert score_meaning(scores) == meaning


def test_a_search_says_which_way_its_scores_go_also_for_one_hit(cli: Cli, name: str, tmp_path: Path) -> None:
    source = fill(f"memory:{name}#docs", texts_for(20))
    for store, nearer in (("chroma", "smaller"), ("qdrant", "larger")):
        target = f"{store}:{tmp_path / store}#docs"
        cli("reindex", source, target, "--model", "wordllama:", code=0)
        asked = ("search", target, "--query", texts_for(6)[5], "--model", "wordllama:", "-k", 1)
        assert cli(*asked, "--json", code=0).json["nearer_is"] == nearer
        assert f"{nearer} is nearer)" in cli(*asked, code=0).out
