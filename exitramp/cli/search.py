"""`exitramp search`: a text's nearest records, asked by the model that made the collection's vectors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from exitramp.cli import output
from exitramp.cli.options import json_option, open_settings, store_options
from exitramp.errors import ExitCode


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
    one of them is told. No document and no payload is shown.

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
            way = None if through is None else way_through(SpaceMap.load(through), there, given, where)
            unshown = require_same(there, given, doing="the query", where=where) if way is None else way.unshown
            vector = embedder.embed([text], purpose=Purpose.QUERY, timeout_seconds=settings.timeout_seconds).vectors[0]
        finally:
            embedder.close()
        if way is not None and way.maps is not None:
            vector = way.maps.apply(vector[None, :])[0]
        hits = endpoint.search().search(Query(asked.name, dense=vector), k=k, settings=SearchSettings(exact))
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
                "hits": found,
                "findings": [] if unshown is None else [unshown.to_json()],
            }
        )
    else:
        rows = [
            (rank, key, f"{score:.6f}") for rank, (key, score) in enumerate(zip(hits.keys, hits.scores, strict=True), 1)
        ]
        output.say(output.table(rows, ("rank", "id", "score")))
        if unshown is not None:
            output.note(f"note: {unshown.message}")
    return int(ExitCode.PASS)
