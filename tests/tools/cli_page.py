"""Writes docs/cli.md from the commands' own help texts."""

from __future__ import annotations

from collections.abc import Iterator

import click

from exitramp.cli.main import cli

HEAD = """# The command line

Generated from the commands' help texts by `make docs`; a test keeps it fresh.

Data is written to stdout (`--json` for machines), progress and prose to stderr.
"""


def commands(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command that does something, groups first, in the order of the help."""
    context = click.Context(command, info_name=" ".join(("exitramp", *path)))
    yield path, command
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from commands(inner, (*path, name))


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for path, command in commands(cli):
        context = click.Context(
            command,
            info_name=" ".join(("exitramp", *path)),
            terminal_width=100,
            help_option_names=["-h", "--help"],
        )
        command._help_option = None  # click keeps the option of whoever asked first, with that context's names
        text = "\n".join(line.rstrip() for line in command.get_help(context).splitlines())
        parts.append(f"## exitramp {' '.join(path)}".rstrip() + f"\n\n```text\n{text}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    print(page(), end="")
