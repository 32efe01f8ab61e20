"""The user's own application, over HTTP and as a command, and a stack file, as what is questioned."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from exitramp.cli.main import run
from exitramp.errors import ConfigError, ModelError
from exitramp.evals.apps import open_app, read_app
from exitramp.evals.apps.paths import filled, parse_path
from exitramp.evals.runs.folder import read_run
from exitramp.evals.sets.case import parse_case
from tests.evals.vendors import vendor, write_cases

CASE = parse_case(
    {
        "id": "c",
        "question": "Who?",
        "variables": {"n": 3},
        "relevant": {"a": 1},
        "checks": [{"kind": "exact", "text": "x"}],
    }
)


class Application(BaseHTTPRequestHandler):
    """Answers by the query's last word; what it was sent is kept."""

    seen: ClassVar[list[tuple[dict[str, str], Any]]] = []

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.seen.append(({name.lower(): value for name, value in self.headers.items()}, body))
        word = body["query"].split()[-1]
        if word.isdigit():
            self.send_response(int(word))
            self.send_header("retry-after", "500")
            self.end_headers()
            return
        if word == "drip":
            self.send_response(200)
            self.end_headers()
            try:
                for _ in range(100):
                    self.wfile.write(b" ")
                    self.wfile.flush()
                    time.sleep(0.05)
            except OSError:
                return
            return
        data = json.dumps({"answer": {"text": f"said {word}"}, "hits": [{"id": "a"}, {"id": 7}, {"id": "a"}]}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(data) + (5 if word == "half" else 0)))
        self.end_headers()
        self.wfile.write(data if word != "odd" else data.replace(b"text", b"tuxt"))

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Application)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/ask"
    server.shutdown()
    server.server_close()


def http_file(folder: Path, address: str, extra: str = "") -> Path:
    path = folder / "app.yaml"
    path.write_text(
        f"version: 1\napp: http\nname: bot\nurl: {address}\n"
        'request: {query: "{{question}}", n: "{{variables.n}}", deep: [{of: "{{id}}!"}]}\n'
        f"answer: $.answer.text\nsources: $.hits[*].id\n{extra}",
        "utf-8",
    )
    return path


def ask(app: Path, question: str, seconds: float = 5.0) -> Any:
    subject = open_app(read_app(app))
    try:
        case = parse_case({"id": "c", "question": question, "variables": {"n": 3}})
        return subject.ask(case, key="k1", timeout_seconds=seconds)
    finally:
        subject.close()


