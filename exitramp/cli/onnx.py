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
@click.option(
    "--routing",
    default=None,
    metavar="SET",
    help="Not the embedder: a classifier of use cases over its vectors, trained on this golden set.",
)
@json_option
def export(model: str, folder: Path, routing: str | None, as_json: bool) -> int:
    """Write MODEL into DIR: graph, tokeniser, side-car and a manifest with their hashes.

    The graph is checked in full, and under onnxruntime it must make the model's own vectors, also of texts that are
    hard on tokenisers; otherwise nothing stays. 'onnx:DIR' is then an embedder. A model that a vendor hosts cannot be
    exported, and is told so with its exit.

    With --routing a small classifier is written in its place: it says of a question's vector how probable each use case
    is. Any embedder can stand before it, also a hosted one. It is kept if onnxruntime gives its own probabilities.

    \b
    Example:
      exitramp onnx export wordllama: ./model
      exitramp onnx export wordllama: ./router --routing pydocs
    """
    from exitramp.registry import open_embedder
    from exitramp.reindex.exporting import export as run

    if routing is not None:
        return _export_classifier(model, folder, routing, as_json)

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


def _export_classifier(model: str, folder: Path, golden: str, as_json: bool) -> int:
    from importlib.resources import files

    from exitramp.evals.golden import load_golden
    from exitramp.registry import open_embedder
    from exitramp.reindex.classifying import CLASSIFIER, FOLDS, export_classifier

    packaged = golden == "pydocs" and not Path(golden).exists()
    path = files("exitramp_fixtures") / "golden" / "pydocs.jsonl" if packaged else Path(golden)
    cases = load_golden(path, name=golden)
    embedder = open_embedder(model)
    try:
        done = export_classifier(embedder, cases, folder)
    finally:
        embedder.close()
    if as_json:
        output.emit_json({"verdict": "pass", "folder": str(folder)} | done.to_json())
    else:
        output.say(f"{output.verdict_word(Verdict.PASS)}  {golden} over {model} → {folder / CLASSIFIER}")
        output.say(f"  use cases  {', '.join(output.visible(label) for label in done.labels)}")
        output.say(
            f"  right      {done.accuracy:.1%} of {done.questions} questions by cross-validation in {FOLDS} parts; "
            f"always the commonest: {done.commonest:.1%}"
        )
        output.say(f"  {CLASSIFIER}  {done.bytes:,} bytes, sha256 {done.sha256}")
        output.say(
            f"  under onnxruntime the probabilities of {done.probes} questions and hard texts differ by "
            f"{done.greatest_difference:.1e} at most"
        )
    return int(ExitCode.PASS)


@onnx.command("inventory")
@click.argument("models", metavar="MODEL…", nargs=-1, required=True)
@json_option
def inventory(models: tuple[str, ...], as_json: bool) -> int:
    """Say of each MODEL whether it can be taken out, and if not, what its exit is.

    A MODEL is an embedder's address, or the folder of an exported classifier.

    \b
    Example:
      exitramp onnx inventory wordllama: use:
      exitramp onnx inventory wordllama: ./router
    """
    from exitramp.registry import open_embedder
    from exitramp.reindex.classifying import ABOUT, portability_of
    from exitramp.reindex.exporting import portability

    found = []
    for model in models:
        if (Path(model) / ABOUT).is_file():
            found.append({"address": model} | portability_of(Path(model)))
            continue
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
