"""Writes that reach the primary after the dump, announced in the drill file: the reason why something can be lost."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from exitramp import __version__, canonical
from exitramp.arrow import record_keys
from exitramp.digests import leaf_digests
from exitramp.drill.run import DrillRun, StepOutcome
from exitramp.drill.steps.base import NoArguments, Step
from exitramp.drill.steps.build import document_batch
from exitramp.embedding_identity import Identified, require_same
from exitramp.errors import ConfigError, DataInvalid
from exitramp.migration import announced_tolerances, side_tolerances
from exitramp.migration.moving import read_digests
from exitramp.parity.alignment import read_all
from exitramp.parity.records import compare_records
from exitramp.ports import Origin, Purpose, VectorSource, embed_all
from exitramp.records import CollectionSpec, CorpusDocument, Finding, RecordKey, Verdict
from exitramp.urls import path_address
from exitramp.wording import counted
from exitramp.wrappers import Endpoint, open_endpoint
from exitramp.yaml_reader import Block

IDS_SHOWN = 20
TURN_INSERTS = 100_000
"""How far apart the numbers of new records stand that two turns of writing make."""


@dataclass(frozen=True, slots=True)
class WriteArguments:
    """How many new records, changed ones and deletions."""

    inserts: int
    updates: int
    deletes: int

    def to_json(self) -> dict[str, Any]:
        return {"inserts": self.inserts, "updates": self.updates, "deletes": self.deletes}


@dataclass(slots=True)
class LateWrites:
    """What was written after the dump: payload leaves of what was upserted, and the keys that were deleted."""

    upserted: dict[str, bytes] = field(default_factory=dict)
    deleted: list[str] = field(default_factory=list)


def _write(run: DrillRun, arguments: WriteArguments) -> StepOutcome:
    endpoint = run.writable("primary")
    # From here to the end nobody knows what the primary holds: a way back that is taken in between compares nothing.
    run.shared["primary_digests"] = None
    done = write_records(run, endpoint, arguments)
    run.shared["late_writes"] = done
    run.shared["primary_digests"] = read_digests(endpoint.source())
    written = counted(len(done.upserted), "record was", "records were")
    text = f"{written} written to the primary and {len(done.deleted):,} deleted after the dump"
    return StepOutcome(
        {
            "upserted": sorted(done.upserted),
            "deleted": sorted(done.deleted),
            "digests_after": run.shared["primary_digests"].to_json(),
        },
        (Finding("late_writes.announced", text, count=len(done.upserted) + len(done.deleted)),),
    )


def write_records(run: DrillRun, endpoint: Endpoint, arguments: WriteArguments, *, turn: int = 0) -> LateWrites:
    """New, changed and deleted records, drawn by the run's seed; each `turn` of a run writes and draws others."""
    if not (arguments.inserts or arguments.updates or arguments.deletes):
        return LateWrites()
    source = endpoint.source()
    spec = source.describe()
    embedder = run.embedder()
    if embedder is None:
        raise ConfigError("writes of a drill need data.embedder", file=run.spec.file)
    given = Identified(embedder.model(), embedder.dimensions)
    unshown = require_same(Identified.of(spec.vectors[0]), given, doing="late writes", where=str(endpoint.address))
    if unshown is not None and run.shared.get("built_by") != given:
        run.say(unshown.message)
    keys = sorted((key for batch in read_all(source, batch_rows=1000) for key in record_keys(batch)), key=str)
    wanted = arguments.updates + arguments.deletes
    if len(keys) < wanted:
        raise DataInvalid(
            f"the {_side(run, endpoint)} holds {counted(len(keys), 'record')}, and {wanted:,} are to be changed or "
            "deleted"
        )
    rng = random.Random(run.seed if not turn else f"{run.seed}/{turn}")
    chosen = rng.sample(keys, wanted)
    first = turn * TURN_INSERTS
    documents = [
        *_changed(source, chosen[: arguments.updates]),
        *(_new(first + number, run.seed) for number in range(arguments.inserts)),
    ]
    sink = endpoint.sink()
    sink.create(spec, source.origin() or Origin(spec, __version__))
    done = LateWrites()
    if documents:
        vectors = embed_all(embedder, [each.text for each in documents], purpose=Purpose.DOCUMENT)
        batch = document_batch(documents, vectors, spec)
        sink.upsert(batch)
        done.upserted = _leaves(batch, spec)
    doomed = chosen[arguments.updates :]
    if doomed:
        sink.delete(doomed)
        done.deleted = [str(key) for key in doomed]
    sink.flush()
    return done


def _side(run: DrillRun, endpoint: Endpoint) -> str:
    return next((name for name, stack in run.stacks.items() if stack.store.address == endpoint.address), "store")


def _changed(source: VectorSource, keys: Sequence[RecordKey]) -> list[CorpusDocument]:
    batch = source.fetch(keys)
    found = []
    for row in batch.to_pylist():
        payload = canonical.loads(row["payload"]) if row["payload"] else {}
        text = (row.get("document") or "") + "\n\nNote: this text was revised after the export."
        found.append(CorpusDocument(row["id"], text, {**payload, "revised": True}))
    return sorted(found, key=lambda each: each.id)


def _new(number: int, seed: int) -> CorpusDocument:
    text = f"late.note_{number}\n\nA note that was added to the documentation after the export, number {number}."
    return CorpusDocument(f"late.note_{number}#{seed}", text, {"package": "late", "chunk": {"index": 0, "of": 1}})


