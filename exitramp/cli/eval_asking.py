"""What `eval run` and `eval record` have in common: their options, whom they ask, what measures, what limits them."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from exitramp.cli import output
from exitramp.cli.eval_ended import Ended
from exitramp.cli.options import NumberRange
from exitramp.errors import RoleUnsupported, UsageError
from exitramp.wording import counted

if TYPE_CHECKING:
    from exitramp.evals.measuring import Measurer
    from exitramp.evals.runs.folder import RunFolder
    from exitramp.evals.runs.replay_cache import ReplayCache
    from exitramp.evals.runs.spending import Allowance
    from exitramp.evals.runs.subject import Subject
    from exitramp.evals.sets import Case
    from exitramp.ports import ChatModel

Function = Callable[..., Any]

_OPTIONS: tuple[Callable[[Function], Function], ...] = (
    click.option(
        "--only",
        default=None,
        metavar="NAME",
        help="Ask this stack of --stack alone, or this model if it has no stacks.",
    ),
    click.option("--from", "form", default=None, metavar="FORM", help="Form of SET, as in `eval sets convert`."),
    click.option(
        "--prompts", type=click.Path(path_type=Path), default=None, help="Folder of prompts, one per use case."
    ),
    click.option(
        "--repeats", type=click.IntRange(1, 100), default=1, show_default=True, help="Ask each case so often."
    ),
    click.option(
        "--margin",
        "margins",
        multiple=True,
        metavar="[METRIC=]SHARE",
        help="Fix now by how much a later run may be worse, e.g. 0.05 or ndcg=0.1. May be repeated.",
    ),
    click.option("--embedder", default=None, metavar="ADDRESS", help="Embedding model for checks by similarity."),
    click.option("--judge", default=None, metavar="ADDRESS", help="Chat model for checks by a judge."),
    click.option(
        "--judge-prompt", type=click.Path(path_type=Path), default=None, help="Its prompt, a mustache template."
    ),
    click.option("--max-tokens", type=click.IntRange(1), default=512, show_default=True, help="Of an answer."),
    click.option("--temperature", type=NumberRange(0, 2), default=0.0, show_default=True, help="Of the model."),
    click.option(
        "--k", type=click.IntRange(1, 1000), default=10, show_default=True, help="How deep retrieval is judged."
    ),
    click.option(
        "--concurrency", type=click.IntRange(1, 64), default=4, show_default=True, help="Questions at a time."
    ),
    click.option(
        "--timeout",
        type=NumberRange(min=0.1),
        default=60.0,
        show_default=True,
        metavar="SECONDS",
        help="Of a question.",
    ),
    click.option("--retries", type=click.IntRange(0, 20), default=2, show_default=True, help="Of a failed question."),
    click.option(
        "--max-usd",
        default=None,
        metavar="USD",
        help="Stop before the models asked (chat, embedding, reranking, judge) cost more. Needs --prices.",
    ),
    click.option(
        "--max-minutes", type=NumberRange(min=0), default=None, metavar="N", help="Ask nothing after that long."
    ),
    click.option("--prices", type=click.Path(path_type=Path), default=None, help="Price book, a YAML file."),
    click.option("--keep-answers", is_flag=True, help="Keep the answers' texts in the run's folder."),
    click.option(
        "--retry-errors",
        is_flag=True,
        help="Ask again what ended in an error of a provider or a store when this run last ran.",
    ),
)


def asking_options(command: Function) -> Function:
    """The options of every command that asks a set."""
    return reduce(lambda made, option: option(made), reversed(_OPTIONS), command)


def ask_set(
    cases: Path,
    folder: Path,
    options: Mapping[str, Any],
    open_subject: Callable[[tuple[Case, ...]], Subject],
    cache: ReplayCache | None = None,
    is_sent: Callable[[str], bool] = lambda key: True,
) -> Ended:
    """Ask the set `cases` into the run's `folder`, by the options of `asking_options`; `is_sent` as in `run_set`."""
    from exitramp.backoff import Backoff
    from exitramp.clock import SystemClock
    from exitramp.evals.comparing.margins import parse_margins
    from exitramp.evals.runs.folder import RunFolder
    from exitramp.evals.runs.questioning import Asking
    from exitramp.evals.runs.running import run_set
    from exitramp.evals.sets import read_set, set_sha256

    read = read_set(cases, options["form"])
    for loss in read.losses:
        output.note(f"not carried over: {loss.what}" + (f" [{loss.case_id}]" if loss.case_id else ""))
    margins = parse_margins(options["margins"])
    subject = open_subject(read.cases)
    measurer = None
    try:
        measurer = _measurer(options, read.cases)
        plan = {
            "set": {"name": cases.name, "cases": len(read.cases), "sha256": set_sha256(read.cases)},
            "subject": dict(subject.describe()),
            "measured_by": measurer.describe(),
            "repeats": options["repeats"],
            "margins": margins,
            "keeps_answers": options["keep_answers"],
        }
        with RunFolder(folder, plan, _about(options, replays=cache is not None)) as opened:
            allowance = _allowance(options, opened, subject, measurer, read.cases)
            if opened.is_resumed:
                output.note(f"going on with {folder}: {len(opened.results)} results are there")
            bar = output.Progress("asked", len(read.cases) * options["repeats"])
            finished = run_set(
                read.cases,
                subject,
                opened,
                measurer,
                asking=Asking(
                    repeats=options["repeats"],
                    concurrency=options["concurrency"],
                    timeout_seconds=options["timeout"],
                    backoff=Backoff(tries=options["retries"] + 1),
                    keep_answers=options["keep_answers"],
                    retry_errors=options["retry_errors"],
                    maximum_tokens=options["max_tokens"],
                ),
                allowance=allowance,
                cache=cache,
                clock=SystemClock(),
                progress=lambda done, total: bar.at(done),
                is_sent=is_sent,
            )
            bar.end()
        return Ended(folder, finished, subject.identity(), margins)
    finally:
        subject.close()
        if measurer is not None:
            measurer.close()


