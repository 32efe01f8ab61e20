"""How a number of things is said: by every sentence that counts something, on the terminal and in findings."""

from __future__ import annotations


def counted(number: int, one: str, many: str = "") -> str:
    """`1 record was` or `1,500 records were`, of `one` and `many`; `many` is `one` with an s where it is not given."""
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"
