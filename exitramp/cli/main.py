"""The entry point: commands are imported when they are called, so that `--help` stays quick and light."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import sys
import threading
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import click

from exitramp import __version__
from exitramp.errors import ExitCode, ExitrampError
from exitramp.secrets import redact

# name: (module, attribute, the line in `exitramp --help`)
_COMMANDS: dict[str, tuple[str, str, str]] = {
    "stores": ("exitramp.cli.listing", "stores", "What kinds of store are installed, and what each can do."),
    "models": ("exitramp.cli.listing", "models", "What kinds of model vendor are installed."),
    "inspect": ("exitramp.cli.data", "inspect", "What a collection holds: fields, counts, payload inventory, norms."),
    "plan": (
        "exitramp.cli.data",
        "plan",
        "What a copy would keep exactly, change or lose, before anything is written.",
    ),
    "dump": ("exitramp.cli.data", "dump", "Take a collection out into open files."),
    "restore": ("exitramp.cli.data", "restore", "Put a dump into a store."),
    "copy": ("exitramp.cli.data", "copy", "Copy a collection from store to store."),
    "sync": ("exitramp.cli.data", "sync", "Bring a target up to date: what is missing, changed or deleted."),
    "reindex": ("exitramp.cli.reindex", "reindex", "Embed a collection's documents anew by another model."),
    "search": ("exitramp.cli.search", "search", "Ask a collection by a text, embedded by the model that made it."),
    "onnx": ("exitramp.cli.onnx", "onnx", "Take an embedding model out as ONNX, where its weights are here."),
    "verify": ("exitramp.cli.data", "verify", "Check a dump from its files alone."),
    "compare": (
        "exitramp.cli.compare",
        "compare",
        "Parity of two collections: records, payloads, neighbours, filters.",
    ),
    "drill": ("exitramp.cli.drill", "drill", "Rehearse leaving a vendor, for real, and measure it."),
    "eval": ("exitramp.cli.eval", "eval_group", "Ask golden sets of a model or an application, and compare runs."),
    "prompts": ("exitramp.cli.prompts", "prompts", "Check versioned prompts, and take them over from other tools."),
    "cost": ("exitramp.cli.cost", "cost", "What requests cost, by part, from their traces and a price book."),
    "report": ("exitramp.cli.report", "report", "Render a drill's journal again, or verify it."),
    "gateway": (
        "exitramp.cli.gateway",
        "gateway",
        "Serve the models of a stack file to applications that speak chat completions.",
    ),
    "mock-vendor": ("exitramp.cli.mock_vendor", "mock_vendor", "Run a model vendor that breaks on schedule."),
    "fault-proxy": ("exitramp.cli.fault_proxy", "fault_proxy", "Stand in front of a store or vendor and spoil it."),
}


class _LazyGroup(click.Group):
    """A group that knows its commands' names and one-line helps without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        found = _COMMANDS.get(cmd_name)
        if found is None:
            return None
        command: click.Command = getattr(importlib.import_module(found[0]), found[1])
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, _, line) in _COMMANDS.items()])


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="exitramp")
def cli() -> None:
    """Leave a vector store or a model vendor, and prove that you can.

    Addresses look like SCHEME:LOCATION#COLLECTION, e.g. chroma:./db#articles,
    qdrant+http://127.0.0.1:6333#articles, dump:./my-dump.

    Exit codes: 0 pass, 1 fail, 2 usage or configuration, 3 inconclusive, 4 integrity, 5 a vendor or store failed,
    70 a fault of exitramp or an adapter, 130 interrupted, 143 told to end.

    \b
    Example:
      exitramp stores
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; ends the process with the documented exit code."""
    sys.excepthook = _show_fault
    # A number beyond a store's own type becomes an infinity, here as in the store, and what becomes of it is looked at
    # and told as a finding. numpy says it once more, as a line of somebody's code.
    warnings.filterwarnings("ignore", r"(overflow|invalid value) encountered", RuntimeWarning)
    code = run(arguments)
    if any(thread.daemon for thread in threading.enumerate()):
        # A call that was given up on may still be inside a store's own code, which Python's way out would pull from
        # under it: with Chroma, every third dump onto a full disk then ended in a segmentation fault.
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)
    sys.exit(code)


def _show_fault(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """What Python would print for a fault of ours, with secrets masked: libraries put addresses into their messages."""
    import traceback

    click.echo(redact("".join(traceback.format_exception(kind, error, trace))), err=True, nl=False)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. A user's mistake is one message, never a traceback.

    With `--json` that message is one JSON document on stdout as well, so that whoever parses it always finds one.
    """
    as_json = "--json" in (sys.argv[1:] if arguments is None else arguments)
    try:
        result = cli.main(args=arguments, prog_name="exitramp", standalone_mode=False)
    except ExitrampError as error:
        return _told(error, as_json)
    except (click.exceptions.Abort, KeyboardInterrupt):
        _complain("interrupted: what was acknowledged is kept; run the same command again to go on")
        return int(ExitCode.INTERRUPTED)
    except SystemExit:
        return int(ExitCode.PASS)  # click's way out where nobody reads the help or the version
    except click.ClickException as error:
        shown = io.StringIO()
        error.show(file=shown)
        _complain(redact(shown.getvalue()).rstrip("\n"))
        if as_json:
            _tell_machine(type(error).__name__, error.format_message(), None, int(ExitCode.USAGE))
        return int(ExitCode.USAGE)
    except OSError as error:
        if not _has_folder():
            _complain("error: the current directory is gone\n  next: change to one that is there")
            return int(ExitCode.USAGE)
        if isinstance(error.filename, str | bytes):
            from exitramp.durable import USED, path_error

            return _told(path_error(Path(os.fsdecode(error.filename)), error, USED), as_json)
        _complain(f"error: the result could not be written ({error.strerror})")
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(ExitCode.REMOTE)
    except Exception as error:  # noqa: BLE001  (a fault of ours; Python's own code for it, 1, would be a verdict)
        _show_fault(type(error), error, error.__traceback__)
        _complain("a fault of exitramp's own or of an adapter's, and no verdict; please report what stands above")
        if as_json:
            _tell_machine(type(error).__name__, "a fault of exitramp's own, or of an adapter's", None, ExitCode.FAULT)
        return int(ExitCode.FAULT)
    return int(result) if isinstance(result, int) else int(ExitCode.PASS)


def _told(error: ExitrampError, as_json: bool) -> int:
    from exitramp.cli.output import error_text

    _complain(error_text(error))
    if as_json:
        _tell_machine(type(error).__name__, error.message, error.hint, int(error.exit_code))
    return int(error.exit_code)


def _complain(text: str) -> None:
    with contextlib.suppress(OSError):  # nobody reads it; the exit code says it too
        click.echo(text, err=True)


def _tell_machine(kind: str, message: str, hint: str | None, code: int) -> None:
    import json

    told = {"kind": kind, "message": redact(message), "next": None if hint is None else redact(hint)}
    text = json.dumps({"verdict": None, "error": told, "exit_code": code, "findings": []}, ensure_ascii=True, indent=2)
    with contextlib.suppress(OSError):
        click.echo(text)


def _has_folder() -> bool:
    try:
        os.getcwd()
    except OSError:
        return False
    return True
