"""`exitramp search`: a text's nearest records, asked by the model that made the collection's vectors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from exitramp.cli import output
from exitramp.cli.options import json_option, open_settings, store_options
from exitramp.errors import ExitCode
from exitramp.records import Finding, Verdict

FURTHER = 10


@click.command()
@click.argument("store", metavar="STORE")
@click.option("--query", "text", required=True, metavar="TEXT", help="What to look for.")
@click.option(
    "--model", required=True, metavar="ADDRESS", help="The embedding model that made the collection's vectors."
)
@click.option("-k", "k", type=click.IntRange(1, 10_000), default=10, show_default=True, help="How many records.")
@click.option("--field", default=None, metavar="NAME", help="The vector field to ask.  [default: the only dense one]")
@click.option(
    "--through",
    type=click.Path(dir_okay=False, path_type=Path),
    default=None,
    metavar="FILE",
    help="A mapping that 'reindex --map' made: the model is then its new one, whichever side the collection is of.",
)
@click.option("--exact", is_flag=True, help="Compare with every vector, where the store can.")
@json_option
@store_options
def search(
    store: str,
    text: str,
    model: str,
    k: int,
    field: str | None,
    through: Path | None,
    exact: bool,
    as_json: bool,
    **stores: Any,
) -> int:
    """Embed TEXT by the model and print the ids of the nearest records of STORE, with the store's own scores.

    A model that is known to be another one than the collection's is refused, and both are shown. What nobody knows of
    one of them is told, and so is a mapping that was not recommended. The heading says whether the store's scores are
    distances or similarities. No document and no payload is shown.

    \b
    Example:
      exitramp search qdrant:./new#articles --query "how to leave a vendor" --model wordllama: -k 5
    """
    from exitramp.embedding_identity import Identified, require_same
    from exitramp.ports import Purpose, Query, SearchSettings
    from exitramp.registry import open_embedder
    from exitramp.reindex.mapping import SpaceMap, way_through
    from exitramp.reindex.shape import dense_field
    from exitramp.wrappers import open_endpoint

    settings = open_settings(**stores)
    with open_endpoint(store, settings) as endpoint:
        asked = dense_field(endpoint.source().describe(), field, option="--field")
        embedder = open_embedder(model, settings.network)
        try:
            given = Identified(embedder.model(), embedder.dimensions)
            there, where = Identified.of(asked), str(endpoint.address)
            spaces = None if through is None else SpaceMap.load(through)
            way = None if spaces is None else way_through(spaces, there, given, where)
            unshown = require_same(there, given, doing="the query", where=where) if way is None else way.unshown
            vector = embedder.embed([text], purpose=Purpose.QUERY, timeout_seconds=settings.timeout_seconds).vectors[0]
        finally:
            embedder.close()
        if way is not None and way.maps is not None:
            vector = way.maps.apply(vector[None, :])[0]
        query, asking, how = Query(asked.name, dense=vector), endpoint.search(), SearchSettings(exact)
        hits = asking.search(query, k=k, settings=how)
        meaning = score_meaning(hits.scores)
        if meaning is None and hits.scores:  # one hit, or several alike: only further ones tell which way scores go
            meaning = score_meaning(asking.search(query, k=k + FURTHER, settings=how).scores)
    findings = [] if unshown is None else [unshown]
    if spaces is not None and way is not None and spaces.recommended(way.goes) != "yes":
        findings.append(_unrecommended(spaces.recommended(way.goes), way.goes, through))
    if as_json:
        found = [
            {"id": key.id, "namespace": key.namespace, "score": score}
            for key, score in zip(hits.keys, hits.scores, strict=True)
        ]
        output.emit_json(
            {
                "model": str(given),
                "collection_model": str(Identified.of(asked)),
                "field": asked.name,
                "metric": asked.metric.value,
                "score": "unknown" if meaning is None else meaning.partition(",")[0],
                "nearer_is": None if meaning is None else meaning.rpartition(", ")[2].split()[0],
                "hits": found,
                "findings": [each.to_json() for each in findings],
            }
        )
    else:
        rows = [
            (rank, key, f"{score:.6f}") for rank, (key, score) in enumerate(zip(hits.keys, hits.scores, strict=True), 1)
        ]
        said = "the store does not show whether smaller or larger is nearer" if meaning is None else meaning
        output.say(output.table(rows, ("rank", "id", f"score ({asked.metric.value} {said})")))
        for each in findings:
            output.note(f"note: {each.message}")
    return int(ExitCode.PASS)


def score_meaning(scores: Sequence[float]) -> str | None:
    """Which way a store's scores go, by the order that every store answers in, nearest first; None where they are all
    alike. Stores differ in it, also for one metric, and so it is read off the answer rather than off a table."""
    known = [each for each in scores if not math.isnan(each)]
    if not known or known[0] == known[-1]:
        return None
    return "distance, smaller is nearer" if known[0] < known[-1] else "similarity, larger is nearer"


def _unrecommended(said: str, way: str, file: Path | None) -> Finding:
    what = {
        "no": f"was not recommended for {way}: judged on held-out texts it loses more than its margin allows",
        "not shown": f"was not shown to be inside its margin for {way}: it was judged on too little",
    }.get(said, f"does not say whether it was recommended for {way}")
    return Finding(
        "map.unrecommended",
        f"the mapping {file} {what}, so what is found may be the wrong records; next: fit it again on more texts, or "
        "embed the collection anew: exitramp reindex without --map",
        Verdict.INCONCLUSIVE,
    )
