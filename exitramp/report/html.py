"""The report as one HTML file that loads nothing: no script, and no style, font or picture from elsewhere.

The content security policy in its head makes a browser refuse whatever might slip through. The file reads on a phone,
on paper, in the dark and through a screen reader; a verdict is a word and a shape before it is a colour.
"""

from __future__ import annotations

from importlib import resources

from exitramp.clock import iso_utc
from exitramp.report.cells import VERDICT_MEANINGS, VERDICT_WORDS
from exitramp.report.html_blocks import Blocks, cell, key_values, stamp_chip, verdict_chip
from exitramp.report.icons import icon
from exitramp.report.markup import Markup, join, tag
from exitramp.report.model import Cell, Document, KeyValues, Section, code, masked
from exitramp.report.palette import DARK, LIGHT, custom_properties
from exitramp.report.text import NOT_ANCHORED, number_text, seconds_text, visible

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"


def render_html(document: Document) -> str:
    """The whole page. The same document gives the same bytes."""
    document = masked(document)
    blocks = Blocks()
    sections = [_section(section, blocks) for section in document.sections]
    body = (
        tag("a", "Skip to the report", href="#content", class_="skip"),
        _banner(document),
        tag("main", _cover(document), _contents(document), *sections, id="content", tabindex=-1),
        _footer(document),
    )
    page = tag("html", _head(document), tag("body", Markup("\n".join(body))), lang="en")
    return f"<!doctype html>\n{page}\n"


def _head(document: Document) -> Markup:
    title = f"{VERDICT_WORDS[document.verdict]}: {document.title}"
    return tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="robots", content="noindex"),
        # A browser asks the server for /favicon.ico unless it is given one.
        tag("link", rel="icon", href="data:,"),
        tag("title", title),
        tag("style", _styles(document)),
    )


def _styles(document: Document) -> Markup:
    sheet = (resources.files("exitramp.report") / "report.css").read_text(encoding="utf-8")
    light, dark = custom_properties(LIGHT), custom_properties(DARK)
    stamps = "".join(f" · {stamp.text.upper()}" for stamp in document.all_stamps)
    foot = _css_string(f"{document.verdict.value.upper()}{stamps} · {document.meta.run_id[:60]}")
    return Markup(
        f":root{{{light}}}\n"
        f"@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}\n"
        f"@page{{@bottom-left{{content:{foot}}}}}\n{sheet}"
    )


def _css_string(text: str) -> str:
    """A CSS string in which nothing but letters, digits and spaces stands unescaped."""
    plain = "".join(c if c.isascii() and (c.isalnum() or c == " ") else f"\\{ord(c):x} " for c in visible(text))
    return f'"{plain}"'


def _banner(document: Document) -> Markup:
    """The verdict, its stamps and the run, at the top of the window however far one has read."""
    stamps = join(*(stamp_chip(stamp.kind, stamp.text) for stamp in document.all_stamps))
    return tag(
        "header",
        verdict_chip(document.verdict),
        tag("span", stamps, class_="stamps"),
        tag("span", document.title, class_="banner-title"),
        tag("code", document.meta.run_id, class_="banner-run"),
        class_=f"banner {document.verdict.value}",
    )


def _contents(document: Document) -> Markup:
    items = (
        tag("li", tag("a", tag("span", str(one.number), class_="n"), " ", one.title, href=f"#{one.anchor}"))
        for one in document.sections
    )
    return tag("nav", tag("p", "Contents", class_="nav-title"), tag("ol", *items), aria_label="Contents")


def _cover(document: Document) -> Markup:
    verdict = VERDICT_WORDS[document.verdict]
    stamps = join(*(stamp_chip(stamp.kind, stamp.text) for stamp in document.all_stamps))
    blanks = document.blank_count
    unsigned = f"{blanks} field{'s are' if blanks != 1 else ' is'} left for people to fill in." if blanks else None
    return tag(
        "div",
        tag("p", "Switch-drill report", class_="kicker"),
        tag("h1", document.title),
        tag("p", document.subtitle, class_="subtitle") if document.subtitle else None,
        tag(
            "div",
            icon(document.verdict.value),
            tag(
                "div",
                tag("p", tag("span", "Verdict: ", class_="hidden"), verdict, class_="word"),
                tag("p", VERDICT_MEANINGS[document.verdict].capitalize() + ".", class_="meaning"),
                tag("p", document.verdict_reason, class_="reason") if document.verdict_reason else None,
                tag("p", stamps, unsigned, class_="stamps") if stamps else None,
            ),
            class_=f"verdict-box {document.verdict.value}",
        ),
        tag("p", *_at_a_glance(document), class_="glance"),
        class_="cover",
    )


def _at_a_glance(document: Document) -> list[Markup]:
    """Which run this is, in one line; its hashes stand at the page's end."""
    meta = document.meta
    told = [tag("span", "Run ", tag("code", meta.run_id)), tag("span", f"by {meta.program}")]
    if meta.started_at is not None:
        told.append(tag("span", "began ", cell(meta.started_at)))
    took = meta.duration_seconds
    paused = ", pauses left out" if meta.is_without_pauses else ""
    told.append(tag("span", "did not end" if took is None else f"took {seconds_text(took)}{paused}"))
    return told


def _section(section: Section, blocks: Blocks) -> Markup:
    heading = tag("h2", tag("span", str(section.number), class_="n"), " ", section.title, id=f"{section.anchor}-title")
    return tag(
        "section",
        heading,
        "\n",
        blocks.render(section.blocks),
        id=section.anchor,
        aria_labelledby=f"{section.anchor}-title",
        class_="new-page" if section.new_page else None,
    )


def _footer(document: Document) -> Markup:
    meta = document.meta
    dated = tag("time", iso_utc(meta.generated_at), datetime=iso_utc(meta.generated_at))
    hashes: list[tuple[str, Cell]] = []
    if meta.objectives_sha256 is not None:
        hashes.append(("Objectives, SHA-256", code(meta.objectives_sha256)))
    if meta.event_log_head is not None:
        events = (
            ""
            if meta.event_count is None
            else f" ({number_text(meta.event_count)} event{'' if meta.event_count == 1 else 's'})"
        )
        held = "" if meta.is_anchored else f", {NOT_ANCHORED}"
        hashes.append((f"Head of the event log{events}{held}", code(meta.event_log_head)))
    return tag(
        "footer",
        key_values(KeyValues(tuple(hashes))) if hashes else None,
        tag(
            "p", "Made from what ", meta.program, " had logged by ", dated, ". This file loads nothing from elsewhere."
        ),
        tag("p", "A verdict is evidence for the objectives it names, measured in this run, and for nothing else."),
    )
