"""A stack file is read strictly, says where it is wrong, and agrees with the schema that is shipped for editors."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from exitramp.errors import ConfigError
from exitramp.orchestration.stack_file import (
    Action,
    ClassifierSpec,
    Commit,
    RerankSpec,
    StackFile,
    Tier,
    UseCaseCap,
    parse_stack_file,
    read_stack_file,
    stack_schema,
)

WHOLE = """\
version: 1
environment: test
models:
  main: {address: "openai:mock-large?base_url=http://127.0.0.1:8801/v1", tier: large, concurrency: 8}
  backup: {address: "anthropic:mock-medium?base_url=http://127.0.0.1:8802", tier: medium, billed_as: mock-anthropic}
  tiny: {address: "local:smol", tier: small}
embedders:
  words: {address: "wordllama:"}
stores:
  docs:
    address: "chroma:./db#docs"
    embedder: words
    field: dense
    depth_k: 4
    search: {exact: false, options: {ef: 64}}
    rerank: {embedder: words, candidates: 20, timeout_seconds: 1.5}
prompts: packaged
prices: prices.yaml
stacks:
  primary: {chat: main, store: docs}
  plain: {chat: backup}
failover: {models: [main, backup], stacks: [primary, plain]}
retry: {tries: 3, base_seconds: 0.05, cap_seconds: 1, retry_after_cap_seconds: 2, timeouts: true}
deadlines: {request_seconds: 20, attempt_seconds: 8, first_token_seconds: 2, retrieve_seconds: 3}
breaker: {failures: 3, sample: 6, window_seconds: 5, cool_down_seconds: 2, longest_cool_down_seconds: 9,
  probe_successes: 1}
hedge: {after_ms: 800}
routing: {small_below: 0.3, medium_below: 0.6, pii: medium, classifier: {onnx: router, threshold: 0.8, \
embedder: words, tiers: {docs_qa: small, api_lookup: large}, timeout_seconds: 0.5}}
cache:
  exact: {ttl_seconds: 60, path: cache.sqlite, entries: 10}
  semantic: {embedder: words, thresholds: {words: 0.93}, ttl_seconds: 60, entries: 10}
budget:
  daily_usd: "5.50"
  monthly_usd: 90
  path: budget.sqlite
  use_cases: {docs_qa: {daily_usd: "1.25", monthly_usd: 9}}
  thresholds: [{at: 1.0, actions: [cache_only]}, {at: 0.75, actions: [notify, degrade_to_small]}]
trace: {path: traces.jsonl, format: jsonl, prompts: false}
idempotency: {path: answers.jsonl, spool: answers, sync: true}
stream: {commit: first_token}
keys: {ops: "env:GATEWAY_KEY"}
"""

SMALLEST = """\
version: 1
models:
  main: {address: "local:smol"}