def test_an_application_is_asked_by_its_template_with_its_key_and_its_ids_are_found(
    tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOT_KEY", "opensesame-1234")
    reply = ask(http_file(tmp_path, address, "key: env:BOT_KEY\n"), "who is it")
    assert (reply.text, reply.retrieved_ids) == ("said it", ("a", "7"))
    headers, body = Application.seen[-1]
    assert body == {"query": "who is it", "n": 3, "deep": [{"of": "c!"}]}
    assert headers["authorization"] == "Bearer opensesame-1234"
    assert headers["idempotency-key"] == "k1"


@pytest.mark.parametrize(
    ("question", "kind"),
    [
        ("x 429", "rate_limit"),
        ("x 503", "overloaded"),
        ("x 500", "server_error"),
        ("x 401", "auth"),
        ("x 404", "invalid_request"),
        ("x half", "truncated"),
        ("x odd", "malformed"),
        ("x drip", "timeout"),
    ],
)
def test_what_an_application_does_wrong_is_told_by_class(
    question: str, kind: str, tmp_path: Path, address: str
) -> None:
    started = time.monotonic()
    with pytest.raises(ModelError) as caught:
        ask(http_file(tmp_path, address), question, seconds=0.5)
    assert caught.value.error_class == kind
    assert time.monotonic() - started < 3


def test_an_application_that_is_gone_is_a_connection_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        ask(http_file(tmp_path, "http://127.0.0.1:9/ask"), "x")
    assert caught.value.error_class == "connection"


def command_file(folder: Path, code: str, extra: str = "") -> Path:
    (folder / "app.py").write_text(code, "utf-8")
    path = folder / "app.yaml"
    path.write_text(f"version: 1\napp: command\nname: tool\ncommand: [{sys.executable}, app.py]\n{extra}", "utf-8")
    return path


def test_a_command_gets_the_case_without_its_labels_and_answers_on_stdout(tmp_path: Path) -> None:
    code = "import sys, json; d = json.load(sys.stdin); print(json.dumps({'a': d['question'], 's': sorted(d)}))"
    app = command_file(tmp_path, code, "input: json\nanswer: $.a\nsources: $.s\n")
    reply = open_app(read_app(app)).ask(CASE, key="k", timeout_seconds=20)
    assert reply.text == "Who?"
    assert reply.retrieved_ids == ("id", "messages", "question", "use_case", "variables")
    assert ask(command_file(tmp_path, "print(input().upper())"), "abc", 20).text == "ABC"


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("import sys; sys.exit(3)", "server_error"),
        ("print('')", "malformed"),
        ("import subprocess, time; subprocess.Popen(['sleep', '30']); time.sleep(30)", "timeout"),
    ],
)
def test_a_command_that_fails_is_told_by_class_and_leaves_nothing_waiting(code: str, kind: str, tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(ModelError) as caught:
        ask(command_file(tmp_path, code), "x", 2.0)
    assert caught.value.error_class == kind
    assert time.monotonic() - started < 10


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("version: 2\napp: http\n", "version"),
        ("version: 1\napp: ftp\n", "app"),
        ("version: 1\napp: http\nname: a\nanswer: $.a\nurl: ftp://x\n", "url"),
        ("version: 1\napp: http\nname: a\nanswer: $.a\nurl: http://me:word@127.0.0.1/\n", "url"),
        ("version: 1\napp: http\nname: a\nanswer: a b\nurl: http://127.0.0.1/\n", "no path"),
        ("version: 1\napp: command\nname: a\ncommand: [x]\nurl: http://127.0.0.1/\n", "unknown key 'url'"),
    ],
)
def test_a_file_that_is_wrong_is_refused_with_its_line(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "app.yaml"
    path.write_text(text, "utf-8")
    with pytest.raises(ConfigError, match=r"app.yaml:\d+: ") as caught:
        read_app(path)
    assert said in caught.value.message
    assert "word" not in caught.value.message


def test_paths_and_templates_do_what_their_page_says() -> None:
    path = parse_path('$.a[1]["b c"][*]')
    assert path is not None
    assert path.find({"a": [0, {"b c": [1, 2]}]}) == [1, 2]
    assert path.find({"a": []}) == []
    assert parse_path("$..a") is None
    assert filled({"a": ["{{ variables.n }}", "n={{variables.n}}", 4]}, CASE) == {"a": [3, "n=3", 4]}


def test_an_application_is_run_and_its_retrieval_measured(
    tmp_path: Path, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"id": "q", "question": "say yes", "relevant": {"a": 3}, "checks": [{"kind": "contains", "text": "yes"}]}]
    (tmp_path / "set.jsonl").write_text(json.dumps(rows[0]), "utf-8")
    words = ["eval", "run", str(tmp_path / "set.jsonl"), "--app", str(http_file(tmp_path, address))]
    assert run([*words, "--out", str(tmp_path / "r"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["means"] == {"ndcg": 1.0, "recall": 1.0, "mrr": 1.0}
    assert read_run(tmp_path / "r").plan["subject"]["name"] == "bot"
    assert run([*words, "--model", "openai:x", "--out", str(tmp_path / "r2")]) == 2
    assert run([*words, "--max-usd", "1", "--out", str(tmp_path / "r3")]) == 2
    assert "does not tell what it costs" in capsys.readouterr().err


def test_a_stack_file_is_asked_and_failed_questions_have_its_traces(tmp_path: Path) -> None:
    write_cases(tmp_path / "set.jsonl", 4)
    with vendor(tmp_path / "a") as good, vendor(tmp_path / "b") as other:
        stack = tmp_path / "stack.yaml"
        stack.write_text(
            f"version: 1\nmodels:\n  one: {{address: '{good.address.text}'}}\n"
            f"  two: {{address: '{other.address.text}'}}\n",
            "utf-8",
        )
        words = ["eval", "run", str(tmp_path / "set.jsonl"), "--stack", str(stack), "--concurrency", "1"]
        assert run([*words, "--out", str(tmp_path / "r")]) == 0
        good.stop()
        assert run([*words, "--out", str(tmp_path / "r2")]) == 0, "the other one answers"
        found = read_run(tmp_path / "r2")
        assert [result.outcome for result in found.results.values()] == ["pass"] * 4
        traces = [json.loads(line) for line in (tmp_path / "r2" / "traces.jsonl").read_text("utf-8").splitlines()]
        assert len(traces) > 4
        other.stop()
        assert run([*words, "--out", str(tmp_path / "r3")]) == 5
    assert read_run(tmp_path / "r3").manifest["totals"]["outcomes"] == {"provider_error": 4}
