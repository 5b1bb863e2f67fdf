import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offers.batch.customers import CustomerSchema
from offers.batch.repeats import Repeats
from offers.batch.scoring import Scorer, Versions
from offers.batch.trees import SortedTrees
from offers.bundle import bundle as bundles
from offers.contract import contract as contracts
from offers.contract.contract import Contract
from offers.errors import DataError
from offers.policy import catalogue as catalogues
from offers.policy.arbitration import Policy
from tests.support.warranties import WARRANTIES

SOMEONE = {"spending": 600.0, "visits": 3.0, "region": "north", "member": 1.0, "rating": 4.5}
EXPLORING = WARRANTIES.replace("{k: 2}", "{k: 2, exploration: {kind: softmax, temperature: 3}}")


def scorer_of(bundle: bundles.Bundle, catalogue: str, **options: Any) -> Scorer:
    policy = Policy(catalogues.parse(catalogue, bundle.contract), bundle.contract)
    schema = CustomerSchema(bundle.contract, "customer_id")
    return Scorer(bundle.model, policy, schema, Versions.of(bundle.name, policy.catalogue), **options)


def batch_of(customers: list[dict[str, Any]]) -> pa.RecordBatch:
    columns = {"customer_id": pa.array([str(number) for number in range(len(customers))])}
    for name in SOMEONE:
        kind = pa.string() if name == "region" else pa.float64()
        columns[name] = pa.array([customer[name] for customer in customers], kind, from_pandas=True)
    return pa.RecordBatch.from_pydict(columns)


@pytest.fixture(scope="session")
def shop(shop_bundle: Path) -> bundles.Bundle:
    return bundles.load(shop_bundle)


SOMEBODY = st.fixed_dictionaries(
    {
        "spending": st.floats(0, 10000, width=32),
        "visits": st.one_of(st.just(math.nan), st.integers(0, 50).map(float)),
        "region": st.sampled_from(["north", "south", "Atlantis", None]),
        "member": st.sampled_from([0.0, 1.0]),
        "rating": st.one_of(st.just(math.nan), st.floats(0, 5)),
    }
)


@pytest.mark.parametrize("catalogue", [WARRANTIES, EXPLORING], ids=["greedy", "exploring"])
@given(customers=st.lists(SOMEBODY, min_size=1, max_size=20), k=st.sampled_from([None, 1, 3]))
@settings(max_examples=30)
def test_batch_and_ranker_decide_the_same(shop: bundles.Bundle, catalogue: Any, customers: Any, k: Any) -> None:
    table = scorer_of(shop, catalogue, k=k, withheld=True)(batch_of(customers)).to_pylist()
    policy = Policy(catalogues.parse(catalogue, shop.contract), shop.contract)
    columns = {name: np.array([one[name] for one in customers]) for name in SOMEONE if name != "region"}
    words = [one["region"] if one["region"] != "Atlantis" else None for one in customers]
    pairs = policy.expand(columns | {"region": np.array(words, object)})
    propensity = shop.model.propensity(pairs.columns) if len(pairs) else np.empty(0)
    answers = policy.arbitrate(pairs, propensity, k, [str(number) for number in range(len(customers))])
    for number, answer in enumerate(answers):
        rows = [row for row in table if row["customer"] == str(number)]
        ranked = [row for row in rows if row["rank"] is not None]
        assert [(row["rank"], row["offer"], row["value"]) for row in ranked] == [
            (entry.rank, entry.offer.id, entry.offer.value) for entry in answer.ranked
        ]
        for name in ("propensity", "score", "action_probability"):
            expected = [getattr(entry, name) for entry in answer.ranked]
            assert [row[name] for row in ranked] == pytest.approx(expected, rel=1e-5, abs=1e-5)
        assert [(row["offer"], row["reasons"]) for row in rows if row["rank"] is None] == [
            (entry.offer.id, [why.code for why in entry.reasons]) for entry in answer.withheld
        ]


def test_every_row_names_what_scored(shop: bundles.Bundle) -> None:
    [row] = scorer_of(shop, WARRANTIES, k=1)(batch_of([SOMEONE])).to_pylist()
    assert row["bundle"] == shop.name
    assert row["catalogue"].startswith("warranties-")
    assert row["reasons"] is None


