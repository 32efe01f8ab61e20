"""Questions on their way through stacks that may fail: deadlines, retries, breakers, journals, traces, load."""

from exitramp.orchestration.answered import Answered, NotAnswered
from exitramp.orchestration.application import Application
from exitramp.orchestration.bounded import Bounded, CallOverdue, InlineCalls, ThreadCalls
from exitramp.orchestration.breaker import BreakerChange, BreakerSettings, BreakerState, CircuitBreaker, Permit
from exitramp.orchestration.deadline import Deadline
from exitramp.orchestration.events import EventKind, Listener, RouterEvent
from exitramp.orchestration.handling import Handling, Slots
from exitramp.orchestration.idempotency import AnswerNotKept, BillingDoubt, IdempotencyJournal, StoredAnswer
from exitramp.orchestration.load import LoadEnd, LoadReport, LoadRequest, SteadyLoad
from exitramp.orchestration.outcome import Attempt, Outcome, RouteReason, Step
from exitramp.orchestration.policy import Policy
from exitramp.orchestration.reconcile import Reconciliation, reconcile
from exitramp.orchestration.router import Router
from exitramp.orchestration.stack import Passage, Question, RenderedPrompt, Renderer, Retriever, Stack
from exitramp.orchestration.trace import TraceLabels, TraceWriter, read_traces, trace_schema, write_parquet

__all__ = [
    "AnswerNotKept",
    "Answered",
    "Application",
    "Attempt",
    "BillingDoubt",
    "Bounded",
    "BreakerChange",
    "BreakerSettings",
    "BreakerState",
    "CallOverdue",
    "CircuitBreaker",
    "Deadline",
    "EventKind",
    "Handling",
    "IdempotencyJournal",
    "InlineCalls",
    "Listener",
    "LoadEnd",
    "LoadReport",
    "LoadRequest",
    "NotAnswered",
    "Outcome",
    "Passage",
    "Permit",
    "Policy",
    "Question",
    "Reconciliation",
    "RenderedPrompt",
    "Renderer",
    "Retriever",
    "RouteReason",
    "Router",
    "RouterEvent",
    "Slots",
    "Stack",
    "SteadyLoad",
    "Step",
    "StoredAnswer",
    "ThreadCalls",
    "TraceLabels",
    "TraceWriter",
    "read_traces",
    "reconcile",
    "trace_schema",
    "write_parquet",
]
