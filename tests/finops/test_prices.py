"""A price book is read strictly, and what it does not hold is unknown, never zero."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from importlib import resources
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exitramp.errors import ConfigError, DataInvalid
from exitramp.finops.prices import MissingPrice, Unit, load_price_book, plain, round_usd

HEAD = "version: 1\nname: contract\ncurrency: USD\nprices:\n"
ROW = {
    "id": "large-input",
    "provider": "vendor",
    "model": "large",
    "unit": "usd_per_million_input_tokens",
    "amount": '"2.50"',
    "source": "annex B",
    "retrieved": "2026-03-03",
    "valid_from": "2026-03-01",
    "illustrative": "false",
}


def row(**changes: str | None) -> str:
    fields = {key: value for key, value in {**ROW, **changes}.items() if value is not None}
    return "".join(f"  {'-' if not place else ' '} {key}: {fields[key]}\n" for place, key in enumerate(fields))


def test_a_row_is_read_exactly() -> None:
    book = load_price_book(HEAD + row(amount="0.1", valid_to="2026-12-31"))
    (price,) = book.prices
    assert price.amount == Decimal("0.1")
    assert (price.item, price.unit, price.illustrative) == ("large", Unit.INPUT_TOKENS, False)
    assert (price.valid_from, price.valid_to) == (date(2026, 3, 1), date(2026, 12, 31))


def test_a_price_holds_from_its_first_to_its_last_day_and_then_the_next_one() -> None:
    book = load_price_book(
        HEAD + row(valid_to="2026-06-30") + row(id="raised", amount="3", valid_from="2026-07-01", valid_to="null")
    )
    found = {
        day: book.find("vendor", "large", Unit.INPUT_TOKENS, day=day)
        for day in (date(2026, 2, 28), date(2026, 3, 1), date(2026, 6, 30), date(2026, 7, 1), date(2036, 1, 1))
    }
    assert [price and price.id for price in found.values()] == [
        None,
        "large-input",
        "large-input",
        "raised",
        "raised",
    ]


@pytest.mark.parametrize(
    ("provider", "item", "unit"),
    [
        ("other", "large", Unit.INPUT_TOKENS),
        ("vendor", "small", Unit.INPUT_TOKENS),
        ("vendor", "large", Unit.OUTPUT_TOKENS),
    ],
)
def test_an_unknown_price_is_missing_and_not_zero(provider: str, item: str, unit: Unit) -> None:
    book, day = load_price_book(HEAD + row()), date(2026, 4, 1)
    missing = book.look_up(provider, item, unit, day=day)
    assert isinstance(missing, MissingPrice)
    assert str(missing) == f"contract has no {unit} for {provider}/{item} on 2026-04-01"
    with pytest.raises(ConfigError, match="add a row"):
        book.require(provider, item, unit, day=day)


def test_a_price_of_zero_is_a_price() -> None:
    book = load_price_book(HEAD + row(amount="0"))
    assert book.require("vendor", "large", Unit.INPUT_TOKENS, day=date(2026, 4, 1)).amount == 0


@pytest.mark.parametrize(
    ("bad", "line", "says"),
    [
        (row(price="1"), 14, "unknown key 'price'"),
        (row(amount=None), 5, "'amount' is missing"),
        (row(illustrative=None), 5, "'illustrative' is missing"),
        (row(source='""'), 10, "'source'"),
        (row(source="null"), 10, "'source'"),
        (row(amount="-1"), 9, "'amount'"),
        (row(amount="1e3"), 9, "'amount'"),
        (row(amount="1_000"), 9, "'amount'"),
        (row(amount=".inf"), 9, "'amount'"),
        (row(amount="[1]"), 9, "'amount'"),
        (row(amount="free"), 9, "'amount'"),
        (row(unit="usd_per_token"), 8, "'unit' is not known"),
        (row(retrieved="3 March"), 11, "'retrieved' is not a date"),
        (row(valid_to="2026-02-01"), 14, "before 'valid_from'"),
        (row(illustrative="maybe"), 13, "'illustrative'"),
        (row(illustrative='"true"'), 13, "'illustrative'"),
        (row(service="store"), 5, "either a 'model' or a 'service'"),
        (row(model=None), 5, "either a 'model' or a 'service'"),
        (row() + "    amount: 3\n", 14, "'amount' stands twice"),
        (row() + row(), 14, "'large-input' is already used on line 5"),
        (row() + row(id="again", valid_from="2027-01-01"), 14, "'again' and 'large-input' price the same thing"),
        (
            row(valid_to="2026-06-30") + row(id="next", valid_from="2026-06-30"),
            15,
            "'next' and 'large-input' price the same thing",
        ),
        ("  - just a text\n", 5, "not a mapping"),
        ("  - ? [a]\n    : b\n", 5, "a key is not a plain text"),
        ("  - id: [\n", 6, "not YAML"),
    ],
)
def test_what_is_wrong_is_named_by_file_and_line(bad: str, line: int, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_price_book(HEAD + bad, name="prices.yaml")
    assert str(caught.value).startswith(f"prices.yaml:{line}: ")
    assert says in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "- 1",
        HEAD,
        HEAD.replace("prices:", "prices: []"),
        HEAD.replace("version: 1", "version: 2") + row(),
        HEAD.replace("USD", "EUR") + row(),
        HEAD + row() + "---\nversion: 1\n",
        "note: hello\n" + HEAD + row(),
        "version: 1\x00",
    ],
)
def test_a_file_that_is_no_price_book_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"prices\.yaml"):
        load_price_book(text, name="prices.yaml")


def test_a_file_that_is_not_there_or_not_utf8_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.yaml"):
        load_price_book(tmp_path / "gone.yaml")
    (tmp_path / "latin.yaml").write_bytes(HEAD.encode() + b"  - id: \xe9\n")
    with pytest.raises(ConfigError, match=r"latin\.yaml:5: not UTF-8"):
        load_price_book(tmp_path / "latin.yaml")


def test_the_packaged_prices_are_all_illustrative_and_say_so() -> None:
    book = load_price_book(resources.files("exitramp_fixtures") / "pricebooks" / "mock_vendors.yaml")
    assert {price.provider for price in book.prices} == {"mock-openai", "mock-anthropic", "chroma", "qdrant", "own"}
    assert all(price.illustrative and price.source.startswith("illustrative: ") for price in book.prices)
    assert all(price.valid_to is None for price in book.prices)


@given(st.decimals(min_value=0, max_value=10**6, places=6), st.integers(0, 10**12))
def test_a_cost_is_the_amount_times_the_quantity_without_a_rounding(amount: Decimal, tokens: int) -> None:
    book = load_price_book(HEAD + row(amount=format(amount, "f")))
    exact = book.prices[0].cost(Decimal(tokens))
    numerator, denominator = amount.as_integer_ratio()
    assert exact.as_integer_ratio()[0] * denominator * 10**6 == numerator * tokens * exact.as_integer_ratio()[1]


@pytest.mark.parametrize(
    ("amount", "rounded"),
    [
        ("0.0000000005", "0.000000000"),
        ("0.0000000015", "0.000000002"),
        ("0.0000000025", "0.000000002"),
        ("0.00000000250000000000000000000000000001", "0.000000003"),
        ("1", "1.000000000"),
    ],
)
def test_dollars_round_half_to_even_at_nine_places(amount: str, rounded: str) -> None:
    assert plain(round_usd(Decimal(amount))) == rounded


def test_an_amount_that_the_type_cannot_hold_is_refused() -> None:
    assert round_usd(Decimal("999999999.999999999")) > 0
    with pytest.raises(DataInvalid, match=r"decimal\(18,9\)"):
        round_usd(Decimal(10**9))
