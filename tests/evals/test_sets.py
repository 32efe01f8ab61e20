"""Sets carry over between forms, and what does not is listed."""

from __future__ import annotations

import json
import os
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from exitramp.cli.main import run
from exitramp.errors import ConfigError, DataInvalid, PathUnusable
from exitramp.evals.golden import load_golden
from exitramp.evals.sets import FORMS, Case, read_set, set_sha256, write_set
from exitramp.evals.sets.case import parse_case

PROMPTFOO = """
prompts: ["Answer: {{question}}"]
providers: [openai:some]
defaultTest:
  vars: {tone: polite}
  assert: [{type: not-icontains, value: sorry}]
tests:
  - description: capital
    vars: {question: "What is the capital of {{country}}?", country: [France, Italy]}
    assert:
      - {type: icontains, value: "{{country}}"}
      - {type: contains-any, value: [Paris, Rome], weight: 2}
      - {type: javascript, value: "output.length < 10"}
  - vars: {question: "Two and two?", expected: "4"}
    assert: [{type: equals, value: "{{expected}}"}, {type: similar, value: four, threshold: 0.8}]
  - vars: {question: Give JSON}
    assert: [{type: is-json, value: {type: object}}, {type: llm-rubric, value: is short}]
    threshold: 0.5
  - file://more.yaml
"""


def _case(**data: Any) -> Case:
    return parse_case({"id": "c1", "question": "Why?"} | data)


FULL = _case(
    use_case="support",
    checks=[{"kind": "contains", "text": "Ünï"}, {"kind": "number", "value": 3, "tolerance": 0.5}],
    relevant={"doc/1": 3},
    logged_ids=["a", "b"],
    variables={"depth": 2, "list": [1, None]},
    metadata={"by": "me"},
    vector=[0.5, 1],
    token_overlap=1,
)
TALK = parse_case(
    {
        "id": "c2",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Which?"}],
        "choices": ["this", "that"],
        "checks": [{"kind": "choice", "text": "B"}],
    }
)


@pytest.mark.parametrize("name", ["set.jsonl", "set.parquet"])
def test_our_own_forms_keep_everything_and_the_hash(name: str, tmp_path: Path) -> None:
    assert write_set((FULL, TALK), tmp_path / name) == ()
    back = read_set(tmp_path / name)
    assert back.losses == ()
    assert [dict(case.data) for case in back.cases] == [dict(FULL.data), dict(TALK.data)]
    assert [case.sha256 for case in back.cases] == [FULL.sha256, TALK.sha256]


def test_the_packaged_golden_set_is_a_set_with_the_same_hashes(tmp_path: Path) -> None:
    with as_file(files("exitramp_fixtures") / "golden" / "pydocs.jsonl") as path:
        golden, found = load_golden(path), read_set(path).cases
    assert [case.sha256 for case in golden] == [case.sha256 for case in found]
    assert all(case.checks and case.relevant for case in found)
    write_set(found, tmp_path / "x.parquet")
    assert set_sha256(read_set(tmp_path / "x.parquet").cases) == set_sha256(found)


def test_a_changed_case_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "set.jsonl"
    write_set((FULL, TALK), path)
    path.write_text(path.read_text("utf-8").replace("Which?", "What?"), "utf-8")
    with pytest.raises(ConfigError, match=r"set.jsonl:2: .*'c2' does not match"):
        read_set(path)


def test_promptfoo_tests_come_in_multiplied_out_and_filled_in(tmp_path: Path) -> None:
    path = tmp_path / "promptfooconfig.yaml"
    path.write_text(PROMPTFOO, "utf-8")
    found = read_set(path)
    assert [case.id for case in found.cases] == ["capital", "capital-2", "test-2", "test-3"]
    france = found.cases[0]
    assert france.variables == {"country": "France", "tone": "polite"}
    assert france.checks[1].data == {"kind": "contains", "text": "France"}
    assert not france.checks[0].holds("Sorry, no")
    assert found.cases[2].checks[1].data == {"kind": "exact", "text": "4", "as_written": True}
    assert [check.kind for check in found.cases[3].checks] == ["contains", "json_schema", "judge"]
    lost = {(loss.case_id, loss.what) for loss in found.losses}
    assert ("capital", "an assertion of type javascript") in lost
    assert ("capital", "the key 'weight' of an assertion of type contains-any") in lost
    assert ("test-3", "the test's key 'threshold'") in lost
    assert (None, "test 4: it stands in another file, or is no object") in lost
    assert (None, "the key 'providers' of the configuration") in lost


