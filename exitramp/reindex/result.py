"""What was asked of a re-embedding, what it would take, and what came of it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from exitramp.backoff import Backoff
from exitramp.embedding_identity import Identified
from exitramp.finops.prices import plain
from exitramp.migration import MoveResult
from exitramp.records import Finding, Metric, Verdict
from exitramp.reindex.costing import Price
from exitramp.reindex.embedding import Bounds, Refusals
from exitramp.reindex.looking import Look
from exitramp.reindex.shape import Shape
from exitramp.reindex.spool import Account
from exitramp.transfer.plan import Plan
from exitramp.transfer.sync import SyncResult
from exitramp.wording import counted
from exitramp.wrappers import OpenSettings


@dataclass(frozen=True, slots=True)
class How:
    """What was asked for. `beside` is `--field`, `replaced` `--replace`; `book` a price book's file.

    document_key: the key of the payload that the texts stand under; None: they are the records' documents.
    """

    beside: str | None = None
    replaced: str | None = None
    metric: Metric | None = None
    skip_missing: bool = False
    document_key: str | None = None
    accept_loss: Collection[str] = ()
    book: Path | None = None
    bounds: Bounds = Bounds()
    parallel: int = 1
    timeout_seconds: float = 60.0
    backoff: Backoff = Backoff(tries=5, base_seconds=0.5)
    settings: OpenSettings = OpenSettings()


@dataclass(slots=True)
class Estimate:
    """What embedding would take, before anything is sent. `usd` None is unknown."""

    look: Look
    requests: int
    price: Price
    usd: Decimal | None

    def to_json(self) -> dict[str, Any]:
        return {
            "rows": self.look.rows,
            "texts": self.look.texts,
            "texts_to_embed": self.look.texts_left,
            "texts_repeated": self.look.repeated,
            "texts_unchanged": self.look.reused,
            "texts_probed": self.look.probed,
            "tokens": self.look.tokens_left,
            "tokens_by": self.look.token_source,
            "requests": self.requests,
            "usd": plain(self.usd),
            "price": self.price.told,
        }


@dataclass(slots=True)
class ReindexResult:
    """What was found, done and spent. `account` is of all runs together, and None for a plan."""

    shape: Shape
    estimate: Estimate
    plan: Plan | None
    account: Account | None = None
    usd: Decimal | None = None
    refusals: Refusals = field(default_factory=Refusals)
    move: MoveResult | None = None
    sync: SyncResult | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    @property
    def left_out(self) -> int:
        return 0 if self.shape.keeps_old else self.estimate.look.missing + self.refusals.count

    @property
    def verdict(self) -> Verdict:
        told = [each.verdict for each in self.findings if each.verdict is not None]
        moved = self.move.verdict if self.move is not None else Verdict.PASS
        return Verdict.worst([moved, *told])

    def to_json(self) -> dict[str, Any]:
        old, account = self.shape.old, self.account
        return {
            "verdict": self.verdict.value,
            "model": str(self.shape.given),
            "model_before": None if old is None else str(Identified.of(old)),
            "field": self.shape.new.to_json(),
            "keeps_old_field": self.shape.keeps_old,
            "estimate": self.estimate.to_json(),
            "spent": None if account is None else spent_json(account, self.usd),
            "documents_missing": {"count": self.estimate.look.missing, "ids": self.estimate.look.missing_ids},
            "texts_refused": {"count": self.refusals.count, "classes": self.refusals.kinds, "ids": self.refusals.ids},
            "records_left_out": self.left_out,
            "move": self.move.to_json() if self.move is not None else None,
            "sync": None if self.sync is None else sync_json(self.sync),
            "plan": [line.to_json() for line in self.plan.lines] if self.plan is not None else None,
            "seconds": {name: round(value, 3) for name, value in self.seconds.items()},
            "findings": [each.to_json() for each in self.findings],
        }


def spent_json(account: Account, usd: Decimal | None) -> dict[str, Any]:
    return {
        "texts_embedded": account.texts,
        "requests": account.requests,
        "retries": account.retries,
        "tokens": account.tokens,
        "tokens_by": "estimated" if account.estimated else "provider",
        "usd": plain(usd),
        "batches_sent_again": account.resent,
        "possibly_billed_twice": account.unsure + account.resent,
        "texts_cut": account.cut,
        "models_answered": list(account.models),
    }


def sync_json(done: SyncResult) -> dict[str, int]:
    return {name: getattr(done, name) for name in ("missing", "changed", "extra", "upserted", "deleted")}


def account_findings(account: Account, *, billed: bool) -> list[Finding]:
    found = []
    unsure = account.unsure + account.resent
    if unsure and billed:
        found.append(
            Finding(
                "billing.unsure",
                f"{counted(unsure, 'request')} may have been billed twice: no answer came, and they were sent again "
                "under the same idempotency key, which a vendor that heeds it bills once",
                count=unsure,
            )
        )
    if account.cut is None:
        found.append(Finding("texts.cut", "whether texts were longer than the model reads, it does not tell"))
    elif account.cut:
        text = f"{counted(account.cut, 'text was', 'texts were')} longer than the model reads, and cut"
        found.append(Finding("texts.cut", text, count=account.cut))
    if len(account.models) > 1:
        text = f"answers came from several models: {', '.join(account.models)}"
        found.append(Finding("model.several", text, Verdict.INCONCLUSIVE))
    return found
