"""What `reindex --map` does and prints: fit, judge, and move only where the loss is inside the margin or accepted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from exitramp.cli import output
from exitramp.cli.moving import within
from exitramp.cli.options import Choice
from exitramp.cli.reindex import state_folder
from exitramp.errors import UsageError
from exitramp.evals.golden import load_golden, require_relevant
from exitramp.records import Verdict
from exitramp.registry import open_embedder
from exitramp.reindex.judging import Judgement
from exitramp.reindex.mapped import CONSENT, MapHow, MapResult, map_spaces, move_mapped
from exitramp.reindex.result import How
from exitramp.wording import counted
from exitramp.wrappers import open_endpoint, require_write_allowed


def by_map(source: str, target: str | None, model: str, how: How, choice: Choice, own: Mapping[str, Any]) -> int:
    """Fit, judge, keep the map, and write DST where that is recommended or accepted; returns the exit code."""
    if own["dry_run"] and target is not None:
        raise UsageError("--map --dry-run writes nothing: leave DST away to fit and judge alone")
    golden = () if own["golden"] is None else load_golden(own["golden"])
    if own["golden"] is not None:
        require_relevant(golden, str(own["golden"]))
    asked = MapHow(own["sample"], own["margin"], None, golden, how.settings.seed)
    with open_endpoint(source, how.settings) as one:
        embedder = open_embedder(model, how.settings.network)
        state = own["state"] or state_folder(str(one.address), target, f"map {model}", own["field"])
        try:
            if target is None:
                result, moved = map_spaces(one, embedder, how, asked, state=state), False
                result.map.save(own["map_file"])
            else:
                with open_endpoint(target, how.settings) as other:
                    require_write_allowed(other.address, own["allow_writes"])
                    within(one, other, choice)
                    result = map_spaces(one, embedder, how, asked, state=state)
                    result.map.save(own["map_file"])
                    moved = result.decides("documents").verdict is Verdict.PASS or CONSENT in how.accept_loss
                    if moved:
                        move_mapped(one, other, result, how, state=state)
        finally:
            embedder.close()
    if own["as_json"]:
        output.emit_json(
            result.to_json()
            | {
                "source": str(one.address),
                "target": target,
                "moved": moved,
                "map_file": str(own["map_file"]),
            }
        )
    else:
        _say(result, target, moved, str(own["map_file"]))
    return output.exit_code(result.verdict)


def _say(result: MapResult, target: str | None, moved: bool, file: str) -> None:
    output.say(f"{output.verdict_word(result.verdict)}  a mapping, fitted on {counted(result.fitted, 'text')} → {file}")
    output.say(f"  sample    {result.sampled}")
    output.say(f"  old       {result.map.old}")
    output.say(f"  new       {result.map.new}")
    rows = [_row(each) for each in result.judgements]
    header = (
        "way",
        "judged by",
        "n",
        "nDCG@10",
        "of",
        "lower bound of the difference",
        "recall@10",
        "within the margin",
    )
    output.say(output.table(rows, header))
    for way, means in (
        ("documents", "the old vectors mapped into the new model's space, asked by the new model"),
        ("questions", "the new model's questions mapped into the old space, the collection left as it is"),
    ):
        found = result.decides(way)
        word = {Verdict.PASS: "recommended", Verdict.FAIL: "not recommended"}.get(found.verdict, "not shown to do")
        output.say(f"  {way}: {word} ({means}): {found.ndcg.reason}")
    account = result.account
    usd = "of unknown cost" if result.usd is None else f"{result.usd:,.6f} USD"
    output.say(f"  embedded  {counted(account.texts, 'text')}, {account.tokens:,} tokens, {usd}")
    output.say_findings(result.findings)
    if target is None:
        return
    if moved and result.move is not None:
        output.say(
            f"  written   {counted(result.move.rows, 'record')} → {target}, of the model [{result.map.model().name}]"
        )
    else:
        output.say(
            f"nothing was written to {target}; the mapping alone is kept, in {file}, with what it was found to be\n"
            f"next: embed everything anew (leave --map away), or accept what it costs with --accept-loss {CONSENT}"
        )


def _row(each: Judgement) -> tuple[str, ...]:
    found = each.ndcg
    return (
        each.way,
        each.by,
        str(each.questions),
        _number(found.substitute),
        _number(found.primary),
        _number(found.lower),
        _number(each.recall.substitute),
        found.verdict.value,
    )


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"
