"""Reading a stack file, strictly: what is unknown, of another type or out of range names its file and line."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, TypeVar

from exitramp.backoff import Backoff
from exitramp.errors import ConfigError
from exitramp.orchestration.breaker import BreakerSettings
from exitramp.orchestration.stack_file.places import LONGEST_SECONDS, address, one_of, read_store, seconds, whole
from exitramp.orchestration.stack_file.policies import read_budget, read_exact_cache, read_semantic_cache
from exitramp.orchestration.stack_file.tiers import read_routing
from exitramp.orchestration.stack_file.values import (
    Commit,
    Deadlines,
    EmbedderSpec,
    JournalSpec,
    ModelSpec,
    StackFile,
    StackSpec,
    Tier,
    TraceSpec,
)
from exitramp.secrets import redact
from exitramp.urls import REFERENCE_KINDS
from exitramp.yaml_reader import Block, read_block

VERSION: Final = 1
PACKAGED: Final = "packaged"
PAGE: Final = "docs/stack.md"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")

T = TypeVar("T")


def read_stack_file(path: Path) -> StackFile:
    """The stack file at `path`. Raises `ConfigError` that begins with FILE:LINE."""
    return parse_stack_file(read_bytes(path), file=str(path), folder=path.resolve().parent)


def read_bytes(path: Path) -> bytes:
    """What the file holds now. Raises `ConfigError` that begins with FILE."""
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ConfigError("there is no such file", file=str(path), hint=f"{PAGE} has one to begin with") from error
    except OSError as error:
        hint = "let this program's user read it"
        raise ConfigError(f"cannot be read: {error.strerror}", file=str(path), hint=hint) from error


def parse_stack_file(data: bytes, *, file: str, folder: Path) -> StackFile:
    """The stack file that these bytes are. Relative paths in it begin at `folder`. Raises `ConfigError` that begins
    with FILE:LINE and says what to do."""
    try:
        return _parsed(data, file, folder)
    except ConfigError as error:
        error.message = redact(error.message)  # a key in the wrong place is still a key
        if error.hint is None:
            error.hint = f"mend that line; {PAGE} has every key"
        raise


def _parsed(data: bytes, file: str, folder: Path) -> StackFile:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ConfigError("cannot be read: it is no text in UTF-8", file=file, line=line) from error
    if not text.strip():
        raise ConfigError("the file is empty", file=file, line=1, hint=f"{PAGE} has one to begin with")
    top = read_block(text, file)
    version = top.integer("version")
    if version != VERSION:
        raise top.error(f"version {version} of a stack file is not known", "version", hint=f"write version: {VERSION}")
    models = _named(top, "models", lambda name, block: _model(name, block, folder))
    if not models:
        raise top.error("'models' names no model", "models")
    embedders = _embedders(top, folder)
    stores = _named(top, "stores", lambda name, block: read_store(name, block, folder, embedders))
    stacks = _named(top, "stacks", lambda name, block: _stack(name, block, models, stores))
    failover = top.block("failover", required=False)
    model_order = _order(failover, "models", models)
    stack_order = _order(failover, "stacks", stacks)
    if failover is not None:
        failover.finish()
    retry, retry_timeouts = _retry(top)
    cache = top.block("cache", required=False)
    exact = read_exact_cache(cache, folder)
    semantic = read_semantic_cache(cache, embedders)
    if cache is not None:
        cache.finish()
    prompts = top.text("prompts", None)
    found = StackFile(
        file=file,
        sha256=hashlib.sha256(data).hexdigest(),
        models=models,
        embedders=embedders,
        stores=stores,
        stacks=stacks,
        model_order=model_order,
        stack_order=stack_order,
        prompts=None if prompts is None or prompts == PACKAGED else folder / prompts,
        packaged_prompts=prompts == PACKAGED,
        prices=_path(top, "prices", folder),
        retry=retry,
        retry_timeouts=retry_timeouts,
        deadlines=_deadlines(top),
        breaker=_breaker(top),
        hedge_after_seconds=_hedge(top),
        routing=read_routing(top, folder, models, embedders),
        exact_cache=exact,
        semantic_cache=semantic,
        budget=read_budget(top, folder, models),
        trace=_trace(top, folder),
        journal=_journal(top, folder),
        commit=_commit(top),
        keys=_keys(top),
        environment=top.text("environment", None),
        lines=_lines(top),
    )
    if found.budget is not None and found.prices is None:
        raise top.error("a budget needs to know what things cost", "budget", hint="name a price book: prices: FILE")
    if prompts is None and any(stack.store is not None for stack in stacks.values()):
        raise top.error("'prompts' is missing: what a store finds is put into one", "stacks",
                        hint=f"write prompts: {PACKAGED}, or a folder of .mustache files")  # fmt: skip
    top.finish()
    return found


def _named(top: Block, key: str, read: Callable[[str, Block], T]) -> dict[str, T]:
    block = top.block(key, required=key == "models")
    found: dict[str, T] = {}
    for name in block.keys() if block is not None else ():
        assert block is not None
        if not _NAME.fullmatch(name):
            raise block.error(f"'{name}' is no name: letters, digits and . _ - after the first", name)
        inner = block.block(name)
        assert inner is not None
        found[name] = read(name, inner)
        inner.finish()
    return found


def _model(name: str, block: Block, folder: Path) -> ModelSpec:
    tier = block.choice("tier", tuple(Tier), None)
    return ModelSpec(
        name,
        address(block, folder),
        None if tier is None else Tier(tier),
        whole(block, "concurrency", 64, 1, 10_000),
        block.text("billed_as", None),
        block.line,
    )


def _embedders(top: Block, folder: Path) -> dict[str, EmbedderSpec]:
    """Each name and alias means one of them."""
    owners: dict[str, str] = {}

    def read(name: str, block: Block) -> EmbedderSpec:
        aliases = block.texts("aliases", ())
        for alias in aliases:
            if owners.setdefault(alias, name) != name:
                raise block.error(f"'{block.path}.aliases' holds '{alias}', which '{owners[alias]}' has too", "aliases")
        return EmbedderSpec(name, address(block, folder), aliases, block.line)

    found = _named(top, "embedders", read)
    for alias, owner in owners.items():
        if alias in found:
            raise top.error(f"'embedders.{owner}.aliases' holds '{alias}', which is an embedder itself", "embedders",
                            hint="give each name to one of them")  # fmt: skip
    return found


def _stack(name: str, block: Block, models: Mapping[str, object], stores: Mapping[str, object]) -> StackSpec:
    store = one_of(block, "store", stores) if block.has("store") else None
    return StackSpec(name, one_of(block, "chat", models), store, block.line)


def _order(failover: Block | None, key: str, known: Mapping[str, object]) -> tuple[str, ...]:
    """As the file says, or in the order in which they stand there."""
    names: tuple[str, ...] | None = failover.texts(key, None) if failover is not None else None
    if names is None or failover is None:
        return tuple(known)
    for name in names:
        if name not in known:
            raise failover.error(f"'failover.{key}' names '{name}', which this file does not know", key)
    if not names or len(set(names)) != len(names):
        raise failover.error(f"'failover.{key}' must name each once, and at least one", key)
    return names


def _retry(top: Block) -> tuple[Backoff, bool]:
    standing = StackFile("", "", {}).retry
    block = top.block("retry", required=False)
    if block is None:
        return standing, False
    found = Backoff(
        tries=whole(block, "tries", standing.tries, 1, 20),
        base_seconds=seconds(block, "base_seconds", standing.base_seconds),
        cap_seconds=seconds(block, "cap_seconds", standing.cap_seconds),
        retry_after_cap_seconds=seconds(block, "retry_after_cap_seconds", standing.retry_after_cap_seconds),
    )
    timeouts: bool = block.flag("timeouts", False)
    block.finish()
    return found, timeouts


def _deadlines(top: Block) -> Deadlines:
    standing = Deadlines()
    block = top.block("deadlines", required=False)
    if block is None:
        return standing
    least = 0.001
    found = Deadlines(
        request_seconds=seconds(block, "request_seconds", standing.request_seconds, least),
        attempt_seconds=seconds(block, "attempt_seconds", standing.attempt_seconds, least),
        first_token_seconds=seconds(block, "first_token_seconds", None, least),
        retrieve_seconds=seconds(block, "retrieve_seconds", standing.retrieve_seconds, least),
    )
    block.finish()
    return found


def _breaker(top: Block) -> BreakerSettings:
    standing = BreakerSettings()
    block = top.block("breaker", required=False)
    if block is None:
        return standing
    found = BreakerSettings(
        failures=whole(block, "failures", standing.failures, 1, 1000),
        sample=whole(block, "sample", standing.sample, 1, 1000),
        window_seconds=seconds(block, "window_seconds", standing.window_seconds),
        cool_down_seconds=seconds(block, "cool_down_seconds", standing.cool_down_seconds),
        longest_cool_down_seconds=seconds(block, "longest_cool_down_seconds", standing.longest_cool_down_seconds),
        probe_successes=whole(block, "probe_successes", standing.probe_successes, 1, 100),
    )
    if found.failures > found.sample:
        raise block.error(f"'breaker.failures' is {found.failures} of a sample of {found.sample}: it never opens",
                          "failures")  # fmt: skip
    block.finish()
    return found


def _hedge(top: Block) -> float | None:
    block = top.block("hedge", required=False)
    if block is None:
        return None
    block.expect("after_ms")
    after: float = block.number("after_ms", minimum=1, maximum=LONGEST_SECONDS * 1000)
    block.finish()
    return after / 1000.0


def _trace(top: Block, folder: Path) -> TraceSpec | None:
    block = top.block("trace", required=False)
    if block is None:
        return None
    found = TraceSpec(
        folder / block.text("path"), block.choice("format", ("jsonl", "parquet"), "jsonl"), block.flag("prompts", False)
    )
    block.finish()
    return found


def _journal(top: Block, folder: Path) -> JournalSpec | None:
    block = top.block("idempotency", required=False)
    if block is None:
        return None
    found = JournalSpec(folder / block.text("path"), _path(block, "spool", folder), block.flag("sync", False))
    block.finish()
    return found


def _commit(top: Block) -> Commit:
    block = top.block("stream", required=False)
    if block is None:
        return Commit.WHOLE
    found = Commit(block.choice("commit", tuple(Commit), Commit.WHOLE))
    block.finish()
    return found


def _keys(top: Block) -> dict[str, str]:
    """References by name; a key itself never stands in the file."""
    block = top.block("keys", required=False)
    found: dict[str, str] = {}
    for name in block.keys() if block is not None else ():
        assert block is not None
        reference = block.text(name)
        if not reference.startswith(REFERENCE_KINDS):
            raise block.error(f"'keys.{name}' must be given by reference, not as a value", name,
                              hint="write env:NAME or file:PATH")  # fmt: skip
        found[name] = reference
    return found


def _lines(top: Block) -> dict[str, int]:
    """Of each key of the top and of each name under `keys`."""
    keys = top.block("keys", required=False)
    names = [] if keys is None else keys.keys()
    found = {f"keys.{name}": keys.line_of(name) for name in names if keys is not None}
    return found | dict(zip(top.keys(), map(top.line_of, top.keys()), strict=True))


def _path(block: Block, key: str, folder: Path) -> Path | None:
    name = block.text(key, None)
    return None if name is None else folder / name
