"""`exitramp stores check`: the shipped suite on a server of the user's own, and the evidence that it leaves."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from exitramp.cli import output
from exitramp.cli.options import json_option, open_settings, store_options
from exitramp.errors import DependencyMissing, ExitCode, UsageError
from exitramp.wording import counted

if TYPE_CHECKING:
    from exitramp.testing.on_server import Evidence

CHECKS = Path(".exitramp/checks")
_MOST_NAMED = 20


@click.command()
@click.argument("address", metavar="ADDRESS")
@click.option(
    "--scratch",
    required=True,
    metavar="NAME",
    help="What the collections are called that the check makes and removes: NAME, NAME_2 and so on.",
)
@click.option(
    "--only", default="", metavar="TEXT", help="Only the tests with TEXT in their names: no evidence is kept."
)
@click.option(
    "--evidence",
    type=click.Path(dir_okay=False, path_type=Path),
    default=None,
    help=f"Where the evidence is written.  [default: a dated file in {CHECKS}]",
)
@click.option(
    "--allow-writes",
    multiple=True,
    metavar="ADDRESS",
    help="Allow writing to ADDRESS although it is not on this machine.",
)
@json_option
@store_options
def check(
    address: str,
    scratch: str,
    only: str,
    evidence: Path | None,
    allow_writes: tuple[str, ...],
    as_json: bool,
    **stores: Any,
) -> int:
    """Hold the store at ADDRESS to the suite that every adapter passes, in scratch collections of its own.

    ADDRESS names no collection; of a store whose collections are files, such as faiss, a folder or a file beside which
    the scratch files may stand. Nothing else on the server is touched: a scratch collection that is there already is
    refused, and whatever was made is removed, also when the check is interrupted. What is kept is dated evidence with
    the server's version.

    \b
    Example:
      exitramp stores check chroma+http://127.0.0.1:8000 --scratch scratch_check
    """
    if importlib.util.find_spec("pytest") is None:
        raise DependencyMissing("stores check", "check", module="pytest")
    from exitramp.testing.on_server import check_store
    from exitramp.wrappers import require_write_allowed
    from exitramp.wrappers.opening import parse_address

    settings = open_settings(**stores)
    place = parse_address(address)
    if place.collection is not None:
        raise UsageError(f"{place} names a collection", hint=f"leave out #{place.collection}: --scratch names its own")
    require_write_allowed(place, allow_writes)
    bar = output.Progress("check", None)
    found = check_store(place, scratch, settings.network, only=only, progress=bar.at)
    bar.end()
    written = None
    if not only:
        written = evidence or CHECKS / f"{found.identity.adapter}-{found.checked_at.replace(':', '')}.json"
        _write(written, found)
    if as_json:
        output.emit_json(found.to_json() | {"evidence": None if written is None else str(written)})
    else:
        _say(found, written)
    if found.count("failed"):
        return int(ExitCode.FAIL)
    return int(ExitCode.PASS if found.count("passed") else ExitCode.INCONCLUSIVE)


def _write(path: Path, found: Evidence) -> None:
    from exitramp.durable import make_folder, write_atomically
    from exitramp.secrets import redacted

    make_folder(path.parent)
    text = json.dumps(redacted(found.to_json()), ensure_ascii=False, indent=2)
    write_atomically(path, (text + "\n").encode("utf-8"))


def _say(found: Evidence, written: Path | None) -> None:
    label = "" if found.tested_against == "real" else f" ({found.tested_against})"
    who = f"{found.identity.adapter} {found.identity.server_version}{label} at {found.identity.address}"
    failed = [each for each in found.outcomes if each.outcome == "failed"]
    word = "FAIL" if failed else "PASS" if found.count("passed") else "INCONCLUSIVE"
    output.say(f"{word}  {who}: {_counts(found.to_json())}")
    for each in failed[:_MOST_NAMED]:
        output.say(f"  ✗ {each.test}: {output.visible(each.reason, 300)}")
    if len(failed) > _MOST_NAMED:
        output.say(f"  … and {counted(len(failed) - _MOST_NAMED, 'more')}; --json has them all")
    for each in found.outcomes:
        if each.outcome == "skipped":
            output.say(f"  · {each.test}: {output.visible(each.reason, 160)}")
    if written is not None:
        output.say(f"evidence: {written}")


def newest_checks(folder: Path) -> dict[str, dict[str, Any]]:
    """By adapter, the newest evidence in `folder`; what is none is passed over."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.glob("*.json")) if folder.is_dir() else ():
        try:
            data = json.loads(path.read_bytes())
            told = {key: data[key] for key in ("checked_at", "server_version", "passed", "failed", "skipped")}
            told["tested_against"] = data.get("tested_against")
            if data["format"] == "exitramp-store-check" and isinstance(data["adapter"], str):
                told["file"] = str(path)
                older = found.get(data["adapter"])
                if older is None or str(older["checked_at"]) <= str(told["checked_at"]):
                    found[data["adapter"]] = told
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return found


def checked_text(told: dict[str, Any]) -> str:
    """`checked by you on 2030-01-01 against 1.2.3: 81 passed, 9 skipped`; of a mock it says that it is one."""
    label = told["tested_against"]
    against = f"{told['server_version']}{f' ({label})' if label not in ('real', None) else ''}"
    return f"checked by you on {str(told['checked_at'])[:10]} against {against}: {_counts(told)}"


def _counts(told: dict[str, Any]) -> str:
    words = [f"{told[name]} {name}" for name in ("passed", "failed", "skipped") if told[name]]
    return ", ".join(words) or "no test ran"
