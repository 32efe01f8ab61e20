"""Two hundred planted secrets, wherever a user or a vendor may put one, appear in nothing that exitramp writes or says.

Shards are exempt: they are the user's data. That hashes, ids and ordinary words are left alone is tested in
`test_secrets_masking.py`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

import pytest

from exitramp.cli.main import run
from exitramp.errors import ModelError
from exitramp.ports import ChatMessage, ChatRequest
from exitramp.records import CollectionSpec, DType, IdKind, Metric, VectorField, VectorKind
from exitramp.registry import model_adapter
from exitramp.secrets import MASK
from exitramp.testing import batch_from_rows
from exitramp.testing.memory_records import MemoryCollection, collections_of, records_of
from exitramp.testing.rows import Row
from exitramp.urls import Address, Network
from tests.house.planted import assert_none_shown, planted, planted_values

SECRETS = planted(200, seed=20)
VALUES = planted_values(50, seed=21)


@pytest.fixture(autouse=True)
def nothing_was_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one test fetches must not hide what another leaks."""
    monkeypatch.setattr("exitramp.secrets._fetched", set())


def test_no_command_repeats_a_secret_that_stands_in_its_arguments(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for number, secret in enumerate(SECRETS):
        text, word = quote(secret.text, safe=":/@"), secret.core
        commands = (
            ["inspect", f"qdrant+http://127.0.0.1:1?api_key={text}#articles"],
            ["inspect", f"qdrant+http://operator:{word}@127.0.0.1:1#articles"],
            ["plan", f"chroma:./db?token={text}#a", "memory:x#y"],
            ["copy", f"no-such-store://{word}@host/path?password={text}", "memory:x#y", "--json"],
            ["inspect", secret.text],
            ["drill", "show", f"https://operator:{word}@host/drill.yaml"],
            ["compare", "memory:a#b", "memory:c#d", "--where", json.dumps({"password": secret.text})],
            ["verify", f"./{text}"],
            ["inspect", "memory:a#b", "--proxy", f"http://operator:{word}@127.0.0.1:1"],
            ["inspect", "memory:a#b", f"--token={word}"],
            ["drill", "init", "--primary", f"memory:a?secret={text}#b", "--substitute", "memory:x"],
        )
        # Every secret meets three of them, and every command dozens of secrets of each shape.
        for at in range(3):
            run(commands[(number + number // 20 + at * 4) % len(commands)])
        shown = capfd.readouterr()
        assert shown.err, "nothing was said, so nothing was tested"
        assert_none_shown([secret], shown.out, shown.err)


def test_a_fault_of_ours_is_shown_without_the_secrets_in_it() -> None:
    code = (
        "from exitramp.cli import main\ndef broken(**_): raise RuntimeError({!r})\nmain.cli.main = broken\nmain.main()"
    )
    text = "\n".join(secret.text for secret in SECRETS if "unescaped" not in secret.shape)
    done = subprocess.run(
        [sys.executable, "-c", code.format(text)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 70, "1 would be a verdict"
    assert "RuntimeError" in done.stderr
    assert_none_shown(SECRETS, done.stderr.partition("RuntimeError: ")[2], done.stdout)


class Repeating(ThreadingHTTPServer):
    """A vendor that answers every request with what it was told to say, and remembers which keys it was shown."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Repeat)
        self.says: Callable[[], tuple[int, str]] = lambda: (200, "{}")
        self.keys: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Repeat(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet: two small ones wait 40 ms for each other
    server: Repeating

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.do_GET()

    def do_GET(self) -> None:
        self.server.keys += [
            self.headers[name] for name in ("authorization", "x-api-key", "api-key") if self.headers[name]
        ]
        status, text = self.server.says()
        body = text.encode("utf-8")
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing is logged."""


@contextmanager
def repeating() -> Iterator[Repeating]:
    with Repeating() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("scheme", ["openai", "anthropic"])
def test_no_error_of_a_chat_vendor_repeats_a_secret(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    request = ChatRequest((ChatMessage("user", "A question of some length, to be answered."),))
    adapter = model_adapter(scheme)
    assert adapter.open_chat is not None
    monkeypatch.setenv("PLANTED_KEY", VALUES[0].text)
    with repeating() as vendor:
        model = adapter.open_chat(Address.parse(f"{scheme}:m?base_url={vendor.url}/v1&key=env:PLANTED_KEY"), Network())
        try:
            for number, secret in enumerate(SECRETS):
                said = f"{'Sorry. ' * (number % 40)}Incorrect key {secret.text} or {VALUES[0].text}"
                body = json.dumps({"error": {"type": secret.text, "code": secret.text, "message": said}})
                answer = (401, 500, 400, 429, 404)[number % 5], body if number % 3 else said
                vendor.says = lambda answer=answer: answer
                with pytest.raises(ModelError) as caught:
                    model.answer(request, timeout_seconds=10.0)
                assert_none_shown([secret, VALUES[0]], str(caught.value), repr(caught.value))
            assert any(VALUES[0].text in key for key in vendor.keys), "the key did not reach the vendor"
        finally:
            model.close()


@pytest.mark.parametrize("scheme", ["qdrant+http", "chroma+http"])
def test_no_error_of_a_store_repeats_a_secret(
    scheme: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    fetched = VALUES[:1] if scheme == "qdrant+http" else []  # the other takes no key
    address = {
        "qdrant+http": "qdrant+http:{}?api_key=env:PLANTED_KEY#articles",
        "chroma+http": "chroma+http:{}#articles",
    }
    monkeypatch.setenv("PLANTED_KEY", VALUES[0].text)
    with repeating() as store:
        for number, secret in enumerate(SECRETS[: 80 if fetched else 32]):
            # What is repeated is cut after some 200 characters: a key that is cut in the middle is still a key.
            said = f"{'Sorry. ' * (0, 24, 25, 26)[number // 16 % 4]}refused: {VALUES[0].text} {secret.text}"
            bodies = (
                json.dumps({"status": {"error": said}}),
                json.dumps({"error": "InternalError", "message": said}),
                json.dumps({"detail": said}),
                said,
            )
            store.says = lambda number=number, body=bodies[number % 4]: ((401, 500, 400, 422)[number // 4 % 4], body)
            place = address[scheme].format(store.url.removeprefix("http:"))
            assert run(["inspect", place, "--retries", "0", "--timeout", "10"]) != 0
            shown = capfd.readouterr()
            assert shown.err
            assert_none_shown([secret, *fetched], shown.out, shown.err)
    assert all(any(value.text in key for key in store.keys) for value in fetched), "the key did not reach the store"


def test_no_manifest_and_no_journal_of_a_dump_holds_a_secret_of_the_stores_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    index = {f"setting {number}": secret.text for number, secret in enumerate(SECRETS)}
    index |= {secret.text: number for number, secret in enumerate(SECRETS) if "unescaped" not in secret.shape}
    named = {"auth": {"password": VALUES[0].text}, "headers": [{"api-key": VALUES[1].text}]}
    field = VectorField("", VectorKind.DENSE, DType.FLOAT32, Metric.DOT, 2)
    spec = CollectionSpec("planted", IdKind.STRING, (field,), index=index | named)
    made = collections_of("planted-secrets")["planted"] = MemoryCollection(spec, None)
    [record] = records_of(batch_from_rows([Row("id-1", payload={"sk-notakeybutapayloadkey12345": 1})], spec), spec)
    made.put(record)
    assert run(["dump", "memory:planted-secrets#planted", "dump", "--json"]) == 0
    assert run(["inspect", "memory:planted-secrets#planted", "--json"]) == 0
    assert run(["inspect", "dump:dump"]) == 0
    shown = capfd.readouterr()
    texts = [path.read_text(encoding="utf-8") for path in (tmp_path / "dump").glob("*.json*")]
    assert len(texts) >= 2
    assert sum(text.count(MASK) for text in texts) >= len(SECRETS), "the configuration did not get there"
    assert_none_shown([*SECRETS, VALUES[0], VALUES[1]], shown.out, shown.err, *texts)
    assert "sk-notakey" not in shown.out + "".join(texts), "a payload's key has the shape of a secret too"


SEED_DRILL = """
import json
from exitramp.codec import EncodingSink
from exitramp.ports import Origin, Purpose
from exitramp.records import CollectionSpec, DType, IdKind, Metric, VectorField, VectorKind
from exitramp.registry import model_adapter, open_store
from exitramp.testing.rows import Row, batch_from_rows
from exitramp.urls import Address, Network

texts = [f"Passage {n} tells how to turn valve number {n} in the cellar." for n in range(40)]
embedder = model_adapter("wordllama").open_embedder(Address.parse("wordllama:"), Network())
vectors = embedder.embed(texts, purpose=Purpose.DOCUMENT).vectors
field = VectorField("", VectorKind.DENSE, DType.FLOAT32, Metric.DOT, vectors.shape[1])
spec = CollectionSpec("articles", IdKind.STRING, (field,), has_documents=True)
store = open_store("qdrant:./db#articles")
sink = EncodingSink(store.sink())
sink.create(spec, Origin(spec, "test"))
rows = [Row(f"p{n}", document=text, payload={"n": n}, vectors={"vector": vectors[n]}) for n, text in enumerate(texts)]
sink.upsert(batch_from_rows(rows, spec))
sink.flush()
store.close()
"""


def test_no_file_and_no_word_of_a_drill_holds_a_secret(tmp_path: Path) -> None:
    """In the drill file, in the command, in a variable, a file and a command that it refers to, in vendors' words."""
    (tmp_path / "value.txt").write_text(VALUES[2].text, encoding="utf-8")
    variables = {"PLANTED_KEY": VALUES[0].text}
    cases = [
        {"id": f"q{n}", "use_case": "docs_qa", "question": f"How do I turn valve number {n}?", "relevant": {f"p{n}": 3}}
        for n in range(40)
    ]
    (tmp_path / "golden.jsonl").write_text("".join(json.dumps(case) + "\n" for case in cases), encoding="utf-8")
    done = subprocess.run([sys.executable, "-c", SEED_DRILL], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with repeating() as broken, repeating() as talkative:
        in_errors, in_answers = iter(SECRETS[:100] * 9), iter(SECRETS[100:160] * 9)
        broken.says = lambda: (401, json.dumps({"error": {"message": f"{next(in_errors).text} {VALUES[0].text}"}}))
        talkative.says = lambda: (200, _answer(f"Turn it, {next(in_answers).text} {VALUES[2].text}"))
        text = json.dumps(_drill(broken.url, talkative.url, [secret.text for secret in SECRETS[160:]]))
        (tmp_path / "planted.yaml").write_text(text, encoding="utf-8")  # JSON is YAML
        command = ["drill", "run", "planted.yaml", "--out", "run", "--operator", SECRETS[3].text]
        done = subprocess.run(
            [sys.executable, "-m", "exitramp", *command, "--json"],
            cwd=tmp_path,
            env=os.environ | variables,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert any(VALUES[0].text in key for key in broken.keys), "the key did not reach the vendor"
        assert any(VALUES[2].text in key for key in talkative.keys), "the key did not reach the other vendor"
    assert "Traceback" not in done.stderr, done.stderr
    written = [path for path in (tmp_path / "run").rglob("*") if path.is_file() and not _is_data(path)]
    texts = {str(path.relative_to(tmp_path / "run")): path.read_text("utf-8", "replace") for path in written}
    reports = {"report.html", "report.md", "report.json", "report.xml"}
    assert {"journal.jsonl", "dump/manifest.json", "dump/journal.jsonl"} | reports <= set(texts)
    assert texts["journal.jsonl"].count(MASK) > 30, "the planted secrets did not get there"
    assert texts["report.html"].count(MASK) > 10
    assert_none_shown([*SECRETS, *VALUES[:3]], done.stdout, done.stderr, *texts.values())


def _is_data(path: Path) -> bool:
    return bool({"shards", "substitute"} & set(path.parts))


def _answer(text: str) -> str:
    usage = {"prompt_tokens": 9, "completion_tokens": 3}
    return json.dumps({"choices": [{"message": {"content": text}, "finish_reason": "stop"}], "usage": usage})


def _drill(broken: str, talkative: str, secrets: list[str]) -> dict[str, object]:
    words = iter(secrets)
    return {
        "version": 1,
        "name": "planted",
        "title": f"Leaving {next(words)}",
        "description": "\n".join(next(words) for _ in range(20)),
        "scope": next(words),
        "mode": "planned",
        "roles": {role: next(words) for role in ("owner", "coordinator", "reporter", "observer")},
        "objectives": {"rpo_records": 0, "quality_margin": 0.1},
        "data": {"embedder": "wordllama:", "golden": "golden.jsonl", "prompts": "packaged", "show_values": ["answer"]},
        "primary": {
            "store": {"address": "qdrant:./db#articles", "options": {"note": next(words), "password": next(words)}},
            "chat": {"address": f"openai:{next(words)}?base_url={broken}/v1&key=env:PLANTED_KEY"},
        },
        "substitute": {
            "store": {
                "address": "qdrant:{folder}/substitute#articles",
                "options": {"list": [next(words), next(words)]},
            },
            "chat": {"address": f"openai:m?base_url={talkative}/v1&key=file:value.txt", "model": next(words)},
        },
        "steps": [
            {step: {}}
            for step in (
                "start",
                "load_golden",
                "baseline",
                "dump",
                "verify_dump",
                "plan",
                "restore",
                "parity",
                "replay",
            )
        ],
    }