def test_openai_evals_and_inspect_come_in_and_go_out(tmp_path: Path) -> None:
    evals = tmp_path / "evals.jsonl"
    rows: list[dict[str, Any]] = [
        {"input": [{"role": "system", "content": "S"}, {"role": "user", "content": "U?"}], "ideal": ["a", "b"]},
        {"input": "plain?", "ideal": "x", "extra": 1},
        {"input": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}], "ideal": "x"},
    ]
    evals.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    found = read_set(evals, "openai-evals")
    assert [case.question for case in found.cases] == ["U?", "plain?"]
    assert found.cases[0].checks[0].data == {"kind": "starts_with", "texts": ["a", "b"]}
    assert found.cases[1].metadata == {"extra": 1}
    assert any(loss.case_id == "line-3" and "not text" in loss.what for loss in found.losses)
    losses = write_set(found.cases, tmp_path / "out.jsonl", "inspect")
    assert any("compared by starts_with" in loss.what for loss in losses)
    back = read_set(tmp_path / "out.jsonl", "inspect", meaning="starts_with")
    assert [case.checks for case in back.cases] == [case.checks for case in found.cases]


def test_inspects_choices_are_letters(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    path.write_text(
        json.dumps({"id": 7, "input": "Which?", "choices": ["x", "y"], "target": "B", "sandbox": "docker"}), "utf-8"
    )
    found = read_set(path, "inspect")
    [case] = found.cases
    assert case.id == "7"
    assert case.checks[0].data == {"kind": "choice", "texts": ["B"]}
    assert case.asked()[-1].content == "Which?\n\nA) x\nB) y\n\nEnd with ANSWER: and the letter of the right choice."
    assert any(loss.what == "the key 'sandbox'" for loss in found.losses)


@pytest.mark.parametrize("form", [form for form in FORMS if form not in ("jsonl", "parquet")])
def test_what_another_form_cannot_say_is_listed_part_by_part(form: str, tmp_path: Path) -> None:
    what = " ".join(loss.what for loss in write_set((FULL, TALK), tmp_path / "out", form))
    assert "relevant ids" in what
    assert "vector" in what
    assert "number" in what
    assert ("messages before the question" in what) is (form == "promptfoo")


def test_promptfoo_reads_back_what_was_written_for_it(tmp_path: Path) -> None:
    checks = [{"kind": "contains_all", "phrases": ["a"]}, {"kind": "regex", "pattern": "b", "not": True}]
    case = _case(checks=checks, variables={"x": "1"}, use_case="u")
    write_set((case,), tmp_path / "out.yaml")
    [back] = read_set(tmp_path / "out.yaml").cases
    assert (back.id, back.use_case, back.question, back.checks) == ("c1", "u", "Why?", case.checks)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"question": "a", "messages": []}, "either"),
        ({"messages": [{"role": "assistant", "content": "x"}], "question": None}, "either"),
        ({"question": "", "x": 1}, "unknown key 'x'"),
        ({"question": "a", "checks": {}}, "not a list"),
        ({"question": "a", "relevant": {"d": 4}}, "not 1, 2 or 3"),
        ({"question": "a", "logged_ids": ["a", "a"]}, "twice"),
    ],
)
def test_what_is_no_case_is_refused(data: dict[str, Any], said: str) -> None:
    with pytest.raises(DataInvalid, match=said):
        parse_case({"id": "c"} | data)


