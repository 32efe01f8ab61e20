"""`exitramp gateway`: an endpoint in the chat completions shape in front of a stack file."""

from __future__ import annotations

from pathlib import Path

import click

from exitramp.cli import output
from exitramp.cli.options import NumberRange, json_option
from exitramp.errors import ExitCode
from exitramp.secrets import redact


@click.command()
@click.option(
    "--stack",
    type=click.Path(path_type=Path),
    required=True,
    help="The stack file; an edit of it is in force for the next request.",
)
@click.option("--port", type=click.IntRange(0, 65535), default=8484, show_default=True, help="0 takes a free one.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Another than loopback needs keys in the file.")
@click.option(
    "--stop-seconds",
    type=NumberRange(min=0),
    default=30.0,
    show_default=True,
    help="How long what is under way may take to end after SIGTERM or Ctrl-C.",
)
@json_option
def gateway(stack: Path, port: int, host: str, stop_seconds: float, as_json: bool) -> int:
    """Serve the models of a stack file to applications that speak the chat completions shape.

    Point the application's base_url at the address that is printed. /v1/chat/completions, /v1/embeddings, /v1/models,
    /metrics and /healthz are there; see docs/gateway.md. Needs the extra 'gateway'.

    \b
    Example:
      exitramp gateway --stack stack.yaml --port 8484
    """
    from exitramp.gateway.app import Gateway
    from exitramp.gateway.serving import serve
    from exitramp.orchestration import Application

    def ready(address: str, served: Gateway, application: Application) -> None:
        keys = len(application.file.keys)
        if as_json:
            mocks = list(application.mocks())
            output.emit_json({"address": address, "keys": keys, "mocks": mocks, "stack": str(stack)})
            return
        output.say(address)
        if not served.has_keys:
            output.note("no keys in the stack file: answers this machine alone, and anybody on it")
        for name in application.mocks():
            output.note(f"the model '{name}' is a mock: its answers come from a rule")
        output.note("an edit of the stack file is in force for the next request. Ctrl-C or SIGTERM ends this.")

    has_ended = serve(
        stack, host=host, port=port, stop_seconds=stop_seconds, on_ready=ready,
        on_notice=lambda text: output.note(redact(text)),
    )  # fmt: skip
    output.note("ended" if has_ended else "ended, and cut off what was still under way")
    return int(ExitCode.PASS)
