"""All of a report's files in one folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from exitramp.report.html import render_html
from exitramp.report.json_ import render_json
from exitramp.report.junit import render_junit
from exitramp.report.markdown import render_markdown
from exitramp.report.model import Document

NAMES: Final[Mapping[str, str]] = {
    "html": "report.html",
    "md": "report.md",
    "json": "report.json",
    "junit": "junit.xml",
}


def write_report(document: Document, folder: Path, *, results: Mapping[str, object] | None = None) -> dict[str, Path]:
    """Write `report.html`, `report.md`, `report.json` and `junit.xml` into `folder` (made if missing).

    Returns their paths by format. All four are rendered before the first is written, and each replaces an older one
    at once, so that a reader never sees half a report. `results` goes into the JSON only.
    """
    rendered = {
        "html": render_html(document),
        "md": render_markdown(document),
        "json": render_json(document, results),
        "junit": render_junit(document),
    }
    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    for name, text in rendered.items():
        path = folder / NAMES[name]
        draft = path.with_suffix(path.suffix + ".part")
        draft.write_text(text, encoding="utf-8", newline="\n")
        draft.replace(path)
        paths[name] = path
    return paths
