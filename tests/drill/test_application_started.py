"""Applications that a drill starts or runs itself, behind a gateway and behind the fault proxy; and what is refused."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from exitramp.cli.main import run
from exitramp.drill.catalogue import find_drill
from exitramp.drill.inputs import check_inputs
from exitramp.errors import ConfigError
from tests.drill.test_application import World, drilled, world

__all__ = ["world"]
HERE = Path(__file__).parent
COMMAND = (
    f"version: 1\napp: command\nname: answer-once\nmock: true\ncommand: {json.dumps([sys.executable])}\n"
    "input: text\nanswer: $.answer\nsources: $.sources\n"
).replace("]", f", {json.dumps(str(HERE / 'answer_once.py'))}]")


def _write(world: World, phases: str, app: str, change: Callable[[str], str], *, application: str) -> Path:
    file = world.drill(phases, application=application)
    (world.folder / "app.yaml").write_text(app, "utf-8")
    file.write_text(change(file.read_text("utf-8")), "utf-8")
    return file


def _without_quality(text: str) -> str:
    """Few questions, slowly, and no quality to judge: a process for every question is slow."""
    for old, new in (
        ("rate_per_second: 10", "rate_per_second: 4"),
        ("load_golden: {}", "load_golden: {limit: 12}"),
        ("  - replay: {}\n  - compare_quality: {}\n", ""),
        (", quality_margin: 0.15", ""),
    ):
        assert old in text
        text = text.replace(old, new)
    return text


def test_an_application_behind_a_gateway_is_started_and_survives_a_vendor_that_fails_and_a_proxy_that_resets(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """It knows a base_url and nothing else; the gateway finds the primary's vendor at the proxy's port."""
    gateway_port, proxy_port = world.ports.take(), world.ports.take()
    stack = world.folder / "stack.yaml"
    stack.write_text(
        "version: 1\nmodels:\n"
        f'  first: {{address: "{world.addresses[0].replace(str(world.primary), str(proxy_port))}"}}\n'
        f'  second: {{address: "{world.addresses[1]}"}}\n'
        "failover: {models: [first, second]}\nbreaker: {cool_down_seconds: 0.2}\n",
        "utf-8",
    )
    words = [sys.executable, "-m", "exitramp", "gateway", "--stack", str(stack), "--port", str(gateway_port)]
    gateway = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        ends = time.monotonic() + 20
        while socket.socket().connect_ex(("127.0.0.1", gateway_port)) != 0:
            assert time.monotonic() < ends, "the gateway does not start"
            time.sleep(0.05)
        start = json.dumps(["{python}", str(HERE / "gateway_application.py"), f"http://127.0.0.1:{gateway_port}/v1"])
        app = (
            "version: 1\napp: http\nname: base-url-only\nmock: true\nurl: http://127.0.0.1:{port}/ask\n"
            'request: {question: "{{question}}"}\nanswer: $.answer\nsources: $.sources[*].id\n'
        )
        listen = f"options: {{listen: {world.primary}}}"
        file = _write(
            world,
            "[{on: chat, fault: unavailable, seconds: 1}, {on: chat, fault: reset, by: proxy, seconds: 1}]",
            app,
            lambda text: _without_quality(text).replace(listen, f"{listen}, proxy_port: {proxy_port}"),
            application=f"{{file: app.yaml, start: {{command: {start}}}}}",
        )
        code, found, report = drilled(file, capsys)
    finally:
        gateway.terminate()
        gateway.wait(20)
    assert code == 0, found["shown"]
    outage = found["outage"]["data"]
    assert outage["application"]["name"] == "base-url-only"
    assert outage["application"]["started_by_the_drill"] is True
    assert outage["failed_during_outage"] == 0
    failed, reset = outage["phases"]
    assert "by" not in failed
    assert reset["by"] == "fault-proxy"
    assert failed["accounts"]["primary"]["failed"] > 0
    assert "primary" not in reset["accounts"] or not reset["accounts"]["primary"].get("answered")
    assert reset["accounts"]["substitute"]["answered"] > 0
    assert found["rollback"]["data"]["traffic"]["back_on_primary"] is True
    assert "live, by a proxy in front of it" in report
    [log] = (file.parent / "run" / "services" / "application").glob("*.log")
    assert "Traceback" not in log.read_text("utf-8")


def test_an_application_that_is_a_command_meets_the_proxy_by_the_addresses_it_is_told(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    file = _write(
        world,
        "[{on: chat, fault: down, seconds: 1.5}]",
        COMMAND,
        _without_quality,
        application="{file: app.yaml}",
    )
    code, found, report = drilled(file, capsys)
    assert code == 0, found["shown"]
    outage = found["outage"]["data"]
    assert (outage["application"]["kind"], outage["failed_during_outage"]) == ("command", 0)
    assert outage["phases"][0]["accounts"]["substitute"]["answered"] > 0
    assert "The application “answer-once” (command) was asked under load" in report


HTTP = "version: 1\napp: http\nname: desk\nurl: URL\nanswer: $.answer\n"
TOXIC = "[{on: chat, fault: latency, seconds: 1, options: {latency_ms: 900}}]"
STARTED = "{file: app.yaml, start: {command: [python, server.py]}}"


@pytest.mark.parametrize(
    ("app", "application", "said"),
    [
        (HTTP.replace("URL", "http://127.0.0.1:8800/a"), "{file: app.yaml}", "does not know where it stands"),
        (HTTP.replace("URL", "http://127.0.0.1:{port}/a"), "{file: app.yaml}", "a port that only the drill could give"),
        (HTTP.replace("URL", "http://10.1.2.3:8800/a"), STARTED, "what the drill starts is on this machine"),
        (HTTP.replace("URL", "http://127.0.0.1/a"), STARTED, "a url without a port"),
        (COMMAND, STARTED, "no server to start"),
        (HTTP, "{file: nowhere}", "no packaged application of that name"),
        (HTTP, "{file: app.yaml, start: {command: []}}", "'command' is empty"),
    ],
)
def test_an_application_that_would_not_meet_the_proxy_is_refused_before_anything_is_started(
    world: World, app: str, application: str, said: str
) -> None:
    file = _write(world, TOXIC, app, str, application=application)
    with pytest.raises(ConfigError) as refused:
        check_inputs(find_drill(str(file)))
    assert said in str(refused.value)


def test_a_store_that_is_lost_for_good_is_refused_for_an_application_with_two_ways_to_go_on(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    file = world.drill("[{on: store, fault: lost, seconds: 1}]")
    text = file.read_text("utf-8").replace("  - outage:", "  - dump: {}\n  - outage:")
    file.write_text(text.replace("  - rollback: {sync: false, seconds: 1.5}\n", ""), "utf-8")
    assert run(["drill", "show", str(file)]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "this drill asks your application, which the drill cannot keep from half a store" in told
    assert "write 'sigkill' in the place of 'lost'" in told


def test_a_server_that_does_not_start_ends_the_drill_with_its_last_words(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    start = json.dumps(["{python}", "-c", "raise SystemExit('no configuration')"])
    app = HTTP.replace("URL", "http://127.0.0.1:{port}/a")
    file = _write(world, TOXIC, app, str, application=f"{{file: app.yaml, start: {{command: {start}}}}}")
    code, found, _ = drilled(file, capsys, stops=True)
    assert code == 3
    assert "ended with status 1 before it was ready: no configuration" in found["shown"]
