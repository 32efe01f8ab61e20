"""Every documented exit code, shown by a command that ends with it."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from exitramp.cli.main import run
from exitramp.errors import ExitCode
from tests.cli.conftest import Cli
from tests.cli.test_data_commands import ids_of, lose
from tests.drill.small_stacks import drill_text, fill, write_drill

# A shell may have started the tests with Ctrl-C ignored, which a child inherits.
MAIN = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    "from exitramp.cli.main import main; main()"
)


@pytest.fixture(name="pair")
def _pair(name: str, cli: Cli) -> tuple[str, str]:
    """A filled store and its copy."""
    one, other = fill(f"memory:{name}-1#articles", rows=8), f"memory:{name}-2#articles"
    cli("copy", one, other, code=0)
    return one, other


def test_0_is_a_pass(pair: tuple[str, str], cli: Cli) -> None:
    assert cli("compare", *pair, "--no-neighbours").code == ExitCode.PASS == 0


def test_1_is_a_fail(pair: tuple[str, str], cli: Cli) -> None:
    lose(pair[1], ids_of(pair[1])[:1])
    assert cli("compare", *pair, "--no-neighbours").code == ExitCode.FAIL == 1


@pytest.mark.parametrize(
    "words",
    [
        ("nonsense",),
        ("inspect",),
        ("inspect", "memory:a#b", "--nonsense"),
        ("inspect", "nonsense"),
        ("inspect", "memory:nobody#b"),
        ("compare", "memory:a#b", "memory:c#d", "--where", "{"),
        ("compare", "memory:a#b", "memory:c#d", "--tolerance", "vector"),
        ("copy", "memory:a#b", "memory:c#d", "--retries", "-1"),
        ("verify", "nowhere"),
        ("restore", "nowhere", "memory:c#d"),
        ("report", "nowhere"),
        ("drill", "show", "nowhere"),
        ("drill", "run", "nowhere.yaml"),
        ("drill", "nonsense"),
        ("mock-vendor", "openai", "--options", "{"),
        ("mock-vendor", "openai", "--options", '{"nonsense": 1}'),
    ],
)
def test_2_is_a_mistake_of_the_user(words: tuple[str, ...], cli: Cli) -> None:
    ended = cli(*words)
    assert ended.code == ExitCode.USAGE == 2
    assert ended.err.strip()
    assert not ended.out


def test_2_is_a_write_that_nobody_allowed(pair: tuple[str, str], cli: Cli) -> None:
    ended = cli("copy", pair[0], "qdrant+http://db.example.com:6333#a", code=2)
    assert "--allow-writes 'qdrant+http://db.example.com:6333#a'" in ended.err


def test_3_is_what_was_not_measured(pair: tuple[str, str], cli: Cli) -> None:
    assert cli("compare", *pair).code == ExitCode.INCONCLUSIVE == 3


def test_4_is_a_damaged_dump(pair: tuple[str, str], cli: Cli) -> None:
    cli("dump", pair[0], "out", code=0)
    manifest = Path("out/manifest.json")
    manifest.write_bytes(manifest.read_bytes().replace(b'"rows"', b'"rowz"', 1))
    for words in (("verify", "out"), ("verify", "out", "--json"), ("restore", "out", "memory:x#y")):
        assert cli(*words).code == ExitCode.INTEGRITY == 4


def test_5_is_a_store_that_does_not_answer(cli: Cli) -> None:
    with socket.socket() as held:  # bound and not listening: calls are refused
        held.bind(("127.0.0.1", 0))
        address = f"qdrant+http://127.0.0.1:{held.getsockname()[1]}#articles"
        ended = cli("inspect", address, "--retries", "0", "--timeout", "5")
    assert ended.code == ExitCode.REMOTE == 5
    assert "cannot be reached" in ended.err


@pytest.mark.parametrize("command", [("inspect", "{address}"), ("dump", "{address}", "out")])
def test_130_is_ctrl_c(command: tuple[str, ...], tmp_path: Path) -> None:
    """Sent while a store keeps a command waiting: it has connected, and gets no answer."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(30)
        address = f"qdrant+http://127.0.0.1:{server.getsockname()[1]}#articles"
        words = [word.format(address=address) for word in command]
        process = subprocess.Popen(
            [sys.executable, "-c", MAIN, *words],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            connection, _ = server.accept()
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=20)
            connection.close()
        finally:
            process.kill()
            process.wait()
    assert process.returncode == ExitCode.INTERRUPTED == 130, err
    assert "run the same command again to go on" in err
    assert "Traceback" not in err
    assert not out


@pytest.mark.parametrize(
    ("steps", "objectives", "code"),
    [
        ("  - start: {}\n  - check_hypothesis: {}\n  - dump: {}\n  - restore: {}\n  - measure_loss: {}\n", 0, 0),
        ("  - start: {}\n  - dump: {}\n  - measure_loss: {}\n", 0, 1),
        ("  - start: {}\n", 0, 3),
    ],
)
def test_a_drill_ends_with_its_verdict(
    steps: str, objectives: int, code: int, cli: Cli, name: str, tmp_path: Path
) -> None:
    """The second one restores nothing, so that every record is missing."""
    primary, substitute = fill(f"memory:{name}-p#articles", rows=8), f"memory:{name}-s#articles"
    if code == 1:
        fill(substitute, rows=0)
    text = drill_text(primary, substitute, steps, objectives=f"{{rpo_records: {objectives}}}")
    file = write_drill(tmp_path, text)
    found = cli("drill", "run", file, "--out", "run", "--json", code=code).json
    assert found["verdict"] == {0: "pass", 1: "fail", 3: "inconclusive"}[code]
    assert cli("report", "run", "--json", code=code).json["verdict"] == found["verdict"]


def test_70_is_a_fault_and_never_a_verdict(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("sk-abcdefghijklmnopqrstuvwxyz0123")

    monkeypatch.setattr("exitramp.cli.listing.listed", broken)
    assert run(["stores"]) == ExitCode.FAULT == 70
    shown = capsys.readouterr().err
    assert "ZeroDivisionError" in shown
    assert "no verdict" in shown
    assert "sk-abcdefghijklmnopqrstuvwxyz0123" not in shown
    assert run(["stores", "--json"]) == 70
    told = json.loads(capsys.readouterr().out)
    assert (told["verdict"], told["error"]["kind"], told["exit_code"]) == (None, "ZeroDivisionError", 70)
