"""The one interface of an application: ask here, and let a file say who answers.

    with Application.open("stack.yaml") as application:
        print(application.ask("How do I join two paths?", use_case="docs_qa").text)

Which vendor that is, what happens when it fails, what is kept and what may be spent stands in the file. An edit of it
is in force for the next request; docs/stack.md is its page.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Final, Self

from exitramp.clock import Clock, SystemClock
from exitramp.errors import UsageError
from exitramp.orchestration.answered import Answered
from exitramp.orchestration.asking import Asking, Wishes, new_id
from exitramp.orchestration.budget import WindowStanding
from exitramp.orchestration.client_keys import ClientKeys
from exitramp.orchestration.embedding import embed_texts
from exitramp.orchestration.following import Edits, FollowedStack
from exitramp.orchestration.idempotency import BillingDoubt, key_sha256
from exitramp.orchestration.opened import Generation
from exitramp.orchestration.pool import Pool
from exitramp.orchestration.routing import asked_text
from exitramp.orchestration.stack import Question
from exitramp.orchestration.stack_file import StackFile
from exitramp.orchestration.supposing import supposed_ways
from exitramp.orchestration.surroundings import Surroundings
from exitramp.ports import ChatDelta, ChatModel, ChatRequest, Embedded, Purpose
from exitramp.records import TraceRecord
from exitramp.urls import Network

_LOG: Final = logging.getLogger("exitramp.application")


class Application:
    """An opened stack file. Thread-safe: call it from as many threads as there are requests under way.

    on_notice: told of edits, of budgets and of what else a person should know, a sentence each; by default a warning in
        the log `exitramp.application`, which Python writes to stderr.
    on_trace: told every trace record, whether or not the file has a place for them.
    around_chat: what to put around each chat model that is opened, such as what records it.
    check: raises for a version of the file that is not to be in force, whatever else it says.
    reads_keys: whether the file's `keys` are fetched, as a gateway needs them.
    """

    def __init__(
        self,
        path: Path,
        *,
        clock: Clock | None = None,
        network: Network | None = None,
        seed: int | None = None,
        on_notice: Callable[[str], None] = _LOG.warning,
        on_trace: Callable[[TraceRecord], None] | None = None,
        around_chat: Callable[[ChatModel], ChatModel] | None = None,
        check: Callable[[StackFile], None] = lambda file: None,
        reads_keys: bool = False,
    ) -> None:
        self._clock = clock or SystemClock()
        chosen = random.getrandbits(32) if seed is None else seed
        around = Surroundings(
            Pool(), self._clock, network or Network(), chosen, on_notice, on_trace, around_chat, check, reads_keys
        )
        self._followed = FollowedStack(
            path, self._clock, lambda file, before: Generation(file, around, before), on_notice
        )

    @classmethod
    def open(cls, path: str | PathLike[str], **options: Any) -> Self:
        """Raises `ConfigError` that begins with FILE:LINE where the file is wrong or names what is not installed."""
        return cls(Path(path), **options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def file(self) -> StackFile:
        """The version in force."""
        return self._followed.newest.file

    @property
    def problem(self) -> str | None:
        """Why the file as it stands is not in force; None where it is."""
        self._followed.look()
        return self._followed.problem

    @property
    def edits(self) -> Edits:
        """What became of the edits since it was opened."""
        return self._followed.edits

    @property
    def budget(self) -> tuple[WindowStanding, ...]:
        """How it stands with each cap of the version in force; none where it has no budget."""
        found = self._followed.newest.budget
        return () if found is None else found.standing()

    @property
    def client_keys(self) -> ClientKeys:
        """Those of the version in force, where they are read."""
        return self._followed.newest.client_keys

    @property
    def is_look_due(self) -> bool:
        """Whether the next question would look at the file."""
        return self._followed.is_look_due

    def look(self) -> None:
        """Look at the file now, and put an edit in force: for whoever must not wait for that elsewhere."""
        self._followed.look()

    def breakers(self) -> Mapping[str, str]:
        """Of each model, whether it is asked: closed is yes."""
        newest = self._followed.newest
        return {name: newest.chats.state(name).value for name in newest.models}

    def mocks(self) -> tuple[str, ...]:
        """The models that are known to be mocks."""
        newest = self._followed.newest
        return tuple(name for name, model in newest.models.items() if model.identity().is_mock)

    def embeds_as_mock(self, name: str | None) -> bool:
        """Whether the embedder `name`, or the first, is known to be a mock."""
        newest = self._followed.newest
        found = name or next(iter(newest.file.embedders), None)
        return found in newest.file.embedders and newest.builder.embedder(str(found)).identity().is_mock

    def billing_doubts(self) -> list[BillingDoubt]:
        """Keys under which a vendor may have billed work that brought no answer; needs `idempotency` in the file."""
        journal = self._followed.newest.journal
        return [] if journal is None else journal.billing_doubts()

    def close(self, *, seconds: float = 10.0) -> bool:
        """Let requests end for so long, then close everything; returns whether all had ended.

        What has not ended is written down as it stands, `cut_off` and perhaps billed, and raises `NotAnswered` where it
        was asked."""
        return self._followed.close(seconds=seconds)

    def chat(
        self,
        request: ChatRequest,
        *,
        use_case: str = "chat",
        tenant: str | None = None,
        pii: bool = False,
        complexity: float | None = None,
        model: str | None = None,
        on_delta: Callable[[ChatDelta], None] | None = None,
        on_restart: Callable[[], None] | None = None,
        use_cache: bool = True,
        tags: tuple[str, ...] = (),
    ) -> Answered:
        """The answer of the first model that gives a whole one. Raises `NotAnswered`, or `SpendExceeded`.

        request: its `idempotency_key`, if it has one, names the request: the same key gets the same answer. A vendor,
            a trace and a journal get its SHA-256 and never the key, which could be a customer's text.
        pii: the messages are personal: they go to the tier that the file names for that, and are not cached.
        complexity: in [0, 1]; None lets it be estimated. model: ask this one of the file, and no other.
        on_delta: told the pieces of the answer; see `stream` in the file. on_restart: told when what was shown so far
            is void since it broke off, and another model begins anew; without it such a break is the end.
        """
        key = request.idempotency_key
        wishes = Wishes("chat", key is not None, tenant, pii, complexity, use_cache, on_delta, on_restart)
        with self._followed.request() as opened:
            if model is not None and model not in opened.models:
                listed = ", ".join(opened.models)
                raise UsageError(f"the stack file names no model '{model}'", hint=f"it names: {listed}")
            name = new_id() if key is None else key_sha256(key)
            question = Question(name, asked_text(request), use_case, depth_k=0, tags=tags, request=request)
            names = opened.file.model_order if model is None else (model,)
            models = {name: name for name in names}
            return Asking(opened, opened.chats, question, names, models, wishes, self._clock).answered()

    def ask(
        self,
        question: str,
        *,
        use_case: str = "default",
        tenant: str | None = None,
        pii: bool = False,
        complexity: float | None = None,
        key: str | None = None,
        depth_k: int | None = None,
        stack: str | None = None,
        maximum_tokens: int | None = None,
        temperature: float | None = None,
        on_delta: Callable[[ChatDelta], None] | None = None,
        on_restart: Callable[[], None] | None = None,
        use_cache: bool = True,
        tags: tuple[str, ...] = (),
    ) -> Answered:
        """What a stack answers to a question: passages of its store in the prompt of `use_case` to its model.

        A stack fails over as a whole, so that no answer mixes one side's passages with the other side's model. Raises
        as `chat` does; `UsageError` where the file names no stacks. `key` is the idempotency key.

        stack: ask this one of the file, and no other. maximum_tokens, temperature: None is what the prompt says.
        """
        wishes = Wishes("answer", key is not None, tenant, pii, complexity, use_cache, on_delta, on_restart)
        with self._followed.request() as opened:
            if opened.stacks is None:
                raise UsageError("the stack file names no stacks", hint="add stacks: {NAME: {chat: …, store: …}}")
            if stack is not None and stack not in opened.file.stacks:
                listed = ", ".join(opened.file.stacks)
                raise UsageError(f"the stack file names no stack '{stack}'", hint=f"it names: {listed}")
            prompt = None if opened.prompts is None else opened.prompts.for_use_case(use_case)
            asked = Question(
                new_id() if key is None else key_sha256(key),
                question,
                use_case,
                depth_k=depth_k or 0,
                maximum_tokens=maximum_tokens or (512 if prompt is None else prompt.maximum_tokens),
                temperature=temperature if temperature is not None else 0.0 if prompt is None else prompt.temperature,
                tags=tags,
            )
            names = opened.file.stack_order if stack is None else (stack,)
            models = {name: opened.file.stacks[name].chat for name in names}
            return Asking(opened, opened.stacks, asked, names, models, wishes, self._clock).answered()

    def supposed(
        self, text: str, *, use_case: str = "default", maximum_tokens: int = 512, only: str | None = None
    ) -> tuple[tuple[TraceRecord, ...], ...]:
        """What a question would ask of models at most, by each stack or model that may answer it, or by
        `only` that one: records to ask prices for. Nothing is asked of anybody."""
        with self._followed.request() as opened:
            return supposed_ways(opened, text, use_case=use_case, maximum_tokens=maximum_tokens, only=only)

    def embed(
        self,
        texts: Sequence[str],
        purpose: Purpose = Purpose.DOCUMENT,
        *,
        embedder: str | None = None,
        use_case: str = "embed",
        tenant: str | None = None,
    ) -> Embedded:
        """Vectors of the texts, in as many calls as the embedder needs; without a name, by the file's first.

        Retried, but never by another embedder: another one's vectors mean something else. Raises `ModelError`.
        """
        with self._followed.request() as opened:
            name = embedder or next(iter(opened.file.embedders), None)
            if name is None or name not in opened.file.embedders:
                if not opened.file.embedders:
                    raise UsageError("the stack file names no embedder", hint="add 'embedders: {NAME: {address: …}}'")
                listed = ", ".join(opened.file.embedders)
                raise UsageError(f"the stack file names no embedder '{name}'", hint=f"it names: {listed}")
            return embed_texts(opened, name, texts, purpose, self._clock, use_case=use_case, tenant=tenant)
