"""The small pictures beside a verdict or notice: each repeats in its shape what the word beside it says."""

from __future__ import annotations

from typing import Final

from exitramp.report.markup import Markup, tag

# (filled, cut out of it, drawn as a line). A disc, an octagon and a diamond are told apart in a photocopy too. The
# diamond holds no question mark: that is what a browser draws in place of a character that it cannot show.
_PATHS: Final = {
    "pass": ("M10 1a9 9 0 1 0 0 18a9 9 0 0 0 0-18z", "M5.8 10.3l3 3l5.6-6.4", ""),
    "fail": ("M6.3 1h7.4L19 6.3v7.4L13.7 19H6.3L1 13.7V6.3z", "M6.8 6.8l6.4 6.4m0-6.4l-6.4 6.4", ""),
    "inconclusive": (
        "M10 .3L19.7 10L10 19.7L.3 10z",
        "M5.7 10h.01M10 10h.01M14.3 10h.01",
        "",
    ),
    "mock": ("", "", "M2 2h16v16H2zM6 14V6.5l4 4.5l4-4.5V14"),
    "simulated": ("", "", "M1.5 10c2-8 4.8-8 8.5 0s6.5 8 8.5 0"),
    "unsigned": ("", "", "M2 18h16M5 13.5l8-9l2.8 2.5l-8 9l-3.6 1z"),
    "warning": ("M10 1.5L19 18H1z", "M10 7.8v4.6m0 2.8v.1", ""),
    "info": ("", "", "M10 1.8a8.2 8.2 0 1 0 0 16.4a8.2 8.2 0 0 0 0-16.4zM10 9.2v5m0-8.2v.1"),
}


def icon(name: str) -> Markup:
    """The picture of a verdict or notice, hidden from screen readers, which read the word."""
    drawn = [
        tag("path", d=path, class_=style)
        for path, style in zip(_PATHS[name], (None, "cut", "open"), strict=True)
        if path
    ]
    return tag("svg", *drawn, class_="icon", viewBox="0 0 20 20", aria_hidden="true", focusable="false")