def open_chat(address: str, what: str) -> ChatModel:
    """The chat model at `address`. Raises `RoleUnsupported` for what is none."""
    from exitramp.registry import model_adapter
    from exitramp.urls import Address, Network

    parsed = Address.parse(address)
    adapter = model_adapter(parsed.scheme)
    if adapter.open_chat is None:
        raise RoleUnsupported(f"{what}: '{parsed.scheme}' is no chat model", hint="`exitramp models` lists them")
    return adapter.open_chat(parsed, Network())


def model_subject(
    options: Mapping[str, Any], cases: tuple[Case, ...], model: ChatModel, *, stream: bool = False
) -> Subject:
    """`model`, asked what cases say, or what --prompts make of them."""
    from exitramp.evals.runs.prompting import prompts_of
    from exitramp.evals.runs.subject import ModelSubject

    render, prompts = prompts_of(options["prompts"]) if options["prompts"] is not None else (None, {})
    if render is not None:
        for case in cases:
            render(case)  # a use case without a prompt is found now, not after half of the questions
    return ModelSubject(
        model,
        maximum_tokens=options["max_tokens"],
        temperature=options["temperature"],
        render=render,
        prompts=prompts,
        stream=stream,
    )


def only_one(options: Mapping[str, Any], *names: str) -> str:
    """Which of these options says whom to ask. Raises `UsageError` for none, for two, and for prompts of another."""
    named = [name for name in names if options[name] is not None]
    if len(named) != 1:
        what = "nothing to ask was named" if not named else f"--{named[0]} and --{named[1]} are two to ask"
        listed = [f"a --{name}" for name in names]
        raise UsageError(what, hint=f"name one: {', '.join(listed[:-1])} or {listed[-1]}")
    if options["prompts"] is not None and named[0] not in ("model", "address"):
        raise UsageError(f"--prompts are for a --{names[0]}", hint=f"a {named[0]} has its own")
    if options["only"] is not None and named[0] != "stack":
        raise UsageError("--only names a stack or a model of a stack file", hint=f"leave it away for a --{named[0]}")
    return named[0]


def _measurer(options: Mapping[str, Any], cases: tuple[Case, ...]) -> Measurer:
    from exitramp.evals.measuring import Judge, Measurer
    from exitramp.evals.sets.own import read_text
    from exitramp.registry import model_adapter
    from exitramp.urls import Address, Network

    embedder = judge = None
    if options["embedder"] is not None:
        parsed = Address.parse(options["embedder"])
        adapter = model_adapter(parsed.scheme)
        if adapter.open_embedder is None:
            raise RoleUnsupported(f"--embedder: '{parsed.scheme}' is no embedding model")
        embedder = adapter.open_embedder(parsed, Network())
    if options["judge"] is not None:
        model = open_chat(options["judge"], "--judge")
        path = options["judge_prompt"]
        judge = Judge(model) if path is None else Judge(model, read_text(path))
    elif options["judge_prompt"] is not None:
        raise UsageError("--judge-prompt is for a judge", hint="name a --judge")
    measurer = Measurer(k=options["k"], embedder=embedder, judge=judge)
    measurer.require(cases)
    return measurer


def _allowance(
    options: Mapping[str, Any], opened: RunFolder, subject: Subject, measurer: Measurer, cases: tuple[Case, ...]
) -> Allowance:
    from exitramp.clock import SystemClock
    from exitramp.evals.runs.spending import Allowance, supposed_ways
    from exitramp.finops.prices import load_price_book

    book = load_price_book(options["prices"]) if options["prices"] is not None else None
    try:
        limit = None if options["max_usd"] is None else Decimal(options["max_usd"])
        if limit is not None and not (limit.is_finite() and limit >= 0):
            raise ArithmeticError
    except ArithmeticError:
        raise UsageError(f"--max-usd: {options['max_usd']} is no amount of money", hint="write e.g. 0.50") from None
    unpriced = sum(result.data.get("usd") is None for result in opened.results.values()) + opened.bills.lost_unpriced
    if limit is not None and unpriced:
        raise UsageError(
            f"--max-usd cannot be held: {counted(unpriced, 'result')} in {opened.folder} have no price",
            hint="leave --max-usd away, or begin a new run with a price book that has every price",
        )
    spent = opened.bills.usd + opened.bills.held_usd
    if limit is not None and subject.describe()["kind"] == "app":
        raise UsageError("--max-usd: an application does not tell what it costs", hint="use --max-minutes")
    allowance = Allowance(SystemClock(), book=book, max_usd=limit, max_minutes=options["max_minutes"], spent_usd=spent)
    if limit is not None:
        most = options["max_tokens"]
        allowance.check_prices(way for case in cases for way in supposed_ways(subject, measurer, case, most))
    return allowance


def _about(options: Mapping[str, Any], *, replays: bool) -> dict[str, Any]:
    from exitramp import __version__

    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "exitramp": __version__,
        "command": shlex.join(["exitramp", *sys.argv[1:]]),
        "replay_cache": replays,
        "max_usd": options["max_usd"],
        "max_minutes": options["max_minutes"],
    }