def test_groups_of_protected_columns_stand_beside_the_scores(shop: bundles.Bundle, shop_yaml: str) -> None:
    text = shop_yaml.replace("values: [north, south], unknown", "values: [north, south], protected: true, unknown")
    text = text.replace("name: member, role: customer", "name: member, role: customer, protected: true")
    text = text.replace("bands: [100, 1000]", "bands: [100, 1000]\n    protected: true")
    policy = Policy(catalogues.parse(WARRANTIES, shop.contract), shop.contract)
    schema, versions = CustomerSchema(contracts.parse(text), "customer_id"), Versions.of(shop.name, policy.catalogue)
    scorer = Scorer(shop.model, policy, schema, versions, k=1, groups=True)
    batch = batch_of([SOMEONE, SOMEONE | {"region": None, "member": 0.0, "spending": 50.0}])
    names = [f"group_{name}" for name in ("spending", "region", "member")]
    assert [tuple(row[name] for name in names) for row in scorer(batch).to_pylist()] == [
        ("100 to <1000", "north", "True"),
        ("<100", "missing", "False"),
    ]


def test_margins_of_sorted_trees_are_the_boosters(shop: bundles.Bundle) -> None:
    encoder, booster = shop.model.encoder, shop.model.booster
    place = encoder.names.index("channel")
    matrix = np.random.default_rng(0).uniform(0, 2, (500, len(encoder.names))).round().astype(np.float32)
    variants = np.array([[0.0], [1.0], [2.0], [1.0], [np.nan]], np.float32)
    expected = []
    for channel in variants:
        matrix[:, place] = channel
        expected.append(booster.inplace_predict(matrix, predict_type="margin"))
    margins = SortedTrees(booster, [place], variants).margins(matrix.copy())
    assert np.abs(margins - np.array(expected).T).max() < 1e-5


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"spending": -1.0}, "column 'spending', row 2: expected at least 0, got -1.0"),
        ({"spending": math.nan}, "column 'spending', row 2: expected a value, got nothing"),
        ({"visits": 2.5}, "column 'visits', row 2: expected a whole number, got 2.5"),
        ({"member": 3.0}, "column 'member', row 2: expected yes or no, got 3.0"),
    ],
)
def test_value_that_breaks_the_contract_names_its_row(
    shop: bundles.Bundle, change: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(DataError, match=complaint):
        scorer_of(shop, WARRANTIES)(batch_of([SOMEONE, SOMEONE | change]))


def test_text_cells_are_read_as_the_contract_has_them(shop_contract: Contract) -> None:
    schema = CustomerSchema(shop_contract, "order")
    cells = {"order": ["a", "b"], "spending": ["1,5", "20"], "visits": ["?", "99"], "region": ["south", None]}
    cells |= {"member": ["1", "No"], "rating": [None, "3,5"]}
    columns = schema.typed(pa.RecordBatch.from_pydict(cells)).columns
    assert columns["spending"].tolist() == [1.5, 20]
    assert np.isnan(columns["visits"]).all()
    assert columns["member"].tolist() == [1, 0]
    assert np.array_equal(columns["rating"], [np.nan, 3.5], equal_nan=True)
    assert np.array_equal(columns["region"].places, [1, np.nan], equal_nan=True)
    with pytest.raises(DataError, match=r"column 'spending', row 1: expected a number, got '1\.5'"):
        schema.typed(pa.RecordBatch.from_pydict(cells | {"spending": ["1.5", "20"]}))


@given(st.lists(st.lists(st.integers(0, 60), min_size=1, max_size=8), max_size=12))
def test_repeats_are_found_where_they_first_stand(batches: Any) -> None:
    repeats, seen = Repeats(), set[int]()
    for batch in batches:
        first = next((place for place, one in enumerate(batch) if one in seen or one in batch[:place]), None)
        assert repeats.add(np.array(batch, np.uint64)) == first
        if first is not None:
            break
        seen |= set(batch)
