"""What goes wrong in a drill is said in words: no class of the program's is named to whoever runs it or reads of it."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from exitramp import errors
from exitramp.cli.main import run
from exitramp.drill.catalogue import find_drill
from exitramp.drill.engine import run_drill
from exitramp.drill.log_reading import read_events
from exitramp.drill.naming import error_words, without_classes
from exitramp.errors import ExitrampError, ModelError
from exitramp.report.writing import write_reports
from tests.drill.small_stacks import drill_text, fill, write_drill

CLASSES = [name for name, each in vars(errors).items() if inspect.isclass(each) and issubclass(each, ExitrampError)]
assert "ConsentMissing" in CLASSES
NAMED = re.compile(rf"\b(?:{'|'.join(CLASSES)})\b")


def small(folder: Path, steps: str, *, primary: str = "", substitute: str = "") -> Path:
    address = primary or fill(f"qdrant:{folder}/primary#articles")
    other = substitute or f"qdrant:{folder}/substitute?metric=cosine#articles"
    return write_drill(folder, drill_text(address, other, steps))


def test_a_drill_that_stops_names_no_class_on_the_terminal_nor_in_its_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = small(tmp_path, "  - start: {}\n  - dump: {}\n  - plan: {}\n  - restore: {}\n  - parity: {}\n")
    assert run(["drill", "run", str(file), "--out", str(tmp_path / "run")]) == 3
    shown = capsys.readouterr()
    for text in (shown.out, shown.err, *(path.read_text("utf-8") for path in (tmp_path / "run").glob("report.*"))):
        assert not NAMED.search(text), NAMED.search(text)
    assert "stopped: restore: this would lose something" in shown.out
    [aborted] = [event.data for event in read_events(tmp_path / "run" / "journal.jsonl") if event.kind == "run.aborted"]
    assert aborted["error"] == "ConsentMissing", "programs are told"


def test_a_part_that_does_not_answer_is_said_to_do_what_it_does(tmp_path: Path) -> None:
    file = small(
        tmp_path,
        "  - start: {}\n  - check_hypothesis: {}\n",
        substitute="qdrant+http://127.0.0.1:1#articles",
    )
    result = run_drill(find_drill(str(file)), tmp_path / "run", seed=1)
    [silent] = [each for each in result.findings if each.code == "hypothesis.silent"]
    assert silent.message == "the substitute's store does not answer before the outage: it cannot be reached"
    text = write_reports(tmp_path / "run")["markdown"].read_text(encoding="utf-8")
    assert "silent (it cannot be reached)" in text


def test_an_error_of_ours_that_is_no_error_of_the_users_is_called_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("by nothing")

    monkeypatch.setattr("exitramp.drill.steps.leaving.plan_move", broken)
    file = small(tmp_path, "  - start: {}\n  - dump: {}\n  - plan: {}\n")
    with pytest.raises(ZeroDivisionError):
        run_drill(find_drill(str(file)), tmp_path / "run", seed=1)
    [aborted] = [event.data for event in read_events(tmp_path / "run" / "journal.jsonl") if event.kind == "run.aborted"]
    assert (aborted["reason"], aborted["error"]) == ("a fault of exitramp itself", "ZeroDivisionError")


@pytest.mark.parametrize("name", CLASSES)
def test_every_error_has_words(name: str) -> None:
    kind = getattr(errors, name)
    made = (
        ModelError("no", error_class="rate_limit")
        if kind is ModelError
        else kind("a", "b", module="c")
        if name == "DependencyMissing"
        else kind("no")
    )
    assert name not in error_words(made)
    assert without_classes(f"restore: {name}: it went wrong") in {
        "restore: it went wrong",
        f"restore: {name}: it went wrong",
    }


def test_a_class_within_an_older_journals_sentence_becomes_words() -> None:
    assert without_classes("B refuses the search: StoreRejected") == "B refuses the search: it refused the request"
    assert without_classes("ConsentMissing: this would lose x") == "this would lose x"
    assert without_classes("the collection 'StoreRejected' holds 3") == "the collection 'StoreRejected' holds 3"


# ------------------------------------------------------------------------------ a primary that is not there


def test_a_primary_that_is_not_there_ends_the_command_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(f"qdrant:{tmp_path}/primary#articles")
    missing = f"qdrant:{tmp_path}/primary#nowhere"
    file = small(tmp_path, "  - start: {}\n  - dump: {}\n", primary=missing)
    assert run(["drill", "run", str(file), "--out", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert f"the drill has no primary: {missing}" in said
    assert f"{file}:9, primary.store.address" in said
    assert "'articles'" in said, "what is there instead"
    assert not (tmp_path / "run").exists()


def test_a_primary_that_nobody_reaches_ends_the_command_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = small(tmp_path, "  - start: {}\n  - dump: {}\n", primary="chroma+http://127.0.0.1:1#articles")
    assert run(["drill", "run", str(file), "--out", str(tmp_path / "run")]) == 5
    assert "127.0.0.1:1" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_primary_that_the_drill_makes_itself_need_not_be_there(tmp_path: Path) -> None:
    file = small(tmp_path, "  - start: {}\n  - dump: {}\n", primary="qdrant:{folder}/own#articles")
    assert (run_drill(find_drill(str(file)), tmp_path / "run", seed=1).aborted or "").startswith("dump: ")
