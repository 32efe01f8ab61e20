"""promptfoo's tests: a configuration (YAML or JSON) with `tests`, or a bare list of them.

Each test's `vars` become the case's variables, and one of them is the question. A `{{name}}` in an assertion's value is
filled in; lists among the vars are multiplied out, as promptfoo does. Weights, thresholds of a whole test, transforms,
scripts and everything else that our checks cannot say is listed as lost.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from exitramp.errors import ConfigError
from exitramp.evals.sets.carried import Carried, Gathering, Loss, lost_in, said
from exitramp.evals.sets.case import Case
from exitramp.yaml_loader import dump, load

QUESTION_NAMES: Final = ("question", "query", "input", "prompt", "message", "text", "topic")
MOST_OF_ONE: Final = 100_000
"""Cases of one test: eight lists of ten values each would be a hundred million."""
_TEST_KEYS: Final = frozenset({"vars", "assert", "description", "metadata"})
_PLACE: Final = re.compile(r"{{-?\s*([A-Za-z_][\w.]*)\s*-?}}")
_SILENT: Final = frozenset({"type", "value", "threshold"})


def read(text: str, file: str, *, question: str | None = None) -> Carried:
    found = Gathering()
    data = _named_by_texts(load(text, file))
    config: Mapping[str, Any] = data if isinstance(data, Mapping) else {"tests": data}
    tests = config.get("tests")
    if isinstance(tests, str):
        raise ConfigError(f"its tests stand in another file ({tests})", file=file, hint="convert that file")
    if not isinstance(tests, Sequence) or not tests:
        raise ConfigError("no list of tests in it", file=file, hint="a promptfoo configuration has 'tests'")
    for key in sorted(set(config) - {"tests", "defaultTest", "description"}):
        hint = ": see `exitramp prompts import`" if key == "prompts" else ""
        found.lose(f"the key {key!r} of the configuration{hint}")
    shared = config.get("defaultTest")
    if shared is not None and not isinstance(shared, Mapping):
        found.lose("defaultTest, which stands in another file")
    for number, test in enumerate(tests, start=1):
        if not isinstance(test, Mapping):
            found.lose(f"test {number}: it stands in another file, or is no object")
            continue
        _take(found, file, number, test, shared if isinstance(shared, Mapping) else {}, question)
    return found.carried()


def write(cases: Sequence[Case]) -> Carried:
    tests, losses = [], []
    for case in cases:
        asserts = []
        for check in case.checks:
            made = _assertion(dict(check.data))
            if made is None:
                losses.append(Loss(f"a check of kind {check.kind}", case.id))
            else:
                asserts += made
        test: dict[str, Any] = {"description": case.id}
        if len(case.messages) > 1:
            losses.append(Loss("the messages before the question", case.id))
        test["vars"] = dict(case.variables) | {"question": said(case)[-1]["content"]}
        if case.choices:
            test["vars"]["question"] = case.asked()[-1].content
        if asserts:
            test["assert"] = asserts
        if case.metadata or case.use_case != "all":
            test["metadata"] = dict(case.metadata) | ({"use_case": case.use_case} if case.use_case != "all" else {})
        losses += lost_in(case, "metadata", "variables", "use_case", "choices")
        tests.append(test)
    text = dump({"prompts": ["{{question}}"], "tests": tests})
    return Carried(tuple(cases), tuple(losses), text)


def _take(
    found: Gathering,
    file: str,
    number: int,
    test: Mapping[str, Any],
    shared: Mapping[str, Any],
    question: str | None,
) -> None:
    wanted = str(test.get("description") or f"test-{number}")
    for key in sorted({*test, *shared} - _TEST_KEYS):
        found.lose(f"the test's key {key!r}", wanted)
    for part, where in ((shared, "of defaultTest"), (test, "of the test")):
        for key, kind in (("vars", Mapping), ("assert", list), ("metadata", Mapping)):
            if part.get(key) is not None and not isinstance(part[key], kind):
                found.lose(f"{key!r} {where}, which stands in another file or is none", wanted)
    values = {**(_mapping(shared, "vars")), **(_mapping(test, "vars"))}
    if not values:
        found.lose("the case as a whole: it has no vars, or they stand in another file", wanted)
        return
    names = list(values)
    # Written as it is: promptfoo makes a test of each combination of the values.
    choices = [value if isinstance(value, list) and value else [value] for value in values.values()]
    if (made := math.prod(map(len, choices))) > MOST_OF_ONE:
        raise ConfigError(
            f"test {number} stands for {made:,} cases, its lists multiplied out",
            file=file,
            hint=f"{MOST_OF_ONE:,} are the most: put the values of one list into each other's tests",
        )
    asserts = [*_listed(shared, "assert"), *_listed(test, "assert")]
    for combined in itertools.product(*choices):
        variables = dict(zip(names, combined, strict=True))
        id_ = found.unique(wanted)
        name = question or next((each for each in QUESTION_NAMES if each in variables), None)
        if name is None and len(variables) == 1:
            [name] = variables
        asked = variables.get(name) if name is not None else None
        if not isinstance(asked, str) or asked.startswith("file://"):
            found.lose("the case as a whole: none of its vars is known to be the question (--question-var)", id_)
            continue
        metadata = dict(_mapping(shared, "metadata")) | dict(_mapping(test, "metadata"))
        use_case = metadata.pop("use_case", None)
        checks = [check for each in asserts if (check := _check(found, id_, each, variables)) is not None]
        rest = {key: value for key, value in variables.items() if key != name}
        if any(isinstance(value, str) and value.startswith("file://") for value in rest.values()):
            found.lose("variables that stand in another file: kept as their address", id_)
        found.take(
            {"id": id_, "use_case": use_case, "question": asked, "variables": rest, "checks": checks}
            | {"metadata": metadata}
        )


def _check(found: Gathering, id_: str, given: Any, variables: Mapping[str, Any]) -> dict[str, Any] | None:
    kind = given.get("type") if isinstance(given, Mapping) else None
    if not isinstance(kind, str):
        found.lose("an assertion without a type", id_)
        return None
    for key in sorted(set(given) - _SILENT):
        found.lose(f"the key {key!r} of an assertion of type {kind}", id_)
    negated, plain = kind.startswith("not-"), kind.removeprefix("not-")
    value, is_whole = _filled(given.get("value"), variables)
    check = _known(plain, value, given.get("threshold")) if is_whole else None
    if check is not None and negated:
        check = check | {"not": True} if check["kind"] not in ("similarity", "judge", "number", "choice") else None
    if check is not None:
        from exitramp.errors import DataInvalid
        from exitramp.evals.checks import parse_check

        try:
            parse_check(check)
        except DataInvalid as error:
            found.lose(f"an assertion of type {kind}: {error.message}", id_)
            return None
    else:
        found.lose(f"an assertion of type {kind}", id_)
    return check


def _known(kind: str, value: Any, threshold: Any) -> dict[str, Any] | None:
    as_written = {"as_written": True} if not kind.startswith("icontains") else {}
    match kind.removeprefix("i") if kind.startswith("icontains") else kind:
        case "equals" if isinstance(value, str | int | float):
            return {"kind": "exact", "text": str(value), "as_written": True}
        case "contains" if isinstance(value, str | int | float):
            return {"kind": "contains", "text": str(value)} | as_written
        case "contains-any" | "contains-all" as name if isinstance(value, list):
            phrases = [str(each) for each in value]
            return {"kind": name.replace("-", "_"), "phrases": phrases} | as_written
        case "starts-with" if isinstance(value, str):
            return {"kind": "starts_with", "text": value, "as_written": True}
        case "regex":
            return {"kind": "regex", "pattern": value}
        case "is-json":
            return {"kind": "json_schema", "schema": value if value is not None else True}
        case "contains-json":
            return {"kind": "json_schema", "schema": value if value is not None else True, "within": True}
        case "similar" if isinstance(value, str):
            return {"kind": "similarity", "text": value, "threshold": 0.75 if threshold is None else threshold}
        case "llm-rubric" | "model-graded-closedqa" if isinstance(value, str) and threshold is None:
            return {"kind": "judge", "criterion": value}
    return None


def _assertion(data: dict[str, Any]) -> list[dict[str, Any]] | None:
    kind, negated = data["kind"], "not-" if data.get("not") else ""
    strict = data.get("as_written", False)
    texts = [data["text"]] if "text" in data else data.get("texts", [])
    match kind:
        case "exact" if strict and len(texts) == 1:
            return [{"type": f"{negated}equals", "value": texts[0]}]
        case "starts_with" if strict and len(texts) == 1:
            return [{"type": f"{negated}starts-with", "value": texts[0]}]
        case "contains":
            return [{"type": f"{negated}{'' if strict else 'i'}contains", "value": texts[0]}]
        case "contains_any" | "contains_all":
            name = f"{negated}{'' if strict else 'i'}{kind.replace('_', '-')}"
            return [{"type": name, "value": data["phrases"]}]
        case "regex":
            return [{"type": f"{negated}regex", "value": data["pattern"]}]
        case "json_schema":
            name = f"{negated}{'contains' if data.get('within') else 'is'}-json"
            return [{"type": name} | ({} if data["schema"] is True else {"value": data["schema"]})]
        case "similarity":
            return [{"type": "similar", "value": data["text"], "threshold": data["threshold"]}]
        case "judge":
            return [{"type": "llm-rubric", "value": data["criterion"]}]
    return None


def _filled(value: Any, variables: Mapping[str, Any]) -> tuple[Any, bool]:
    """A value with its `{{name}}` filled in, and whether nothing of a template is left in it."""
    if isinstance(value, list):
        parts = [_filled(each, variables) for each in value]
        return [part for part, _ in parts], all(is_whole for _, is_whole in parts)
    if isinstance(value, str):
        if value.startswith("file://"):
            return value, False
        text = _PLACE.sub(lambda match: str(variables.get(match[1], match[0])), value)
        return text, "{{" not in text and "{%" not in text
    return value, True


def _named_by_texts(value: Any) -> Any:
    """`value` with every name a text, as promptfoo has it: YAML's `1: a` is named "1" there."""
    if isinstance(value, list):
        return [_named_by_texts(each) for each in value]
    if isinstance(value, Mapping):
        return {key if isinstance(key, str) else json.dumps(key): _named_by_texts(each) for key, each in value.items()}
    return value


def _mapping(test: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = test.get(key)
    return value if isinstance(value, Mapping) else {}


def _listed(test: Mapping[str, Any], key: str) -> list[Any]:
    value = test.get(key)
    return value if isinstance(value, list) else []
