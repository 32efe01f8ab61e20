"""The JSON Schema of a stack file, for editors; the reader itself is stricter where a schema cannot see."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any, Final

SCHEMA_FILE: Final = "stack.schema.json"


def stack_schema() -> dict[str, Any]:
    """The schema that is shipped beside the reader (JSON Schema 2020-12)."""
    schema: dict[str, Any] = json.loads((files(__package__) / SCHEMA_FILE).read_text(encoding="utf-8"))
    return schema
