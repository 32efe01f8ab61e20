"""Steps for an embedding vendor that is gone: nothing can be asked, then by a mapping, then by another model.

The same golden questions are asked of a real store in every state, each question embedded when it is asked. What counts
is nDCG over them, paired with what the vendor's own model found before it was cut off. A question that nobody could
embed found nothing: that is measured, and its zero stands for what an application would have had.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from exitramp.drill.asking import Asked, ask_in_state, state_json, told_price
from exitramp.drill.run import DrillRun, StepOutcome
from exitramp.drill.stacks import QueryVectors
from exitramp.drill.steps.base import Step
from exitramp.drill.steps.leaving import dump_address
from exitramp.embedding_identity import Identified, require_same
from exitramp.errors import ConfigError, ModelDiffers
from exitramp.faults import Fault
from exitramp.ports import Embedder, Purpose
from exitramp.records import Finding, VectorKind, Verdict
from exitramp.reindex.mapped import MapHow, MapResult, map_spaces, move_mapped
from exitramp.reindex.moving import reindex
from exitramp.reindex.result import How
from exitramp.urls import Address, path_address
from exitramp.wording import counted
from exitramp.wrappers import Endpoint, OpenSettings, open_endpoint
from exitramp.yaml_reader import Block

FAULTS: Final = ("sigkill", "refuse", "unavailable", "auth", "model_gone")
"""What a vendor that is gone looks like. Each is told at once: one that hangs would cost a timeout a question."""
_FOLDER: Final = "{folder}"


@dataclass(frozen=True, slots=True)
class GoneArguments:
    fault: str
    timeout_seconds: float

    def to_json(self) -> dict[str, Any]:
        return {"fault": self.fault, "timeout_seconds": self.timeout_seconds}


@dataclass(frozen=True, slots=True)
class MapArguments:
    """`into`: an address in the run's folder where the mapped documents go; None maps the questions alone."""

    sample: int
    into: str | None

    def to_json(self) -> dict[str, Any]:
        return {"sample": self.sample, "into": self.into}


@dataclass(frozen=True, slots=True)
class ReembedArguments:
    accept_loss: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {"accept_loss": list(self.accept_loss)}


def _gone(run: DrillRun, arguments: GoneArguments) -> StepOutcome:
    """Ask while the vendor answers, cut it off, and ask again; then hold the other model as it is against the store."""
    vendor = run.embedding_of("primary")
    store = run.endpoint("primary")
    filled = {"texts": vendor.texts, "tokens": vendor.tokens, **told_price(run, vendor, vendor.tokens)}
    before = ask_in_state(run, store, _by(vendor, arguments.timeout_seconds), vendor)
    run.shared["embedding:before"] = before
    data: dict[str, Any] = {"filled": filled, "before": state_json(run, before, before)}
    findings = _account(run, data)
    how = run.inject("primary", "embedding", Fault(arguments.fault))
    run.shared["embedding:cut_at"] = run.clock.monotonic()
    run.log.append(
        "fault.injected", {"stack": "primary", "on": "embedding", "fault": arguments.fault, "how": how, "phase": 1}
    )
    after = ask_in_state(run, store, _by(vendor, arguments.timeout_seconds), vendor)
    data |= {"fault": arguments.fault, "how": how, "gone": state_json(run, after, before)}
    data["as_it_is"] = _as_it_is(run, store)
    answered = len(after.got) - sum(after.errors.values())
    if answered:
        text = f"{counted(answered, 'question was', 'questions were')} embedded although the vendor was cut off"
        findings = (*findings, Finding("embedding.not_gone", text, Verdict.INCONCLUSIVE, count=answered))
        return StepOutcome(data, findings, Verdict.INCONCLUSIVE)
    return StepOutcome(
        data, findings, Verdict.worst([Verdict.PASS, *(each.verdict or Verdict.PASS for each in findings)])
    )


def _account(run: DrillRun, data: dict[str, Any]) -> tuple[Finding, ...]:
    """Our count of tokens against the vendor's own, while it can still be asked."""
    part = run.stack("primary").embedding
    vendor = run.embedding_of("primary")
    if part is None or part.service is None:
        return ()
    told = part.service.counters()
    theirs = int(told["prompt_tokens"])
    data["account"] = {"ours": vendor.tokens, "vendors": theirs, "requests": int(told["requests"])}
    if theirs == vendor.tokens:
        return ()
    text = f"{vendor.tokens:,} tokens by our count, and {theirs:,} by the vendor's own account"
    return (Finding("embedding.account", text, Verdict.FAIL),)


