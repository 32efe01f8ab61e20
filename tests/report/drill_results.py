"""What each step of a small drill that went well wrote down, in the shapes that the engine writes."""

from __future__ import annotations

from typing import Any

IDS, PAYLOADS, VECTORS = "1d" * 32, "9a" * 32, "7e" * 32
DIGESTS = {"rows": 40, "ids": IDS, "payloads": PAYLOADS, "vectors": {"vector": VECTORS}}


def store(address: str, service: str | None = None) -> dict[str, Any]:
    return {
        "address": address,
        "service": service,
        "mock": False,
        "started_by_the_drill": service is not None,
        "described": None,
    }


def chat(shape: str, median: int) -> dict[str, Any]:
    return {
        "address": f"{shape}:mock-large?base_url=http://127.0.0.1:4321/v1&mock=true",
        "service": f"mock-{shape}",
        "mock": True,
        "started_by_the_drill": True,
        "described": {
            "mock": True,
            "shape": shape,
            "model": "mock-large",
            "quality": "good",
            "latency_ms_median": median,
            "latency_ms_sigma": 0.3,
            "seed": 7,
        },
    }


def replayed(passed: int) -> dict[str, Any]:
    return {
        "asked": 40,
        "answered": 40,
        "mock": True,
        "k": 10,
        "ndcg": 0.58,
        "recall": 0.69,
        "mrr": 0.62,
        "assertions_passed": passed,
        "assertions_judged": 40,
        "outcomes": {"pass": passed, "wrong": 40 - passed, "truncated": 0, "provider_error": 0},
        "latency_ms": {"p50": 48.2, "p95": 73.0},
        "prompt_tokens": 13_800,
        "gen_tokens": 1_010,
        "cases": [],
    }


