"""The user's own application through a live outage: one that fails over, one that is told to, one that dies."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from exitramp.cli.main import run
from tests.drill.small_application import TOPICS
from tests.drill.small_stacks import fill

STEPS = """\
  - start: {}
  - load_golden: {}
  - baseline: {}
  - outage:
      rate_per_second: 10
      warm_up_seconds: 0.5
      after_seconds: 0.3
      heal_seconds: 5
      phases: PHASES
  - replay: {}
  - compare_quality: {}
  - rollback: {sync: false, seconds: 1.5}
"""


class Ports:
    """Ports that nobody else on this machine is given while this is open, and that a server can listen on all the same.

    A socket that is bound and does not listen keeps its number from every other program that asks for any: a number
    that is merely looked up and let go is somebody else's by the time the drill listens there.
    """

    def __init__(self) -> None:
        self._held: list[socket.socket] = []

    def take(self) -> int:
        one = socket.socket()
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind(("127.0.0.1", 0))
        self._held.append(one)
        port: int = one.getsockname()[1]
        return port

    def close(self) -> None:
        for each in self._held:
            each.close()


class World:
    """Two stores, two mock vendors on ports that the application knows, the application, and the drill file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = Ports()
        self.primary, self.substitute, self.port = (self.ports.take() for _ in range(3))
        self.process: subprocess.Popen[bytes] | None = None
        self.addresses = [
            f"openai:mock-large?base_url=http://127.0.0.1:{port}/v1&mock=true"
            for port in (self.primary, self.substitute)
        ]

    def serve(self, *words: str) -> None:
        here = Path(__file__).with_name("small_application.py")
        self.process = subprocess.Popen([sys.executable, str(here), str(self.port), *words])
        ends = time.monotonic() + 20
        while time.monotonic() < ends:
            with socket.socket() as one:
                if one.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise AssertionError("the application does not start")

    def drill(self, phases: str, *, application: str = "{file: app.yaml}", error_rate: float = 0.05) -> Path:
        stores = [fill(f"lancedb:{self.folder}/{name}#articles") for name in ("primary", "substitute")]
        (self.folder / "app.yaml").write_text(
            f"version: 1\napp: http\nname: helpdesk\nurl: http://127.0.0.1:{self.port}/ask\nmock: true\n"
            'request: {question: "{{question}}"}\nanswer: $.answer\nsources: $.sources[*].id\n',
            "utf-8",
        )
        rows: list[dict[str, Any]] = []
        for number in range(64):
            asked: dict[str, Any] = {
                "id": f"q{number}",
                "question": f"Who owns the {TOPICS[number % 8]} number {number}?",
            }
            if number % 2:
                asked |= {"relevant": {}, "assertion": {"kind": "regex", "pattern": f"keeper{number}"}}
            else:
                asked |= {"logged_ids": [f"doc-{number}"]}
            rows.append(asked)
        (self.folder / "golden.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        text = (
            "version: 1\nname: through\ntitle: Through an application\nmode: stressed\n"
            f"objectives: {{rto_seconds: 3, error_rate: {error_rate}, quality_margin: 0.15}}\n"
            "data: {golden: golden.jsonl}\n"
            f"application: {application}\n"
            f'primary:\n  store: {{address: "{stores[0]}"}}\n'
            f"  chat: {{service: mock-openai, options: {{listen: {self.primary}}}}}\n"
            f'substitute:\n  store: {{address: "{stores[1]}"}}\n'
            f"  chat: {{service: mock-openai, options: {{listen: {self.substitute}}}}}\n"
            "orchestration: {deadline_seconds: 3, breaker_failures: 3}\n"
            f"steps:\n{STEPS.replace('PHASES', phases)}"
        )
        file = self.folder / "through.yaml"
        file.write_text(text, "utf-8")
        return file


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    if made.process is not None:
        made.process.kill()
        made.process.wait()
    made.ports.close()


def drilled(file: Path, capsys: pytest.CaptureFixture[str], *, stops: bool = False) -> tuple[int, dict[str, Any], str]:
    """Exit code, what each step found, and the report. A drill that was stopped and should not be says why."""
    folder = file.parent / "run"
    capsys.readouterr()
    code = run(["drill", "run", str(file), "--out", str(folder)])
    shown = "".join(capsys.readouterr())
    events = [json.loads(line) for line in (folder / "journal.jsonl").read_text("utf-8").splitlines()]
    found = {}
    for event in events:
        data = event.get("data", event)
        if event.get("kind") == "step.finished":
            found[data["step"]] = data
    stopped = [event["data"] for event in events if event["kind"] == "run.aborted"]
    assert bool(stopped) is stops, f"the drill was stopped: {stopped}\n{shown}"
    report = next(path for path in folder.rglob("*.md")).read_text("utf-8")
    return code, found | {"events": events, "shown": shown}, report


