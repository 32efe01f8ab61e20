"""A pytest plugin that writes down what the conformance suite said of each store, for the pages made of it.

`pytest tests/adapters -p tests.tools.suite_results --suite-results docs/stores.json`
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from exitramp import __version__
from exitramp.ports import SinkLimits
from exitramp.testing import StoreConformance
from exitramp.testing.conformance.steps import limits_of

_LIMITS: dict[type, str] = {}
_FOUND: dict[str, dict[str, Any]] = {}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--suite-results", type=Path, default=None, help="where the results of the suite are written")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[Any]:
    """On the worker: who is tested, beside the outcome."""
    report = yield
    suite = getattr(item, "cls", None)
    if item.config.getoption("--suite-results") and suite is not None and issubclass(suite, StoreConformance):
        harness = getattr(item, "funcargs", {}).get("harness")
        if harness is not None and report.when == "call":
            if suite not in _LIMITS:
                _LIMITS[suite] = json.dumps(_told(limits_of(harness)))
            told = {"store": harness.adapter().scheme, "class": suite.__name__, "limits": _LIMITS[suite]}
            report.user_properties.append(("suite", told))
    return report


def _told(limits: SinkLimits) -> dict[str, Any]:
    """What a reader of the pages wants to know of a sink's limits."""
    return {
        "ids": sorted(kind.value for kind in limits.id_kinds),
        "metrics": sorted(metric.value for metric in limits.metrics),
        "vector_kinds": sorted(kind.value for kind in limits.vector_kinds),
        "dtypes": sorted(dtype.value for dtype in limits.dtypes),
        "dimensions": limits.dimensions,
        "dense_fields": limits.dense_fields if limits.named_vectors else 1,
        "named_vectors": limits.named_vectors,
        "namespaces": limits.namespaces,
        "documents": limits.documents.value,
        "vectors_required": limits.vectors_required,
        "payload": sorted(limits.payload.types),
        "tagged": sorted(limits.payload.tagged_types | limits.payload.tagged_items),
        "text": sorted(limits.payload.text_types),
        "apart": sorted(limits.payload.apart_types),
        "nested": limits.payload.nested,
        "normalises": sorted(metric.value for metric in limits.normalises),
        "rounds": sorted(metric.value for metric in limits.rounds),
        "batch_rows": limits.batch_rows,
        "durable": limits.durable,
        "verbatim": limits.verbatim,
    }


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """On the controller."""
    if "tests/adapters/" not in report.nodeid and "test_memory.py" not in report.nodeid:
        return  # stores that are broken or narrow on purpose
    for name, told in report.user_properties:
        if name == "suite" and report.when == "call":
            found = _FOUND.setdefault(told["store"], {}).setdefault(told["class"], {"tests": {}})
            found["limits"] = json.loads(told["limits"])
            test = report.nodeid.rpartition("::")[2]
            reason = report.longrepr[2].removeprefix("Skipped: ") if isinstance(report.longrepr, tuple) else ""
            found["tests"][test] = [report.outcome, reason]


def pytest_sessionfinish(session: pytest.Session) -> None:
    path = session.config.getoption("--suite-results")
    if path is None or hasattr(session.config, "workerinput"):
        return
    about = {"measured_at": datetime.now(UTC).strftime("%Y-%m-%d"), "exitramp": __version__}
    stores = {store: _ordered(classes) for store, classes in sorted(_FOUND.items())}
    path.write_text(json.dumps(about | {"stores": stores}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _ordered(classes: dict[str, Any]) -> dict[str, Any]:
    return {
        name: {"limits": found["limits"], "tests": dict(sorted(found["tests"].items()))}
        for name, found in sorted(classes.items())
    }
