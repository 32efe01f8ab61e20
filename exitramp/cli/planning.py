"""What `plan` finds for one collection: what becomes of each field, or where reading costs, what reading it takes."""

from __future__ import annotations

from exitramp.cli import output
from exitramp.cli.estimating import estimated
from exitramp.cli.limits import nothing_kept
from exitramp.cli.moving import Moved, choose, say_next, say_plan, with_target, within
from exitramp.cli.options import Choice
from exitramp.migration import plan_move
from exitramp.wrappers import Endpoint


def planned(one: Endpoint, other: Endpoint, choice: Choice, *, measure: bool | None) -> Moved:
    """`measure` None reads the source unless that costs. Writes nothing."""
    if measure is False or (measure is None and one.estimates() is not None):
        choose(one, choice, reads=False)
        return estimated(one, other)
    within(one, other, choice)
    bar = output.Progress("measure", None)
    with nothing_kept():
        found = with_target(plan_move(one, other, progress=bar.at), other)
    bar.end()

    def say() -> None:
        say_plan(found)
        say_next(found, one, other, choice)

    return Moved(found.verdict, found.to_json() | {"digests": None}, say)
