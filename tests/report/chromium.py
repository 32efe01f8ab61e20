"""Chromium for the report's tests: started without a network, measured from a page around the report."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
NEEDS_CHROMIUM = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)
# The report stands unchanged in frames of several widths; the script is the page's around it.
PROBE = """<!doctype html><meta charset="utf-8"><body>%s<pre id="found"></pre><script>
function overlaps(a, b) {
  return Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1
      && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 3;
}
onload = () => {
  const found = [...document.querySelectorAll("iframe")].map(frame => {
    const page = frame.contentDocument, view = frame.contentWindow, collisions = [], outside = [], wide = [];
    for (const svg of page.querySelectorAll("svg.drawing")) {
      const box = svg.getBoundingClientRect();
      if (!box.width) continue;
      const texts = [...svg.querySelectorAll("text")].map(t => [t.textContent, t.getBoundingClientRect()]);
      texts.forEach(([text, a], i) => {
        if (a.left < box.left - 2 || a.right > box.right + 2 || a.bottom > box.bottom + 4) outside.push(text);
        for (const [other, b] of texts.slice(i + 1)) if (overlaps(a, b)) collisions.push([text, other]);
      });
    }
    for (const node of page.body.querySelectorAll("*"))
      if (!node.closest(".scroll, pre, svg, .hidden")
          && node.getBoundingClientRect().right > view.innerWidth + 1)
        wide.push(node.tagName + " " + node.className + " " + node.textContent.slice(0, 40));
    return {
      width: view.innerWidth, scrolled: page.documentElement.scrollWidth, wide, collisions, outside,
      drawn: [...page.querySelectorAll("svg.drawing")].filter(s => s.getBoundingClientRect().width).length,
      smallest: Math.min(...[...page.querySelectorAll("svg.drawing text")].filter(t => t.getBoundingClientRect().width)
        .map(t => parseFloat(view.getComputedStyle(t).fontSize) * t.getScreenCTM().a)),
      resources: view.performance.getEntriesByType("resource").map(r => r.name),
    };
  });
  document.getElementById("found").textContent = JSON.stringify(found);
};
</script>"""


def run_chromium(folder: Path, page: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    assert CHROMIUM is not None
    profile = folder / f"profile-{len(list(folder.iterdir()))}"
    profile.mkdir()
    return subprocess.run(
        [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", *arguments, page.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )


def probe(folder: Path, report: str, widths: tuple[int, ...]) -> list[dict[str, Any]]:
    frames = "".join(
        f'<iframe width="{width}" height="800" style="border:0" srcdoc="{html.escape(report)}"></iframe>'
        for width in widths
    )
    page = folder / "probe.html"
    page.write_text(PROBE % frames, encoding="utf-8")
    dumped = run_chromium(folder, page, "--dump-dom").stdout
    found = re.search(r'<pre id="found">(.*?)</pre>', dumped, re.DOTALL)
    assert found, "the probe did not run"
    measured: list[dict[str, Any]] = json.loads(html.unescape(found.group(1)))
    return measured
