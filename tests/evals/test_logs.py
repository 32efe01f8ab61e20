"""Cases from logs: questions once each, what was retrieved then, and no label."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from exitramp.cli.main import run
from exitramp.errors import ConfigError
from exitramp.evals.logs import cases_of_logs
from exitramp.evals.sets import read_set

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
    "langsmith": "\n".join(
        json.dumps(row)
        for row in (
            {"inputs": {"query": "Who?"}, "outputs": {"answer": "z", "source_documents": [{"id": "a"}, {"id": "b"}]}},
            {
                "inputs": {"messages": [{"role": "human", "content": "How?"}]},
                "child_runs": [{"outputs": {"ids": ["x", "y"]}}],
            },
            {"inputs": {}},
            {"inputs": {"query": "WHO?"}},
        )
    ),
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
    assert sorted(loss["what"] for loss in told["losses"]) == [
        "a question that was asked before",
        "an entry in which no question was found",
    ]
    cases = read_set(out).cases
    assert [(case.question, case.logged_ids) for case in cases] == [("Who?", ("a", "b")), ("How?", ("x", "y"))]
    assert not any(case.is_labelled for case in cases)


def test_what_is_no_log_is_refused(tmp_path: Path) -> None:
    for form, text in (("csv", "a,b\n1,2\n"), ("langfuse", "[]"), ("langsmith", "{")):
        (tmp_path / "logs").write_text(text, "utf-8")
        with pytest.raises(ConfigError):
            cases_of_logs(tmp_path / "logs", form)
