"""What a sink tells when it is finished stands in what the command says, and in its JSON; it is no failure."""

from __future__ import annotations

import pytest

from exitramp.ports import TransferAccount
from exitramp.records import Finding
from exitramp.testing.memory import MemorySink
from tests.cli.conftest import Cli
from tests.drill.small_stacks import fill

TOLD = Finding("target.unindexed", "the index is built at night", detail={"hours": 3})


@pytest.fixture(autouse=True)
def _telling(monkeypatch: pytest.MonkeyPatch) -> None:
    finish = MemorySink.finish

    def telling(sink: MemorySink, account: TransferAccount) -> list[Finding]:
        finish(sink, account)
        return [TOLD]

    monkeypatch.setattr(MemorySink, "finish", telling)


@pytest.mark.parametrize("command", ["copy", "restore", "sync"])
def test_what_a_sink_tells_at_its_end_is_told_by(command: str, name: str, cli: Cli) -> None:
    source = fill(f"memory:{name}#articles", rows=20)
    if command == "restore":
        cli("dump", source, "out", code=0)
        source = "out"
    one, other = (f"memory:{name}-{each}#articles" for each in ("one", "other"))
    if command == "sync":
        fill(one, rows=5)
        fill(other, rows=5)
    assert TOLD.message in cli(command, source, one, code=0).out
    told = cli(command, source, other, "--json", code=0).json
    assert told["verdict"] == "pass"
    assert TOLD.to_json() in told["findings"]


def test_a_dump_has_nothing_to_tell_at_its_end(name: str, cli: Cli) -> None:
    told = cli("dump", fill(f"memory:{name}#articles", rows=20), "out", "--json", code=0).json
    assert told["verdict"] == "pass"
    assert TOLD.code not in [each["code"] for each in told["findings"]]
