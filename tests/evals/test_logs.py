"""Cases from logs: questions once each, what was retrieved then, and no label."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from exitramp.cli.main import run
from exitramp.errors import ConfigError
from exitramp.evals.logs import cases_of_logs
from exitramp.evals.sets import read_set

RUNS: tuple[dict[str, Any], ...] = (
    {"inputs": {"query": "Who?"}, "outputs": {"answer": "z", "source_documents": [{"id": "a"}, {"id": "b"}]}},
    {
        "inputs": {"messages": [{"role": "human", "content": "How?"}]},
        "child_runs": [{"outputs": {"ids": ["x", "y"]}}],
    },
    {"inputs": {}},
    {"inputs": {"query": "WHO?"}},
)
LOGS = {
    "csv": 'Question,ids\nWho?,"[""a"", ""b""]"\n"who? ",c\n,d\nHow?,x;y\n',
    "langfuse": json.dumps(
        {
            "data": [
                {"input": {"question": "Who?"}, "observations": [{"output": [{"id": "a"}, {"id": "b"}, {"id": "a"}]}]},
                {
                    "input": [{"role": "user", "content": "How?"}],
                    "output": {"documents": [{"metadata": {"id": "x"}}, "y"]},
                },
                {"input": None},
                {"input": "who?"},
            ]
        }
    ),
    "langsmith": "\n".join(map(json.dumps, RUNS)),
}


@pytest.mark.parametrize("form", sorted(LOGS))
def test_logs_become_unlabelled_cases_and_what_cannot_be_one_is_listed(
    form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "logs").write_text(LOGS[form], "utf-8")
    out = tmp_path / "set.jsonl"
    assert run(["eval", "bootstrap", str(tmp_path / "logs"), "--from", form, "--out", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert "nobody labelled" in told["note"]
    outputs = ["outputs, but for documents' ids (1 of its entries)"] if form != "csv" else []
    assert sorted(loss["what"] for loss in told["losses"]) == [
        "a question that was asked before",
        "an entry in which no question was found",
        *outputs,
    ]
    cases = read_set(out).cases
    assert [(case.question, case.logged_ids) for case in cases] == [("Who?", ("a", "b")), ("How?", ("x", "y"))]
    assert not any(case.is_labelled for case in cases)


def test_of_a_question_that_was_asked_twice_the_one_with_ids_is_kept(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("question,ids\nWho?,\nHow?,z\nwho?,a;b\nWHO?,\nwho?,c\n", "utf-8")
    found = cases_of_logs(tmp_path / "logs", "csv")
    assert [(case.question, case.logged_ids) for case in found.cases] == [("who?", ("a", "b")), ("How?", ("z",))]
    assert [(loss.case_id, loss.what.partition(",")[0]) for loss in found.losses] == [
        ("csv 2", "a question that was asked again later"),
        ("csv 5", "a question that was asked before"),
        ("csv 6", "a question that was asked before"),
    ]


def test_a_header_without_a_question_is_told_what_to_write(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a,b\n1,2\n", "utf-8")
    with pytest.raises(ConfigError, match="no column is called") as caught:
        cases_of_logs(tmp_path / "logs", "csv")
    assert "in the first line" in str(caught.value.hint)


def test_what_is_no_log_is_refused(tmp_path: Path) -> None:
    for form, text in (("csv", "a,b\n1,2\n"), ("langfuse", "[]"), ("langsmith", "{")):
        (tmp_path / "logs").write_text(text, "utf-8")
        with pytest.raises(ConfigError):
            cases_of_logs(tmp_path / "logs", form)


# Written by hand in the shapes that the tools' own documentation and exporters show; no file of somebody's traces.
DOCUMENT = {"page_content": "…", "metadata": {"source": "kb.pdf", "chunk_id": "kb#7"}, "type": "Document", "id": None}
SERIALISED = {"lc": 1, "type": "constructor", "id": ["langchain", "schema", "document", "Document"]}
HUMAN = {
    "lc": 1,
    "type": "constructor",
    "id": ["langchain", "schema", "messages", "HumanMessage"],
    "kwargs": {"content": "Why?", "type": "human"},
}
SHAPES: dict[str, tuple[str, Any]] = {
    "langfuse: the interface's export of one trace": (
        "langfuse",
        {
            "trace": {"id": "t", "input": '{"args": [], "kwargs": {"question": "Why?"}}', "output": '"because"'},
            "observations": [
                {"id": "o1", "type": "GENERATION", "output": '{"role": "assistant", "content": "because"}'},
                {"id": "o2", "type": "RETRIEVER", "input": '"Why?"', "output": json.dumps([DOCUMENT])},
            ],
        },
    ),
    "langfuse: traces of the API, observations by id": (
        "langfuse",
        {"data": [{"input": {"messages": [{"role": "user", "content": [{"type": "text", "text": "Why?"}]}]},
                   "output": {"documents": [{"id": "kb#7"}]}, "observations": ["o1"]}], "meta": {"page": 1}},
    ),
    "langsmith: flat runs": (
        "langsmith",
        [
            {"run_id": "3", "trace_id": "1", "parent_run_id": "1", "run_type": "llm",
             "inputs": {"messages": [[HUMAN]]}, "outputs": {"generations": [[{"text": "because"}]]}},
            {"run_id": "1", "trace_id": "1", "parent_run_id": None, "run_type": "chain", "inputs": {"input": "Why?"},
             "outputs": {"output": "because"}},
            {"run_id": "2", "trace_id": "1", "parent_run_id": "1", "run_type": "retriever", "inputs": {"query": "Why?"},
             "outputs": {"documents": [DOCUMENT]}},
        ],
    ),
    "langsmith: nested, and serialised by LangChain": (
        "langsmith",
        {"inputs": {"messages": [[HUMAN]]}, "outputs": {"messages": [HUMAN]}, "child_runs": [
            {"run_type": "chain", "outputs": {"output": "x"}, "child_runs": [
                {"run_type": "retriever", "outputs": {"documents": [
                    SERIALISED | {"kwargs": {"page_content": "…", "metadata": {"id": "kb#7"}}}]}}]}]},
    ),
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_the_tools_own_shapes_are_read(shape: str, tmp_path: Path) -> None:
    form, data = SHAPES[shape]
    texts = [json.dumps(data)]
    if isinstance(data, list):
        texts.append("\n".join(map(json.dumps, data)))
    for text in texts:
        (tmp_path / "logs.json").write_text(text, "utf-8")
        found = cases_of_logs(tmp_path / "logs.json", form)
        assert [(case.question, case.logged_ids) for case in found.cases] == [("Why?", ("kb#7",))]


EXPORTED = Path(__file__).parent / "exports"
OUTSIDE = {"tags and metadata", "times, tokens and costs", "users and sessions", "outputs, but for documents' ids"}
OF_VENDORS: dict[str, tuple[list[tuple[str, tuple[str, ...]]], set[str]]] = {
    "langfuse-3-trace.json": (
        [("The one in this picture.", ("kb#1", "kb#2"))],
        {"a part of the question that is no text (image_url)", "the messages before the question", *OUTSIDE},
    ),
    "langfuse-3-traces.json": (
        [("How long?", ("kb#3",))],
        {"an entry in which no question was found", "scores and feedback"},
    ),
    "langfuse-5-observations.json": (
        [("Who?", ("kb#1", "kb#2")), ("How long?", ())],
        {
            "retrieved ids: nothing can be measured on it until somebody labels it",
            "that they ended in an error",
            *OUTSIDE,
        },
    ),
    "langsmith-runs.jsonl": (
        [("The one in this picture.", ("kb#1", "kb#2")), ("How long?", ()), ("What is it?", ()), ("Why?", ())],
        {
            "a part of the question that is no text (image_url)",
            "the messages before the question",
            "what else was given: chat_history",
            "what else was given: model",
            "an entry in which no question was found",
            "scores and feedback",
            "that they ended in an error",
            *OUTSIDE,
        },
    ),
}


@pytest.mark.parametrize("name", OF_VENDORS)
def test_what_the_tools_own_code_writes_is_read_and_what_has_no_place_is_listed(name: str) -> None:
    expected, lost = OF_VENDORS[name]
    found = cases_of_logs(EXPORTED / name, name.partition("-")[0])
    assert [(case.question, case.logged_ids) for case in found.cases] == expected
    assert {loss.what.partition(" (")[0] if "entries)" in loss.what else loss.what for loss in found.losses} >= lost


def test_a_run_without_the_one_that_it_ran_inside_is_told_and_so_are_documents_without_an_id(tmp_path: Path) -> None:
    runs = [
        {"id": "2", "trace_id": "1", "parent_run_id": "1", "run_type": "retriever", "inputs": {"query": "Why?"},
         "outputs": {"documents": [{"id": "a"}, {"page_content": "…", "metadata": {}}]}},
    ]  # fmt: skip
    (tmp_path / "runs.json").write_text(json.dumps(runs), "utf-8")
    found = cases_of_logs(tmp_path / "runs.json", "langsmith")
    assert found.cases[0].logged_ids == ("a",)
    told = {loss.what for loss in found.losses}
    assert "a retrieved document that has no id" in told
    assert any(what.startswith("what it ran inside, which is not in the file") for what in told)


def test_a_table_may_hold_json_in_its_cells_long_ones_too_and_its_other_columns_are_listed(tmp_path: Path) -> None:
    import csv

    question = json.dumps({"messages": [{"role": "user", "content": "Why?"}]})
    with (tmp_path / "t.csv").open("w", newline="") as out:
        csv.writer(out).writerows(
            [
                ("input", "output", "cost"),
                (question, json.dumps({"documents": [{"id": "a", "text": "x" * 200_000}]}), "1"),
            ]
        )
    found = cases_of_logs(tmp_path / "t.csv", "csv")
    assert [(case.question, case.logged_ids) for case in found.cases] == [("Why?", ("a",))]
    assert [loss.what for loss in found.losses] == ["the column 'cost' (1 of its entries)"]
