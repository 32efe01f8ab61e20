"""Two mock vendors in processes of their own, and stack files that name them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from exitramp.faults import NO_FAULT
from exitramp.ports import ChatMessage, ChatRequest
from exitramp.urls import Address
from exitramp_adapters.services.mock_vendor.adapter import ANTHROPIC, OPENAI, MockVendor

WHOLE = "Join two or more pathname components. [os.path.join#0]"
PROMPT = (
    "[passage os.path.join#0]\nJoin two or more pathname components.\n[/passage]\n\n"
    "Question: How do I join pathname components?"
)


def request(key: str | None = None, *, text: str = PROMPT, **more: Any) -> ChatRequest:
    return ChatRequest((ChatMessage("user", text),), maximum_tokens=64, idempotency_key=key, **more)


class Vendors:
    """`main` in the one shape, `backup` in the other."""

    def __init__(self, folder: Path, **options: Mapping[str, Any]) -> None:
        self.vendors: dict[str, MockVendor] = {
            "main": OPENAI.make(str(folder / "main"), 5, options.get("main", {})),  # type: ignore[dict-item]
            "backup": ANTHROPIC.make(str(folder / "backup"), 5, options.get("backup", {})),  # type: ignore[dict-item]
        }
        self.addresses: dict[str, Address] = {name: vendor.start() for name, vendor in self.vendors.items()}

    def __getitem__(self, name: str) -> MockVendor:
        return self.vendors[name]

    def heal(self) -> None:
        for vendor in self.vendors.values():
            vendor.inject(NO_FAULT)

    def answered(self, name: str) -> int:
        return self.vendors[name].counters()["answered"]

    def stop(self) -> None:
        for vendor in self.vendors.values():
            vendor.stop()

    def document(self, *order: str, **more: Any) -> dict[str, Any]:
        """A stack file's content with these models in this order."""
        tiers = {"main": "large", "backup": "medium"}
        models = {name: {"address": self.addresses[name].text, "tier": tiers[name]} for name in order or tiers}
        return {"version": 1, "models": models, **more}


def write(path: Path, document: Mapping[str, Any]) -> Path:
    """As an editor does it: a whole file in the place of the other."""
    fresh = path.with_name(path.name + ".new")
    fresh.write_text(yaml.safe_dump(dict(document), sort_keys=False))
    fresh.replace(path)
    return path