def results() -> dict[str, dict[str, Any]]:
    """What each step of a run that went well found."""
    moved = {"rows": 40, "rows_landed": 40, "digests": DIGESTS, "target_digests": DIGESTS, "copy_seconds": 0.5}
    plan = [
        {"class": "reversible", "how": "derived from the original", "rows": 40, "subject": "id"},
        {"class": "rounded", "how": "scaled to unit length", "rows": 40, "subject": "vector"},
    ]
    phase = {
        "fault": "unavailable",
        "on": "chat",
        "how": "live",
        "injected_seconds": 2.0,
        "ended_seconds": 7.0,
        "detect_seconds": 0.005,
        "decide_seconds": 0.088,
        "recovery_seconds": 0.16,
        "requests": 60,
        "answered_by_primary": 0,
        "answered_by_substitute": 60,
        "failed": 0,
        "failures": 6,
        "healed": None,
    }
    times = [(0.0, "primary", 43.3), (0.1, "primary", 44.1), (2.1, "substitute", 120.0), (2.2, "substitute", 71.0)]
    usd = {"before_usd": "0.004", "after_usd": "0.005", "difference_usd": "0.001", "ratio": "1.25"}
    free = {"before_usd": "0", "after_usd": "0", "difference_usd": "0", "ratio": None}
    return {
        "start": {
            "stacks": {
                "primary": {"store": store("chroma+http://127.0.0.1:8000#c", "chroma-run"), "chat": chat("openai", 40)},
                "substitute": {"store": store("qdrant:/runs/s#c"), "chat": chat("anthropic", 60)},
            }
        },
        "load_golden": {
            "set": "pydocs_five",
            "cases": 40,
            "usable": 40,
            "use_cases": {"docs_qa": 40},
            "with_assertion": 40,
            "mean_token_overlap": 0.5,
            "absent_ids": [],
            "affected_cases": [],
            "case_sha256": ["ab" * 32, "cd" * 32],
        },
        "check_hypothesis": {
            "when": "before",
            "checks": [
                {"stack": "primary", "part": "store", "answers": True, "records": 40, "error": None},
                {"stack": "primary", "part": "chat", "answers": True, "model": "mock-large", "error": None},
            ],
        },
        "baseline": {"label": "baseline", **replayed(31)},
        "dump": {**moved, "bytes": 10_320_295, "resumed": False, "plan": plan},
        "verify_dump": {"folder": "/runs/dump", "rows": 40, "bytes": 10_320_295, "shards": 1, "digests": DIGESTS},
        "plan": {"rows": 40, "plan": plan, "estimates": {"bytes": 100}, "target": {"vectors": []}},
        "restore": {**moved, "plan": plan},
        "parity": {
            "summary": "vector: cosine min 1.000000000 mean 1.000000000, L2 max 0 mean 0",
            "rows": 40,
            "rows_b": 40,
            "digests": DIGESTS,
            "digests_b": DIGESTS,
            "ids_file": None,
            "records": {
                "rows": {"a": 40, "b": 40, "compared": 40},
                "counts": {"missing": 0, "extra": 0, "duplicate": 0, "document": 0, "payload": 0, "vector": 0},
                "fields": [{"column": "vector", "rows": 40, "bit_equal": 40, "beyond_tolerance": 0, "one_sided": 0}],
                "payload_paths": {},
            },
            "neighbours": {
                "k": 10,
                "metric_a": "cosine",
                "metric_b": "cosine",
                "own_records": True,
                "index_a": "ready",
                "index_b": "ready",
                "recall_floor": 0.95,
                "recall_margin": 0.02,
                "parts": [
                    {
                        "name": "all",
                        "matching": 40,
                        "queries": 2,
                        "recall_a": 0.9,
                        "recall_b": {"mean": 1.0, "lower": 0.98, "upper": 1.0},
                        "difference": {"mean": 0.1, "lower": -0.01, "upper": 0.2},
                        "overlap": 0.9,
                        "verdict": "pass",
                        "by_query": [{"id": "a", "recall_a": 0.8, "recall_b": 1.0, "overlap": 0.8}],
                    }
                ],
            },
        },
        "outage": {
            "rate_per_second": 12.0,
            "requests": 84,
            "answered": 84,
            "failed": 0,
            "cancelled": 0,
            "during_outage": 60,
            "failed_during_outage": 0,
            "error_rate": 0.0,
            "rto_seconds": 0.16,
            "latency_ms": {"p50": 69.0, "p95": 121.0, "max": 130.0},
            "latency_ms_on_substitute": {"p50": 71.0, "p95": 136.0, "max": 140.0},
            "phases": [phase],
            "timeline": [
                {"at_seconds": at, "end": "answered", "stack": stack, "latency_ms": ms} for at, stack, ms in times
            ],
            "reconciliation": {
                "adds_up": True,
                "vendor_accounts": ["primary", "substitute"],
                **dict.fromkeys(("failed", "cancelled", "slow", "unbacked", "answered_twice"), 0),
                **dict.fromkeys(("answered_unseen", "foreign"), 0),
                "answered": 84,
            },
            "mock": True,
        },
        "measure_loss": {
            "missing": ["late.note_0#7"],
            "stale": ["bdb.Bdb.set_continue#0"],
            "undeleted": [],
            "records": 2,
            "how": "each announced write looked for by its id",
        },
        "replay": {"label": "replay", **replayed(30)},
        "compare_quality": {
            "margin": 0.1,
            "mock": True,
            "metrics": [
                {
                    "metric": "assertions",
                    "verdict": "pass",
                    "reason": "the 95% lower bound of the difference, -0.084, is above -0.1",
                    "n": 40,
                    "margin": 0.1,
                    "confidence": 0.95,
                    "method": "Tango score interval",
                    "cases_needed": 29,
                    "primary": 0.775,
                    "substitute": 0.75,
                    "difference": -0.025,
                    "lower": -0.084,
                    "upper": 0.019,
                    "counts": {"both": 30, "primary_only": 1, "substitute_only": 0, "neither": 9},
                    "primary_wilson": [0.62, 0.88],
                    "substitute_wilson": [0.6, 0.86],
                    "mcnemar_p": 1.0,
                    "seed": None,
                    "unmeasured": [],
                    "substitute_missing": [],
                }
            ],
            "use_cases": {
                "assertions": [
                    {"use_case": "docs_qa", "n": 40, "primary": 0.775, "substitute": 0.75, "difference": -0.025}
                ]
            },
            "flips": [
                {
                    "case_id": "docs_qa-002",
                    "use_case": "docs_qa",
                    "direction": "lost",
                    "primary": "pass",
                    "substitute": "wrong",
                }
            ],
            "recall_per_query": [{"case_id": "docs_qa-001", "primary": 1.0, "substitute": 0.5}],
        },
        "cost": {
            "price_book": {"name": "mock-vendors", "sha256": "ee" * 32},
            "comparison": {
                "illustrative": True,
                "monthly_requests": 1000,
                "reason": "substitute: 0.005 USD a request is within the cap of 0.02",
                "mean": usd,
                "p50": usd,
                "p95": usd,
                "monthly": usd,
                "parts": {"input": usd, "generation": usd, "rerank": free},
                "use_cases": {"docs_qa": usd},
                "before": {"missing_prices": [], "price_ids": ["mock-openai-input"]},
                "after": {"missing_prices": [], "price_ids": []},
                "missing_fixed_prices": [],
                "mix_differs": False,
            },
            "exit": {
                "illustrative": True,
                "lines": [
                    {
                        "name": "egress",
                        "quantity": "10320295",
                        "counted": "bytes",
                        "usd": "0.0009",
                        "note": "",
                        "source": "illustrative: no bill",
                        "price_id": "chroma-egress",
                    }
                ],
                "total_usd": "0.0009",
                "unknown": [],
                "not_included": ["labour"],
            },
        },
        "rollback": {
            "traffic": {"requests": 36, "by_stack": {"primary": 36}, "failed": 0, "back_on_primary": True},
            "sync": {"missing": 1, "changed": 1, "extra": 0, "upserted": 2, "deleted": 0},
            "primary_digests": DIGESTS,
            "primary_digests_before": DIGESTS,
            "primary_unchanged": True,
            "substitute_digests": DIGESTS,
            "parity": {"verdict": "pass"},
        },
    }
