"""Edits that are wrong in every way there is: what runs goes on as it was, and the reason is told once."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import pytest
import yaml

from exitramp.clock import ManualClock
from exitramp.errors import ConfigError, ExitrampError
from exitramp.orchestration import Application
from exitramp.orchestration import following as following_module
from exitramp.orchestration.prompts import ASKED_SECONDS
from tests.orchestration.libraries import NEAREST, QUESTION, fill, price_book
from tests.orchestration.vendors import WHOLE, Vendors, request, write

SECONDS = 0.05
TOKENS = [
    ("openai", "mock-large", unit, "1") for unit in ("usd_per_million_input_tokens", "usd_per_million_output_tokens")
]


class Place:
    """A running application over a store, its prompts and its prices, and everything that an edit can get wrong."""

    def __init__(self, vendors: Vendors, folder: Path, store: str) -> None:
        self.folder = folder
        self.path = folder / "stack.yaml"
        self.told: list[str] = []
        with as_file(files("exitramp_fixtures") / "prompts") as prompts:
            shutil.copytree(prompts, folder / "prompts")
        (folder / "prices.yaml").write_text(price_book(TOKENS))
        (folder / "key.txt").write_text("a-client-of-a-test")
        self.good: dict[str, Any] = {
            **vendors.document("main"),
            "embedders": {"words": {"address": "wordllama:"}},
            "stores": {"docs": {"address": store, "embedder": "words", "depth_k": 2}},
            "stacks": {"one": {"chat": "main", "store": "docs"}},
            "prompts": "prompts",
            "prices": "prices.yaml",
            "keys": {"shop": "file:" + str(folder / "key.txt")},
            "trace": {"path": "t.jsonl"},
        }

    def bytes(self, **more: Any) -> bytes:
        """The good file with some of it said otherwise; None leaves a key away."""
        document = {key: value for key, value in (self.good | more).items() if value is not None}
        return yaml.safe_dump(document, sort_keys=False).encode()


@pytest.fixture(scope="module")
def vendors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vendors]:
    made = Vendors(tmp_path_factory.mktemp("vendors"))
    yield made
    made.stop()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    return fill(f"chroma:{tmp_path_factory.mktemp('store')}/db#docs")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following_module, "LOOKS_SECONDS", SECONDS)
    monkeypatch.setattr(following_module, "RESTS_SECONDS", SECONDS)


@pytest.fixture
def place(vendors: Vendors, tmp_path: Path, store: str) -> Place:
    return Place(vendors, tmp_path, store)


def _no_side_car(place: Place) -> None:
    (place.folder / "prompts" / "docs_qa.yaml").unlink()
    place.path.write_bytes(place.bytes(environment="edited"))


def _no_template(place: Place) -> None:
    template = place.folder / "prompts" / "docs_qa.mustache"
    side_car = template.with_suffix(".yaml")
    before = hashlib.sha256(template.read_bytes()).hexdigest()
    template.write_text("{{#passages}} {{question}}")
    after = hashlib.sha256(template.read_bytes()).hexdigest()
    side_car.write_text(side_car.read_text().replace(before, after))
    place.path.write_bytes(place.bytes(environment="edited"))


def _other_prompts(place: Place) -> None:
    shutil.copytree(place.folder / "prompts", place.folder / "fewer")
    for name in ("docs_qa.mustache", "docs_qa.yaml"):
        (place.folder / "fewer" / name).unlink()
    place.path.write_bytes(place.bytes(prompts="fewer"))


def _wrong_price(place: Place) -> None:
    (place.folder / "prices.yaml").write_text(price_book(TOKENS).replace("amount: ", "amout: "))
    place.path.write_bytes(place.bytes(environment="edited"))


def _folder(place: Place) -> None:
    place.path.unlink()
    place.path.mkdir()


def _unread_prompt(place: Place) -> None:
    (place.folder / "prompts" / "docs_qa.yaml").write_bytes(b"name: \xff\n")
    place.path.write_bytes(place.bytes(environment="edited"))


def _says(**more: Any) -> Callable[[Place], object]:
    return lambda place: place.path.write_bytes(place.bytes(**more))


def _model(**more: Any) -> Callable[[Place], None]:
    def edit(place: Place) -> None:
        main = place.good["models"]["main"]
        place.path.write_bytes(place.bytes(models={"main": {**main, **more}}))

    return edit


EDITS: Mapping[str, tuple[Callable[[Place], object], str]] = {
    "no YAML": (lambda place: place.path.write_text("version: 1\nmodels: [\n"), r":3: not YAML"),
    "no text": (lambda place: place.path.write_bytes(place.bytes() + b"# \xff\n"), r":\d+: .*UTF-8"),
    "an unknown key": (_says(modells={}), r":\d+: unknown key 'modells'"),
    "half of the file": (lambda place: place.path.write_bytes(place.bytes()[:-90]), r":\d+: "),
    "half of its last line": (lambda place: place.path.write_bytes(place.bytes()[:-3]), r":\d+: the file ends in"),
    "nothing": (lambda place: place.path.write_bytes(b""), r":1: the file is empty"),
    "a folder": (_folder, r": cannot be read"),
    "gone": (lambda place: place.path.unlink(), r": there is no such file"),
    "a model's unset key": (
        _model(address="openai:m?base_url=http://127.0.0.1:9/v1&key=env:EXITRAMP_TEST_UNSET"),
        r":\d+: 'models.main': .*EXITRAMP_TEST_UNSET is not set",
    ),
    "an embedder's unset key": (
        _says(embedders={"words": {"address": "wordllama:"},
                         "far": {"address": "openai:e?base_url=http://127.0.0.1:9/v1&key=file:/nowhere/key"}}),
        r":\d+: 'embedders.far': .*cannot read the file",
    ),
    "a collection that is not there": (
        lambda place: place.path.write_bytes(place.bytes(stores={"docs": {
            **place.good["stores"]["docs"], "address": place.good["stores"]["docs"]["address"] + "nothere"}})),
        r":\d+: 'stores.docs': .*docsnothere",
    ),
    "a field that is not there": (
        lambda place: place.path.write_bytes(place.bytes(stores={"docs": {**place.good["stores"]["docs"],
                                                                          "field": "title"}})),
        r":\d+: 'stores.docs': .*no dense vector field 'title'",
    ),
    "a store's unset key": (
        _says(stores={"docs": {"address": "qdrant+http://127.0.0.1:9?api_key=env:EXITRAMP_TEST_UNSET#docs",
                               "embedder": "words"}}),
        r":\d+: 'stores.docs': .*EXITRAMP_TEST_UNSET is not set",
    ),
    "a client's unset key": (_says(keys={"shop": "env:EXITRAMP_TEST_UNSET"}), r":\d+: 'keys.shop': .*is not set"),
    "no price book": (_says(prices="nowhere.yaml"), r":\d+: 'prices': there is no file"),
    "a wrong price book": (_wrong_price, r":\d+: 'prices': .*prices.yaml:\d+: unknown key 'amout'"),
    "no folder of prompts": (_says(prompts="nowhere"), r":\d+: 'prompts': there is no folder"),
    "a prompt without its side-car": (_no_side_car, r":\d+: 'prompts': .*has no side-car"),
    "a template that cannot be filled in": (_no_template, r":\d+: 'prompts': the prompt 'docs_qa' is no template"),
    "a side-car that is no text": (_unread_prompt, r":\d+: 'prompts': .*not a prompt's side-car"),
    "a prompt fewer": (_other_prompts, r":\d+: no prompt for the use case 'docs_qa'"),
    "traces where none can be": (_says(trace={"path": "prices.yaml/t.jsonl"}), r":\d+: 'trace': .*"),
    "a damaged journal": (_says(idempotency={"path": "prices.yaml"}), r":\d+: 'idempotency': .*damaged"),
    "a cache that is none": (_says(cache={"exact": {"path": "prices.yaml"}}), r":\d+: 'cache.exact': .*no cache"),
}  # fmt: skip


@pytest.mark.parametrize("kind", EDITS)
def test_a_wrong_edit_changes_nothing_is_told_once_with_its_line_and_the_next_step(place: Place, kind: str) -> None:
    edit, said = EDITS[kind]
    place.path.write_bytes(place.bytes())
    with Application.open(place.path, on_notice=place.told.append, reads_keys=True) as application:
        assert NEAREST in application.ask(QUESTION, use_case="docs_qa").text
        in_force = application.file.sha256
        edit(place)
        end = time.monotonic() + 5
        while application.problem is None:
            assert time.monotonic() < end, "nothing was refused"
            assert NEAREST in application.ask(QUESTION, use_case="docs_qa").text
            time.sleep(SECONDS / 4)
        for _ in range(3):
            assert NEAREST in application.ask(QUESTION, use_case="docs_qa").text
            assert application.chat(request()).text == WHOLE
            assert application.client_keys.name_of("a-client-of-a-test") == "shop"
            time.sleep(SECONDS / 2)
        assert application.file.sha256 == in_force
        assert (application.edits.in_force, application.edits.refused, application.edits.is_refused) == (0, 1, True)
        problem = application.problem
        assert re.match(re.escape(str(place.path)) + said, problem), problem
        assert "\n  next: " in problem
        assert place.told == [f"the edit of stack.yaml is not in force, the version before it is: {problem}"], (
            "told once"
        )
        if place.path.is_dir():
            place.path.rmdir()
        write(place.path, place.good)
        (place.folder / "prices.yaml").write_text(price_book(TOKENS))
        end = time.monotonic() + 5
        while application.problem is not None and time.monotonic() < end:
            time.sleep(SECONDS / 4)
        assert application.problem is None


def test_a_wrong_file_is_refused_at_open_at_its_line_with_the_next_step(place: Place) -> None:
    place.path.write_bytes(place.bytes())
    for kind, (edit, said) in EDITS.items():
        if kind in ("gone", "a folder", "a prompt fewer", "half of its last line") or edit.__name__.startswith("_"):
            continue
        edit(place)
        with pytest.raises(ExitrampError) as caught:
            Application.open(place.path, reads_keys=True)
        assert re.match(re.escape(str(place.path)) + said, str(caught.value)), kind
        assert caught.value.hint


def test_what_an_edit_lacked_may_come_without_another_edit(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following_module, "TRIES_AGAIN_SECONDS", 0.1)
    place.path.write_bytes(place.bytes())
    with Application.open(place.path, on_notice=place.told.append) as application:
        place.path.write_bytes(place.bytes(prices="later.yaml"))
        end = time.monotonic() + 5
        while application.problem is None and time.monotonic() < end:
            time.sleep(SECONDS / 4)
        assert "later.yaml" in str(application.problem)
        time.sleep(4 * SECONDS)
        assert application.edits.refused == len(place.told) == 1, "the same reason is told once"
        (place.folder / "later.yaml").write_text(price_book(TOKENS))
        while application.problem is not None and time.monotonic() < end:
            time.sleep(SECONDS / 4)
        assert application.problem is None
        assert application.file.prices == place.folder / "later.yaml"


def test_a_file_that_is_being_written_is_not_taken_before_it_rests(place: Place) -> None:
    whole = place.bytes(environment="edited")
    place.path.write_bytes(place.bytes())
    with Application.open(place.path, on_notice=place.told.append) as application:
        pieces = [whole[: len(whole) // 3], whole[len(whole) // 3 : -30], whole[-30:]]
        with place.path.open("wb", buffering=0) as file:
            for piece in pieces:
                file.write(piece)
                end = time.monotonic() + SECONDS * 0.7
                while time.monotonic() < end:
                    assert application.file.environment is None
                    assert application.problem is None
                    time.sleep(0.005)
        end = time.monotonic() + 5
        while application.file.environment is None and time.monotonic() < end:
            time.sleep(0.02)
        assert application.file.environment == "edited"
        assert len(place.told) == 1


def test_an_edit_that_nobody_foresaw_fails_no_request(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.path.write_bytes(place.bytes())
    with Application.open(place.path, on_notice=place.told.append) as application:

        def unforeseen(*_: object, **__: object) -> None:
            raise ZeroDivisionError("unforeseen")

        monkeypatch.setattr("exitramp.orchestration.opened.load_price_book", unforeseen)
        place.path.write_bytes(place.bytes(environment="edited"))
        end = time.monotonic() + 5
        while application.problem is None and time.monotonic() < end:
            assert application.chat(request()).text == WHOLE
            time.sleep(SECONDS / 4)
        assert "cannot be opened (ZeroDivisionError: unforeseen)" in str(application.problem)
        assert application.chat(request()).text == WHOLE


def test_a_prompt_that_nobody_asks_for_any_more_may_go_and_who_is_under_way_keeps_it(
    vendors: Vendors, store: str, tmp_path: Path
) -> None:
    place, clock = Place(vendors, tmp_path, store), ManualClock()
    place.path.write_bytes(place.bytes())
    with Application.open(place.path, clock=clock, on_notice=place.told.append) as application:
        assert application.ask(QUESTION, use_case="docs_qa").retrieved_ids[0] == NEAREST
        assert application.ask(QUESTION, use_case="api_lookup").retrieved_ids[0] == NEAREST
        _other_prompts(place)
        os.utime(place.path, (0, 0))
        clock.advance(ASKED_SECONDS - 1)
        assert "no prompt for the use case 'docs_qa'" in str(application.problem)
        assert "the edit is taken once nobody has for 300 s" in str(application.problem)
        assert application.ask(QUESTION, use_case="api_lookup").retrieved_ids[0] == NEAREST
        clock.advance(2)
        with application._followed.request() as under_way:
            clock.advance(following_module.TRIES_AGAIN_SECONDS)
            assert application.problem is None
            assert application.edits.in_force == 1
            assert under_way.prompts is not None
            assert under_way.prompts.for_use_case("docs_qa").name == "docs_qa"
        with pytest.raises(ConfigError, match="no prompt for the use case 'docs_qa'"):
            application.ask(QUESTION, use_case="docs_qa")
        shutil.copytree(tmp_path / "fewer", tmp_path / "fewest")
        for path in (tmp_path / "fewest").glob("api_lookup.*"):
            path.unlink()
        place.path.write_bytes(place.bytes(prompts="fewest"))
        os.utime(place.path, (0, 0))
        clock.advance(1)
        assert "no prompt for the use case 'api_lookup'" in str(application.problem), "asked for before the last edit"
