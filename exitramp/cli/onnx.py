"""`exitramp onnx`: models whose weights are here, as files that any ONNX runtime reads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from exitramp.cli import output
from exitramp.cli.options import json_option
from exitramp.errors import ExitCode, UsageError
from exitramp.records import Verdict
from exitramp.urls import path_address

if TYPE_CHECKING:
    from exitramp.reindex.held_out import HeldOut


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
    help="Not the embedder: a classifier over its vectors, trained on this golden set or labelled JSONL.",
)
@click.option(
    "--label",
    default="use_case",
    show_default=True,
    metavar="COLUMN",
    help="What it learns: a column of SET, or of its 'metadata', such as tier.",
)
@json_option
def export(model: str, folder: Path, routing: str | None, label: str, as_json: bool) -> int:
    """Write MODEL into DIR: graph, tokeniser, side-car and a manifest with their hashes.

    The graph is checked in full, and under onnxruntime it must make the model's own vectors, also of texts that are
    hard on tokenisers; otherwise nothing stays. 'onnx:DIR' is then an embedder. A model that a vendor hosts cannot be
    exported, and is told so with its exit.

    With --routing a small classifier is written in its place: it says of a question's vector how probable each label
    is. Any embedder can stand before it, also a hosted one. It is kept if onnxruntime gives its own probabilities. A
    stack file routes by it with 'routing: {pii: TIER, classifier: {onnx: DIR, threshold: 0.8, embedder: NAME, tiers:
    {LABEL: TIER}}}'; docs/routing.md has each key.

    \b
    Example:
      exitramp onnx export wordllama: ./model
      exitramp onnx export wordllama: ./router --routing pydocs
      exitramp onnx export wordllama: ./router --routing labelled.jsonl --label tier
    """
    from exitramp.registry import open_embedder
    from exitramp.reindex.exporting import export as run

    if routing is not None:
        return _export_classifier(model, folder, routing, label, as_json)
    if label != "use_case":
        raise UsageError("--label says what a classifier learns, and --routing of what", hint="add --routing SET")

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


def _export_classifier(model: str, folder: Path, golden: str, column: str, as_json: bool) -> int:
    from importlib.resources import files

    from exitramp.orchestration.classifier_file import CLASSIFIER
    from exitramp.registry import open_embedder
    from exitramp.reindex.classifying import export_classifier
    from exitramp.reindex.labelled import read_labelled

    packaged = golden == "pydocs" and not Path(golden).exists()
    path = files("exitramp_fixtures") / "golden" / "pydocs.jsonl" if packaged else Path(golden)
    rows = read_labelled(path, column, name=golden)
    embedder = open_embedder(model)
    try:
        done = export_classifier(embedder, rows, folder, column=column)
    finally:
        embedder.close()
    if as_json:
        output.emit_json({"verdict": "pass", "folder": str(folder)} | done.to_json())
        return int(ExitCode.PASS)
    output.say(f"{output.verdict_word(Verdict.PASS)}  {golden} over {model} → {folder / CLASSIFIER}")
    for line in _how_good(done.held_out, column):
        output.say(f"  {line}")
    output.say(f"  {CLASSIFIER}  {done.bytes:,} bytes, sha256 {done.sha256}")
    output.say(
        f"  under onnxruntime the probabilities of {done.probes} questions and hard texts differ by "
        f"{done.greatest_difference:.1e} at most"
    )
    return int(ExitCode.PASS)


def _how_good(found: HeldOut, column: str) -> Iterator[str]:
    """What held-out questions say of it: shares with Wilson's 95 %, and which label is called which."""
    yield f"right of held-out questions, in {found.folds} parts (Wilson 95 %):"
    yield f"  this classifier: {found.share}"
    for each in found.baselines:
        yield f"  {each.name}: {each.share}"
        alone = f"it alone is right of {each.only_baseline}, the classifier alone of {each.only_classifier}"
        yield f"    {alone}; McNemar p = {each.p:.2g}"
    names = [output.visible(label) for label in found.labels]
    rows = [
        (name, *map(str, counts), str(found.of_label(place)))
        for place, (name, counts) in enumerate(zip(names, found.confusion, strict=True))
    ]
    yield from output.table(rows, (f"{column} ↓ called →", *names, "right")).splitlines()
    table = [(f"{at:g}", str(share.of), str(share)) for at, share in found.sure]
    yield from output.table(table, ("threshold", "decided", "right of those")).splitlines()


@onnx.command("inventory")
@click.argument("models", metavar="MODEL…", nargs=-1, required=True)
@json_option
def inventory(models: tuple[str, ...], as_json: bool) -> int:
    """Say of each MODEL whether it can be taken out, and if not, what its exit is.

    A MODEL is an embedder's address, or the folder of an exported embedder or classifier.

    \b
    Example:
      exitramp onnx inventory wordllama: use:
      exitramp onnx inventory wordllama: ./model ./router
    """
    from exitramp.orchestration.classifier_file import ABOUT
    from exitramp.registry import open_embedder
    from exitramp.reindex.classifying import portability_of
    from exitramp.reindex.exporting import SIDE_CAR, portability

    found = []
    for model in models:
        if (Path(model) / ABOUT).is_file():
            found.append({"address": model} | portability_of(Path(model)))
            continue
        is_exported = (Path(model) / SIDE_CAR).is_file()
        embedder = open_embedder(path_address("onnx", Path(model)) if is_exported else model)
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
