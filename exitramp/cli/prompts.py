"""`exitramp prompts`: versioned prompts, checked, and taken over from other tools."""

from __future__ import annotations

from pathlib import Path

import click

from exitramp.cli import output
from exitramp.cli.eval import say_losses
from exitramp.cli.options import json_option
from exitramp.errors import ExitCode
from exitramp.wording import counted


@click.group()
def prompts() -> None:
    """Prompts as .mustache files, each with a side-car.

    \b
    Example:
      exitramp prompts check prompts
    """


@prompts.command()
@click.argument("folder", metavar="FOLDER", type=click.Path(path_type=Path))
@json_option
def check(folder: Path, as_json: bool) -> int:
    """Check that the prompts in FOLDER are portable: the same text under two engines, schema complete, hash right.

    The exit code is 0 if nothing is wrong, 1 if something is, 3 if no prompt has golden variables to render.

    \b
    Example:
      exitramp prompts check prompts
    """
    from exitramp.evals.prompts.checking import check_prompts

    found = check_prompts(folder)
    if as_json:
        listed = [{"name": name, "version": version, "sha256": digest} for name, version, digest in found.prompts]
        findings = [finding.to_json() for finding in found.findings]
        told = {"verdict": found.verdict.value, "prompts": listed, "rendered": found.rendered, "findings": findings}
        output.emit_json(told)
    else:
        told_of = f"{counted(len(found.prompts), 'prompt')}, {counted(found.rendered, 'rendering')} under two engines"
        output.say(f"{output.verdict_word(found.verdict)}  {told_of}")
        for finding in found.findings:
            output.say(f"  ✗ {output.visible(finding.prompt)}: {output.visible(finding.message)}")
    return output.exit_code(found.verdict)


@prompts.command("import")
@click.argument("source", metavar="FILE", type=click.Path(path_type=Path))
@click.option(
    "--from",
    "form",
    type=click.Choice(["langfuse", "prompty", "promptfoo", "langchain"]),
    required=True,
    help="Whose export FILE is.",
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for the prompts.")
@json_option
def import_prompts(source: Path, form: str, out: Path, as_json: bool) -> int:
    """Take prompts over from another tool, and list everything that did not carry over.

    Golden variables have to be added to each side-car afterwards: `prompts check` is inconclusive without.

    \b
    Example:
      exitramp prompts import prompts.json --from langfuse --out prompts
    """
    from exitramp.evals.prompts.importing import read_prompts, write_prompts

    found, losses = read_prompts(source, form)
    paths = write_prompts(found, out)
    if as_json:
        output.emit_json({"prompts": [str(path) for path in paths], "losses": [loss.to_json() for loss in losses]})
    else:
        for path in paths:
            output.say(str(path))
        say_losses(losses)
    return int(ExitCode.PASS)
