"""Cases rendered by the versioned prompts of a folder before a model is asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from exitramp.evals.measuring import rendered
from exitramp.evals.runs.subject import Prompted
from exitramp.evals.sets.case import Case
from exitramp.orchestration.prompts import PromptSet, load_prompts
from exitramp.ports import ChatMessage


def prompts_of(folder: Path) -> tuple[Callable[[Case], Prompted], dict[str, str]]:
    """How a case becomes messages by its use case's prompt, and each prompt's SHA-256 by `NAME@VERSION`.

    A template sees the case's variables, `question`, and no `passages` where the variables hold none. Messages before
    the question stay before it. Raises `ConfigError` as `load_prompts` does.
    """
    prompts: PromptSet = load_prompts(folder)

    def render(case: Case) -> Prompted:
        prompt = prompts.for_use_case(case.use_case)
        asked = case.asked()
        text = rendered(prompt.template, {"passages": []} | dict(case.variables) | {"question": asked[-1].content})
        messages = (*asked[:-1], ChatMessage("user", text))
        return Prompted(messages, (prompt.name, prompt.version, prompt.sha256))

    return render, {f"{prompt.name}@{prompt.version}": prompt.sha256 for prompt in prompts}
