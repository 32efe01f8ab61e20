"""What the leaving vendor still holds: said by every planned exit, and deleted by none that was not told to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from exitramp.arrow import record_keys
from exitramp.drill.run import DrillRun, StepOutcome
from exitramp.drill.steps.base import Step
from exitramp.errors import ConfigError
from exitramp.parity.alignment import read_all
from exitramp.ports import Origin
from exitramp.records import Finding, Verdict
from exitramp.wording import counted
from exitramp.yaml_reader import Block


@dataclass(frozen=True, slots=True)
class VendorDataArguments:
    """delete: the name of the primary's collection, written out once more, or None: nothing is deleted."""

    delete: str | None

    def to_json(self) -> dict[str, Any]:
        return {"delete": self.delete}


def _vendor_data(run: DrillRun, arguments: VendorDataArguments) -> StepOutcome:
    """What the leaving vendor still holds. Deleted only where the drill file names the collection once more."""
    part = run.stack("primary").store
    endpoint = run.endpoint("primary")
    chat = run.stack("primary").chat
    held = endpoint.source().count()
    collection = part.address.collection or ""
    data: dict[str, Any] = {
        "collection": collection,
        "records": held,
        "chat": chat is not None,
        "asked_to_delete": arguments.delete is not None,
        "deleted": None,
    }
    if arguments.delete is None:
        text = (
            f"nothing was deleted: {counted(held, 'record')} of the collection '{collection}' would have to be, and "
            "whatever copies and logs the vendor keeps"
        )
        return StepOutcome(data, (Finding("vendor_data.kept", text, count=held),))
    if arguments.delete != collection:
        raise ConfigError(
            f"vendor_data.delete names '{arguments.delete}', and the primary's collection is '{collection}'",
            file=run.spec.file,
            hint="nothing was deleted; write the collection's name to have it deleted",
        )
    if not run.shared.get("cut_over"):
        text = "nothing was deleted: traffic was not moved away from the primary"
        return StepOutcome(data, (Finding("vendor_data.in_use", text, Verdict.INCONCLUSIVE),), Verdict.INCONCLUSIVE)
    if not run.shared.get("cut_over_passed"):
        text = "nothing was deleted: the cut-over did not pass, and the primary is what one would go back to"
        return StepOutcome(data, (Finding("vendor_data.needed", text, Verdict.INCONCLUSIVE),), Verdict.INCONCLUSIVE)
    writable = run.writable("primary")
    source = writable.source()
    keys = [key for batch in read_all(source, batch_rows=1000) for key in record_keys(batch)]
    sink = writable.sink()
    sink.create(source.describe(), source.origin() or Origin(source.describe(), "drill"))
    sink.delete(keys)
    sink.flush()
    left = writable.source().count()
    data |= {"deleted": held - left, "left": left}
    if left:
        text = f"{counted(left, 'record is', 'records are')} still there after they were deleted"
        return StepOutcome(data, (Finding("vendor_data.left", text, Verdict.FAIL, count=left),), Verdict.FAIL)
    text = f"{counted(held, 'record')} deleted as the drill file asks; copies and logs of the vendor's are not reached"
    return StepOutcome(data, (Finding("vendor_data.deleted", text, count=held),), Verdict.PASS)


def _parse_vendor_data(block: Block) -> VendorDataArguments:
    return VendorDataArguments(block.text("delete", None))


def _varied_vendor_data(spec: Any, arguments: VendorDataArguments) -> dict[str, Any]:
    if arguments.delete is None:
        return {}
    return {"writes": ("primary.store",), "summary": "DELETE the primary's records, as the drill file asks"}


VENDOR_DATA = Step(
    "vendor_data",
    "say what the leaving vendor still holds; nothing is deleted unless asked",
    _vendor_data,
    _parse_vendor_data,
    reads=("primary.store",),
    varies=_varied_vendor_data,
)
