"""The contract of a market: its mistakes by line and key, its page, its schema, and how pairs compare."""

import json
from pathlib import Path

import jsonschema_rs
import numpy as np
import pytest
import yaml

from offers.contract import market as markets
from offers.contract.market import Market
from offers.contract.market_words import MARKET
from offers.contract.pairs import pair_values
from offers.contract.reference import json_schema, sections_of, with_tables
from offers.contract.words import CONTRACT
from offers.errors import ContractError
from offers.yaml_file import _Loader

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "market.md"
LIBRARY = """\
name: library
title: Books for readers
users: {file: readers.parquet, key: reader, time: since}
products: {file: books.csv, key: book, time: since}
interactions: {file: loans.csv}
columns:
  - {name: years, role: customer, type: integer, min: 3, max: 99}
  - {name: likes, role: customer, type: category, values: [crime, poetry]}
  - {name: genre, role: offer, type: category, values: [poetry, travel, crime]}
  - {name: for_age, role: offer, type: integer, min: 0, max: 18}
pairs:
  - {name: old_enough, user: years, product: for_age, measure: at_least}
  - {name: in_genre, user: likes, product: genre, measure: equal}
  - {name: age_ratio, user: years, product: for_age, measure: ratio}
events:
  - {name: seen}
  - {name: borrowed, weight: 5, typical: 0.2}
features:
  - {name: borrowed, by: user, events: [borrowed], windows: [7, 0.5]}
  - {name: since, by: pair, events: [seen], aggregate: recency}
simulation: {users: 500, products: 20}
"""


def test_every_key_has_words_and_the_page_holds_the_tables() -> None:
    sections = sections_of(Market)
    keys = {name: set(section.model_fields) for name, section in sections.items()}
    assert keys == {name: set((CONTRACT | MARKET)[name]) for name in keys}
    page = PAGE.read_text("utf-8")
    assert with_tables(page, sections, MARKET) == page, "run python -m offers.contract.reference"
    assert all(f"<!-- keys of {name} -->" in page for name in MARKET)


@pytest.mark.parametrize("name", markets.shipped())
def test_the_schema_takes_what_is_shipped(name: str) -> None:
    validator = jsonschema_rs.Draft202012Validator(json.loads(json_schema(Market, "A market", CONTRACT | MARKET)))
    content = yaml.load(markets.text(name), Loader=_Loader)
    assert [error.message for error in validator.iter_errors(content)] == []
    assert not validator.is_valid(content | {"retreival": "none"})
    path = ROOT / "offers" / "contract" / "markets" / f"{name}.yaml"
    assert path.read_text("utf-8").startswith("# yaml-language-server: $schema=../market.schema.json\n")


def test_the_shipped_schema_is_that_of_the_models() -> None:
    path = ROOT / "offers" / "contract" / "market.schema.json"
    schema = json_schema(Market, "A market of Offers", CONTRACT | MARKET)
    assert path.read_text("utf-8") == schema, f"remove {path.name} and run offers market schema {path}"


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("title:", "tittle:", "line 2: unknown key 'tittle'"),
        ("file: loans.csv", "file: a/loans.csv", "line 5: interactions.file: expected the name of a .parquet or .csv"),
        ("file: loans.csv", "file: books.csv", "line 5: interactions.file: users, products and interactions need"),
        ("genre, role: offer", "genre, role: target", "line 9: columns.genre.role: expected customer (a user's)"),
        ("key: book", "key: reader", "line 4: products.key: 'reader' is the name of another column already"),
        ("years, role", "position, role", "line 7: columns.position.name: 'position' is the name of another"),
        ("years, role", "_years, role", "that begin with '_' are ours"),
        ("time: since}\np", "time: years}\np", "line 3: users.time: 'years' is the name of another"),
        ("user: likes", "user: genre", "line 13: pairs.in_genre.user: 'genre' is no column of role customer"),
        ("product: genre", "product: for_age", "'for_age' is integer: 'equal' compares categories"),
        ("measure: ratio", "measure: equal", "'years' is integer: 'equal' compares categories"),
        ("measure: equal", "measure: ratio", "'likes' is category: 'ratio' compares numbers"),
        ("name: borrowed", "name: seen", "line 17: events.seen.name: event 'seen' is declared twice"),
        (", typical: 0.2", "", "line 17: events.borrowed: it needs 'typical'"),
        ("name: seen", "name: seen, typical: 0.5", "the first event follows no other"),
        ("events: [seen]", "events: [sen]", "line 20: features.since.events: 'sen' is no event: expected some of seen"),
        ("recency}", "recency, windows: [1]}", "line 20: features.since.windows: recency has no windows"),
        ("name: since,", "name: old_enough,", "line 20: features.old_enough.name: 'old_enough' is the name of another"),
        ("role: offer", "role: customer", "no column has role offer, so nothing would be known of products"),
    ],
)
def test_a_mistake_is_named_by_line_and_key(old: str, new: str, sentence: str) -> None:
    assert old in LIBRARY
    with pytest.raises(ContractError) as refusal:
        markets.parse(LIBRARY.replace(old, new))
    assert sentence in str(refusal.value)


def test_a_feature_has_a_column_for_each_window() -> None:
    assert [one.columns for one in markets.parse(LIBRARY).features] == [
        {"borrowed_7d": 7, "borrowed_0.5d": 0.5},
        {"since": None},
    ]


def test_the_digest_is_of_what_is_said_and_not_of_the_layout() -> None:
    library = markets.parse(LIBRARY)
    assert markets.parse(LIBRARY.replace("title: Books", "# of ours\ntitle:   Books")).digest == library.digest
    assert markets.parse(LIBRARY.replace("max: 99", "max: 98")).digest != library.digest


def test_pairs_compare_as_computed_by_hand() -> None:
    library = markets.parse(LIBRARY)
    users = {"years": np.array([[6.0], [12.0], [np.nan]]), "likes": np.array([[0.0], [1.0], [np.nan]])}
    books = {"genre": np.array([0.0, 1.0, 2.0]), "for_age": np.array([0.0, 12.0, 6.0])}
    old_enough, in_genre, ratio = (pair_values(library, pair, users, books) for pair in library.pairs)
    unknown = [np.nan] * 3
    np.testing.assert_equal(old_enough, [[1, 0, 1], [1, 1, 1], unknown])
    np.testing.assert_equal(in_genre, [[0, 0, 1], [1, 0, 0], unknown])
    np.testing.assert_equal(ratio, [[np.nan, 0.5, 1], [np.nan, 1, 2], unknown])
