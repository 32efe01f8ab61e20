"""`exitramp reindex`: a collection's documents embedded anew by another model."""

from __future__ import annotations

import hashlib
import json
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from exitramp.cli import output
from exitramp.cli.options import (
    NumberRange,
    choice_of,
    choice_options,
    consent_option,
    json_option,
    open_settings,
    store_options,
)
from exitramp.errors import UsageError
from exitramp.records import Metric

if TYPE_CHECKING:
    from exitramp.reindex.result import Estimate, ReindexResult

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.argument("source", metavar="SRC")
@click.argument("target", metavar="DST", required=False)
@click.option(
    "--model", required=True, metavar="ADDRESS", help="The new embedding model, e.g. wordllama: or openai:NAME."
)
@click.option(
    "--field",
    default=None,
    metavar="NAME",
    help="Keep the old vectors, and add the new ones beside them as the vector field NAME.  [default: in their place]",
)
@click.option("--replace", default=None, metavar="NAME", help="Which vector field the new one replaces, of several.")
@click.option(
    "--metric",
    type=click.Choice([each.value for each in Metric]),
    default=None,
    help="What the new vectors are searched by.  [default: as the old ones]",
)
@click.option(
    "--document-key",
    default=None,
    metavar="KEY",
    help="The texts stand under this key of the payload.  [default: they are the records' documents]",
)
@click.option("--skip-missing", is_flag=True, help="Go on although documents are missing or are refused by the model.")
@click.option("--prices", type=_FILE, default=None, metavar="FILE", help="A price book that has the model.")
@click.option(
    "--max-usd",
    type=click.FloatRange(min=0.0),
    default=None,
    metavar="USD",
    help="Stop before embedding costs more, in all runs of this re-embedding together.",
)
@click.option(
    "--max-minutes",
    type=NumberRange(min=0.0),
    default=None,
    metavar="N",
    help="Stop sending to the model after so many minutes.",
)
@click.option(
    "--parallel",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    metavar="N",
    help="Batches that are on their way to the model at once.",
)
@click.option(
    "--model-timeout",
    type=NumberRange(min=0.1),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="Deadline of a single call of the model.",
)
@click.option(
    "--model-retries",
    type=click.IntRange(min=0),
    default=4,
    show_default=True,
    help="How often a batch that failed is sent again.",
)
@click.option(
    "--state",
    type=click.Path(file_okay=False, path_type=Path),
    default=None,
    metavar="DIR",
    help="Where an interrupted run keeps what was paid for.",
)
@click.option(
    "--map",
    "by_map",
    is_flag=True,
    help="Embed a sample alone, and map the vectors of all others from the old model's space into the new one's.",
)
@click.option(
    "--map-file",
    type=_FILE,
    default=Path("map.npz"),
    show_default=True,
    metavar="FILE",
    help="Where the mapping is kept, for 'search --through'.",
)
@click.option(
    "--sample",
    type=click.IntRange(min=100),
    default=2000,
    show_default=True,
    metavar="N",
    help="Texts that the mapping is fitted on; half as many, 1,500 at most, judge it.",
)
@click.option(
    "--margin",
    type=click.FloatRange(min=0.0, max=1.0, min_open=True, max_open=True),
    default=0.05,
    show_default=True,
    help="The loss of nDCG@10 up to which a mapping is recommended.",
)
@click.option(
    "--golden", type=_FILE, default=None, metavar="FILE", help="Golden questions, which then decide about the mapping."
)
@choice_options
@json_option
@consent_option
@click.option(
    "--allow-writes",
    multiple=True,
    metavar="ADDRESS",
    help="Allow writing to ADDRESS although it is not on this machine.",
)
@click.option("--dry-run", is_flag=True, help="Count texts, tokens, requests and cost; send and write nothing.")
@store_options
def reindex(source: str, target: str | None, **options: Any) -> int:
    """Embed the documents of the collection at SRC anew, by another model, into DST.

    Ids, payloads and documents stay as they are. Texts that DST holds already by the same model are not embedded again,
    and a text that stands in several records is embedded once. What was embedded is kept on the disk batch by batch: a
    run that was killed, or ended at a limit, goes on behind it when the same command is given again.

    Records without a document stop it before anything is sent, unless --skip-missing says to go on without them.

    With --map only a sample is embedded. What the mapping loses is judged on other records; it is recommended only if
    the loss is inside --margin, and without that nothing is written but by --accept-loss mapping. Without DST the
    mapping is fitted, judged and kept: 'search --through' asks the old collection by the new model with it.

    \b
    Example:
      exitramp reindex chroma:./db#articles qdrant:./new#articles --model wordllama: --dry-run
      exitramp reindex chroma:./db#articles qdrant:./new#articles --model wordllama:
    """
    from exitramp.backoff import Backoff
    from exitramp.cli.moving import within
    from exitramp.records import parse_metric
    from exitramp.registry import open_embedder
    from exitramp.reindex.embedding import Bounds
    from exitramp.reindex.moving import reindex as run
    from exitramp.reindex.result import How
    from exitramp.wrappers import open_endpoint, require_write_allowed

    choice = choice_of(options)
    own = {name: options.pop(name) for name in _OWN}
    settings = open_settings(**options)
    usd, metric, dry = own["max_usd"], own["metric"], own["dry_run"]
    how = How(
        beside=own["field"],
        replaced=own["replace"],
        metric=None if metric is None else parse_metric(metric, where="--metric"),
        skip_missing=own["skip_missing"],
        document_key=own["document_key"],
        accept_loss=own["accept_loss"],
        book=own["prices"],
        bounds=Bounds(None if usd is None else Decimal(str(usd)), own["max_minutes"]),
        parallel=own["parallel"],
        timeout_seconds=own["model_timeout"],
        backoff=Backoff(tries=own["model_retries"] + 1, base_seconds=0.5),
        settings=settings,
    )
    as_json = own["as_json"]
    if own["by_map"]:
        from exitramp.cli.mapping import by_map

        return by_map(source, target, own["model"], how, choice, own)
    if target is None:
        raise UsageError("reindex writes to DST, and none is named", hint="name one, or fit a mapping alone with --map")
    bars: dict[str, output.Progress] = {}

    def progress(what: str, done: int) -> None:
        bars.setdefault(what, output.Progress(what, None)).at(done)

    def told(estimate: Estimate) -> None:
        output.note(_estimate(estimate))

    with open_endpoint(source, settings) as one, open_endpoint(target, settings) as other:
        if not dry:
            require_write_allowed(other.address, own["allow_writes"])
        within(one, other, choice)
        embedder = open_embedder(own["model"], settings.network)
        try:
            state = own["state"] or state_folder(str(one.address), str(other.address), own["model"], own["field"])
            result = run(one, other, embedder, how, state=state, dry_run=dry, told=told, progress=progress)
        finally:
            for bar in bars.values():
                bar.end()
            embedder.close()
    if as_json:
        output.emit_json(result.to_json() | {"dry_run": dry, "source": str(one.address), "target": str(other.address)})
    else:
        _say(result, str(other.address), dry, own["accept_loss"])
    return output.exit_code(result.verdict)


