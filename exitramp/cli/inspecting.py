"""What `exitramp inspect` measures and prints: never a payload's value."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from exitramp.canonical import type_name
from exitramp.cli import output
from exitramp.cli.estimating import say_reading
from exitramp.digests import CollectionDigests, digest_batch
from exitramp.inventory import path_text
from exitramp.parity.alignment import read_all
from exitramp.ports import Origin, VectorSource
from exitramp.ports.collection_metadata import own_metadata, shown
from exitramp.ports.estimating import ReadingEstimate
from exitramp.records import UNKNOWN, CollectionSpec, Finding, Verdict
from exitramp.registry import store_adapter
from exitramp.tally import CollectionTally
from exitramp.wording import counted
from exitramp.wrappers import Endpoint
from exitramp.wrappers.namespaced import add_namespaces, namespaces_text

BATCH_ROWS = 1000
_ODD = (
    ("rows_missing", "record without one", "records without one"),
    ("zero_vectors", "of zeros only", "of zeros only"),
    ("nonfinite_values", "number that is not finite", "numbers that are not finite"),
    ("subnormal_values", "subnormal number", "subnormal numbers"),
    ("negative_zero_values", "negative zero", "negative zeros"),
)
PATHS_SHOWN = 60
PATH_WIDTH = 60


def inspect_endpoint(
    endpoint: Endpoint, *, show_values: Collection[str] = (), progress: Callable[[int], None]
) -> dict[str, Any]:
    """One complete read: spec, count, inventory, vector facts, digests, and who answered.

    `show_values` names keys of the collection's own metadata whose values somebody asked to see.
    """
    source = endpoint.source()
    spec = source.describe()
    count = source.count()
    told = _known(endpoint, source, spec, count, show_values)
    tally = CollectionTally(spec)
    digests = CollectionDigests.empty(spec)
    namespaces: Counter[str | None] = Counter()
    for batch in read_all(source, batch_rows=BATCH_ROWS):
        tally.add(batch)
        add_namespaces(namespaces, batch)
        digests = digests.merge(digest_batch(batch, spec))
        progress(digests.rows)
    findings = [*source.identity().findings, *source.findings()]
    return told | {
        "verdict": _verdict(findings, Verdict.PASS if digests.rows == count else Verdict.INCONCLUSIVE),
        "rows": digests.rows,
        "namespaces": [{"name": name, "rows": rows} for name, rows in namespaces.most_common()]
        if spec.has_namespaces
        else None,
        "digests": digests.to_json(),
        "inventory": tally.inventory().to_json(),
        "vectors": {column: facts.to_json() for column, facts in tally.vector_facts().items()},
        "calls": dict(endpoint.meter.calls),
        "findings": [finding.to_json() for finding in findings],
    }


def look_at_endpoint(
    endpoint: Endpoint, reading: ReadingEstimate, *, show_values: Collection[str] = ()
) -> dict[str, Any]:
    """The same of a store that charges, without reading it: what it tells for nothing, and under "reading" what
    a complete read would take. `rows`, `digests` and `inventory` are None.
    """
    source = endpoint.source()
    # To count namespaces that only reading tells apart would take the reading: then the count is of all records.
    known = endpoint.namespaces is None or endpoint.tells_namespaces()
    found = _known(endpoint, source, source.describe(), source.count() if known else reading.rows, show_values)
    named: Counter[str | None] | None = None
    if endpoint.tells_namespaces():
        wanted = endpoint.namespaces
        named = Counter(
            {name: rows for name, rows in endpoint.rows_by_namespace().items() if wanted is None or name in wanted}
        )
    own = source.identity().findings
    findings = [*own, *(each for each in reading.findings if each.code not in {one.code for one in own})]
    return found | {
        "verdict": _verdict(findings, Verdict.INCONCLUSIVE),
        "rows": None,
        "namespaces": None if named is None else [{"name": name, "rows": rows} for name, rows in named.most_common()],
        "digests": None,
        "inventory": None,
        "vectors": {},
        "reading": reading.to_json(),
        "calls": dict(endpoint.meter.calls),
        "findings": [finding.to_json() for finding in findings],
    }


def _verdict(findings: Sequence[Finding], own: Verdict) -> str:
    return Verdict.worst([*(each.verdict for each in findings if each.verdict is not None), own]).value


def _known(
    endpoint: Endpoint, source: VectorSource, spec: CollectionSpec, count: int, show_values: Collection[str]
) -> dict[str, Any]:
    """What the store says of the collection and of itself."""
    identity = source.identity()
    return {
        "address": str(endpoint.address),
        "store": {
            "adapter": identity.adapter,
            "server_version": identity.server_version,
            "client_version": identity.client_version,
            "can_write": identity.can_write,
            "evidence": identity.evidence,
            "opening": store_adapter(endpoint.address.scheme).opening or None,
        },
        "collection": shown(spec).to_json(),
        "metadata": _metadata(spec, source.origin(), show_values),
        "count": count,
    }


def say_inspection(found: Mapping[str, Any], reading: ReadingEstimate | None = None) -> None:
    """The same for people; `reading` is what a reading would take, where none was done."""
    spec, store = found["collection"], found["store"]
    can_write = {True: "yes", False: "no", None: "the store does not tell"}[store["can_write"]]
    output.say(f"{found['address']}")
    output.say(f"  store       {store['adapter']} {store['server_version']} ({store['evidence']})")
    output.say(f"  collection  {spec['name']}, ids are {spec['id_kind']}")
    scanned = "none was read" if found["rows"] is None else f"{found['rows']:,} by a complete scan"
    output.say(f"  records     {found['count']:,} by the store's count, {scanned}")
    if found["namespaces"] is not None:
        held = {each["name"]: each["rows"] for each in found["namespaces"]}
        output.say(f"  namespaces  {output.visible(namespaces_text(Counter(held)))}")
    output.say(f"  may write   {can_write}")
    if store["opening"]:
        output.say(f"  on opening  {store['opening']}")
    for told in found["metadata"]:
        keys = ", ".join(
            f"{key} = {json.dumps(told['values'][key], ensure_ascii=False)}" if key in told["values"] else key
            for key in told["keys"]
        )
        output.say(f"  metadata    {output.visible(keys)}{'' if told['own'] else ' (kept of where it came from)'}")
    for field in spec["vectors"]:
        facts = found["vectors"].get(_column(field), {})
        dimensions = "" if field["dimensions"] is None else f"{field['dimensions']} × "
        kind = f"{dimensions}{field['dtype']}, {field['kind']}, {field['metric']}"
        output.say(f"  vector      {field['name'] or '(unnamed)'}: {kind}; {_model(field['model'])}")
        if facts:
            output.say(f"              {_facts(facts)}")
    rows = []
    for field in (found["inventory"] or {}).get("fields", []):
        types = ", ".join(f"{name} {count}" for name, count in sorted(field["types"].items()))
        rows.append((_path(field["path"]), types, field["rows_missing"], field["rows_null"]))
    if rows:
        first = rows[:PATHS_SHOWN]
        output.say("\n" + output.table(first, ("payload path", "types and values", "rows without", "rows null")))
        if len(rows) > len(first):
            output.say(f"… and {counted(len(rows) - len(first), 'more path')}; --json has them all")
    if reading is not None:
        output.say()
        say_reading(reading)
    output.say_findings(map(_finding, found["findings"]))
    if reading is not None:
        output.say("no record was read: --measure reads all of it once, for payload keys, norms and digests")


def _metadata(spec: CollectionSpec, origin: Origin | None, show_values: Collection[str]) -> list[dict[str, Any]]:
    """Of each place, the keys of the collection's own metadata with the types of their values; `own` says whether it is
    the store's own, or what was kept of the origin."""
    here = own_metadata(spec, None)
    return [
        {
            "place": list(place),
            "own": place in here,
            "keys": {key: type_name(value) for key, value in sorted(values.items())},
            "values": {key: value for key, value in sorted(values.items()) if key in show_values},
        }
        for place, values in own_metadata(spec, origin).items()
    ]


