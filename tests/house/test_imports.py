"""Importing exitramp is light, and importing an adapter changes nothing outside it."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import entry_points

import pytest

HEAVY = ("pyarrow", "numpy", "httpx", "pandas", "scipy")
SDKS = (
    "chromadb",
    "qdrant_client",
    "qdrant_edge",
    "faiss",
    "wordllama",
    "simsimd",
    "ir_measures",
    "combustache",
    "onnx",
)
GROUPS = ("exitramp.stores", "exitramp.models", "exitramp.services")


def _loaded_after(code: str) -> set[str]:
    script = f"import sys, json\n{code}\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    return {name.partition(".")[0] for name in json.loads(done.stdout.splitlines()[-1])}


def test_importing_exitramp_loads_nothing_heavy_no_sdk_and_no_adapter() -> None:
    loaded = _loaded_after("import exitramp")
    assert not loaded & {*HEAVY, *SDKS, "exitramp_adapters"}


@pytest.mark.parametrize("arguments", [["--help"], ["drill", "--help"], ["dump", "--help"], ["stores"]])
def test_help_and_listing_load_nothing_heavy_and_no_sdk(arguments: list[str]) -> None:
    code = (
        "import contextlib, io\nfrom exitramp.cli.main import run\n"
        f"with contextlib.redirect_stdout(io.StringIO()): run({arguments!r})"
    )
    loaded = _loaded_after(code)
    unwanted = {*SDKS} if arguments == ["stores"] else {*HEAVY, *SDKS, "exitramp_adapters"}
    assert not loaded & unwanted


def _adapter_modules() -> list[str]:
    found = {entry.value.partition(":")[0] for group in GROUPS for entry in entry_points(group=group)}
    return sorted(module for module in found if module.startswith("exitramp_adapters"))


@pytest.mark.parametrize("module", _adapter_modules())
def test_importing_an_adapter_loads_no_sdk_and_leaves_root_logging_alone(module: str) -> None:
    code = (
        "import logging\nroot = logging.getLogger()\n"
        "before = (root.level, list(root.handlers), logging.raiseExceptions)\n"
        f"import {module}\n"
        "assert before == (root.level, list(root.handlers), logging.raiseExceptions)"
    )
    assert not _loaded_after(code) & set(SDKS)


def test_the_public_names_are_these() -> None:
    import exitramp
    from exitramp import codec, migration, ports, wrappers

    assert exitramp.__all__ == ["ExitCode", "ExitrampError", "__version__"]
    assert codec.__all__ == [
        "LAYOUTS",
        "Arrangement",
        "DecodingSearch",
        "DecodingSource",
        "EncodingSink",
        "FieldLayout",
        "IdMap",
        "Layout",
        "View",
        "arrangement",
        "lay_out",
        "read_id_map",
    ]
    assert migration.__all__ == [
        "Comparison",
        "MoveResult",
        "announced_tolerances",
        "asked_fields",
        "asked_settings",
        "compare_endpoints",
        "count_or_none",
        "excused_metrics",
        "key_text",
        "metrics_held",
        "migrate",
        "plan_move",
        "side_tolerances",
        "synchronise_endpoints",
        "unmatched",
    ]
    assert set(ports.__all__) == {
        "CURSOR_VERSION", "DEFAULT_SETTINGS", "ChatAnswer", "ChatDelta", "ChatMessage", "ChatModel", "ChatRequest",
        "Corpus", "Cursor", "DocumentRoom", "DropsCollection", "Embedded", "Embedder", "EmbedderLimits", "Hits",
        "IndexCoverage", "IndexState",
        "ModelAdapter", "ModelIdentity", "NameRule", "Origin", "Page", "Partition", "PayloadLimits", "Purpose", "Query",
        "Reranked", "Reranker",
        "ResponseFormat", "SearchSettings", "Service", "ServiceAdapter", "SinkLimits", "Store", "StoreAdapter",
        "StoreIdentity", "TAGGED_TYPES", "TellsCoverage", "TellsItsEnd", "TellsOptions", "TellsRefusals", "ToolCall",
        "ToolSpec", "TransferAccount",
        "VectorSearch", "VectorSink", "VectorSource", "batches_of", "check_texts", "difference_of", "embed_all",
        "make_cursor", "read_cursor",
    }  # fmt: skip
    assert set(wrappers.__all__) == {
        "Deadline", "DryRunSink", "Endpoint", "Faulty", "Meter", "Metered", "OpenSettings", "Policy", "RateLimited",
        "Retrying", "SearchAround", "SinkAround", "SourceAround", "Stacked", "metric_overrides", "open_endpoint",
        "require_write_allowed",
    }  # fmt: skip