def _as_it_is(run: DrillRun, store: Endpoint) -> dict[str, Any]:
    """What asking by the substitute's model without more comes to: refused where the two are known to differ."""
    other = run.embedding_of("substitute")
    field = next(each for each in store.source().describe().vectors if each.kind is VectorKind.DENSE)
    try:
        unshown = require_same(
            Identified.of(field), Identified(other.model(), other.dimensions), doing="the query", where="the primary"
        )
    except ModelDiffers as error:
        return {"refused": True, "why": error.message}
    return {"refused": False, "why": "" if unshown is None else unshown.message}


def _map(run: DrillRun, arguments: MapArguments) -> StepOutcome:
    """Fit on what was embedded already, and ask both ways; needs nothing from the vendor."""
    before = _before(run)
    other = run.embedding_of("substitute")
    began, texts, tokens = run.clock.monotonic(), other.texts, other.tokens
    asked = MapHow(sample=arguments.sample, margin=_margin(run), golden=run.golden, seed=run.seed)
    with open_endpoint(_source_address(run)) as source:
        found = map_spaces(source, other, _how(run), asked, state=run.folder / "map", clock=run.clock)
        fitted = run.clock.monotonic() - began
        spent = {"texts": other.texts - texts, "tokens": other.tokens - tokens}
        data: dict[str, Any] = {
            "source": "dump" if "dump" in run.results else "primary.store",
            "fitted_on": found.fitted,
            "map_sha256": found.map.digest(),
            "kind": {"documents": found.map.documents.kind.value, "questions": found.map.questions.kind.value},
            "fit_seconds": fitted,
            "once": spent | told_price(run, other, spent["tokens"]),
        }
        questions = ask_in_state(run, run.endpoint("primary"), _by(other, maps=found.map.questions.apply), other)
        run.shared["embedding:questions mapped"] = questions
        data["questions_mapped"] = _recovered(run, state_json(run, questions, before), questions, began)
        findings = [_told("questions mapped", data["questions_mapped"])]
        if arguments.into is not None:
            documents, moved = _documents_mapped(run, source, found, arguments.into)
            run.shared["embedding:documents mapped"] = documents
            own = _recovered(run, state_json(run, documents, before), documents, began)
            data["documents_mapped"] = own | {"rows": moved}
            findings.append(_told("documents mapped", own))
    return StepOutcome(data, tuple(findings))


def _documents_mapped(run: DrillRun, source: Endpoint, found: MapResult, into: str) -> tuple[Asked, int | None]:
    address = Address.parse(into.replace(_FOLDER, path_address("x", run.folder).partition(":")[2]))
    settings = OpenSettings(clock=run.clock, seed=run.seed)
    target = open_endpoint(address, settings)
    run.on_close(target.close)
    move_mapped(source, target, found, _how(run), state=run.folder / "map", clock=run.clock)
    if found.move is None or found.move.verdict is not Verdict.PASS:
        raise ConfigError(f"the mapped documents did not land in {into} whole", file=run.spec.file)
    other = run.embedding_of("substitute")
    return ask_in_state(run, target, _by(other), other), found.move.to_json().get("rows")


def _reembed(run: DrillRun, arguments: ReembedArguments) -> StepOutcome:
    """Every document embedded anew by the substitute's model into its store, and the first answer timed."""
    before = _before(run)
    other = run.embedding_of("substitute")
    began, texts, tokens = run.clock.monotonic(), other.texts, other.tokens
    target = run.writable("substitute")
    with open_endpoint(_source_address(run)) as source:
        result = reindex(
            source, target, other, _how(run, arguments.accept_loss), state=run.folder / "reindex", clock=run.clock,
            progress=lambda what, done: run.check_stop(),
        )  # fmt: skip
    spent = {"texts": other.texts - texts, "tokens": other.tokens - tokens}
    data: dict[str, Any] = {
        "model": str(Identified(other.model(), other.dimensions)),
        "dimensions": other.dimensions,
        "rows": None if result.move is None else result.move.to_json().get("rows"),
        "once": spent | told_price(run, other, spent["tokens"]),
        "seconds": {name: round(value, 3) for name, value in result.seconds.items()},
    }
    found = ask_in_state(run, target, _by(other), other)
    data["reembedded"] = _recovered(run, state_json(run, found, before), found, began)
    data["rto_seconds"] = data["reembedded"]["recovered_seconds"]
    for way in ("questions mapped", "documents mapped"):
        mapped: Asked | None = run.shared.get(f"embedding:{way}")
        if mapped is not None:
            against = state_json(run, mapped, found)
            data[f"{way.replace(' ', '_')}_against_reembedded"] = against["ndcg"]
    embedded = np.stack([found.vectors[case.text] for case in run.golden])
    run.shared["vectors:substitute"] = QueryVectors({case.text: embedded[row] for row, case in enumerate(run.golden)})
    return StepOutcome(data, tuple(result.findings), result.verdict)


