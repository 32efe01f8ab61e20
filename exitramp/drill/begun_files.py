"""The texts of a drill that is begun: its file, the page beside it, and the prices to fill in."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from importlib.resources import files
from string import Template
from typing import Any

from exitramp.drill.inputs import DRILLS
from exitramp.drill.steps.costs import STORE_ITEM
from exitramp.drill.steps.leaving import consent_line
from exitramp.finops.prices import Unit
from exitramp.records import Verdict
from exitramp.transfer.plan import Plan, payload_summary
from exitramp.urls import Address
from exitramp.wording import counted

OUTAGE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen of one side. `records` is None where there is no collection yet."""

    address: str
    adapter: str
    server_version: str
    evidence: str
    can_write: bool | None
    records: int | None
    is_loopback: bool

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


def drill_text(primary: str, substitute: str, plan: Plan) -> str:
    """The drill file. It runs as it is, or, where the plan has a loss, up to the step that would lose something."""
    return _filled(
        "drill.yaml.txt",
        from_scheme=primary.partition(":")[0],
        to_scheme=substitute.partition(":")[0],
        primary=_quoted(primary),
        substitute=_quoted(substitute),
        runs=_runs(plan, page=False),
        restore=_restore(plan),
        stop_minutes=max(60, round(3 * _minutes(plan))),
    )


def blocked(plan: Plan) -> str:
    """What no consent mends: data that cannot stand in the target at all; "" where all can."""
    return "; ".join(each.message for each in plan.findings if each.verdict is Verdict.FAIL)


def _runs(plan: Plan, *, page: bool) -> str:
    """How far the drill gets: as it is, or up to the step that would lose something. In one line for the drill file."""
    step = "`restore`" if page else "'restore'"
    if blocked(plan):
        return f"It stops at {step}, and writes nothing: {' '.join(blocked(plan).split())}. No consent mends that."
    if not plan.lossy():
        return "It runs as it is."
    if not page:
        return f"It stops at {step} until somebody agrees to what would be lost there."
    return (
        f"**It stops at the step {step}, and writes nothing, until you agree to what would be lost** (class *lossy*\n"
        "in the plan below). To agree, take the `# ` from this line of `drill.yaml`; else change the substitute:\n\n"
        f"      # {consent_line(plan)}"
    )


def _restore(plan: Plan) -> str:
    """The arguments of the step: none, or the line that agrees to the plan's losses, to be uncommented."""
    if not plan.lossy():
        return " {}"
    told = [
        "THE DRILL STOPS HERE: something would be lost, and nobody has agreed to it yet. Take the # from the next line",
        "to agree:",
        consent_line(plan),
        *(f"{' '.join(line.subject.split())}: {' '.join(line.how.split())}" for line in plan.lossy()),
    ]
    return "".join(f"\n      # {text}" for text in told)


def readme_text(looks: tuple[Look, Look], plan: Plan, notes: tuple[str, ...]) -> str:
    """The page that says what was seen, what to expect and what to fill in."""
    estimates = plan.estimates
    minutes = max(1, round(_minutes(plan)))
    read_seconds = float(estimates["read_seconds"] or 0.0)
    sides = "\n".join(
        f"| {name} | {_cell(look.address, 200)} | {'none yet' if look.records is None else f'{look.records:,}'} "
        f"| {_can_write(look.can_write)} | {look.server_version} |"
        for name, look in zip(("primary", "substitute"), looks, strict=True)
    )
    return _filled(
        "README.md.txt",
        runs=_runs(plan, page=True),
        sides=sides,
        primary_provider=_provider(Address.parse(looks[0].address)),
        substitute_provider=_provider(Address.parse(looks[1].address)),
        notes="\n".join(f"- {note}" for note in notes) or "- nothing stands in the way",
        rows=f"{plan.rows:,}",
        megabytes=f"{float(estimates['bytes'] or 0) / 1e6:,.1f}",
        reads=counted(int(estimates["read_requests"] or 0), "read"),
        writes=counted(int(estimates["write_requests"] or 0), "write"),
        read_seconds=f"{read_seconds:.1f}",
        minutes="a minute" if minutes == 1 else f"{minutes:,} minutes",
        plan="\n".join(f"| {fidelity} | {subject} | {how} |" for fidelity, subject, how in _plan_rows(plan)),
    )


def _minutes(plan: Plan) -> float:
    """How long the drill takes besides writing: three passes over the primary and the outage."""
    return (3 * float(plan.estimates["read_seconds"] or 0.0) + OUTAGE_SECONDS) / 60


def _plan_rows(plan: Plan) -> list[tuple[str, str, str]]:
    """The plan's lines, the payload keys that come back as they were summed up."""
    rows = [(line.fidelity.value, _cell(line.subject), line.how) for line in plan.lines if not line.summed]
    return rows + [(fidelity.value, subject, how) for fidelity, subject, how in payload_summary(plan.lines)]


def _cell(text: str, width: int = 60) -> str:
    """A key of somebody's payload as a table's cell: on one line, not too long, and no table of its own."""
    plain = " ".join(text.split()).replace("|", "\\|")
    return "`" + (plain if len(plain) <= width else plain[: width - 1] + "…").replace("`", "'") + "`"


def _filled(name: str, **values: object) -> str:
    """A packaged text with its `$names` filled in."""
    text = (files(DRILLS) / "own_stack" / name).read_text(encoding="utf-8")
    return Template(text).substitute(values)


def _quoted(address: str) -> str:
    return '"' + address.replace("\\", "\\\\").replace('"', '\\"') + '"'


def prices_text(primary: Address, substitute: Address, today: date) -> str:
    """A price book of rows to fill in."""
    return _filled("prices.yaml.txt", rows=_price_rows(primary, substitute, today))


def _price_rows(primary: Address, substitute: Address, today: date) -> str:
    """A row to fill in for everything that the step `cost` asks the book for, once each."""
    reading = (Unit.QUERY, Unit.VECTOR_READS, Unit.MONTH)
    wanted = [("own", "orchestration", Unit.ORCHESTRATION_REQUEST)]
    wanted += [(_provider(primary), STORE_ITEM, unit) for unit in (*reading, Unit.EGRESS_GB)]
    wanted += [(_provider(substitute), STORE_ITEM, unit) for unit in (*reading, Unit.VECTOR_WRITES)]
    return "\n".join(
        f"#  - {{id: {provider}-{unit.value.removeprefix('usd_per_')}, provider: {provider}, service: {service}, "
        f'unit: {unit.value},\n#     amount: "", source: "", retrieved: {today}, valid_from: {today}, '
        "illustrative: false}"
        for provider, service, unit in dict.fromkeys(wanted)
    )


def _provider(address: Address) -> str:
    """How a price book calls a store."""
    return address.scheme.partition("+")[0]


def _can_write(answer: bool | None) -> str:
    return {True: "yes", False: "no", None: "the store does not tell"}[answer]