def _finding(told: Mapping[str, Any]) -> Finding:
    verdict = None if told["verdict"] is None else Verdict(told["verdict"])
    return Finding(told["code"], told["message"], verdict, tuple(told["ids"]), told["count"])


def _column(field: Mapping[str, Any]) -> str:
    if field["kind"] == "dense":
        return f"vector:{field['name']}" if field["name"] else "vector"
    return f"{field['kind']}:{field['name']}"


def _model(model: Mapping[str, str]) -> str:
    named = [model[name] for name in ("provider", "name") if model[name] != UNKNOWN]
    return f"model {'/'.join(named)}" if named else "which model made them is not known"


def _facts(facts: Mapping[str, Any]) -> str:
    """`200 vectors; norms 0.98 to 1.02; greatest number 0.7; 3 of all zeros`: what there is nothing of goes unsaid."""
    told = [counted(facts["vectors"], "vector")]
    if facts["norm_minimum"] is not None:
        told.append(f"norms {facts['norm_minimum']:.6g} to {facts['norm_maximum']:.6g}")
    if facts["magnitude_maximum"] is not None:
        told.append(f"greatest number {facts['magnitude_maximum']:.6g}")
    for name, one, many in _ODD:
        if facts[name]:
            told.append(counted(facts[name], one, many))
    return "; ".join(told)


def _path(path: Sequence[str | None]) -> str:
    text = path_text(tuple(path))
    return text if len(text) <= PATH_WIDTH else text[: PATH_WIDTH - 1] + "…"
