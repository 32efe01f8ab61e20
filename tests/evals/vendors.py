"""Real mock vendors over HTTP, and questions whose passages stand in them, so that an answer can be right or wrong."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from exitramp_adapters.services.mock_vendor.adapter import MockVendor

_TOPICS = ("gravel", "copper", "willow", "harbour", "meadow", "lantern", "saddle", "ribbon", "anchor", "thimble")
_ROLES = ("keeper", "owner", "maker", "buyer", "seller", "painter", "carrier", "finder")
_NAMES = ("Ada", "Bruno", "Carla", "Dmitri", "Elif", "Farid", "Greta", "Hugo", "Ines", "Jonas", "Kofi", "Lena")


def write_cases(path: Path, count: int, *, easy: float = 1.0, seed: int = 1) -> None:
    """`count` questions whose answer stands in a passage: in the first (which even a poor vendor reads out) for a
    share `easy` of them, else in the third."""
    rng = random.Random(seed)
    rows = []
    for number in range(count):
        topic, role, name = _TOPICS[number % 10], _ROLES[(number // 10) % 8], rng.choice(_NAMES)
        wanted = f"The {role} of the {topic} {number} is called {name}."
        others = [f"Nobody knows the age of the {rng.choice(_TOPICS)} shed.", "It rained on the hill all day long."]
        passages = [wanted, *others] if number < easy * count else [*others, wanted]
        told = "\n".join(f"[passage p#{place}]\n{text}\n[/passage]" for place, text in enumerate(passages))
        rows.append(
            {
                "id": f"q{number:04}",
                "question": f"{told}\nQuestion: Who is the {role} of the {topic} {number}?",
                "checks": [{"kind": "contains", "text": f"called {name}"}],
            }
        )
    random.Random(seed).shuffle(rows)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


@contextmanager
def vendor(folder: Path, shape: str = "openai", **options: Any) -> Iterator[MockVendor]:
    made = MockVendor(shape, str(folder), 7, options, quality=options.pop("quality", "good"))
    made.start()
    try:
        yield made
    finally:
        made.stop()


def command(*words: str) -> subprocess.Popen[str]:
    """The command line in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "exitramp", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
