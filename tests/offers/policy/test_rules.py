import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from offers.contract.contract import Contract
from offers.errors import PolicyError
from offers.policy.rules import Condition, Rule, codes, compiled

CUSTOMERS: dict[str, list[Any]] = {
    "spending": [0.0, 100.0, 5000.0, math.nan],
    "visits": [0.0, 3.0, 50.0, math.nan],
    "region": ["north", "south", None, "east"],
    "member": [1.0, 0.0, 1.0, math.nan],
    "rating": [-1.5, 0.0, math.inf, math.nan],
}
OFFERED = ["mail", "phone", "web"]


def truths(contract: Contract, condition: dict[str, Any]) -> list[str]:
    """'yes', 'no' or '?' for each of the four customers; the offers' column is tried with the first offer."""
    columns = {name: codes(contract[name], np.array(values))[:, None] for name, values in CUSTOMERS.items()}
    attributes = {"channel": codes(contract["channel"], OFFERED[:1])[None]}
    holds, fails = compiled(Condition.model_validate(condition), contract, attributes)(columns)
    assert not (holds & fails).any()
    told = np.broadcast_to(np.where(holds, "yes", np.where(fails, "no", "?")), (4, 1))
    return told[:, 0].tolist()


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({"column": "spending", "at_least": 100}, "no yes yes ?"),
        ({"column": "spending", "at_most": 100}, "yes yes no ?"),
        ({"column": "spending", "at_least": 50, "at_most": 200}, "no yes no ?"),
        ({"column": "spending", "equals": 5000}, "no no yes ?"),
        ({"column": "visits", "in": [0, 50]}, "yes no yes ?"),
        ({"column": "visits", "is_not": [0, 50]}, "no yes no ?"),
        ({"column": "visits", "missing": True}, "no no no yes"),
        ({"column": "visits", "missing": False}, "yes yes yes no"),
        ({"column": "region", "equals": "north"}, "yes no ? ?"),
        ({"column": "region", "in": ["north", "south"]}, "yes yes ? ?"),
        ({"column": "region", "is_not": ["south"]}, "yes no ? ?"),
        ({"column": "region", "missing": True}, "no no yes yes"),
        ({"column": "member", "equals": True}, "yes no yes ?"),
        ({"column": "member", "equals": False}, "no yes no ?"),
        ({"column": "rating", "at_least": 0}, "no yes ? ?"),
        ({"column": "channel", "equals": "mail"}, "yes yes yes yes"),
        ({"column": "channel", "is_not": ["mail"]}, "no no no no"),
        ({"not": {"column": "spending", "at_least": 100}}, "yes no no ?"),
        ({"not": {"not": {"column": "region", "equals": "north"}}}, "yes no ? ?"),
    ],
)
def test_condition_holds_fails_or_cannot_be_told(
    shop_contract: Contract, condition: dict[str, Any], expected: str
) -> None:
    assert truths(shop_contract, condition) == expected.split()


RICH, REGULAR = {"column": "spending", "at_least": 100}, {"column": "visits", "at_least": 3}
NORTH = {"column": "region", "equals": "north"}


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({"all": [RICH, REGULAR]}, "no yes yes ?"),
        ({"any": [RICH, REGULAR]}, "no yes yes ?"),
        ({"all": [RICH, NORTH]}, "no no ? ?"),
        ({"any": [RICH, NORTH]}, "yes yes yes ?"),
        ({"not": {"all": [RICH, NORTH]}}, "yes yes ? ?"),
        ({"any": [{"column": "visits", "missing": True}, REGULAR]}, "no yes yes yes"),
        ({"all": [{"column": "region", "missing": False}, NORTH]}, "yes no no no"),
        ({"any": [{"all": [RICH, NORTH]}, {"not": REGULAR}]}, "yes no ? ?"),
        ({"all": [{"column": "channel", "equals": "web"}, RICH]}, "no no no no"),
    ],
)
def test_all_any_and_not_follow_three_valued_logic(
    shop_contract: Contract, condition: dict[str, Any], expected: str
) -> None:
    assert truths(shop_contract, condition) == expected.split()