"""


def parsed(text: str, folder: Path = Path("/place")) -> StackFile:
    return parse_stack_file(text.encode(), file="stack.yaml", folder=folder)


def test_everything_that_a_stack_file_says_is_read(tmp_path: Path) -> None:
    path = tmp_path / "stack.yaml"
    path.write_text(WHOLE)
    found = read_stack_file(path)
    assert found.models["main"].tier is Tier.LARGE
    assert found.models["main"].concurrency == 8
    assert found.models["backup"].billed_as == "mock-anthropic"
    assert (found.stores["docs"].depth_k, found.stores["docs"].options) == (4, {"ef": 64})
    assert found.stores["docs"].rerank == RerankSpec(20, 1.5, "words")
    assert found.stores["docs"].address.location == str(tmp_path.resolve() / "db")
    assert found.model_order == ("main", "backup")
    assert found.stack_order == ("primary", "plain")
    assert found.packaged_prompts
    assert found.prompts is None
    assert (found.retry.tries, found.retry_timeouts) == (3, True)
    assert found.deadlines.first_token_seconds == 2
    assert found.breaker.failures == 3
    assert found.hedge_after_seconds == pytest.approx(0.8)
    assert found.routing is not None
    assert found.routing.small_below == 0.3
    assert found.routing.classifier == ClassifierSpec(
        tmp_path / "router", 0.8, "words", {"docs_qa": Tier.SMALL, "api_lookup": Tier.LARGE}, 0.5
    )
    assert found.exact_cache is not None
    assert found.exact_cache.path == tmp_path.resolve() / "cache.sqlite"
    assert found.semantic_cache is not None
    assert found.semantic_cache.threshold == 0.93
    assert found.budget is not None
    assert found.budget.daily_usd == Decimal("5.50")
    assert found.budget.use_cases == (UseCaseCap("docs_qa", Decimal("1.25"), Decimal(9)),)
    assert [each.at for each in found.budget.thresholds] == [0.75, 1.0]
    assert found.budget.thresholds[0].actions == (Action.NOTIFY, Action.DEGRADE_TO_SMALL)
    assert found.commit is Commit.FIRST_TOKEN
    assert found.keys == {"ops": "env:GATEWAY_KEY"}
    assert len(found.sha256) == 64


def test_the_smallest_file_has_careful_defaults() -> None:
    found = parsed(SMALLEST)
    assert found.model_order == ("main",)
    assert found.commit is Commit.WHOLE
    assert found.hedge_after_seconds is None
    assert (found.routing, found.budget, found.exact_cache, found.trace, found.journal) == (None,) * 5


# What is changed, what is said about it, on which line.
WRONG: list[tuple[str, str, str, int]] = [
    ("version: 1", "version: 2", "version 2 of a stack file is not known", 1),
    ("tier: large", "tier: huge", "'models.main.tier' is 'huge'; it can be small, medium, large", 4),
    ("concurrency: 8", "concurrency: 0", "'models.main.concurrency' must be at least 1", 4),
    ("concurrency: 8", "concurency: 8", "unknown key 'models.main.concurency'", 4),
    ("concurrency: 8", "concurrency: many", "'models.main.concurrency' must be a whole number", 4),
    ("wordllama:", "nonsense", "'embedders.words.address': 'nonsense' is not an address", 8),
    ("#docs", "", "'stores.docs.address' names no collection", 11),
    ("embedder: words\n    field", "embedder: wurds\n    field", "'stores.docs.embedder' is 'wurds'", 12),
    ("depth_k: 4", "depth_k: 0", "'stores.docs.depth_k' must be at least 1", 14),
    ("{ef: 64}", "{ef: [1]}", "'stores.docs.search.options.ef' must be a text", 16),
    ("candidates: 20", "candidates: 3", "'stores.docs.rerank.candidates' is 3, fewer than the depth_k of 4", 16),
    ("{embedder: words, candidates", "{candidates", "'stores.docs.rerank' names an embedder or an address", 16),
    ('{daily_usd: "1.25", monthly_usd: 9}', "{}", "'budget.use_cases.docs_qa' names no cap", 36),
    ("prompts: packaged\n", "", "'prompts' is missing", 18),
    ("prices: prices.yaml\n", "", "a budget needs to know what things cost", 31),
    ("chat: main,", "chat: mian,", "'stacks.primary.chat' is 'mian'", 20),
    ("models: [main, backup]", "models: [main, other]", "'failover.models' names 'other'", 22),
    ("models: [main, backup]", "models: [main, main]", "'failover.models' must name each once", 22),
    ("models: [main, backup]", "models: []", "'failover.models' must name each once", 22),
    ("tries: 3", "tries: 21", "'retry.tries' must be at most 20", 23),
    ("request_seconds: 20", "request_seconds: 0", "'deadlines.request_seconds' must be at least 0.001", 24),
    ("failures: 3", "failures: 7", "it never opens", 25),
    ("after_ms: 800", "after: 800", "unknown key 'hedge.after'", 27),
    ("after_ms: 800", "", "'hedge.after_ms' is missing", 27),
    ("small_below: 0.3", "small_below: 0.7", "'routing.small_below' is above", 28),
    ("small_below: 0.3", "small_below: 3", "'routing.small_below' must be at most 1", 28),
    ("threshold: 0.8", "threshold: 1.8", "'routing.classifier.threshold' must be at most 1", 28),
    ("docs_qa: small", "docs_qa: tiny", "'routing.classifier.tiers.docs_qa' is 'tiny'", 28),
    ("embedder: words, tiers", "embedder: other, tiers", "'routing.classifier.embedder' is 'other'", 28),
    ("pii: medium", "pii: private", "'routing.pii' is 'private'", 28),
    (", tier: medium,", ",", "the model 'backup' has none", 28),
    ("{words: 0.93}", "{other: 0.93}", "which is no embedder of this file", 31),
    ("{words: 0.93}", "{}", "has none for the embedder 'words'", 31),
    ('daily_usd: "5.50"', "daily_usd: -1", "'budget.daily_usd' must be an amount", 33),
    ("degrade_to_small]", "shout]", "holds 'shout'", 37),
    (", tier: small}", ", tier: medium}", "goes to the small models, and there is none", 37),
    ("format: jsonl", "format: csv", "'trace.format' is 'csv'", 38),
    ("prompts: false}", "prompts: 0}", "'trace.prompts' must be true or false", 38),
    ("commit: first_token", "commit: never", "'stream.commit' is 'never'", 40),
    ("env:GATEWAY_KEY", "hunter2", "'keys.ops' must be given by reference", 41),
    ("stream:", "streams:", "unknown key 'streams'", 40),
]
# Of these only the reader knows: a schema sees no names in other places, and does not compare numbers.
ONLY_THE_READER = {
    "'embedders.words.address': 'nonsense' is not an address",
    "'stores.docs.embedder' is 'wurds'",
    "'prompts' is missing",
    "a budget needs to know what things cost",
    "'stacks.primary.chat' is 'mian'",
    "'failover.models' names 'other'",
    "it never opens",
    "'stores.docs.rerank.candidates' is 3, fewer than the depth_k of 4",
    "'budget.use_cases.docs_qa' names no cap",
    "'routing.small_below' is above",
    "'routing.classifier.embedder' is 'other'",
    "the model 'backup' has none",
    "which is no embedder of this file",
    "goes to the small models, and there is none",
}


@pytest.mark.parametrize(("old", "new", "message", "line"), WRONG, ids=[f"{row[2][:40]}" for row in WRONG])
def test_what_is_wrong_is_said_with_its_file_and_line(old: str, new: str, message: str, line: int) -> None:
    assert old in WHOLE
    text = WHOLE.replace(old, new, 1)
    with pytest.raises(ConfigError) as caught:
        parsed(text)
    assert message in caught.value.message
    assert caught.value.message.startswith("stack.yaml:")
    assert caught.value.line is not None
    assert abs(caught.value.line - line) <= 1, caught.value.message
    is_told_by_schema = not jsonschema.Draft202012Validator(stack_schema()).is_valid(yaml.safe_load(text))
    assert is_told_by_schema is (message not in ONLY_THE_READER), "reader and schema say different things"


@pytest.mark.parametrize("text", [WHOLE, SMALLEST], ids=["whole", "smallest"])
def test_the_shipped_schema_takes_what_the_reader_takes(text: str) -> None:
    schema: Any = stack_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(yaml.safe_load(text), schema)
    parsed(text)


def test_the_schema_knows_the_keys_of_the_reader_and_no_others() -> None:
    """Each key that the schema allows somewhere is one that the reader takes there."""
    document = yaml.safe_load(WHOLE)

    def walk(schema: dict[str, Any], value: Any, path: str) -> None:
        for key, inner in schema.get("properties", {}).items():
            assert key in value, f"{path}.{key} is in the schema and in no test"
            if isinstance(value[key], dict) and "properties" in inner:
                walk(inner, value[key], f"{path}.{key}")

    walk(stack_schema(), document, "")


@pytest.mark.parametrize(
    "text", ["", "[]", "version: 1", "version: 1\nmodels: {}", "\x00", "models: &a [*a]", "a: b: c"]
)
def test_what_is_no_stack_file_is_a_message_and_no_fault(text: str) -> None:
    with pytest.raises(ConfigError):
        parsed(text)


def test_a_file_that_is_missing_says_what_to_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: there is no such file"):
        read_stack_file(tmp_path / "none.yaml")


def test_a_tier_for_personal_questions_that_nobody_named_is_called_a_default_and_what_to_write_is_said() -> None:
    models = """version: 1
models:
  a: {address: "openai:x?base_url=http://127.0.0.1:1/v1", tier: small}
  b: {address: "openai:y?base_url=http://127.0.0.1:1/v1", tier: large}
stacks: {s: {chat: a}, t: {chat: b}}
"""
    with pytest.raises(ConfigError) as caught:
        parsed(models + "routing: {small_below: 0.4}\n")
    assert "'routing.pii' is left out, and then 'medium', and no model is of that tier" in caught.value.message
    assert str(caught.value.hint).startswith("write pii: small or large")
    assert parsed(models + "routing: {small_below: 0.4, pii: large}\n").routing is not None
