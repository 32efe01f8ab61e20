"""`exitramp onnx`: models whose weights are here, as files that any ONNX runtime reads."""

from __future__ import annotations

from pathlib import Path

import click

from exitramp.cli import output
from exitramp.cli.options import json_option
from exitramp.errors import ExitCode
from exitramp.records import Verdict
from exitramp.urls import path_address


@click.group()
def onnx() -> None:
    """Take an embedding model out as ONNX, where its weights are here.

    \b
    Example:
      exitramp onnx export wordllama: ./model
    """


@onnx.command("export")
@click.argument("model", metavar="MODEL")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@json_option
def export(model: str, folder: Path, as_json: bool) -> int:
    """Write MODEL into DIR: graph, tokeniser, side-car and a manifest with their hashes.

    The graph is checked in full, and under onnxruntime it must make the model's own vectors, also of texts that are
    hard on tokenisers; otherwise nothing stays. 'onnx:DIR' is then an embedder. A model that a vendor hosts cannot be
    exported, and is told so with its exit.

    \b
    Example:
      exitramp onnx export wordllama: ./model
    """
    from exitramp.registry import open_embedder
    from exitramp.reindex.exporting import export as run

    embedder = open_embedder(model)
    try:
        done = run(embedder, folder, reopen=lambda made: open_embedder(path_address("onnx", made)))
    finally:
        embedder.close()
    if as_json:
        output.emit_json({"verdict": "pass", "folder": str(folder)} | done.to_json())
    else:
        output.say(f"{output.verdict_word(Verdict.PASS)}  {model} → {path_address('onnx', folder)}")
        output.say(f"  model     {done.model}")
        for name, digest in done.sha256.items():
            output.say(f"  {name:<15} sha256 {digest}")
        output.say(
            f"  under onnxruntime {done.probes} probes differ by {done.greatest_difference:.1e} at most, and the least "
            f"cosine is {done.least_cosine:.8f}"
        )
    return int(ExitCode.PASS)


@onnx.command("inventory")
@click.argument("models", metavar="MODEL…", nargs=-1, required=True)
@json_option
def inventory(models: tuple[str, ...], as_json: bool) -> int:
    """Say of each MODEL whether it can be taken out, and if not, what its exit is.

    \b
    Example:
      exitramp onnx inventory wordllama: use:
    """
    from exitramp.registry import open_embedder
    from exitramp.reindex.exporting import portability

    found = []
    for model in models:
        embedder = open_embedder(model)
        try:
            found.append({"address": str(embedder.identity().address)} | portability(embedder))
        finally:
            embedder.close()
    if as_json:
        output.emit_json({"models": found})
    else:
        rows = [(each["address"], "yes" if each["can_be_exported"] else "no", each["exit"]) for each in found]
        output.say(output.table(rows, ("model", "can be exported", "exit")))
    return int(ExitCode.PASS)
