"""Steps that set the scene: start the services, fill the primary store from a real corpus, load the golden set."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import packages_distributions, version
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from exitramp import __version__, canonical
from exitramp.arrow import dense_array, record_keys, stream_schema
from exitramp.drill.inputs import load_cases, prompt_folder
from exitramp.drill.run import DrillRun, StepOutcome
from exitramp.drill.spec import DrillSpec
from exitramp.drill.steps.base import NoArguments, Step
from exitramp.embedding_identity import Identified, require_same
from exitramp.errors import CollectionExists, CollectionMissing, ConfigError, StoreError
from exitramp.evals.golden import asked_again, golden_coverage, keys_of
from exitramp.evals.sets.case import Case
from exitramp.migration import count_or_none
from exitramp.migration.moving import read_digests
from exitramp.orchestration.prompts import load_prompts
from exitramp.ports import Embedder, ModelAdapter, Origin, Purpose, StoreAdapter, TransferAccount, embed_all
from exitramp.records import (
    CollectionSpec,
    CorpusDocument,
    DType,
    Finding,
    IdKind,
    Metric,
    RecordKey,
    VectorField,
    VectorKind,
    Verdict,
    parse_metric,
)
from exitramp.registry import corpus, model_adapter, store_adapter
from exitramp.wording import counted
from exitramp.yaml_reader import Block

EMBED_ROWS = 512
IDENTITY_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class BuildArguments:
    metric: Metric
    limit: int | None
    keep_golden: bool = False
    """Whether the documents that golden questions ask for are among the `limit`."""

    def to_json(self) -> dict[str, Any]:
        found: dict[str, Any] = {"metric": self.metric.value, "limit": self.limit}
        return found | {"keep_golden": True} if self.keep_golden else found


@dataclass(frozen=True, slots=True)
class GoldenArguments:
    """limit: so many of the questions, spread evenly over the set; None is all."""

    limit: int | None = None

    def to_json(self) -> dict[str, Any]:
        return {} if self.limit is None else {"limit": self.limit}


def _start(run: DrillRun, arguments: NoArguments) -> StepOutcome:
    run.start_stacks()
    if any(
        step.name in {"restore", "reembed"} or (step.name == "outage" and step.arguments.lost is not None)
        for step in run.spec.steps
    ):
        _require_room(run)
    stacks: dict[str, Any] = {}
    for name, stack in run.stacks.items():
        parts: dict[str, Any] = {}
        for kind, part in (("store", stack.store), ("chat", stack.chat), ("embedding", stack.embedding)):
            if part is None:
                continue
            describe = getattr(part.service, "describe", None)
            adapter = _adapter(kind, part.address.scheme)
            parts[kind] = {
                "address": str(part.address),
                "service": part.adapter.name if part.adapter else None,
                "mock": part.is_mock,
                "evidence": adapter.evidence,
                "started_by_the_drill": part.service is not None,
                "described": dict(describe()) if callable(describe) else None,
                "summary": adapter.summary,
                "service_summary": part.adapter.summary if part.adapter else None,
                "in_process": part.address.host is None if kind == "store" else None,
                "library": _library(adapter),
                "identity": _identity(run, name) if kind == "store" else None,
            }
        stacks[name] = parts
    folder = prompt_folder(run.spec)
    prompts = (
        []
        if folder is None
        else [
            {"name": prompt.name, "version": prompt.version, "sha256": prompt.sha256} for prompt in load_prompts(folder)
        ]
    )
    return StepOutcome({"stacks": stacks, "prompts": prompts})


def _require_room(run: DrillRun) -> None:
    """Raises `WriteRefused` or `CollectionExists` before anything is read where nothing could be restored later."""
    endpoint = run.writable("substitute")
    held = count_or_none(endpoint)
    if held:
        raise CollectionExists(
            f"the substitute {endpoint.address} already holds {counted(held, 'record')}",
            hint="a drill fills an empty collection: name another one in the drill file, or delete this one; local "
            "files may stand in '{folder}', the folder of each run",
        )


def _adapter(kind: str, scheme: str) -> StoreAdapter | ModelAdapter:
    return store_adapter(scheme) if kind == "store" else model_adapter(scheme)


def _library(adapter: StoreAdapter | ModelAdapter) -> dict[str, str] | None:
    """The package that the adapter speaks through, by the name that it is installed under, and its version."""
    names = packages_distributions().get(adapter.requires[0], []) if adapter.requires else []
    return {"name": names[0], "version": version(names[0])} if names else None


def _identity(run: DrillRun, stack: str) -> dict[str, Any]:
    """Which store answers, as it says itself. One that is not there, or silent, says nothing: whether all parts answer
    is found out by a step of its own."""
    try:
        found = run.endpoint(stack, timeout_seconds=IDENTITY_SECONDS, tries=1).source().identity()
    except (StoreError, CollectionMissing) as error:
        return {"told": False, "why": error.message}
    return {"told": True, "server_version": found.server_version, "client_version": found.client_version}


def _build(run: DrillRun, arguments: BuildArguments) -> StepOutcome:
    name = run.spec.data.corpus
    embedder = run.embedder()
    if name is None or embedder is None:
        raise ConfigError(
            "'build_primary' needs data.corpus, and data.embedder or an 'embedding' of the primary", file=run.spec.file
        )
    source = corpus(name)
    documents = _chosen(run, list(source.documents()), arguments)
    started = run.clock.monotonic()
    endpoint = run.writable("primary")
    spec = _spec(run, embedder, arguments.metric)
    held_before = count_or_none(endpoint)
    if held_before:
        there = endpoint.source().describe().vectors
        unshown = [
            require_same(
                Identified.of(each), Identified.of(spec.vectors[0]), doing="the corpus", where=str(endpoint.address)
            )
            for each in there
            if each.column == spec.vectors[0].column
        ]
        for found in unshown:
            if found is not None:
                run.say(found.message)
    sink = endpoint.sink()
    sink.create(spec, Origin(spec, __version__))
    norms: list[npt.NDArray[np.float64]] = []
    for batch in _batches(documents, spec, embedder, norms):
        sink.upsert(batch)
    sink.flush()
    findings = [*(sink.finish(TransferAccount(rows_read=len(documents), rows_written=len(documents))) or ())]
    landed = endpoint.source().count()
    digests = read_digests(endpoint.source())
    every_norm = np.concatenate(norms) if norms else np.zeros(0)
    if not held_before:
        run.shared["built_by"] = Identified(embedder.model(), embedder.dimensions)
    run.shared["primary_digests"] = digests
    if landed != len(documents):
        text = f"{counted(len(documents), 'document was', 'documents were')} written and {landed:,} landed"
        findings.append(Finding("build.count", text, Verdict.FAIL))
    return StepOutcome(
        {
            "corpus": dict(source.identity()),
            "documents": len(documents),
            "landed": landed,
            "dimensions": embedder.dimensions,
            "model": embedder.model().to_json(),
            "metric": arguments.metric.value,
            "norm_minimum": float(every_norm.min()) if len(every_norm) else None,
            "norm_maximum": float(every_norm.max()) if len(every_norm) else None,
            "digests": digests.to_json(),
            "seconds": run.clock.monotonic() - started,
        },
        tuple(findings),
    )


def _chosen(run: DrillRun, documents: list[CorpusDocument], arguments: BuildArguments) -> list[CorpusDocument]:
    """The first `limit`, or with `keep_golden` what golden questions ask for and others drawn at random by the seed."""
    limit = arguments.limit
    if limit is None or limit >= len(documents):
        return documents
    if not arguments.keep_golden:
        return documents[:limit]
    wanted = {id_ for case in load_cases(run.spec) for id_ in case.relevant}
    others = [row for row, each in enumerate(documents) if each.id not in wanted]
    room = limit - (len(documents) - len(others))
    if room < 0:
        raise ConfigError(
            f"build_primary.limit: {limit} documents are fewer than the golden questions ask for",
            file=run.spec.file,
            hint=f"they ask for {len(documents) - len(others)}",
        )
    left_out = set(others) - set(random.Random(run.seed).sample(others, room))
    return [each for row, each in enumerate(documents) if row not in left_out]


def _spec(run: DrillRun, embedder: Embedder, metric: Metric) -> CollectionSpec:
    collection = run.stack("primary").store.address.collection or "documents"
    field = VectorField("", VectorKind.DENSE, DType.FLOAT32, metric, embedder.dimensions, embedder.model())
    return CollectionSpec(collection, IdKind.STRING, (field,), has_documents=True)


def _batches(
    documents: Sequence[CorpusDocument], spec: CollectionSpec, embedder: Embedder, norms: list[npt.NDArray[np.float64]]
) -> Iterator[pa.RecordBatch]:
    for start in range(0, len(documents), EMBED_ROWS):
        part = documents[start : start + EMBED_ROWS]
        vectors = embed_all(embedder, [document.text for document in part], purpose=Purpose.DOCUMENT)
        norms.append(np.linalg.norm(vectors.astype(np.float64), axis=1))
        yield document_batch(part, vectors, spec)


def document_batch(
    documents: Sequence[CorpusDocument], vectors: npt.NDArray[np.float32], spec: CollectionSpec
) -> pa.RecordBatch:
    """Documents and their vectors as records of a collection with one unnamed field."""
    columns = {
        "id": pa.array([document.id for document in documents], pa.string()),
        "document": pa.array([document.text for document in documents], pa.string()),
        "payload": pa.array([canonical.dumps(dict(document.payload)) for document in documents], pa.string()),
        "vector": dense_array(vectors, spec.vectors[0]),
    }
    schema = stream_schema(spec)
    return pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)


def _golden(run: DrillRun, arguments: GoldenArguments) -> StepOutcome:
    every = load_cases(run.spec)
    cases = every
    if arguments.limit is not None and arguments.limit < len(every):
        # By place and not at random: the same questions in every run, and of every use case where the set has them.
        cases = tuple(every[place * len(every) // arguments.limit] for place in range(arguments.limit))
    if not cases:
        text = "no golden questions were given, so quality cannot be judged"
        finding = Finding("golden.none", text, Verdict.INCONCLUSIVE)
        return StepOutcome({"cases": 0}, (finding,), Verdict.INCONCLUSIVE)
    wanted = sorted({id_ for case in cases for id_ in case.relevant})
    present = _present(run, wanted)
    coverage = golden_coverage(cases, present)
    usable = tuple(case for case in cases if any(id_ in present for id_ in case.relevant) or not case.relevant)
    run.golden = usable
    findings: list[Finding] = []
    if coverage.absent_ids:
        too_many = coverage.too_many_absent
        findings.append(
            Finding(
                "golden.absent",
                f"{counted(len(coverage.absent_ids), 'golden id is', 'golden ids are')} not in the corpus and "
                f"{'touches' if len(coverage.absent_ids) == 1 else 'touch'} "
                f"{len(coverage.affected_cases)} of {counted(len(cases), 'question')}",
                Verdict.INCONCLUSIVE if too_many else None,
                tuple(coverage.absent_ids[:20]),
                len(coverage.absent_ids),
            )
        )
    ambiguous = sorted(text for text, records in present.items() if records > 1)
    if ambiguous:
        text = f"{counted(len(ambiguous), 'golden id means', 'golden ids mean')} several records, in several namespaces"
        findings.append(Finding("golden.ambiguous", text, Verdict.INCONCLUSIVE, tuple(ambiguous[:20]), len(ambiguous)))
    findings += _told_of(usable)
    use_cases = Counter(case.use_case for case in cases)
    overlaps = [case.token_overlap for case in cases if case.token_overlap is not None]
    return StepOutcome(
        {
            "set": run.spec.data.golden,
            "cases": len(cases),
            "of": len(every),
            "usable": len(usable),
            "use_cases": dict(use_cases),
            "with_assertion": sum(bool(case.checks) for case in cases),
            "mean_token_overlap": sum(overlaps) / len(overlaps) if overlaps else None,
            "absent_ids": list(coverage.absent_ids),
            "affected_cases": list(coverage.affected_cases),
            "case_sha256": [case.sha256 for case in cases],
        },
        tuple(findings),
        Verdict.worst([Verdict.PASS, *(each.verdict for each in findings if each.verdict is not None)]),
    )


def _told_of(cases: Sequence[Case]) -> list[Finding]:
    """What a drill does with a case otherwise than its set says, by name."""
    found = []
    for code, names, what in (
        (
            "golden.asks_a_model",
            [case.id for case in cases if case.asks_a_model],
            "with a check by similarity or by a judge, which a drill has not: what is answered is not judged",
        ),
        (
            "golden.conversation",
            [case.id for case in cases if len(case.messages) > 1],
            "at the end of a conversation: what was said before is not sent",
        ),
        (
            "golden.unlabelled",
            [case.id for case in cases if not (case.is_labelled or case.logged_ids)],
            "with nothing that tells a good answer: asked, and not judged",
        ),
    ):
        if names:
            text = f"{counted(len(names), 'golden question')} {what}"
            found.append(Finding(code, text, None, tuple(names[:20]), len(names)))
    same = asked_again((case.id, case.text_sha256) for case in cases)
    return found + ([] if same is None else [same])


def _present(run: DrillRun, wanted: Sequence[str]) -> Counter[str]:
    """Of these golden ids those that the primary has, each with the number of records that it can mean."""
    source = run.endpoint("primary").source()
    namespaced = source.describe().has_namespaces
    keys = [key for text in wanted for key in (keys_of(text) if namespaced else [RecordKey(text)])]
    found: Counter[str] = Counter()
    for start in range(0, len(keys), 256):
        found.update(map(str, record_keys(source.fetch(keys[start : start + 256]))))
    return found


def _parse_build(block: Block) -> BuildArguments:
    return BuildArguments(
        parse_metric(block.text("metric", "cosine"), where="build_primary.metric"),
        block.integer("limit", None, minimum=1),
        block.flag("keep_golden", False),
    )


def _varied(spec: DrillSpec, arguments: NoArguments) -> dict[str, Any]:
    parts = [part for stack in (spec.primary, spec.substitute) for part in (stack.store, stack.chat, stack.embedding)]
    return {} if any(part and part.service for part in parts) else {"summary": "see that the two sides can be used"}


START = Step("start", "start the services of both stacks", _start, varies=_varied)
BUILD = Step("build_primary", "fill the primary store from the corpus", _build, _parse_build, writes=("primary.store",))
GOLDEN = Step(
    "load_golden",
    "load the golden questions and count what they need",
    _golden,
    lambda block: GoldenArguments(block.integer("limit", None, minimum=1)),
    reads=("primary.store",),
)