_OWN = (
    "model", "field", "replace", "metric", "skip_missing", "prices", "max_usd", "max_minutes", "parallel",
    "model_timeout", "model_retries", "state", "as_json", "accept_loss", "allow_writes", "dry_run",
    "document_key", "by_map", "map_file", "sample", "margin", "golden",
)  # fmt: skip


def state_folder(source: str, target: str | None, model: str, field: str | None) -> Path:
    """Where a run keeps what it paid for, named after what it was asked."""
    from exitramp.cli.place import FOLDER

    digest = hashlib.sha256(json.dumps([source, target, model, field]).encode("utf-8", "surrogatepass")).hexdigest()
    return FOLDER / f"reindex-{digest[:16]}"


def _estimate(estimate: Estimate) -> str:
    from exitramp.wording import counted

    look = estimate.look
    usd = "of unknown cost" if estimate.usd is None else f"{estimate.usd:,.6f} USD"
    return (
        f"{counted(look.texts_left, 'text')} to embed, {look.tokens_left:,} tokens (counted by the "
        f"{'model itself' if look.token_source == 'provider' else 'length of the texts, an estimate'}), "
        f"{counted(estimate.requests, 'request')}, {usd}: {estimate.price.told}"
    )


def _say(result: ReindexResult, target: str, dry: bool, accepted: tuple[str, ...]) -> None:
    from exitramp.cli.moving import say_plan
    from exitramp.wording import counted

    look = result.estimate.look
    if dry:
        output.say(_estimate(result.estimate))
    else:
        rows = look.rows - result.left_out
        output.say(f"{output.verdict_word(result.verdict)}  {counted(rows, 'record')} → {target}")
    output.say(f"  model     {result.shape.given}")
    if result.shape.old is not None:
        from exitramp.embedding_identity import Identified

        beside = "beside " if result.shape.keeps_old else "before "
        output.say(f"  {beside}   {Identified.of(result.shape.old)}")
    output.say(
        f"  texts     {look.texts:,} of {counted(look.rows, 'record')}: {look.texts_left:,} to embed, {look.reused:,} "
        f"unchanged at the target; {look.repeated:,} repeated; {look.missing:,} missing"
    )
    if result.account is not None:
        account = result.account
        usd = "of unknown cost" if result.usd is None else f"{result.usd:,.6f} USD"
        cut = "" if not account.cut else f", {account.cut:,} cut to what the model reads"
        output.say(
            f"  embedded  {counted(account.texts, 'text')}, {account.tokens:,} tokens, "
            f"{counted(account.requests, 'request')} ({account.retries:,} of them tries again), {usd}{cut}"
        )
        if look.probed:
            output.say(
                f"  checked   {counted(look.probed, 'text')} of the target embedded again, to see that its vectors are "
                "of this model; the tokens and requests above include them, the texts do not"
            )
    if result.sync is not None:
        output.say(f"  written   {result.sync.upserted:,}; the others stood there already")
    output.say_findings(result.findings)
    if dry:
        if result.plan is not None:
            output.say()
            say_plan(result.plan, accepted)
        output.say("dry run: nothing was sent to the model, and nothing was written")
    else:
        times = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in result.seconds.items())
        output.note(f"took {times}")
