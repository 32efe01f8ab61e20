"""`drill init` reads, and writes its files or none: whatever cannot become a drill is one error that says why."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from exitramp.cli.main import run
from exitramp.drill.beginning import begin_drill
from exitramp.drill.catalogue import find_drill
from exitramp.drill.engine import run_drill
from exitramp.errors import UsageError
from exitramp.migration import plan_move
from exitramp.records import DType, Finding, Metric, Verdict
from exitramp.testing.memory import MemorySource
from exitramp.wrappers import OpenSettings
from tests.drill.small_stacks import FIELD, SPEC, fill

Init = Callable[..., tuple[int, str, str]]


@pytest.fixture(name="primary")
def _primary(tmp_path: Path) -> str:
    return fill(f"qdrant:{tmp_path}/primary#articles", rows=20)


@pytest.fixture(name="init")
def _init(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Init:
    def init(primary: str, substitute: str, *, out: Path | None = None, extra: tuple[str, ...] = ()) -> Any:
        given = [
            "drill",
            "init",
            "--primary",
            primary,
            "--substitute",
            substitute,
            "--out",
            str(out or tmp_path / "own"),
        ]
        code = run([*given, *extra])
        shown = capsys.readouterr()
        assert "Traceback" not in shown.err
        return code, shown.out, shown.err

    return init


def _refused(init: Init, tmp_path: Path, primary: str, substitute: str, code: int, said: str) -> None:
    before = sorted(tmp_path.iterdir())
    ended, _, err = init(primary, substitute)
    assert ended == code, err
    assert said in err
    assert err.startswith("error: ")
    assert sorted(tmp_path.iterdir()) == before, "something was half written"


@pytest.mark.parametrize(
    "substitute",
    ["qdrant:{folder}/primary#articles", "qdrant:{folder}/primary", "qdrant:{folder}/x/../primary?metric=dot#articles"],
)
def test_a_substitute_that_is_the_primary_is_refused(substitute: str, init: Init, primary: str, tmp_path: Path) -> None:
    _refused(init, tmp_path, primary, substitute.format(folder=tmp_path), 2, "one and the same collection")


def test_one_server_under_two_names_is_one_place(init: Init, tmp_path: Path) -> None:
    """Told from the addresses alone: nobody listens there."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        one, other = f"qdrant+http://127.0.0.1:{port}#a", f"qdrant+http://localhost:{port}/?api_key=env:NOBODY#a"
        _refused(init, tmp_path, one, other, 2, "one and the same collection")


@pytest.mark.parametrize("side", ["primary", "substitute"])
def test_a_dump_is_neither_side_of_a_drill(side: str, init: Init, primary: str, tmp_path: Path) -> None:
    dump = f"dump:{tmp_path}/dump"
    sides = (dump, primary) if side == "primary" else (primary, dump)
    _refused(init, tmp_path, *sides, 2, f"cannot be the {side} of a drill: a dump cannot be asked")


def test_an_empty_primary_is_refused(init: Init, tmp_path: Path) -> None:
    empty = fill(f"memory:{tmp_path.name}-empty#articles", rows=0)
    _refused(init, tmp_path, empty, f"memory:{tmp_path.name}-s#articles", 2, "holds no records")


def test_a_primary_that_is_not_there_is_refused(init: Init, tmp_path: Path) -> None:
    _refused(init, tmp_path, f"memory:{tmp_path.name}-no#a", f"memory:{tmp_path.name}-s#a", 2, "holds no collection")


def test_a_primary_without_vectors_to_ask_by_is_refused(init: Init, tmp_path: Path) -> None:
    bits = replace(FIELD, dtype=DType.BINARY, metric=Metric.HAMMING, dimensions=32)
    address = fill(f"memory:{tmp_path.name}-bits#articles", rows=5, spec=replace(SPEC, vectors=(bits,)))
    _refused(init, tmp_path, address, f"memory:{tmp_path.name}-s#articles", 2, "no dense vectors of numbers")


