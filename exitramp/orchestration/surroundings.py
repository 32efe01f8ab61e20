"""What is the same for every version of a stack file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from exitramp.clock import Clock
from exitramp.orchestration.pool import Pool
from exitramp.orchestration.stack_file import StackFile
from exitramp.ports import ChatModel
from exitramp.records import TraceRecord
from exitramp.urls import Network


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is the same for every version of a file.

    check: raises for a version that is not to be in force, whatever else it says.
    reads_keys: whether the keys of those who may ask are fetched, as a gateway needs them.
    """

    pool: Pool
    clock: Clock
    network: Network
    seed: int
    on_notice: Callable[[str], None]
    on_trace: Callable[[TraceRecord], None] | None
    around_chat: Callable[[ChatModel], ChatModel] | None = None
    check: Callable[[StackFile], None] = lambda file: None
    reads_keys: bool = False
