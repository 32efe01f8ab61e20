"""`exitramp stores` and `exitramp models`: what is installed, told without importing any SDK."""

from __future__ import annotations

from typing import Any

import click

from exitramp.cli.options import json_option
from exitramp.cli.output import emit_json, say, table
from exitramp.errors import ExitrampError
from exitramp.registry import MODELS, STORES, is_installed, listed, load


@click.command()
@json_option
def stores(as_json: bool) -> None:
    """What kinds of store are installed, and what each can do.

    `evidence` says what an adapter was tested against: the real thing, the real engine behind an emulated wire, or a
    mock of the wire. Nothing of a store's SDK is imported for this list.

    \b
    Example:
      exitramp stores
    """
    rows = [_store(item.name, item.distribution) for item in listed(STORES)]
    if as_json:
        emit_json({"stores": rows})
        return
    shown = [
        (row["scheme"], row["address"], row["installed"], ", ".join(row["roles"]), row["fidelity"], row["evidence"])
        for row in rows
    ]
    say(table(shown, ("store", "address", "installed", "roles", "fidelity", "evidence")))
    for row in rows:
        if row.get("problem"):
            say(f"{row['scheme']}: {row['problem']}")


def _store(name: str, distribution: str) -> dict[str, Any]:
    try:
        adapter = load(STORES, name)
    except (ImportError, ExitrampError) as error:
        return {
            "scheme": name,
            "address": "?",
            "installed": "broken",
            "roles": [],
            "vector_kinds": [],
            "fidelity": "?",
            "evidence": "?",
            "package": distribution,
            "summary": "",
            "problem": f"{type(error).__name__}: {error}",
        }
    there = is_installed(adapter)
    return {
        "scheme": adapter.scheme,
        "summary": adapter.summary,
        "address": adapter.address_form,
        "installed": "yes" if there else f"pip install 'exitramp[{adapter.extra}]'",
        "roles": list(adapter.roles),
        "vector_kinds": list(adapter.vector_kinds),
        "fidelity": adapter.fidelity,
        "evidence": adapter.evidence,
        "package": distribution,
    }


@click.command()
@json_option
def models(as_json: bool) -> None:
    """What kinds of model vendor are installed.

    \b
    Example:
      exitramp models
    """
    rows = []
    for item in listed(MODELS):
        adapter = load(MODELS, item.name)
        rows.append(
            {
                "scheme": adapter.scheme,
                "summary": adapter.summary,
                "address": adapter.address_form,
                "installed": "yes" if is_installed(adapter) else f"pip install 'exitramp[{adapter.extra}]'",
                "roles": list(adapter.roles),
                "evidence": adapter.evidence,
                "package": item.distribution,
            }
        )
    if as_json:
        emit_json({"models": rows})
        return
    shown = [
        (row["scheme"], row["address"], row["installed"], ", ".join(row["roles"]), row["evidence"]) for row in rows
    ]
    say(table(shown, ("model", "address", "installed", "roles", "evidence")))