@pytest.mark.parametrize("side", ["primary", "substitute"])
@pytest.mark.parametrize("scheme", ["qdrant+http", "chroma+http"])
def test_a_side_that_nobody_reaches_is_refused(
    scheme: str, side: str, init: Init, primary: str, tmp_path: Path
) -> None:
    with socket.socket() as held:  # bound and not listening: nobody else gets the port, and calls are refused
        held.bind(("127.0.0.1", 0))
        silent = f"{scheme}://127.0.0.1:{held.getsockname()[1]}#articles"
        sides = (silent, primary) if side == "primary" else (primary, silent)
        before = sorted(tmp_path.iterdir())
        code, _, err = init(*sides, extra=("--retries", "0", "--timeout", "5"))
    assert code == 5, err
    assert err.startswith("error: ")
    assert sorted(tmp_path.iterdir()) == before


def test_a_primary_without_documents_begins_a_drill_that_says_what_is_missing(init: Init, tmp_path: Path) -> None:
    address = fill(f"memory:{tmp_path.name}-bare#articles", rows=5, spec=replace(SPEC, has_documents=False))
    code, out, err = init(address, f"memory:{tmp_path.name}-s#articles", extra=("--json",))
    assert code == 0, err
    found = json.loads(out)
    assert found["verdict"] == "inconclusive"
    assert any("keeps no documents" in note for note in found["notes"])
    assert "keeps no documents" in (tmp_path / "own" / "README.md").read_text(encoding="utf-8")


