"""`exitramp stores` and `exitramp models`: what is installed, told without importing any SDK."""

from __future__ import annotations

from typing import Any

import click

from exitramp.cli.checking import CHECKS, check, checked_text, newest_checks
from exitramp.cli.options import json_option
from exitramp.cli.output import emit_json, say, table, visible
from exitramp.errors import ExitrampError
from exitramp.registry import MODELS, STORES, is_installed, listed, load
from exitramp.secrets import redact


@click.group(invoke_without_command=True)
@json_option
@click.pass_context
def stores(context: click.Context, as_json: bool) -> None:
    """What kinds of store are installed, and what each can do.

    `evidence` says what an adapter was tested against: the real thing, the real engine behind an emulated wire, or a
    mock of the wire; and what 'stores check' found of a server of yours, of which the newest evidence in
    .exitramp/checks is shown. Nothing of a store's SDK is imported for this list.

    \b
    Example:
      exitramp stores
    """
    if context.invoked_subcommand is not None:
        return
    rows = [_row(STORES, item.name, item.distribution, ("vector_kinds", "fidelity")) for item in listed(STORES)]
    checked = newest_checks(CHECKS)
    for row in rows:
        row["checked"] = checked.get(row["scheme"])
    if as_json:
        emit_json({"stores": rows})
        return
    shown = [
        (
            row["scheme"],
            row["address"],
            row["installed"],
            ", ".join(row["roles"]),
            ", ".join(row["vector_kinds"]) if row["vector_kinds"] != "?" else "?",
            row["fidelity"],
            row["evidence"] + (f"; {checked_text(row['checked'])}" if row["checked"] else ""),
        )
        for row in rows
    ]
    say(table(shown, ("store", "address", "installed", "roles", "vectors", "fidelity", "evidence")))
    _say_problems(rows)


stores.add_command(check)


def _row(group: str, name: str, distribution: str, more: tuple[str, ...] = ()) -> dict[str, Any]:
    """What is told of one adapter; one that cannot be loaded is told as that, and spoils no list."""
    try:
        adapter = load(group, name)
        there = is_installed(adapter)
    except ExitrampError as error:
        unknown: dict[str, Any] = {"scheme": name, "summary": "", "address": "?", "installed": "broken", "roles": []}
        unknown |= dict.fromkeys(more, "?") | {"evidence": "?", "package": distribution, "problem": error.message}
        return unknown
    told = {each: getattr(adapter, each) for each in more}
    return {
        "scheme": adapter.scheme,
        "summary": adapter.summary,
        "address": adapter.address_form,
        "installed": "yes" if there else f"pip install 'exitramp[{adapter.extra}]'",
        "roles": list(adapter.roles),
        **{each: list(value) if isinstance(value, tuple | frozenset) else value for each, value in told.items()},
        "evidence": adapter.evidence,
        "package": distribution,
    }


def _say_problems(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        if row.get("problem"):
            say(visible(redact(row["problem"])))


@click.command()
@json_option
def models(as_json: bool) -> None:
    """What kinds of model vendor are installed.

    \b
    Example:
      exitramp models
    """
    rows = [_row(MODELS, item.name, item.distribution) for item in listed(MODELS)]
    if as_json:
        emit_json({"models": rows})
        return
    shown = [
        (row["scheme"], row["address"], row["installed"], ", ".join(row["roles"]), row["evidence"]) for row in rows
    ]
    say(table(shown, ("model", "address", "installed", "roles", "evidence")))
    _say_problems(rows)
