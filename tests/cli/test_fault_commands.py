"""What breaks on command, from the command line: schedules in files, and a proxy in front of a vendor."""

from __future__ import annotations

import http.client
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.cli.conftest import Cli


def test_a_proxy_in_front_of_a_mock_vendor_spoils_by_its_schedule_and_tells_what_passed(tmp_path: Path) -> None:
    (tmp_path / "network.yaml").write_text("schedule:\n  - {kind: reset, calls: [2]}\n")

    def start(*words: str) -> tuple[subprocess.Popen[str], dict[str, str]]:
        process = subprocess.Popen(
            [sys.executable, "-m", "exitramp", *words, "--json"],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        return process, json.loads("".join(process.stdout.readline() for _ in range(4)))

    vendor, found = start("mock-vendor", "openai", "--for-seconds", "30")
    proxy, led = start("fault-proxy", found["address"], "--schedule", "network.yaml", "--for-seconds", "30")
    try:
        netloc = urlsplit(led["address"].partition("base_url=")[2].partition("&")[0]).netloc
        assert netloc not in found["address"]

        def get() -> int:
            connection = http.client.HTTPConnection(netloc, timeout=5)
            try:
                connection.request("GET", "/v1/models", headers={"authorization": "Bearer any"})
                return connection.getresponse().status
            finally:
                connection.close()

        assert get() == 200
        with pytest.raises(ConnectionError):
            get()
        assert get() == 200
        proxy.terminate()
        _, err = proxy.communicate(timeout=20)
        assert proxy.returncode == 0, err
        assert "connections 3" in err
        assert "hit.reset 1" in err
    finally:
        for process in (proxy, vendor):
            process.kill()
            process.communicate()


@pytest.mark.parametrize(
    ("words", "text", "said"),
    [
        (["mock-vendor", "openai"], "schedule:\n  - {kind: hang}\n  - {kind: lag}\n", ":3: unknown fault 'lag'"),
        (["mock-vendor", "openai"], "faults: []\n", "'schedule' is missing"),
        (["mock-vendor", "openai"], "schedule:\n  - {kind: refuse, calls: [1]}\n", "s.yaml:2: the fault 'refuse'"),
        (["fault-proxy", "127.0.0.1:1"], "schedule:\n  - {kind: lag}\n", "s.yaml:2: unknown toxic 'lag'"),
        (["fault-proxy", "127.0.0.1:1"], "schedule:\n  - {kind: latency}\n", "s.yaml:2: the toxic 'latency' needs"),
    ],
)
def test_a_schedules_mistakes_end_with_2_and_a_name(
    cli: Cli, tmp_path: Path, words: list[str], text: str, said: str
) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(text)
    assert said in cli(*words, "--schedule", str(path), code=2).err


def test_a_target_elsewhere_and_a_toxic_that_is_no_json_are_refused(cli: Cli) -> None:
    assert "--allow-remote" in cli("fault-proxy", "example.com:443", code=2).err
    assert "not JSON" in cli("fault-proxy", "127.0.0.1:1", "--toxic", "latency", code=2).err


@pytest.mark.parametrize(
    "words", [["mock-vendor", "openai"], ["mock-vendor", "anthropic"], ["fault-proxy", "127.0.0.1:9"]]
)
def test_a_service_that_is_killed_ends_its_command_with_5_and_says_how(tmp_path: Path, words: list[str]) -> None:
    with started(*words, folder=tmp_path) as command:
        os.kill(json.loads((tmp_path / "control.json").read_text())["pid"], signal.SIGKILL)
        _, err = command.communicate(timeout=20)
    assert command.returncode == 5
    assert "was killed by SIGKILL" in err
    assert "next: start it again" in err


@pytest.mark.parametrize("words", [["mock-vendor", "openai"], ["fault-proxy", "127.0.0.1:9"]])
def test_a_service_does_not_outlive_its_command_that_is_killed(tmp_path: Path, words: list[str]) -> None:
    with started(*words, folder=tmp_path) as command:
        service = os.pidfd_open(json.loads((tmp_path / "control.json").read_text())["pid"])
        command.kill()
        command.communicate(timeout=20)
    try:
        assert select.select([service], [], [], 10)[0], "readable once the process has ended"
    finally:
        os.close(service)


@contextmanager
def started(*words: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """The command, once it has told its address."""
    with subprocess.Popen(
        [sys.executable, "-m", "exitramp", *words, "--folder", str(folder), "--for-seconds", "60"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as command:
        assert command.stdout is not None
        command.stdout.readline()
        try:
            yield command
        finally:
            command.kill()
