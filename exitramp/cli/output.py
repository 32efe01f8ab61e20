"""What a command prints: data on stdout, progress and prose on stderr."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click

from exitramp.errors import ExitCode, ExitrampError
from exitramp.records import Finding, Verdict
from exitramp.secrets import redact, redacted

ID_WIDTH = 80
MESSAGE_WIDTH = 2000
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_EXIT = {Verdict.PASS: ExitCode.PASS, Verdict.FAIL: ExitCode.FAIL, Verdict.INCONCLUSIVE: ExitCode.INCONCLUSIVE}
_COLOURS = {Verdict.PASS: "green", Verdict.FAIL: "red", Verdict.INCONCLUSIVE: "yellow"}


def exit_code(verdict: Verdict) -> int:
    return int(_EXIT[verdict])


def emit_json(data: Mapping[str, Any]) -> None:
    """One JSON document on stdout, secrets masked text by text, so that it stays JSON."""
    _print(json.dumps(redacted(data), ensure_ascii=False, indent=2, default=_as_text, allow_nan=False))


def _as_text(value: object) -> str:
    """Paths, times and decimals, which JSON has no form for."""
    return redact(str(value))


def say(text: str = "") -> None:
    """A line of the result, on stdout."""
    _print(redact(text))


def _print(text: str) -> None:
    """Print, and go on where nobody reads: the verdict is in the exit code, and that must not change with `| head`."""
    if sys.stdout is None:  # closed by whoever started us
        return
    try:
        click.echo(text)
        sys.stdout.flush()
    except BrokenPipeError:
        # What is still buffered would fail again at the interpreter's end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def note(text: str) -> None:
    """A line beside the result, on stderr. Nobody reading it stops nothing: a drill must still take its way back."""
    with contextlib.suppress(OSError):
        click.echo(redact(text), err=True)


def visible(text: str, width: int | None = None) -> str:
    """`text` on one line: what a terminal would act on, or not show, is escaped; cut to `width` with an ellipsis.

    A line end in an id would forge a line of ours, and an escape sequence could hide one.
    """
    if not (text.isascii() and text.isprintable()):
        text = "".join(_seen(each) if unicodedata.category(each) in _UNSEEN else each for each in text)
    return text if width is None or len(text) <= width else text[: width - 1] + "…"


def _seen(character: str) -> str:
    code = ord(character)
    return _SHORT.get(character) or (
        f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
    )


def error_text(error: ExitrampError) -> str:
    """An error as people read it: the message on one line, and the next step below it."""
    message = visible(redact(error.message), MESSAGE_WIDTH)
    return f"error: {message}" + (f"\n  next: {visible(redact(error.hint), MESSAGE_WIDTH)}" if error.hint else "")


def verdict_word(verdict: Verdict) -> str:
    return click.style(verdict.value.upper(), fg=_COLOURS[verdict], bold=True)


def say_findings(findings: Iterable[Finding]) -> None:
    for finding in findings:
        sign = {Verdict.FAIL: "✗", Verdict.INCONCLUSIVE: "?", Verdict.PASS: "✓", None: "·"}[finding.verdict]
        say(f"  {sign} {finding.code}: {visible(redact(finding.message), MESSAGE_WIDTH)}")
        if finding.ids:
            more = f" … ({finding.count} in all)" if finding.count and finding.count > len(finding.ids) else ""
            _print(f"      ids: {', '.join(visible(each, ID_WIDTH) for each in finding.ids)}{more}")


def table(rows: Sequence[Sequence[object]], header: Sequence[str]) -> str:
    """Columns aligned by spaces; the first line is the header."""
    text = [[visible(redact(str(cell))) for cell in row] for row in [list(header), *rows]]
    widths = [max(_cells(row[column]) for row in text) for column in range(len(header))]
    lines = [
        "  ".join(cell + " " * (width - _cells(cell)) for cell, width in zip(row, widths, strict=True)) for row in text
    ]
    return "\n".join(line.rstrip() for line in lines)


def _cells(text: str) -> int:
    """How many places `text` takes on a terminal: an accent of its own takes none, and a Chinese character two."""
    if text.isascii():
        return len(text)
    return sum((unicodedata.east_asian_width(each) in "WF") + (not unicodedata.combining(each)) for each in text)


def megabytes(size: float) -> str:
    """`12.3 MB`, in powers of ten."""
    return "less than 0.1 MB" if 0 < size < 50_000 else f"{size / 1e6:,.1f} MB"


class Progress:
    """A bar on stderr for anything over two seconds, when stderr is a terminal; otherwise nothing."""

    def __init__(self, what: str, total: int | None) -> None:
        self._what = what
        self._total = total
        self._started = time.monotonic()
        self._shown = 0.0
        self._live = sys.stderr is not None and sys.stderr.isatty()

    def at(self, done: int) -> None:
        now = time.monotonic()
        if not self._live or now - self._started < 2.0 or now - self._shown < 0.2:
            return
        self._shown = now
        rate = done / max(now - self._started, 1e-9)
        if self._total:
            share = min(1.0, done / self._total)
            bar = "█" * int(share * 24)
            left = (self._total - done) / rate if rate else 0
            text = f"{self._what} {bar:<24} {done:,}/{self._total:,}  {rate:,.0f}/s  {left:,.0f} s left"
        else:
            text = f"{self._what} {done:,}  {rate:,.0f}/s"
        click.echo(f"\r\x1b[2K{text}", err=True, nl=False)

    def end(self) -> None:
        if self._shown:
            click.echo("\r\x1b[2K", err=True, nl=False)
