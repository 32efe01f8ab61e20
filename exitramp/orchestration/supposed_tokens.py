"""How many tokens a text has at most, whoever counts them: no vendor tells its tokeniser."""

from __future__ import annotations

from typing import Final

LETTERS_A_TOKEN: Final = 2
"""Of what is written in ASCII; of anything else every byte may be a token, and of rare letters it is."""


def supposed_tokens(*texts: str) -> int:
    """No fewer than the texts have, in whatever language they are."""
    total = 16
    for text in texts:
        size = len(text.encode("utf-8", "surrogatepass"))
        plain = size if text.isascii() else sum(letter < "\x80" for letter in text)
        total += plain // LETTERS_A_TOKEN + (size - plain)
    return total
