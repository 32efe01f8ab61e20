"""The stack file: which models, stores and policies an application runs on, and the only thing a switch edits."""

from exitramp.orchestration.stack_file.reading import PACKAGED, VERSION, parse_stack_file, read_stack_file
from exitramp.orchestration.stack_file.schema import SCHEMA_FILE, stack_schema
from exitramp.orchestration.stack_file.values import (
    Action,
    BudgetSpec,
    BudgetThreshold,
    Commit,
    Deadlines,
    EmbedderSpec,
    ExactCacheSpec,
    JournalSpec,
    ModelSpec,
    RoutingSpec,
    SemanticCacheSpec,
    StackFile,
    StackSpec,
    StoreSpec,
    Tier,
    TraceSpec,
)

__all__ = [
    "PACKAGED",
    "SCHEMA_FILE",
    "VERSION",
    "Action",
    "BudgetSpec",
    "BudgetThreshold",
    "Commit",
    "Deadlines",
    "EmbedderSpec",
    "ExactCacheSpec",
    "JournalSpec",
    "ModelSpec",
    "RoutingSpec",
    "SemanticCacheSpec",
    "StackFile",
    "StackSpec",
    "StoreSpec",
    "Tier",
    "TraceSpec",
    "parse_stack_file",
    "read_stack_file",
    "stack_schema",
]