def _leaves(batch: Any, spec: CollectionSpec) -> dict[str, bytes]:
    leaves = leaf_digests(batch, spec).payloads
    return {str(key): leaf.tobytes() for key, leaf in zip(record_keys(batch), leaves, strict=True)}


def _loss(run: DrillRun, arguments: NoArguments) -> StepOutcome:
    """Which records the substitute lacks, holds in an older state, or still holds, now that it serves."""
    late: LateWrites | None = run.shared.get("late_writes")
    substitute = run.endpoint("substitute")
    destroyed = bool(run.results.get("outage", {}).get("restore", {}).get("destroyed", {}).get("how") == "live")
    if late is None and destroyed:
        return _unknown_loss(run)
    if late is None:
        missing, stale, undeleted, how = _by_comparison(run, substitute)
    else:
        missing, stale, undeleted = _by_announcement(substitute, late)
        how = "each announced write looked for by its id"
        if "dump" in run.results:
            how += ", and every other record held against the dump"
            _beyond_announced(run, substitute, late, missing, stale)
    lost = [*missing, *stale, *undeleted]
    findings = []
    for code, ids, one, many, where in (
        ("loss.missing", missing, "record is", "records are", "not in the substitute"),
        ("loss.stale", stale, "record is", "records are", "in the substitute in an older state"),
        ("loss.undeleted", undeleted, "deleted record is", "deleted records are", "still in the substitute"),
    ):
        if ids:
            text = f"{counted(len(ids), one, many)} {where}"
            findings.append(Finding(code, text, None, tuple(ids[:IDS_SHOWN]), len(ids)))
    data = {"missing": missing, "stale": stale, "undeleted": undeleted, "records": len(lost), "how": how}
    return StepOutcome(data | _staleness(run), tuple(findings))


def _staleness(run: DrillRun) -> dict[str, Any]:
    """How old the restored state was when the primary was lost for good; nothing where it was not."""
    lost, began = run.shared.get("lost_at"), run.shared.get("dump_began")
    return {} if lost is None or began is None else {"staleness_seconds": round(lost - began, 3)}


def _unknown_loss(run: DrillRun) -> StepOutcome:
    """Nobody announced what was written after the dump, and whoever could be asked is gone: so it is not known."""
    text = "the primary is gone, and what was written to it after the dump was announced nowhere: nobody can count it"
    finding = Finding("loss.unknown", text, Verdict.INCONCLUSIVE)
    data = {"records": None, "how": "nothing to hold it against"}
    return StepOutcome(data | _staleness(run), (finding,), Verdict.INCONCLUSIVE)


def _by_announcement(substitute: Endpoint, late: LateWrites) -> tuple[list[str], list[str], list[str]]:
    source = substitute.source()
    keys = [RecordKey(id_) for id_ in (*late.upserted, *late.deleted)]
    held = _leaves(source.fetch(keys), source.describe()) if keys else {}
    missing = sorted(id_ for id_ in late.upserted if id_ not in held)
    stale = sorted(id_ for id_, leaf in late.upserted.items() if id_ in held and held[id_] != leaf)
    return missing, stale, sorted(id_ for id_ in late.deleted if id_ in held)


def _beyond_announced(
    run: DrillRun, substitute: Endpoint, late: LateWrites, missing: list[str], stale: list[str]
) -> None:
    """What the substitute lacks besides the announced writes: the primary is gone, but what was dumped of it is not."""
    announced = {*late.upserted, *late.deleted}
    given = announced_tolerances(run.shared.get("plan"), run.shared.get("accepted_loss", ()))
    with open_endpoint(path_address("dump", run.folder / "dump")) as dumped:
        reader = dumped.source()
        tolerances = side_tolerances(reader.describe().vectors, substitute, given=given)

        def on_id(kind: str, key: RecordKey) -> None:
            ids = missing if kind == "missing" else stale
            if kind != "extra" and str(key) not in announced and str(key) not in ids:
                ids.append(str(key))

        compare_records(reader, substitute.source(), tolerances=tolerances, on_id=on_id)


def _by_comparison(run: DrillRun, substitute: Endpoint) -> tuple[list[str], list[str], list[str], str]:
    """For a primary that is only cut in our own layer, everything can be compared; the reads go around the cut."""
    primary = run.endpoint("primary")
    found: dict[str, list[str]] = {"missing": [], "extra": [], "changed": []}
    kinds = {"document": "changed", "payload": "changed", "vector": "changed"}

    def on_id(kind: str, key: RecordKey) -> None:
        ids = found.setdefault(kinds.get(kind, kind), [])
        if str(key) not in ids:
            ids.append(str(key))

    reader = primary.source()
    spec = reader.describe()
    given = announced_tolerances(run.shared.get("plan"), run.shared.get("accepted_loss", ()))
    tolerances = side_tolerances(spec.vectors, primary, substitute, given=given)
    compare_records(reader, substitute.source(), tolerances=tolerances, on_id=on_id)
    return found["missing"], found["changed"], found["extra"], "primary and substitute compared record by record"


def parse_writes(block: Block) -> WriteArguments:
    return WriteArguments(
        block.integer("inserts", 0, minimum=0),
        block.integer("updates", 0, minimum=0),
        block.integer("deletes", 0, minimum=0),
    )


LATE_WRITES = Step(
    "late_writes", "write to the primary after the dump", _write, parse_writes, ("primary.store",), ("primary.store",)
)
MEASURE_LOSS = Step(
    "measure_loss", "name the records that the substitute lacks", _loss, reads=("substitute.store", "primary.store")
)
