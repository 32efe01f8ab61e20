"""Prompts: the specification's own tests, what makes one portable, and what is taken over from other tools."""

from __future__ import annotations

import json
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import combustache
import pytest
import yaml

from exitramp.cli.main import run
from exitramp.errors import ConfigError
from exitramp.evals.prompts.checking import check_prompts, variables_in
from exitramp.evals.prompts.importing import read_prompts
from exitramp.records import Verdict

SPEC = Path(__file__).parent / "mustache_spec"
TESTS = [
    pytest.param(test, id=f"{path.stem}: {test['name']}")
    for path in sorted(SPEC.glob("*.json"))
    for test in json.loads(path.read_text("utf-8"))["tests"]
]


@pytest.mark.parametrize("test", TESTS)
def test_the_engine_renders_what_the_specification_says(test: dict[str, Any]) -> None:
    assert combustache.render(test["template"], test["data"], test.get("partials", {})) == test["expected"]


def test_the_core_of_the_specification_is_whole() -> None:
    assert len(TESTS) == 133


def test_the_packaged_prompts_are_portable(capsys: pytest.CaptureFixture[str]) -> None:
    with as_file(files("exitramp_fixtures") / "prompts") as folder:
        found = check_prompts(folder)
        assert (found.verdict, found.rendered) == (Verdict.PASS, 9)
        assert run(["prompts", "check", str(folder), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["prompts"]) == 3


def prompt(folder: Path, template: str, **changes: Any) -> Path:
    import hashlib

    (folder / "p.mustache").write_text(template, "utf-8")
    names = sorted(variables_in(template))
    side_car = {
        "name": "p",
        "version": 1,
        "sha256": hashlib.sha256(template.encode()).hexdigest(),
        "input_schema": {"type": "object", "properties": {name: {} for name in names}},
        "golden_variables": [{"variables": dict.fromkeys(names, "a <b> & c")}],
    } | changes
    (folder / "p.yaml").write_text(yaml.safe_dump(side_car), "utf-8")
    return folder


@pytest.mark.parametrize(
    ("template", "changes", "code"),
    [
        ("{{question}}", {}, "escaping"),
        ("{{question}}", {}, "portable"),
        ("{{{a}}}", {"sha256": "0" * 64}, "sha256"),
        ("{{{a}}}", {"input_schema": {"type": "object", "properties": {"b": {}}}}, "schema"),
        (
            "{{{a}}}",
            {"golden_variables": [{"variables": {"a": 1}}], "input_schema": {"properties": {"a": {"type": "string"}}}},
            "golden",
        ),
        ("{{{a}}}", {"golden_variables": [{"variables": {"a": "x"}, "rendered_sha256": "0" * 64}]}, "golden"),
        ("{{>other}}{{{a}}}", {}, "portable"),
        ("{{{a}}}", {"name": "q"}, "name"),
        ("{{{a}}}", {"version": None}, "side_car"),
    ],
)
def test_what_makes_a_prompt_unportable_is_found(
    template: str, changes: dict[str, Any], code: str, tmp_path: Path
) -> None:
    found = check_prompts(prompt(tmp_path, template, **changes))
    assert found.verdict is Verdict.FAIL
    assert code in {finding.code for finding in found.findings}


def test_a_sound_prompt_passes_and_one_without_golden_variables_does_not(tmp_path: Path) -> None:
    template = "{{#passages}}{{{text}}}{{/passages}}{{{a.b}}}"
    golden = [{"variables": {"passages": [{"text": "<x>"}], "a": {"b": "&"}}}]
    assert check_prompts(prompt(tmp_path, template, golden_variables=golden)).verdict is Verdict.PASS
    assert check_prompts(prompt(tmp_path, template, golden_variables=[])).verdict is Verdict.FAIL


EXPORTS: dict[str, tuple[str, str]] = {
    "langfuse": (
        "export.json",
        json.dumps(
            [
                {
                    "name": "qa",
                    "version": 3,
                    "type": "chat",
                    "labels": ["production"],
                    "config": {"temperature": 0.2, "model": "x"},
                    "prompt": [{"role": "system", "content": "Be {{tone}}."}, {"role": "user", "content": "{{q}}"}],
                }
            ]
        ),
    ),
    "prompty": (
        "qa.prompty",
        (
            "---\nname: qa\nversion: 3\nmodel:\n  api: chat\n  parameters: {temperature: 0.2, top_p: 0.9}\n---\n"
            "system:\nBe {{tone}}.\n\nuser:\n{{q}}\n{% for x in y %}{% endfor %}\n"
        ),
    ),
    "promptfoo": ("conf.yaml", 'prompts:\n  - label: qa\n    raw: "Be {{tone}}. {{ q }}"\n  - file://x.py\n'),
    "langchain": (
        "lc.json",
        json.dumps(
            {
                "lc": 1,
                "id": ["langchain", "prompts", "prompt", "PromptTemplate"],
                "name": "qa",
                "kwargs": {
                    "template": "Be {tone}. {{as is}} {q}",
                    "input_variables": ["q"],
                    "partial_variables": {"tone": "x"},
                },
            }
        ),
    ),
}
LOST = {
    "langfuse": {"the key labels", "setting model", "the roles of its messages (system, user): one text of all"},
    "prompty": {"model.api", "setting top_p"},
    "promptfoo": {"a prompt that stands in another file, or is a script"},
    "langchain": {"the key partial_variables"},
}


@pytest.mark.parametrize("form", sorted(EXPORTS))
def test_a_prompt_is_taken_over_and_what_did_not_carry_over_is_listed(
    form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, text = EXPORTS[form]
    (tmp_path / name).write_text(text, "utf-8")
    assert run(["prompts", "import", str(tmp_path / name), "--from", form, "--out", str(tmp_path / "p"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {loss["what"] for loss in told["losses"]} >= LOST[form]
    template = (tmp_path / "p" / "qa.mustache").read_text("utf-8")
    assert variables_in(template) == {"tone", "q"}
    assert "Be {{{tone}}}." in template
    if form == "langchain":
        assert "{as is}" in template
    found = check_prompts(tmp_path / "p")
    assert {finding.code for finding in found.findings} <= {"side_car", "portable"}
    assert run(["prompts", "import", str(tmp_path / name), "--from", form, "--out", str(tmp_path / "p")]) == 2


def test_a_file_without_a_prompt_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{}", "utf-8")
    for form in ("langfuse", "promptfoo", "langchain", "prompty"):
        assert run(["prompts", "import", str(tmp_path / "x.json"), "--from", form, "--out", str(tmp_path / "p")]) == 2
    losses = read_prompts_losses(tmp_path)
    assert losses == 0


def read_prompts_losses(folder: Path) -> int:
    (folder / "y.json").write_text(json.dumps({"name": "n", "prompt": "{{a}}"}), "utf-8")
    found, losses = read_prompts(folder / "y.json", "langfuse")
    assert found[0].template == "{{{a}}}"
    return len(losses)


def test_a_commit_of_langsmiths_hub_and_a_playgrounds_chain_are_unwrapped(tmp_path: Path) -> None:
    def made(*id_: str, **kwargs: Any) -> dict[str, Any]:
        return {"lc": 1, "type": "constructor", "id": ["langchain", *id_], "kwargs": kwargs}

    template = made("prompts", "prompt", "PromptTemplate", template="Be {tone}.", template_format="f-string")
    messages = [
        made("prompts", "chat", "SystemMessagePromptTemplate", prompt=template),
        made("schema", "messages", "HumanMessage", content="Reply as {{json}}."),
        made("prompts", "chat", "MessagesPlaceholder", variable_name="history"),
    ]
    chat = made("prompts", "chat", "ChatPromptTemplate", messages=messages, input_variables=["tone"])
    chain = {"lc": 1, "type": "constructor", "id": ["langsmith", "playground", "PromptPlayground"]}
    exported = {"commit_hash": "ab12", "manifest": chain | {"kwargs": {"first": chat, "last": made("chat_models")}}}
    (tmp_path / "hub.json").write_text(json.dumps(exported), "utf-8")
    [found], losses = read_prompts(tmp_path / "hub.json", "langchain")
    assert combustache.render(found.template, {"tone": "kind"}) == "Be kind.\n\nReply as {{json}}."
    assert {loss.what for loss in losses} == {
        "what follows the template in its chain, such as a model with settings",
        "a placeholder for other messages (history)",
        "mustache's own delimiters: braces in the text would look like a tag, so that others stand around it",
        "the roles of its messages (system, human): one text of all",
    }


@pytest.mark.parametrize("folder", ["", "missing"])
def test_a_folder_without_prompts_is_told_what_to_name(folder: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        check_prompts(tmp_path / folder)
    assert "NAME.mustache" in str(caught.value.hint)
