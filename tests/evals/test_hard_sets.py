"""Files that are sets by their name and hold what no case can: one error that names it, or a loss that is listed."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from exitramp.errors import ConfigError
from exitramp.evals.sets import FORMS, read_set, write_set
from exitramp.evals.sets.plain import DEEPEST


def _row(**more: object) -> str:
    return json.dumps({"id": "a", "question": "Why?", "relevant": {"d": 1}} | more)


def _nested(depth: int) -> object:
    value: object = "x"
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("depth", [DEEPEST + 1, 900])
def test_what_is_nested_deeper_than_any_form_holds_is_refused_with_its_line(tmp_path: Path, depth: int) -> None:
    file = tmp_path / "set.jsonl"
    file.write_text(f"{_row(id='b')}\n{_row(variables={'a': _nested(depth)})}", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"set\.jsonl:2: 'variables' is nested too deep: 40 objects"):
        read_set(file)


def test_a_schema_that_is_nested_without_end_is_refused_before_it_is_read(tmp_path: Path) -> None:
    schema: object = {}
    for _ in range(500):
        schema = {"not": schema}
    file = tmp_path / "set.jsonl"
    file.write_text(_row(checks=[{"kind": "json_schema", "schema": schema}]), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"set\.jsonl:1: 'checks' is nested too deep"):
        read_set(file)


@pytest.mark.parametrize("form", FORMS)
def test_what_is_nested_as_deep_as_allowed_is_written_and_read_in_every_form(tmp_path: Path, form: str) -> None:
    file, out = tmp_path / "set.jsonl", tmp_path / "out"
    file.write_text(_row(metadata={"a": _nested(DEEPEST - 2)}), encoding="utf-8")
    write_set(read_set(file).cases, out, form)
    assert read_set(out, form).cases[0].metadata["a"] == _nested(DEEPEST - 2)


def test_bytes_in_parquet_are_an_error_with_their_row(tmp_path: Path) -> None:
    file = tmp_path / "set.parquet"
    pq.write_table(pa.table({"id": ["a"], "question": pa.array([b"\xff"], pa.binary())}), file)
    with pytest.raises(ConfigError, match=r"set\.parquet: row 1: 'question' holds something that is neither text"):
        read_set(file)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("!!binary aGk=", "holds something that is neither text"),
        ("!!set {a, b}", "holds something that is neither text"),
        (".nan", r"a number that is none \(nan\)"),
        ("-.inf", r"a number that is none \(-inf\)"),
        ('"\\ud800"', "lone surrogate"),
    ],
)
def test_what_yaml_can_say_and_a_case_cannot_is_a_case_that_is_lost(tmp_path: Path, value: str, said: str) -> None:
    file = tmp_path / "tests.yaml"
    file.write_text(f"tests:\n- vars: {{question: a}}\n- vars: {{question: b, x: {value}}}\n", encoding="utf-8")
    found = read_set(file)
    assert [case.question for case in found.cases] == ["a"]
    [loss] = found.losses
    assert loss.case_id == "test-2"
    assert re.search(f"the case as a whole: .*{said}", loss.what)


def test_names_that_are_numbers_are_texts_as_promptfoo_has_them(tmp_path: Path) -> None:
    file = tmp_path / "tests.yaml"
    file.write_text("3: a\ntests: [{vars: {5: a, ~: b, true: c, question: d}, 2: e, x: f}]", encoding="utf-8")
    found = read_set(file)
    assert found.cases[0].variables == {"5": "a", "null": "b", "true": "c"}
    assert {"the key '3' of the configuration", "the test's key '2'", "the test's key 'x'"} == {
        loss.what for loss in found.losses
    }


def test_parts_of_a_test_that_are_no_objects_or_lists_are_listed_as_lost(tmp_path: Path) -> None:
    file = tmp_path / "tests.yaml"
    file.write_text(
        "defaultTest: {vars: {question: a}, assert: file://x.js}\ntests: [{vars: vars.csv, assert: b, metadata: [1]}]",
        encoding="utf-8",
    )
    assert {loss.what.partition(",")[0] for loss in read_set(file).losses} == {
        "'assert' of defaultTest", "'vars' of the test", "'assert' of the test", "'metadata' of the test",
    }  # fmt: skip


@pytest.mark.parametrize("choices", [5, {"a": 1}, "abc"])
def test_choices_that_are_no_list_are_a_case_that_is_lost(tmp_path: Path, choices: object) -> None:
    file = tmp_path / "samples.jsonl"
    rows = [{"input": "a", "target": "b"}, {"id": "odd", "input": "a", "target": "A", "choices": choices}]
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    found = read_set(file, "inspect")
    assert [case.id for case in found.cases] == ["sample-1"]
    assert ("odd", "the case as a whole: its choices are no list") in {
        (each.case_id, each.what) for each in found.losses
    }


def test_a_file_without_a_case_is_not_said_to_lack_a_scorer(tmp_path: Path) -> None:
    (tmp_path / "blank.jsonl").write_text("\n \n", encoding="utf-8")
    for form in ("inspect", "openai-evals"):
        with pytest.raises(ConfigError, match=r"blank\.jsonl: no case in it$"):
            read_set(tmp_path / "blank.jsonl", form)


def test_as_many_losses_and_equal_ids_as_cases_take_no_longer_than_the_cases(tmp_path: Path) -> None:
    """Held against each other one by one, 50,000 losses and ids are more than a thousand million comparisons each."""
    file = tmp_path / "samples.jsonl"
    file.write_text("\n".join(['{"id": "same", "input": "Why?", "ideal": 3}'] * 50_000), encoding="utf-8")
    found = read_set(file, "openai-evals")
    assert (found.cases[0].id, found.cases[-1].id) == ("same", "same-50000")
    assert len(found.losses) == 50_001