def test_the_command_converts_and_says_what_was_lost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "tests.yaml"
    source.write_text(PROMPTFOO, "utf-8")
    assert run(["eval", "sets", "convert", str(source), str(tmp_path / "out.parquet"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["cases"] == 4
    assert told["set_sha256"] == set_sha256(read_set(tmp_path / "out.parquet").cases)
    assert {"case_id": "capital", "what": "an assertion of type javascript"} in told["losses"]
    assert run(["eval", "sets", "convert", str(tmp_path / "no.jsonl"), str(tmp_path / "o.jsonl")]) == 2
    assert "no.jsonl" in capsys.readouterr().err
    (tmp_path / "broken.yaml").write_text("a: [", "utf-8")
    assert run(["eval", "sets", "convert", str(tmp_path / "broken.yaml"), str(tmp_path / "o.jsonl")]) == 2


DEEP = "[" * 200_000 + "]" * 200_000


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "no case in it"),
        (b"\n \r\n\t\n", "no case in it"),
        ('{"id": "a", "question": "b"}'.encode("utf-16"), ":1: not UTF-8 but UTF-16"),
        ('{"id": "a", "question": "\u00e9"}'.encode("latin-1"), ":1: not UTF-8"),
        (b'{"id": "a", "question": "\\ud800"}', ":1: a text in the case holds a lone surrogate"),
        (b'{"id": "a", "question": "b", "metadata": {"x": NaN}}', ":1: NaN is not JSON"),
        (b'{"id": "a", "question": "b", "metadata": {"x": 1e999}}', ":1: a number in it is greater than any"),
        (
            b'{"id": "a", "question": "b", "metadata": {"x": ' + b"9" * 5000 + b"}}",
            ":1: a number in it has 5,000 figures",
        ),
        (b'{"id": "a", "id": "a", "question": "b"}', ":1: the key 'id' stands twice"),
        (f'{{"id": "a", "question": {DEEP}}}'.encode(), ":1: JSON nested too deep"),
        (b'{"id": "a", "question": "b"}\n{"id": "a", "question": "c"}', ":2: the id 'a' was already used on line 1"),
        (b'{"id": ["a"], "question": "b"}', ":1: 'id' is not a text"),
    ],
)
def test_a_file_that_is_no_set_is_one_error_with_its_line(tmp_path: Path, raw: bytes, said: str) -> None:
    path = tmp_path / "set.jsonl"
    path.write_bytes(raw)
    with pytest.raises(ConfigError) as caught:
        read_set(path)
    assert said in str(caught.value)


def test_marks_line_ends_and_long_texts_are_no_matter(tmp_path: Path) -> None:
    path = tmp_path / "set.jsonl"
    rows = [{"id": "a", "question": "x" * 10_000_000}, {"id": "b", "question": "\u2028?"}]
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(json.dumps(row, ensure_ascii=False) for row in rows).encode())
    assert [len(case.question) for case in read_set(path).cases] == [10_000_000, 2]


def test_what_is_no_file_is_refused_and_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jsonl")
    os.mkfifo(tmp_path / "pipe.parquet")
    for name in ("pipe.jsonl", "pipe.parquet"):
        with pytest.raises(ConfigError, match="is a named pipe, and no file"):
            read_set(tmp_path / name)
    for name in ("folder.jsonl", "folder.parquet"):
        (tmp_path / name).mkdir()
        with pytest.raises(PathUnusable, match="Is a directory"):
            read_set(tmp_path / name)


@pytest.mark.parametrize("raw", [b"", b"PAR1", b"PAR1" + b"\0" * 100 + b"PAR1", b'{"id": "a"}'])
def test_bytes_that_are_no_parquet_are_a_wrong_file_and_no_failing_disk(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "set.parquet").write_bytes(raw)
    with pytest.raises(ConfigError, match=r"set\.parquet: not a Parquet file that can be read"):
        read_set(tmp_path / "set.parquet")


def test_a_parquet_row_without_an_id_or_with_a_number_for_a_text_is_named_by_its_row(tmp_path: Path) -> None:
    path = tmp_path / "set.parquet"
    for column, said in (([None], "row 1: the key 'id' is missing"), ([7], "row 1: 'id' is not a text")):
        pq.write_table(pa.table({"id": column, "question": ["Why?"], "relevant": [None]}), path)
        with pytest.raises(ConfigError, match=said):
            read_set(path)
    pq.write_table(pa.table({"id": ["a"], "question": ["Why?"], "checks": [[{"kind": "contains"}]]}), path)
    with pytest.raises(ConfigError, match="row 1: the column 'checks' does not hold JSON as text"):
        read_set(path)


def test_a_promptfoo_file_that_multiplies_out_without_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tests.yaml"
    names = {f"v{n}": [str(value) for value in range(10)] for n in range(8)}
    path.write_text(json.dumps({"tests": [{"vars": names | {"question": "Why?"}}]}), "utf-8")
    with pytest.raises(ConfigError, match="test 1 stands for 100,000,000 cases, its lists multiplied out"):
        read_set(path)
    path.write_text("tests:\n- vars: {question: no, at: 1:30}\n", "utf-8")
    [case] = read_set(path).cases
    assert (case.question, case.variables) == ("no", {"at": "1:30"})
