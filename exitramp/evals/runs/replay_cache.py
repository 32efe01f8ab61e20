"""A replay cache: complete answers on disk, by what was sent to whom and the number of the repeat.

The key is the SHA-256 of what describes the subject, the messages and the repeat's number, so that the third repeat of
a question never gets the first one's answer. Answers stand in it in plain text: that is its purpose. The folder is for
its owner alone. Errors and answers that were cut short are never kept.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from exitramp.durable import make_folder, write_atomically
from exitramp.errors import DumpCorrupt
from exitramp.evals.measuring import canonical
from exitramp.evals.runs.subject import Prompted, Reply
from exitramp.evals.sets.case import Case
from exitramp.records import Usage

_FORMAT: Final = 1


class ReplayCache:
    """One folder of answers; any number of runs may read and write it."""

    def __init__(self, folder: Path) -> None:
        make_folder(folder)
        folder.chmod(0o700)
        self._folder = folder

    def key(self, described: Mapping[str, Any], case: Case, sent: Prompted, repeat: int) -> str:
        messages = [[each.role, each.content] for each in sent.messages]
        # Ids and labels are left out: the same question under another id is answered the same.
        asked = {"subject": dict(described), "messages": messages, "variables": dict(case.variables), "repeat": repeat}
        return hashlib.sha256(canonical(asked).encode("utf-8", "surrogatepass")).hexdigest()

    def get(self, key: str) -> Reply | None:
        """Raises `DumpCorrupt` for an entry that is not what was written."""
        path = self._path(key)
        try:
            data = json.loads(path.read_bytes())
            if data["format"] != _FORMAT or data["key"] != key:
                raise ValueError("another entry")
            fields = data["reply"]
            usage = None if fields["usage"] is None else Usage(**fields["usage"])
            ids = None if fields["retrieved_ids"] is None else tuple(fields["retrieved_ids"])
            prompt = None if fields["prompt"] is None else tuple(fields["prompt"])
            return Reply(**fields | {"usage": usage, "retrieved_ids": ids, "prompt": prompt, "traces": ()})
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise DumpCorrupt(f"{path}: no entry of a replay cache", hint="delete that file") from error

    def put(self, key: str, reply: Reply) -> None:
        path = self._path(key)
        make_folder(path.parent)
        usage = reply.usage
        fields = {
            "text": reply.text,
            "finish_reason": reply.finish_reason,
            "model_id": reply.model_id,
            "latency_ms": reply.latency_ms,
            "usage": None if usage is None else {name: getattr(usage, name) for name in Usage.__slots__},
            "retrieved_ids": None if reply.retrieved_ids is None else list(reply.retrieved_ids),
            "time_to_first_token_ms": reply.time_to_first_token_ms,
            "prompt": None if reply.prompt is None else list(reply.prompt),
            "answered_by": reply.answered_by,
        }
        write_atomically(path, json.dumps({"format": _FORMAT, "key": key, "reply": fields}).encode())

    def _path(self, key: str) -> Path:
        return self._folder / key[:2] / f"{key}.json"
