"""A set recorded from a vendor and played by the mock: the same, killed in between, and with nothing secret in it."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from exitramp.cli.main import run
from exitramp.evals.runs.folder import read_run
from exitramp.journal import read_journal
from exitramp.ports.cassette import Cassette, CassetteWriter, read_exchanges
from tests.evals.vendors import command, vendor, write_cases

KEY = "sk-proj-Zm9ydHl0d28tbm90LWEtcmVhbC1rZXk0Mg"


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_a_recorded_set_is_played_as_it_was_streams_and_failures_included(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cases, tape = tmp_path / "set.jsonl", tmp_path / "tape.jsonl"
    write_cases(cases, 60)
    schedule = [
        {"kind": "rate_limit", "calls": [3], "options": {"retry_after_seconds": 0.01}},
        {"kind": "auth", "calls": [8]},
        {"kind": "truncate", "calls": [12]},
    ]
    with vendor(tmp_path / "real", schedule=schedule) as real:
        words = ["--address", real.address.text, "--out", str(tape), "--stream", "--concurrency", "1"]
        code = run(["eval", "record", str(cases), *words, "--margin", "0.1", "--keep-answers"])
    assert code == 0, capsys.readouterr().err
    assert sum("error" in each for each in lines(tape)) == 3
    streamed = [each["streamed"]["pieces"] for each in lines(tape) if "answer" in each]
    assert min(map(len, streamed)) > 1
    outs = {}
    for shape in ("openai", "anthropic"):
        with vendor(tmp_path / shape, shape, cassette=str(tape)) as played:
            outs[shape] = str(tmp_path / f"run-{shape}")
            asked = ["--model", played.address.text, "--margin", "0.1", "--concurrency", "1", "--out", outs[shape]]
            assert run(["eval", "run", str(cases), *asked]) == 0
    first = read_run(tmp_path / "tape.jsonl.run").results
    for shape, out in outs.items():
        second = read_run(Path(out)).results
        told = ("outcome", "error_class", "finish_reason", "model_id", "answer_sha256", "prompt_tokens", "gen_tokens")
        for place, result in first.items():
            assert {n: result.data[n] for n in told} == {n: second[place].data[n] for n in told}, (shape, place)
    capsys.readouterr()
    assert run(["eval", "compare", str(tmp_path / "tape.jsonl.run"), outs["openai"], "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["metrics"][0]["difference"], told["flipped"]) == (0, [])


def test_a_recorder_that_is_killed_keeps_what_it_has_and_asks_only_the_rest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cases, tape = tmp_path / "set.jsonl", tmp_path / "tape.jsonl"
    write_cases(cases, 30)
    with vendor(tmp_path / "real", latency_ms_median=60) as real:
        words = ["eval", "record", str(cases), "--address", real.address.text, "--out", str(tape), "--concurrency", "2"]
        process = command(*words)
        ends = time.monotonic() + 30
        while time.monotonic() < ends and (not tape.exists() or tape.read_bytes().count(b"\n") < 5):
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        there = tape.read_bytes().count(b"\n")
        assert 5 <= there < 30
        # The journal of the run may be behind: an answer that is on the cassette alone is not paid for again.
        journal = tape.with_name("tape.jsonl.run") / "cases.jsonl"
        kept = journal.read_bytes().splitlines(keepends=True)
        cut = max(n for n, line in enumerate(kept) if b'"result"' in line)
        journal.write_bytes(b"".join(kept[:cut]))
        hidden = sum(b'"asking"' in line for line in kept[cut:])  # which no crash of the process alone could do
        entries = [entry for entry in read_journal(journal) if entry.kind == "asking"]
        begun = {entry.data["case_id"] for entry in entries} - {place[0] for place in read_run(journal.parent).results}
        with tape.open("ab") as torn:
            torn.write(b'{"cassette": 2, "key": "ab')
        assert run([*words, "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        answered = real.counters()["answered"]
    assert len(lines(tape)) == len(Cassette.read(tape)) == 30
    assert max(Counter(each["asked_by"] for each in lines(tape)).values()) == 1
    assert told["written_now"] == 30 - there
    assert answered <= 30 + 2  # what was on its way when it was killed
    assert told["given_again"] >= 1
    again = len(told["possibly_billed_twice"])
    assert again == len(begun) - told["given_again"], "what is on the tape is asked of nobody"
    assert answered <= 30 + again + hidden
    assert read_run(journal.parent).lost == tuple(map(tuple, told["possibly_billed_twice"]))


def test_nothing_is_recorded_over_or_by_two_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cases, tape = tmp_path / "set.jsonl", tmp_path / "tape.jsonl"
    write_cases(cases, 1)
    tape.write_text("mine\n", "utf-8")
    words = ["eval", "record", str(cases), "--address", "openai:m?base_url=http://127.0.0.1:1/v1", "--out", str(tape)]
    assert run(words) == 2
    assert "is there already" in capsys.readouterr().err
    assert tape.read_text("utf-8") == "mine\n"
    tape.unlink()
    writer = CassetteWriter(tape)
    (tmp_path / "tape.jsonl.run").mkdir()
    assert run(words) == 2
    assert "another process records" in capsys.readouterr().err
    writer.close()


def test_errors_that_are_asked_again_are_void_on_the_cassette(tmp_path: Path) -> None:
    cases, tape = tmp_path / "set.jsonl", tmp_path / "tape.jsonl"
    write_cases(cases, 3)
    with vendor(tmp_path / "real", schedule=[{"kind": "auth", "from_call": 1, "to_call": 3}]) as real:
        words = ["eval", "record", str(cases), "--address", real.address.text, "--out", str(tape)]
        assert run(words) == 5
        assert run([*words, "--retry-errors"]) == 0
    assert len(lines(tape)) == 6
    cassette = Cassette.read(tape)
    assert len(cassette) == 3
    played = [cassette.play(each.key) for each in list(read_exchanges(tape))[:3]]
    assert all(each is not None and each.answer is not None for each in played)


def test_what_is_asked_again_through_a_stack_is_on_the_list_only_if_it_left_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The orchestrator gives vendors another key than it was given."""
    cases, tape, stack = tmp_path / "set.jsonl", tmp_path / "tape.jsonl", tmp_path / "stack.yaml"
    write_cases(cases, 3)
    with vendor(tmp_path / "real") as real:
        stack.write_text(f"version: 1\nmodels:\n  main: {{address: '{real.address.text}'}}\n", "utf-8")
        words = [
            "eval",
            "record",
            str(cases),
            "--stack",
            str(stack),
            "--out",
            str(tape),
            "--concurrency",
            "1",
            "--json",
        ]
        assert run(words) == 0
        journal = tmp_path / "tape.jsonl.run" / "cases.jsonl"
        last = [entry.data["case_id"] for entry in read_journal(journal)][-1]
        for lost, expected in ((False, []), (True, [[last, 1]])):
            journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:-1]))
            if lost:
                tape.write_bytes(b"".join(tape.read_bytes().splitlines(keepends=True)[:-1]))
            capsys.readouterr()
            assert run(words) == 0
            assert json.loads(capsys.readouterr().out)["possibly_billed_twice"] == expected
        assert real.counters()["answered"] == 4