def test_offers_and_customers_are_crossed(shop_contract: Contract) -> None:
    condition = Condition.model_validate({"any": [{"column": "channel", "in": ["web", "mail"]}, RICH]})
    attributes = {"channel": codes(shop_contract["channel"], OFFERED)[None]}
    columns = {"spending": np.array([[0.0], [100.0], [math.nan]])}
    holds, fails = compiled(condition, shop_contract, attributes)(columns)
    assert holds.tolist() == [[True, False, True], [True, True, True], [True, False, True]]
    assert fails.tolist() == [[False, True, False], [False, False, False], [False, False, False]]


LEAVES = st.sampled_from(
    [
        {"column": "spending", "at_least": 100},
        {"column": "visits", "at_most": 3},
        {"column": "region", "equals": "north"},
        {"column": "member", "equals": True},
        {"column": "rating", "at_least": 0},
    ]
)
TREES = st.recursive(
    LEAVES,
    lambda parts: st.one_of(
        st.builds(lambda part: {"not": part}, parts),
        st.builds(lambda key, inside: {key: inside}, st.sampled_from(["all", "any"]), st.lists(parts, min_size=1)),
    ),
    max_leaves=8,
)
MISSING = {"spending": math.nan, "visits": math.nan, "region": None, "member": math.nan, "rating": math.nan}
SOME = {
    "spending": st.sampled_from([0.0, 100.0, 500.0]),
    "visits": st.sampled_from([0.0, 3.0, 4.0]),
    "region": st.sampled_from(["north", "south"]),
    "member": st.sampled_from([0.0, 1.0]),
    "rating": st.sampled_from([-1.0, 0.0, 1.0]),
}


def answer(contract: Contract, condition: dict[str, Any], customer: dict[str, Any]) -> bool | None:
    columns = {name: codes(contract[name], np.array([value]))[:, None] for name, value in customer.items()}
    holds, fails = compiled(Condition.model_validate(condition), contract, {})(columns)
    return True if holds[0, 0] else False if fails[0, 0] else None


@given(st.data(), TREES, st.fixed_dictionaries(SOME))
def test_what_is_told_does_not_depend_on_what_is_missing(
    shop_contract: Contract, data: Any, condition: Any, customer: Any
) -> None:
    hidden = data.draw(st.sets(st.sampled_from(sorted(SOME))))
    told = answer(shop_contract, condition, customer | {name: MISSING[name] for name in hidden})
    complete = answer(shop_contract, condition, customer)
    assert complete is not None
    assert told in (complete, None)
    assert answer(shop_contract, condition, MISSING) is None


def test_rule_reads_as_a_sentence() -> None:
    rule = {
        "reason": "X",
        "any": [
            {"column": "age", "at_least": 18, "at_most": 70.5},
            {"all": [{"column": "job", "is_not": ["student", "retired"]}, {"column": "pdays", "missing": True}]},
            {"not": {"column": "default", "equals": "yes"}},
        ],
    }
    assert str(Rule.model_validate(rule | {"reason": "NO_STEADY_INCOME"})) == (
        "age at least 18 and at most 70.5 or (job not student or retired and pdays missing)"
        " or (not (default equal to yes))"
    )
    assert Rule.model_validate(rule | {"reason": "R2"}).columns == {"age", "job", "pdays", "default"}


@pytest.mark.parametrize("code", ["", "x", "age_below", "1A", "A" * 70, "A-B"])
def test_reason_that_is_no_code_is_refused(code: str) -> None:
    with pytest.raises(ValidationError, match="reason"):
        Rule.model_validate({"reason": code, **RICH})


def test_words_where_numbers_belong_are_refused(shop_contract: Contract) -> None:
    with pytest.raises(PolicyError, match="column 'spending': expected numbers, but could not convert"):
        codes(shop_contract["spending"], np.array(["much"], object))


def test_missing_number_may_be_none(shop_contract: Contract) -> None:
    assert codes(shop_contract["visits"], np.array([3, None], object)).tolist() == pytest.approx(
        [3, math.nan], nan_ok=True
    )
