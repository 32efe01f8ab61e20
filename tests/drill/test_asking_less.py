"""Fewer questions and shorter answers, for a model that is slow: what is asked, and how its answers end."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from exitramp.drill.catalogue import find_drill, read_drill
from exitramp.drill.inputs import load_cases, packaged_drills
from exitramp.drill.questions import one_question
from exitramp.drill.steps import build
from exitramp.errors import ConfigError
from exitramp.orchestration.attempts import _request
from exitramp.orchestration.stack import Question, RenderedPrompt
from exitramp.orchestration.under_way import request_sha256

DRILL = packaged_drills()["bad_backup"]


@pytest.mark.parametrize(("limit", "asked"), [(32, 32), (1, 1), (119, 119), (500, 119), (None, 119)])
def test_the_questions_that_are_left_are_spread_over_the_set_and_always_the_same(
    limit: int | None, asked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = find_drill("bad_backup")
    every = load_cases(spec)
    everything = {id_: 1 for case in every for id_ in case.relevant}
    monkeypatch.setattr(build, "_present", lambda run, wanted: everything)
    run: Any = SimpleNamespace(spec=spec, golden=())
    data = build._golden(run, build.GoldenArguments(limit)).data
    assert (data["cases"], data["of"], len(run.golden)) == (asked, len(every), asked)
    assert len({case.id for case in run.golden}) == asked
    if asked >= 30:
        shares = {name: number / asked for name, number in data["use_cases"].items()}
        whole = {name: sum(case.use_case == name for case in every) / len(every) for name in shares}
        assert all(abs(shares[name] - whole[name]) < 0.05 for name in whole), (shares, whole)


def test_how_long_an_answer_may_be_and_where_it_ends_reaches_the_vendor() -> None:
    run: Any = SimpleNamespace(spec=find_drill("bad_backup"))
    question = one_question(run, "q", "How?", "docs_qa", "tag")
    request = _request(question, RenderedPrompt(()))
    assert (question.depth_k, request.maximum_tokens, request.stop) == (1, 120, ("\n\n",))
    plain, other = (Question("q", "How?", "docs_qa", stop=stop) for stop in ((), ("\n\n",)))
    assert request_sha256(plain) != request_sha256(other), "they are not the same request"


def test_an_empty_stop_is_refused_with_its_line() -> None:
    with pytest.raises(ConfigError, match="would end every answer") as caught:
        read_drill(DRILL.replace('["\\n\\n"]', '[""]'), "mine.yaml", Path())
    assert str(caught.value).startswith("mine.yaml:")