@contextmanager
def echoing() -> Iterator[str]:
    """A vendor that puts the key it was sent into everything that it says."""

    class Echo(BaseHTTPRequestHandler):
        count = 0

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            key = self.headers["authorization"].removeprefix("Bearer ")
            Echo.count += 1
            call = {"id": key, "type": "function", "function": {"name": f"f_{key}", "arguments": f'{{"k": "{key}"}}'}}
            message = {"role": "assistant", "content": f"Your key is {key}.", "tool_calls": [call]}
            body: dict[str, Any] = {"model": f"m-{key}", "choices": [{"message": message, "finish_reason": "stop"}]}
            if Echo.count == 1:
                body = {"error": {"message": f"bad key {key}", "type": key, "code": key}}
            raw = json.dumps(body).encode()
            self.send_response(500 if Echo.count == 1 else 200)
            for name, value in (("content-type", "application/json"), ("content-length", str(len(raw))), ("x-k", key)):
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("secret", [KEY, "plain-words-no-shape"])
def test_no_secret_is_written_not_even_one_that_the_vendor_echoes(
    secret: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RECORDED_KEY", secret)
    cases, tape = tmp_path / "set.jsonl", tmp_path / "tape.jsonl"
    cases.write_text(json.dumps({"id": "q", "question": f"Is {secret} right?", "relevant": {"a": 1}}) + "\n", "utf-8")
    with echoing() as url:
        address = f"openai:m?base_url={url}&key=env:RECORDED_KEY"
        words = ["--address", address, "--out", str(tape), "--keep-requests"]
        assert run(["eval", "record", str(cases), *words]) == 0
    assert "it is masked, and plays masked" in "".join(capsys.readouterr())
    assert [("error" in each, each.get("masked")) for each in lines(tape)] == [(True, None), (False, True)]
    for path in [tape, *(tmp_path / "tape.jsonl.run").iterdir()]:
        assert secret not in path.read_text("utf-8"), path.name
