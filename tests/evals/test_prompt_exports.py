"""Prompts in files that the tools' own code wrote (`exports/README.md`): the same text in both engines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from exitramp.errors import ConfigError
from exitramp.evals.prompts.checking import check_prompts, render_twice, variables_in
from exitramp.evals.prompts.importing import read_prompts, write_prompts
from exitramp.evals.prompts.rewriting import from_f_string
from exitramp.records import Verdict

EXPORTED = Path(__file__).parent / "exports"
BRACES_TOLD = "mustache's own delimiters: braces in the text would look like a tag, so that others stand around it"


def taken(name: str, form: str) -> tuple[dict[str, str], dict[str, set[str]]]:
    """Templates and losses by prompt, of a file that the tool's own code wrote."""
    found, losses = read_prompts(EXPORTED / name, form)
    lost: dict[str, set[str]] = {}
    for loss in losses:
        lost.setdefault(str(loss.case_id), set()).add(loss.what)
    return {each.name: each.template for each in found}, lost


def rendered(template: str, **variables: Any) -> set[str]:
    """What both engines make of it."""
    return set(render_twice(template, variables))


def test_langfuses_prompts_render_as_its_own_code_renders_them_and_older_versions_are_listed() -> None:
    templates, lost = taken("langfuse-5-prompts.json", "langfuse")
    assert set(templates) == {"support-answer", "plain"}
    said = rendered(templates["support-answer"], tone="kind", question="{{a}}", a={"b": "B"}, **{"user-name": "<Ada>"})
    assert said == {'Be kind. JSON: {"a": {"b": 1}}\n\n{{a}} for <Ada> of B'}
    assert lost["support-answer"] >= {
        "its version 2: the newest is taken",
        "its name 'support/answer', which no file can have",
        "a placeholder for other messages (history)",
        "that 'a.b' is one name: mustache looks for its parts inside one another",
        "the roles of its messages (system, user): one text of all",
        "the key labels",
        "the key commitMessage",
        "setting model",
    }
    assert rendered(templates["plain"], x="X") == {"Say {{{x}}} and X."}
    assert "a place that is no name: it stands in the template as it was" in lost["plain"]


def test_a_listing_of_prompts_is_told_from_prompts() -> None:
    with pytest.raises(ConfigError) as caught:
        read_prompts(EXPORTED / "langfuse-5-prompt-list.json", "langfuse")
    assert "without the prompt's text" in str(caught.value.hint)


def test_langchains_chat_prompt_renders_as_langchain_renders_it_but_for_what_is_listed() -> None:
    templates, lost = taken("langchain-chat.json", "langchain")
    text = rendered(templates["langchain-chat"], tone="kind", x="1", question="Who?", y="z")
    assert text == {'Be kind. JSON: {"a": {1}}\n\nWho? and z\n\nSay {{this}} {as} it is.\n\n{ok}'}
    assert variables_in(templates["langchain-chat"]) == {"tone", "x", "question", "y"}
    assert lost["langchain-chat"] >= {
        "the key partial_variables",
        "a placeholder for other messages (history)",
        "a part of a message that is no text (ImagePromptTemplate)",
        "how the variable 'question' is formatted",
        "how the variable 'y' is formatted",
        BRACES_TOLD,
    }


def test_langchains_other_templates_and_what_it_cannot_write_down() -> None:
    templates, lost = taken("langchain-mustache.json", "langchain")
    said = rendered(templates["langchain-mustache"], passages=[{"text": "<"}], question="&", raw='"')
    assert (said, lost) == ({'< & "'}, {})
    templates, lost = taken("langchain-jinja2.json", "langchain")
    assert rendered(templates["langchain-jinja2"], q="Q") == {"{%- if q -%}{{ q | upper }}{%- endif %} aQ"}
    assert lost["langchain-jinja2"] >= {
        "comments",
        "loops, conditions or filters: they stand in the template as they were",
    }
    with pytest.raises(ConfigError) as caught:
        read_prompts(EXPORTED / "langchain-few-shot.json", "langchain")
    assert "FewShotPromptTemplate" in str(caught.value.hint)


@pytest.mark.parametrize("version", [1, 2])
def test_both_versions_of_prompty_bring_their_samples_and_their_types(version: int, tmp_path: Path) -> None:
    found, losses = read_prompts(EXPORTED / f"prompty-{version}.prompty", "prompty")
    write_prompts(found, tmp_path)
    side_car = yaml.safe_load((tmp_path / "basic.yaml").read_text("utf-8"))
    assert side_car["model_hints"] == {"temperature": 0.2, "max_tokens": 200}
    assert side_car["golden_variables"] == [{"variables": {"question": "Who & why?", "firstName": "Ada"}}]
    assert side_car["input_schema"]["properties"]["question"] == {"type": "string"}
    template = (tmp_path / "basic.mustache").read_text("utf-8")
    said = {"Always first.\n\nBe brief with <A>.\n\nQ ![x](y.png)"}
    assert rendered(template, question="Q", firstName="<A>") == said
    assert check_prompts(tmp_path).verdict is Verdict.PASS
    told = {loss.what for loss in losses}
    assert told >= {
        "the roles of its messages (system, system, user): one text of all",
        "a message's own settings, such as its name",
        "an image in a message: it stands in the template as it was",
        "model.connection" if version == 2 else "model.configuration",
        "setting topP" if version == 2 else "setting top_p",
    }
    assert version == 1 or "that the input 'history' is of the kind thread: it becomes text" in told


def test_what_promptfoo_takes_for_a_path_is_none_of_its_prompts_here_either(tmp_path: Path) -> None:
    chat = {"id": "i", "raw": '[{"role": "user", "content": "{{x}}"}]', "label": "chat"}
    prompts = [
        *("prompts/*.txt", "prompt.json", "script.py:function", "exec: ./run.sh", "langfuse://p:3", "file://p.txt"),
        "Compare a/b: {{x}}",
        chat,
        "- role: system\n  content: Be {{tone}}.\n- role: user\n  content: '{{ x | upper }}'\n",
    ]
    config = {"prompts": prompts, "providers": ["p"], "tests": [{"vars": {"x": 1}}], "description": "d"}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config), "utf-8")
    found, losses = read_prompts(tmp_path / "c.yaml", "promptfoo")
    assert [each.template for each in found][:2] == ["Compare a/b: {{{x}}}", "{{{x}}}"]
    assert rendered(found[2].template, tone="kind") == {"Be kind.\n\n{{ x | upper }}"}
    told = [loss.what for loss in losses]
    assert told.count("a prompt that stands in another file, or is a script") == 6
    assert {"the key providers of the configuration"} < set(told)
    assert "the key tests of the configuration: see `exitramp eval sets convert`" in told


BRACES = ("{", "}", "{{", "}}", '{"a": {"b": 1}}', "{{=<% %>=}}", "<% x %>", "\n{{x}}\n", "a\n", "")


@pytest.mark.parametrize("before", BRACES)
@pytest.mark.parametrize("after", BRACES)
def test_a_text_with_braces_is_that_text_in_both_engines(before: str, after: str) -> None:
    def doubled(text: str) -> str:
        return text.replace("{", "{{").replace("}", "}}")

    made = from_f_string(f"{doubled(before)}{{v}}{doubled(after)}", lambda what: None)
    assert rendered(made, v="<&>") == {f"{before}<&>{after}"}
    assert variables_in(made) == {"v"}