def test_an_application_that_fails_over_by_itself_passes_and_the_report_names_it(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    stack = world.folder / "stack.yaml"
    stack.write_text(
        "version: 1\nmodels:\n"
        f'  first: {{address: "{world.addresses[0]}"}}\n  second: {{address: "{world.addresses[1]}"}}\n'
        "failover: {models: [first, second]}\n",
        "utf-8",
    )
    world.serve(str(stack))
    file = world.drill("[{on: chat, fault: unavailable, seconds: 1.5}, {on: chat, fault: refuse, seconds: 1.5}]")
    code, found, report = drilled(file, capsys)
    assert code == 0, found["shown"]
    outage = found["outage"]["data"]
    assert outage["application"]["name"] == "helpdesk"
    assert (outage["failed_during_outage"], outage["phases"][0]["healed"]) == (0, True)
    baseline = found["baseline"]["data"]
    told = [(each["prompt_tokens"], each["gen_tokens"]) for each in [baseline, *baseline["cases"]]]
    assert set(told) == {(None, None)}, "it tells no tokens, and nobody read none"
    assert outage["phases"][1]["accounts"]["substitute"]["answered"] > 0
    assert "from the substitute" not in report
    for said in (
        "First good answer from the application “helpdesk”",
        "It came through",
        "nobody labelled 32 golden questions",
        "overlap@10",
        "was asked, and not the stacks",
    ):
        assert said in report, said


def test_an_application_that_is_told_to_switch_is_timed_by_the_command(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    address = world.folder / "address"
    address.write_text(world.addresses[0], "utf-8")
    world.serve(f"@{address}")
    script = world.folder / "switch.py"
    script.write_text(
        "import os, sys\nside = sys.argv[1]\nopen('address', 'w').write(os.environ[f'EXITRAMP_{side}_CHAT'])\n",
        "utf-8",
    )
    words = [json.dumps([sys.executable, "switch.py", side]) for side in ("SUBSTITUTE", "PRIMARY")]
    file = world.drill(
        "[{on: chat, fault: unavailable, seconds: 3}]",
        application=f"{{file: app.yaml, switch: {{command: {words[0]}, back: {words[1]}}}}}",
        error_rate=0.6,
    )
    code, found, report = drilled(file, capsys)
    assert code == 0, found["shown"]
    [phase] = found["outage"]["data"]["phases"]
    assert 0 < phase["detect_seconds"] <= phase["decide_seconds"] < phase["recovery_seconds"] < 3
    assert [each["exit_code"] for each in found["outage"]["data"]["application"]["switches"]] == [0]
    assert found["rollback"]["data"]["traffic"]["back_on_primary"] is True
    assert "switched by a command" in report


def test_an_application_that_dies_fails(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    address = world.folder / "address"
    address.write_text(world.addresses[0], "utf-8")
    world.serve(f"@{address}", "--mortal")
    code, found, _ = drilled(world.drill("[{on: chat, fault: unavailable, seconds: 1.5}]"), capsys)
    assert code == 1, found["shown"]
    assert "'helpdesk' did not come back while 'unavailable' lasted" in json.dumps(found["outage"])
    assert found["rollback"]["data"]["traffic"]["answers_well"] is False


def test_a_fault_that_never_met_the_application_shows_nothing(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    address = world.folder / "address"
    other = world.ports.take()
    address.write_text(world.addresses[1].replace(str(world.substitute), str(other)), "utf-8")
    from exitramp_adapters.services.mock_vendor.adapter import OPENAI

    vendor = OPENAI.make(str(world.folder / "elsewhere"), 7, {"listen": other})
    vendor.start()
    try:
        world.serve(f"@{address}")
        code, found, _ = drilled(world.drill("[{on: chat, fault: unavailable, seconds: 1}]"), capsys)
    finally:
        vendor.stop()
    assert code != 0
    assert "nothing shows that" in json.dumps(found["outage"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text.replace("app.yaml}", "none.yaml}"), "there is no file"),
        (lambda text: text.replace("  - replay: {}", "  - cost: {}"), "this drill asks your application"),
        (lambda text: text.replace("stressed\n", "stressed\nstop: {usd: 1}\n"), "an application tells no costs"),
        (lambda text: text.replace("on: chat", "on: store"), "your application does not make"),
    ],
)
def test_what_cannot_be_told_of_an_application_is_refused_before_it_begins(
    world: World, change: Callable[[str], str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = world.drill("[{on: chat, fault: unavailable, seconds: 1}]")
    file.write_text(change(file.read_text("utf-8")), "utf-8")
    assert run(["drill", "run", str(file), "--out", str(world.folder / "run")]) == 2
    assert said in " ".join(capsys.readouterr().err.split())