# ------------------------------------------------------------------ what they share


def _by(
    embedder: Embedder,
    timeout_seconds: float = 60.0,
    *,
    maps: Callable[[npt.NDArray[np.generic]], npt.NDArray[np.float32]] | None = None,
) -> Callable[[str], npt.NDArray[np.generic]]:
    def vector(text: str) -> npt.NDArray[np.generic]:
        made = embedder.embed([text], purpose=Purpose.QUERY, timeout_seconds=timeout_seconds).vectors
        found: npt.NDArray[np.float32] = (made if maps is None else maps(made))[0]
        return found

    return vector


def _before(run: DrillRun) -> Asked:
    found: Asked | None = run.shared.get("embedding:before")
    if found is None:
        raise ConfigError("nothing was asked before the vendor was cut off", file=run.spec.file,
                          hint="put the step 'embedding_gone' before it")  # fmt: skip
    return found


def _margin(run: DrillRun) -> float:
    wanted = run.spec.objectives.quality_margin
    return MapHow().margin if wanted is None else wanted


def _how(run: DrillRun, accept_loss: tuple[str, ...] = ()) -> How:
    return How(accept_loss=accept_loss, settings=OpenSettings(clock=run.clock, seed=run.seed))


def _source_address(run: DrillRun) -> str:
    """The dump where there is one: then even a store that goes with the vendor leaves texts and vectors behind."""
    return dump_address(run) if "dump" in run.results else str(run.stack("primary").store.address)


def _recovered(run: DrillRun, data: dict[str, Any], asked: Asked, began: float) -> dict[str, Any]:
    """`recovered_seconds` counts from the cut, `own_seconds` from the beginning of this way out alone."""
    first = asked.first_good
    cut = run.shared["embedding:cut_at"]
    return data | {
        "recovered_seconds": None if first is None else first - cut,
        "own_seconds": None if first is None else first - began,
        "recommended": data["ndcg"]["verdict"] == Verdict.PASS.value,
    }


def _told(way: str, data: dict[str, Any]) -> Finding:
    ndcg = data["ndcg"]
    word = "recommended" if data["recommended"] else "not recommended"
    return Finding(f"embedding.{way.replace(' ', '_')}", f"{way}: {word}: {ndcg['reason']}")


def _parse_gone(block: Block) -> GoneArguments:
    return GoneArguments(block.choice("fault", FAULTS, "sigkill"), block.number("timeout_seconds", 5.0, minimum=0.1))


def _parse_map(block: Block) -> MapArguments:
    into = block.text("into", None)
    if into is not None and _FOLDER not in into:
        raise block.error(
            "mapped documents go into the run's folder alone", "into", hint="write e.g. qdrant:{folder}/mapped#docs"
        )
    return MapArguments(block.integer("sample", 2000, minimum=100), into)


def _parse_reembed(block: Block) -> ReembedArguments:
    return ReembedArguments(block.texts("accept_loss", ()))


GONE = Step(
    "embedding_gone",
    "cut the embedding vendor off for good, and ask the golden questions",
    _gone,
    _parse_gone,
    reads=("primary.store", "primary.embedding", "substitute.embedding"),
    cuts=("primary.embedding",),
)
MAP = Step(
    "map_embeddings",
    "fit a mapping on what is embedded already, and ask through it",
    _map,
    _parse_map,
    reads=("primary.store", "substitute.embedding"),
)
REEMBED = Step(
    "reembed",
    "embed everything anew by the substitute's model",
    _reembed,
    _parse_reembed,
    reads=("substitute.embedding",),
    writes=("substitute.store",),
)
