"""Golden sets as files: read from and written to our own forms and those of other tools."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

from exitramp.durable import write_atomically
from exitramp.errors import ConfigError, UsageError
from exitramp.evals.sets import inspect_samples, openai_evals, promptfoo
from exitramp.evals.sets.carried import Carried, Loss
from exitramp.evals.sets.case import Case
from exitramp.evals.sets.own import parse_jsonl, read_parquet, read_text, write_jsonl, write_parquet

FORMS: Final = ("jsonl", "parquet", "promptfoo", "openai-evals", "inspect")

__all__ = ["FORMS", "Carried", "Case", "Loss", "form_of", "read_set", "set_sha256", "write_set"]


def form_of(path: Path) -> str:
    """The form that a file's name speaks of: YAML is promptfoo's, and JSON lines are ours."""
    found = {".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet", ".yaml": "promptfoo", ".yml": "promptfoo"}
    try:
        return found[path.suffix.lower()]
    except KeyError:
        raise UsageError(f"{path}: its name does not tell its form", hint=f"say one of: {', '.join(FORMS)}") from None


def read_set(
    path: Path, form: str | None = None, *, meaning: str | None = None, question: str | None = None
) -> Carried:
    """The cases in a file, and what of it our cases cannot say.

    meaning: how OpenAI-evals' ideals and inspect's targets are compared. question: which of promptfoo's vars is asked.
    Raises `ConfigError` naming file and line, also where there is no case in it.
    """
    form = form or form_of(path)
    if form == "parquet":
        return Carried(read_parquet(path))
    text, file = read_text(path), str(path)
    match form:
        case "jsonl":
            found = Carried(parse_jsonl(text, file))
        case "promptfoo":
            found = promptfoo.read(text, file, question=question)
        case "openai-evals":
            found = openai_evals.read(text, file, meaning=meaning)
        case "inspect":
            found = inspect_samples.read(text, file, meaning=meaning)
        case _:
            raise UsageError(f"no form {form!r} is known", hint=f"known are: {', '.join(FORMS)}")
    if not found.cases:
        lost = [loss.what for loss in found.losses if loss.case_id is not None]
        why = f": {lost[-1]}" if lost else ""
        raise ConfigError(f"no case in it{why}", file=file)
    return found


def write_set(cases: tuple[Case, ...], path: Path, form: str | None = None) -> tuple[Loss, ...]:
    """Write a set; what the form has no place for is returned."""
    form = form or form_of(path)
    if form == "parquet":
        write_parquet(cases, path)
        return ()
    writers = {"promptfoo": promptfoo.write, "openai-evals": openai_evals.write, "inspect": inspect_samples.write}
    if form == "jsonl":
        made = Carried(cases, text=write_jsonl(cases))
    elif form in writers:
        made = writers[form](cases)
    else:
        raise UsageError(f"no form {form!r} is known", hint=f"known are: {', '.join(FORMS)}")
    write_atomically(path, made.text.encode("utf-8"))
    return made.losses


def set_sha256(cases: tuple[Case, ...]) -> str:
    """One hash for a set's cases, whatever their order."""
    return hashlib.sha256("\n".join(sorted(case.sha256 for case in cases)).encode()).hexdigest()