def test_a_count_that_a_read_does_not_bear_out_is_told(
    init: Init, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = fill(f"memory:{tmp_path.name}-many#articles", rows=20)
    monkeypatch.setattr(MemorySource, "count", lambda self: 3_000_000)
    code, out, err = init(address, f"memory:{tmp_path.name}-s#other")
    assert code == 0, err
    assert "3,000,000 records" in out
    assert "counts 3,000,000 records, and a complete read gave 20" in out
    page = (tmp_path / "own" / "README.md").read_text(encoding="utf-8")
    assert "| 3,000,000 |" in page
    assert "20 records," in page


@pytest.mark.parametrize("there", ["drill.yaml", "README.md"])
def test_a_drill_that_is_there_is_not_written_over(there: str, init: Init, primary: str, tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / there).write_text("mine", encoding="utf-8")
    code, _, err = init(primary, f"faiss:{tmp_path}/new.faiss")
    assert code == 2
    assert f"{own / there} exists already" in err
    assert [path.name for path in own.iterdir()] == [there]
    assert (own / there).read_text(encoding="utf-8") == "mine"


def test_a_folder_with_other_files_is_used(init: Init, primary: str, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "notes.txt").write_text("mine", encoding="utf-8")
    code, _, err = init(primary, f"faiss:{tmp_path}/new.faiss")
    assert code == 0, err
    assert {path.name for path in (tmp_path / "own").iterdir()} == {
        "notes.txt",
        "drill.yaml",
        "README.md",
        "prices.yaml",
    }


def test_an_output_that_cannot_be_written_leaves_nothing(
    init: Init, primary: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.write_text("mine", encoding="utf-8")
    for out in (Path("/proc/x"), file / "below", Path("/dev/null/x")):
        code, _, err = init(primary, f"faiss:{tmp_path}/new.faiss", out=out)
        assert code == 2, err
        assert "--out" in err
    write = Path.open

    def full(self: Path, mode: str = "r", **options: Any) -> Any:
        if self.name == "drill.yaml" and mode == "x":
            raise OSError(28, os.strerror(28), str(self))
        return write(self, mode, **options)

    monkeypatch.setattr(Path, "open", full)
    code, _, err = init(primary, f"faiss:{tmp_path}/new.faiss", out=tmp_path / "deep" / "own")
    assert code == 2
    assert "No space left" in err
    assert not (tmp_path / "deep").exists()


def test_what_was_written_names_places_that_hold_from_any_folder(primary: str, tmp_path: Path) -> None:
    found = begin_drill(primary, f"chroma:{tmp_path}/ä b/new", tmp_path / "own", OpenSettings())
    spec = find_drill(str(found.drill_file))
    assert spec.substitute.store.address is not None
    assert spec.substitute.store.address.endswith("#articles")
    assert spec.stop.minutes == 60
    assert not (tmp_path / "ä b").exists()


def test_a_drill_that_is_begun_is_called_what_it_is(primary: str, tmp_path: Path) -> None:
    spec = find_drill(
        str(begin_drill(primary, f"faiss:{tmp_path}/new.faiss", tmp_path / "own", OpenSettings()).drill_file)
    )
    assert "outage" in [step.name for step in spec.steps]
    assert spec.mode == "stressed"


def test_a_drill_that_would_lose_something_says_where_it_stops_and_what_agrees_to_it(tmp_path: Path) -> None:
    """The shown line, uncommented as the file says, is enough."""
    scaled = f"qdrant:{tmp_path}/new?metric=cosine#articles"
    begun = begin_drill(fill(f"memory:{tmp_path.name}-lossy#articles"), scaled, tmp_path / "own", OpenSettings())
    lossy = [line.subject for line in begun.plan.lossy()]
    line = f"# accept_loss: {json.dumps(lossy)}"
    text, page = (path.read_text(encoding="utf-8") for path in (begun.drill_file, begun.readme))
    for said in (text, page):
        assert "It stops at" in said
        assert "It runs as it is" not in said
        assert said.count(line) == 1
    assert any(f"take the # from the line {line[2:]}" in note for note in begun.notes)
    stopped = run_drill(find_drill(str(begun.drill_file)), tmp_path / "one", seed=1)
    assert (stopped.aborted or "").startswith("restore:")
    for uncommented in (line[1:], line[2:]):  # with the blank, and without it
        begun.drill_file.write_text(text.replace(line, uncommented), encoding="utf-8")
        [restore] = [step for step in find_drill(str(begun.drill_file)).steps if step.name == "restore"]
        assert list(restore.arguments.accept_loss) == lossy


def test_a_drill_that_loses_nothing_runs_as_it_is_and_says_so(primary: str, tmp_path: Path) -> None:
    begun = begin_drill(primary, f"faiss:{tmp_path}/new.faiss", tmp_path / "own", OpenSettings())
    for path in (begun.drill_file, begun.readme):
        assert "It runs as it is." in path.read_text(encoding="utf-8")
        assert "accept_loss" not in path.read_text(encoding="utf-8")
    assert "exitramp[evals]" in begun.readme.read_text(encoding="utf-8")


def test_data_that_no_consent_mends_stop_the_drill_and_it_says_so(
    primary: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def plan(*sides: Any, **more: Any) -> Any:
        found = plan_move(*sides, **more)
        return replace(found, findings=(Finding("plan.too_large", "one record is too large", Verdict.FAIL),))

    monkeypatch.setattr("exitramp.drill.beginning.plan_move", plan)
    begun = begin_drill(primary, f"faiss:{tmp_path}/new.faiss", tmp_path / "own", OpenSettings())
    assert "one record is too large. No consent mends that." in begun.readme.read_text(encoding="utf-8")
    assert "one record is too large. No consent mends that." in begun.drill_file.read_text(encoding="utf-8")
    assert any("no consent mends it: one record is too large" in note for note in begun.notes)
    assert find_drill(str(begun.drill_file)).name == "own_stack"


def test_a_collection_that_a_terminal_would_act_on_is_written_so_that_it_is_read_back(tmp_path: Path) -> None:
    name = 'one\ntwo \x1b[31m%41 "quoted" \\n\u2028end'
    fill(f'memory:{tmp_path.name}-odd#one%0Atwo %1B[31m%2541 "quoted" \\n%E2%80%A8end', rows=3)
    found = begin_drill(
        f'memory:{tmp_path.name}-odd#one%0Atwo %1B[31m%2541 "quoted" \\n%E2%80%A8end',
        f"memory:{tmp_path.name}-t",
        tmp_path / "own",
        OpenSettings(),
    )
    spec = find_drill(str(found.drill_file))
    from exitramp.urls import Address

    assert Address.parse(spec.primary.store.address or "").collection == name
    assert Address.parse(spec.substitute.store.address or "").collection == name


def test_an_address_with_a_secret_in_it_never_reaches_a_file(init: Init, tmp_path: Path) -> None:
    key = "sk-" + "abcdefgh12345678"
    for address in (f"qdrant+http://{key}@127.0.0.1:1#a", f"qdrant+http://127.0.0.1:1?api_key={key}#a"):
        _refused(init, tmp_path, address, "memory:x#a", 2, "by reference")


def test_begin_drill_refuses_before_it_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("something was opened")

    monkeypatch.setattr("exitramp.drill.beginning.open_endpoint", never)
    with pytest.raises(UsageError):
        begin_drill("qdrant:./a#x", "dump:./b", tmp_path, OpenSettings())
    (tmp_path / "drill.yaml").touch()
    with pytest.raises(UsageError, match="exists already"):
        begin_drill("qdrant:./a#x", "qdrant:./b#x", tmp_path, OpenSettings())
