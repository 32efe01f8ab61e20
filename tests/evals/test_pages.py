"""What the page on golden sets shows can be read as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

from exitramp.evals.apps import read_app
from exitramp.evals.checks import KINDS
from exitramp.evals.sets import read_set

PAGE = (Path(__file__).parents[2] / "docs" / "evals.md").read_text("utf-8")


def test_the_case_and_the_application_on_the_page_can_be_read(tmp_path: Path) -> None:
    [case] = [block for block in re.findall(r"```\n(.*?)```", PAGE, re.DOTALL) if block.startswith("{")]
    (tmp_path / "set.jsonl").write_text(case.replace("\n", " "), "utf-8")
    assert read_set(tmp_path / "set.jsonl").cases[0].relevant == {"kb/refunds#2": 3}
    [app] = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "app.yaml").write_text(app, "utf-8")
    assert read_app(tmp_path / "app.yaml").name == "support-bot"


def test_every_kind_of_check_is_on_the_page() -> None:
    assert all(f"`{kind}`" in PAGE for kind in KINDS)
