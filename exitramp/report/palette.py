"""The colours of a report, in light and dark, and which of them must be readable on which.

Ratios are WCAG 2's contrast ratios: 4.5 for text (AA), 3 for shapes and lines that carry meaning. A test computes
every pair. Print always uses the light ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

PART_COUNT: Final = 8

LIGHT: Final[Mapping[str, str]] = {
    "paper": "#fdfcfa",
    "raised": "#f5f3ee",
    "ink": "#1b2025",
    "muted": "#565e67",
    "rule": "#dcd8ce",
    "edge": "#858a8f",
    "link": "#1d4f86",
    "pass": "#146039",
    "pass-tint": "#e6f2eb",
    "fail": "#9c1f1a",
    "fail-tint": "#fae9e7",
    "inconclusive": "#744d00",
    "inconclusive-tint": "#faf0d8",
    "mock": "#583788",
    "mock-tint": "#efe9f7",
    "simulated": "#09545d",
    "simulated-tint": "#e1f1f2",
    "info": "#1d4f86",
    "info-tint": "#e7eff8",
    "primary": "#1f5a92",
    "substitute": "#b04f0e",
    "other": "#565e67",
    "band": "#efeadf",
    "band-2": "#f7f4ed",
    "part-1": "#1f5a92",
    "part-2": "#b04f0e",
    "part-3": "#17643a",
    "part-4": "#6a489d",
    "part-5": "#806300",
    "part-6": "#0b656e",
    "part-7": "#992c60",
    "part-8": "#565e67",
    "on-part": "#ffffff",
}
DARK: Final[Mapping[str, str]] = {
    "paper": "#14171b",
    "raised": "#1d2228",
    "ink": "#e9e6e0",
    "muted": "#a7aeb7",
    "rule": "#343b44",
    "edge": "#7b848f",
    "link": "#93bff1",
    "pass": "#7ad2a0",
    "pass-tint": "#11301f",
    "fail": "#ff9d93",
    "fail-tint": "#3c1714",
    "inconclusive": "#f0c470",
    "inconclusive-tint": "#352809",
    "mock": "#cab3f3",
    "mock-tint": "#292040",
    "simulated": "#82d2da",
    "simulated-tint": "#0f2e32",
    "info": "#93bff1",
    "info-tint": "#152a42",
    "primary": "#7db3ea",
    "substitute": "#f0a266",
    "other": "#a7aeb7",
    "band": "#262c34",
    "band-2": "#1c2127",
    "part-1": "#7db3ea",
    "part-2": "#f0a266",
    "part-3": "#7ad2a0",
    "part-4": "#c0a5ee",
    "part-5": "#d8bb50",
    "part-6": "#6fc9d2",
    "part-7": "#ed94bd",
    "part-8": "#a7aeb7",
    "on-part": "#14171b",
}

_TINTED = ("pass", "fail", "inconclusive", "mock", "simulated", "info")
PAIRS: Final[tuple[tuple[str, str, float], ...]] = (
    *((text, ground, 4.5) for text in ("ink", "muted", "link") for ground in ("paper", "raised")),
    *((text, ground, 4.5) for text in ("ink", "muted") for ground in ("band", "band-2")),
    *((name, ground, 4.5) for name in _TINTED for ground in ("paper", "raised", f"{name}-tint")),
    *((text, f"{name}-tint", 4.5) for name in _TINTED for text in ("ink", "muted", "link")),
    *((mark, ground, 3.0) for mark in ("primary", "substitute", "fail", "other") for ground in ("paper", "band")),
    *((f"part-{number}", "paper", 3.0) for number in range(1, PART_COUNT + 1)),
    *(("on-part", f"part-{number}", 4.5) for number in range(1, PART_COUNT + 1)),
    ("edge", "paper", 3.0),
    ("edge", "raised", 3.0),
)
"""(foreground, background, least ratio)."""


def contrast(one: str, other: str) -> float:
    """The contrast ratio of two `#rrggbb` colours, 1 to 21 (WCAG 2.2, "contrast ratio" and "relative luminance")."""
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def custom_properties(colours: Mapping[str, str]) -> str:
    """The colours as CSS custom properties."""
    return "".join(f"--{name}:{value};" for name, value in colours.items())
