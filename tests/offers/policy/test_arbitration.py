import json
import math
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from offers.contract import contract as contracts
from offers.contract.column import Column
from offers.contract.contract import Contract
from offers.errors import PolicyError
from offers.model.encoder import Coded, Encoder
from offers.policy import catalogue as catalogues
from offers.policy.arbitration import Pairs, Policy
from offers.policy.ranking import WHY_HERE, Ranking
from tests.support.warranties import WARRANTIES

GOOD = {"spending": 600.0, "visits": 3.0, "region": "north", "member": 1.0, "rating": 4.5}
WORDS = ("region",)


def columns(*customers: dict[str, Any]) -> dict[str, np.ndarray]:
    return {
        name: np.array([customer[name] for customer in customers], object if name in WORDS else np.float64)
        for name in GOOD
    }


def propensities(policy: Policy, pairs: Pairs, by_offer: dict[str, float]) -> np.ndarray:
    return np.array([by_offer[policy.offers[place].id] for place in pairs.offer], np.float64)


def places(ranking: Ranking) -> list[str]:
    return [entry.offer.id for entry in ranking.ranked]


def reasons(ranking: Ranking) -> dict[str, list[tuple[str, bool]]]:
    return {entry.offer.id: [(why.code, why.evaluated) for why in entry.reasons] for entry in ranking.withheld}


@pytest.fixture
def policy(shop_contract: Contract) -> Policy:
    return Policy(catalogues.parse(WARRANTIES, shop_contract), shop_contract)


def exploring(contract: Contract, exploration: str) -> Policy:
    text = WARRANTIES.replace("{k: 2}", f"{{k: 2, exploration: {exploration}}}")
    return Policy(catalogues.parse(text, contract), contract)


def test_score_and_order_by_hand(policy: Policy) -> None:
    pairs = policy.expand(columns(GOOD))
    [ranking] = policy.arbitrate(pairs, propensities(policy, pairs, {"basic": 0.5, "full": 0.2, "free": 0.4}))
    full, basic = ranking.ranked
    assert (full.offer.id, full.rank, full.propensity, full.weight) == ("full", 1, 0.2, 2)
    assert full.score == pytest.approx(0.2 * 2 * 30 * 1.5 - 4)
    assert (basic.offer.id, basic.rank, basic.weight) == ("basic", 2, 1)
    assert basic.score == pytest.approx(0.5 * 10 - 1)
    assert [entry.action_probability for entry in ranking.ranked] == [1, 0]
    [free] = ranking.withheld
    assert (free.offer.id, free.reasons[0].code, free.score) == ("free", "FAMILY_LIMIT", 2)
    assert full.reasons == ("HIGHEST_SCORE", "HIGHEST_VALUE", "RAISED_BY_CONTEXT", "RAISED_BY_LEVER")
    assert basic.reasons == ("BY_SCORE", "HIGHEST_PROPENSITY")


def test_predictor_sees_contract_columns_with_the_offers_attributes(policy: Policy, shop_contract: Contract) -> None:
    pairs = policy.expand(columns(GOOD, GOOD | {"member": 0.0, "region": None}))
    assert list(pairs.columns) == [column.name for column in shop_contract.inputs]
    assert [policy.offers[place].id for place in pairs.offer] == ["full", "basic", "free", "full", "basic"]
    assert pairs.customer.tolist() == [0, 0, 0, 1, 1]
    assert pairs.columns["channel"].tolist() == ["phone", "mail", "web", "phone", "mail"]
    assert pairs.columns["region"].tolist() == ["north"] * 3 + [None] * 2
    assert pairs.columns["member"].tolist() == [1, 1, 1, 0, 0]
    assert len(pairs) == len(Encoder.of(shop_contract).encode(pairs.columns)) == 5


def test_words_may_be_looked_up_already(policy: Policy) -> None:
    customers = [GOOD, GOOD | {"region": None}, GOOD | {"region": "south", "spending": 1.0}]
    in_words, looked_up = columns(*customers), columns(*customers) | {"region": Coded(np.array([0, np.nan, 1], "f4"))}
    pairs = policy.expand(looked_up)
    assert pairs.columns["region"].tolist() == policy.expand(in_words).columns["region"].tolist()
    assert set(pairs.columns["region"].tolist()) == {"north", "south", None}
    propensity = np.full(len(pairs), 0.5)
    assert policy.arbitrate(pairs, propensity) == policy.arbitrate(policy.expand(in_words), propensity)


def test_withheld_offer_says_which_rules_and_why(policy: Policy) -> None:
    stranger = GOOD | {"visits": 0.0, "region": "south", "spending": 10.0, "member": 0.0}
    [ranking] = policy.arbitrate(policy.expand(columns(stranger)), np.empty(0))
    assert ranking.ranked == ()
    assert reasons(ranking) == {
        "full": [("NO_CUSTOMER_YET", True), ("FAR_AWAY", True)],
        "basic": [("NO_CUSTOMER_YET", True)],
        "free": [("NO_CUSTOMER_YET", True), ("NO_MEMBER", True)],
    }
    by_code = {why.code: why for entry in ranking.withheld for why in entry.reasons}
    assert by_code["NO_CUSTOMER_YET"][1:] == ("eligibility", True, "expected visits at least 1")
    assert by_code["FAR_AWAY"].kind == "suitability"
    assert by_code["FAR_AWAY"].text == "expected region equal to north or spending at least 500"
    assert all((entry.score, entry.action_probability) == (None, 0) for entry in ranking.withheld)


def test_reasons_come_eligibility_first_and_the_general_before_the_particular(shop_contract: Contract) -> None:
    rules = "eligibility: [{reason: NO_MEMBER_YET, column: member, equals: true}]\n    value: 30"
    text = WARRANTIES.replace("value: 30", rules).replace(
        "name: long", "name: long\n    eligibility: [{reason: RARE, column: visits, at_least: 9}]"
    )
    policy = Policy(catalogues.parse(text, shop_contract), shop_contract)
    stranger = GOOD | {"visits": 0.0, "region": "south", "spending": 10.0, "member": 0.0}
    [ranking] = policy.arbitrate(policy.expand(columns(stranger)), np.empty(0))
    assert [code for code, _ in reasons(ranking)["full"]] == ["NO_CUSTOMER_YET", "RARE", "NO_MEMBER_YET", "FAR_AWAY"]


def test_rule_that_cannot_be_told_withholds(policy: Policy) -> None:
    unknown = {"spending": 10.0, "visits": math.nan, "region": None, "member": math.nan, "rating": math.nan}
    pairs = policy.expand(columns(unknown))
    assert len(pairs) == 0
    [ranking] = policy.arbitrate(pairs, np.empty(0))
    assert reasons(ranking) == {
        "full": [("NO_CUSTOMER_YET", False), ("FAR_AWAY", False)],
        "basic": [("NO_CUSTOMER_YET", False)],
        "free": [("NO_CUSTOMER_YET", False), ("NO_MEMBER", False)],
    }
    texts = [why.text for entry in ranking.withheld for why in entry.reasons]
    assert "can't tell whether region equal to north or spending at least 500: region, spending must be known" in texts


def test_weight_whose_condition_cannot_be_told_stays(policy: Policy) -> None:
    pairs = policy.expand(columns(GOOD, GOOD | {"rating": math.nan}, GOOD | {"rating": 3.9}))
    full = [offer.id for offer in policy.offers].index("full")
    assert pairs.weight[:, full].tolist() == [2, 1, 1]


def test_only_context_raises_or_lowers_an_offers_own_weight(shop_contract: Contract) -> None:
    text = WARRANTIES.replace("lever: 1.5", "weight: 1.5\n    lever: 0.5").replace("cost: 1", "weight: 0.5")
    policy = Policy(catalogues.parse(text, shop_contract), shop_contract)
    lowered = Policy(catalogues.parse(text.replace("weight: 2}", "weight: 1.2}"), shop_contract), shop_contract)
    pairs = policy.expand(columns(GOOD, GOOD | {"rating": 0.0}))
    propensity = np.full(len(pairs), 0.5)
    fulls = [ranking.ranked[0].reasons for ranking in policy.arbitrate(pairs, propensity)]
    assert fulls == [
        ("HIGHEST_SCORE", "HIGHEST_VALUE", "RAISED_BY_CONTEXT", "LOWERED_BY_LEVER"),
        ("HIGHEST_SCORE", "HIGHEST_VALUE", "LOWERED_BY_LEVER"),
    ]
    full, _ = lowered.arbitrate(lowered.expand(columns(GOOD)), propensity[:3])[0].ranked
    assert full.reasons == ("HIGHEST_SCORE", "HIGHEST_VALUE", "LOWERED_BY_CONTEXT", "LOWERED_BY_LEVER")


def test_first_weight_that_holds_counts(shop_contract: Contract) -> None:
    text = WARRANTIES.replace("weights: [", "weights: [{when: {column: rating, at_least: 4.4}, weight: 3}, ")
    policy = Policy(catalogues.parse(text, shop_contract), shop_contract)
    pairs = policy.expand(columns(GOOD, GOOD | {"rating": 4.2}, GOOD | {"rating": 0.0}))
    assert pairs.weight[:, 0].tolist() == [3, 2, 1]


def test_rules_and_weights_may_ask_what_the_offer_sets(shop_contract: Contract) -> None:
    text = WARRANTIES.replace(
        "{reason: NO_CUSTOMER_YET, column: visits, at_least: 1}",
        "{reason: NO_CALLS, any: [{column: channel, is_not: [phone]}, {column: member, equals: true}]}",
    ).replace("{column: rating, at_least: 4}", "{column: channel, equals: phone}")
    policy = Policy(catalogues.parse(text, shop_contract), shop_contract)
    pairs = policy.expand(columns(GOOD, GOOD | {"member": 0.0}))
    assert pairs.columns["channel"].tolist() == ["phone", "mail", "web", "mail"]
    assert pairs.weight[:, 0].tolist() == [2, 2]


def test_offer_that_loses_money_is_withheld(policy: Policy) -> None:
    pairs = policy.expand(columns(GOOD, GOOD))
    wanted = propensities(policy, pairs, {"basic": 0.1, "full": 0.04, "free": 0.0})
    first, second = policy.arbitrate(pairs, wanted)
    assert first == second
    assert places(first) == ["basic"]
    assert reasons(first) == {"full": [("NOT_WORTH_ITS_COST", True)], "free": [("FAMILY_LIMIT", True)]}
    full = first.withheld[0]
    assert (full.score, full.action_probability) == (pytest.approx(0.04 * 90 - 4), 0)


def test_k_is_the_callers_or_the_catalogues(policy: Policy) -> None:
    pairs = policy.expand(columns(GOOD, GOOD, GOOD))
    wanted = propensities(policy, pairs, {"basic": 0.1, "full": 0.5, "free": 0.5})
    assert [places(ranking) for ranking in policy.arbitrate(pairs, wanted)] == [["full", "free"]] * 3
    assert [len(ranking.ranked) for ranking in policy.arbitrate(pairs, wanted, k=[1, None, 10**30])] == [1, 2, 2]
    [one, _, _] = policy.arbitrate(pairs, wanted, k=1)
    # The family's better offer is not shown either.
    assert reasons(one) == {"free": [("BEYOND_K", True)], "basic": [("BEYOND_K", True)]}


def test_only_offers_that_were_asked_for_are_in_the_answer(policy: Policy) -> None:
    asked = [["free", "basic", "free"], None, []]
    pairs = policy.expand(columns(GOOD, GOOD, GOOD), asked)
    rankings = policy.arbitrate(pairs, np.full(len(pairs), 0.5))
    known = [{*places(ranking), *reasons(ranking)} for ranking in rankings]
    assert known == [{"free", "basic"}, {"free", "basic", "full"}, set()]
    assert rankings[2] == Ranking((), ())


def test_offers_alike_to_the_model_share_a_row(shop_contract: Contract) -> None:
    offers = [("web-1", "web", 30), ("mail-1", "mail", 20), ("web-2", "web", 10), ("mail-2", "mail", 5)]
    catalogue = {
        "name": "twins",
        "contract": "shop",
        "families": [{"name": "all"}],
        "offers": [
            {"id": name, "title": name, "family": "all", "attributes": {"channel": channel}, "value": value, "cost": 0}
            for name, channel, value in offers
        ],
        "policy": {"k": 4},
    }
    policy = Policy(catalogues.parse(json.dumps(catalogue), shop_contract), shop_contract)
    pairs = policy.expand(columns(GOOD, GOOD), [None, ["mail-2", "web-2"]])
    assert pairs.columns["channel"].tolist() == ["web", "mail"] * 2
    assert pairs.row[pairs.eligible].tolist() == [0, 1, 0, 1, 2, 3]
    rankings = policy.arbitrate(pairs, np.array([0.1, 0.2, 0.3, 0.9]))
    assert [{entry.offer.id: entry.propensity for entry in ranking.ranked} for ranking in rankings] == [
        {"mail-1": 0.2, "web-1": 0.1, "web-2": 0.1, "mail-2": 0.2},
        {"mail-2": 0.9, "web-2": 0.3},
    ]


def test_ties_go_to_the_higher_value_then_to_the_lower_id(shop_contract: Contract) -> None:
    tied = [f"a{n}" for n in range(21, 61)]
    offers = [("z", 10, 0), ("top", 12, 0), *((name, 20, 5) for name in reversed(tied)), ("y", 40, 15)]
    catalogue = {
        "name": "ties",
        "contract": "shop",
        "families": [{"name": "all"}],
        "offers": [
            {"id": name, "title": name, "family": "all", "attributes": {"channel": "web"}, "value": value, "cost": cost}
            for name, value, cost in offers
        ],
        "policy": {"k": 99},
    }
    policy = Policy(catalogues.parse(json.dumps(catalogue), shop_contract), shop_contract)
    pairs = policy.expand(columns(GOOD))
    assert len(pairs) == 1, "the model sees the same row for all of them"
    [ranking] = policy.arbitrate(pairs, np.array([0.5]))
    assert places(ranking) == ["top", "y", *tied, "z"]
    assert [entry.score for entry in ranking.ranked] == [6, *[5] * 42]
    assert ranking.ranked[0].reasons == ("HIGHEST_SCORE", "LOWEST_COST")
    assert ranking.ranked[1].reasons == ("BY_SCORE", "HIGHEST_VALUE")
    assert ranking.ranked[2].reasons == ("BY_SCORE",)
    assert ranking.ranked[-1].reasons == ("BY_SCORE", "LOWEST_COST")


def test_fallback_ranks_by_value_and_says_so(shop_contract: Contract) -> None:
    text = WARRANTIES.replace("{k: 2}", "{k: 3, fallback: value, exploration: {kind: epsilon, epsilon: 1}}")
    policy = Policy(catalogues.parse(text, shop_contract), shop_contract)
    strangers = GOOD | {"region": "south", "spending": 1.0}, GOOD | {"visits": 0.0}
    near, far, none = policy.by_value(policy.expand(columns(GOOD, *strangers)))
    assert (places(near), places(far)) == (["full", "basic"], ["basic"])
    assert [(entry.propensity, entry.score, entry.reasons) for entry in near.ranked] == [
        (None, None, ("BY_VALUE",))
    ] * 2
    assert [entry.action_probability for entry in near.ranked] == [1, 0]
    assert reasons(near) == {"free": [("FAMILY_LIMIT", True)]}
    assert reasons(far) == {"full": [("FAR_AWAY", True)], "free": [("FAMILY_LIMIT", True)]}
    assert [entry.action_probability for entry in none.withheld] == [0, 0, 0]


def test_without_a_declared_fallback_there_is_none(policy: Policy) -> None:
    with pytest.raises(PolicyError, match="catalogue warranties declares no fallback"):
        policy.by_value(policy.expand(columns(GOOD)))


def test_drawn_offer_is_first_and_the_others_follow_by_score(shop_contract: Contract) -> None:
    policy = exploring(shop_contract, "{kind: epsilon, epsilon: 1, salt: spring}")
    n_customers = 60
    pairs = policy.expand(columns(*[GOOD] * n_customers))
    wanted = propensities(policy, pairs, {"basic": 0.5, "full": 0.2, "free": 0.4})
    rankings = policy.arbitrate(pairs, wanted, keys=[str(n) for n in range(n_customers)])
    assert {tuple(places(ranking)) for ranking in rankings} == {("full", "basic"), ("basic", "full"), ("free", "full")}
    for ranking in rankings:
        first, second = ranking.ranked
        assert first.reasons[0] == ("HIGHEST_SCORE" if first.offer.id == "full" else "DRAWN_TO_EXPLORE")
        assert second.reasons[0] == ("HIGHEST_SCORE" if second.offer.id == "full" else "BY_SCORE")
        probabilities = [entry.action_probability for entry in (*ranking.ranked, *ranking.withheld)]
        assert probabilities == pytest.approx([1 / 3] * 3)


def test_first_places_come_as_often_as_their_probability_says(shop_contract: Contract) -> None:
    policy = exploring(shop_contract, "{kind: softmax, temperature: 8}")
    n_customers = 20_000
    pairs = policy.expand(columns(*[GOOD] * n_customers))
    wanted = propensities(policy, pairs, {"basic": 0.5, "full": 0.2, "free": 0.4})
    rankings = policy.arbitrate(pairs, wanted, keys=[f"decision-{n}" for n in range(n_customers)])
    weights = {name: math.exp(score / 8) for name, score in (("full", 14), ("basic", 4), ("free", 2))}
    expected = {name: weight / sum(weights.values()) for name, weight in weights.items()}
    counts = dict.fromkeys(expected, 0)
    for ranking in rankings:
        counts[places(ranking)[0]] += 1
        for entry in (*ranking.ranked, *ranking.withheld):
            assert entry.action_probability == pytest.approx(expected[entry.offer.id])
    assert chisquare(list(counts.values()), [n_customers * p for p in expected.values()]).pvalue > 0.001


def test_offer_that_loses_money_is_never_drawn(shop_contract: Contract) -> None:
    policy = exploring(shop_contract, "{kind: epsilon, epsilon: 1}")
    pairs = policy.expand(columns(*[GOOD] * 200))
    wanted = propensities(policy, pairs, {"basic": 0.01, "full": 0.2, "free": 0.4})
    rankings = policy.arbitrate(pairs, wanted, k=1, keys=[str(n) for n in range(200)])
    assert {places(ranking)[0] for ranking in rankings} == {"full", "free"}
    basic = [entry for ranking in rankings for entry in ranking.withheld if entry.offer.id == "basic"]
    assert {(entry.reasons[0].code, entry.action_probability) for entry in basic} == {("NOT_WORTH_ITS_COST", 0)}


def test_exploration_needs_keys(shop_contract: Contract) -> None:
    policy = exploring(shop_contract, "{kind: softmax, temperature: 8}")
    pairs = policy.expand(columns(GOOD))
    with pytest.raises(PolicyError, match="keys: expected a decision key for each of 1 customers, got none"):
        policy.arbitrate(pairs, np.full(len(pairs), 0.5))


@pytest.mark.parametrize(
    ("propensity", "message"),
    [
        ([0.5, 0.5], "expected one for each of 3 rows, got shape \\(2,\\)"),
        ([[0.5, 0.5, 0.5]], "expected one for each of 3 rows, got shape \\(1, 3\\)"),
        ([0.5, math.nan, 0.5], "expected numbers from 0 to 1, got nan"),
        ([0.5, 1.01, 0.5], "expected numbers from 0 to 1, got 1.01"),
        ([-0.01, 0.5, 0.5], "expected numbers from 0 to 1, got -0.01"),
    ],
)
def test_propensities_that_are_none_are_refused(policy: Policy, propensity: list[Any], message: str) -> None:
    with pytest.raises(PolicyError, match=f"propensity: {message}"):
        policy.arbitrate(policy.expand(columns(GOOD)), np.array(propensity))


@pytest.mark.parametrize(
    ("k", "message"),
    [(0, "got 0"), (-1, "got -1"), ([0], "got 0"), ([1, 1], "expected one for each of 1 customers, got 2")],
)
def test_k_that_is_no_number_of_places_is_refused(policy: Policy, k: int | list[Any], message: str) -> None:
    with pytest.raises(PolicyError, match=f"k: .*{message}"):
        policy.arbitrate(policy.expand(columns(GOOD)), np.full(3, 0.5), k=k)


def test_request_that_does_not_fit_is_refused(policy: Policy) -> None:
    with pytest.raises(PolicyError, match="offers: expected of basic, free, full, got 'gold'"):
        policy.expand(columns(GOOD), [["basic", "gold"]])
    with pytest.raises(PolicyError, match="offers: expected one for each of 1 customers, got 2"):
        policy.expand(columns(GOOD), [None, None])
    with pytest.raises(
        PolicyError, match="column 'rating' is missing; expected spending, visits, region, member, rating"
    ):
        policy.expand({name: values for name, values in columns(GOOD).items() if name != "rating"})
    with pytest.raises(PolicyError, match="column 'visits': expected one for each of 1 customers, got 2"):
        policy.expand(columns(GOOD) | {"visits": np.zeros(2)})


def test_no_customers_give_no_rankings(policy: Policy) -> None:
    pairs = policy.expand(columns())
    assert policy.arbitrate(pairs, np.empty(0)) == []


RULES: list[dict[str, Any]] = [
    {"reason": "POOR", "column": "spending", "at_least": 100},
    {"reason": "RARE", "column": "visits", "at_least": 2},
    {"reason": "SOUTH", "not": {"column": "region", "equals": "south"}},
    {"reason": "BY_POST", "any": [{"column": "channel", "is_not": ["mail"]}, {"column": "member", "equals": True}]},
]
RULE_LISTS = st.lists(st.sampled_from(RULES), max_size=2, unique_by=lambda rule: rule["reason"])
OFFERS = st.fixed_dictionaries(
    {
        "title": st.just("An offer"),
        "family": st.sampled_from(["f0", "f1"]),
        "attributes": st.fixed_dictionaries({"channel": st.sampled_from(["mail", "phone", "web"])}),
        "value": st.sampled_from([0, 10, 20]),
        "cost": st.sampled_from([0, 1, 5]),
        "weight": st.sampled_from([0.5, 1.0]),
        "lever": st.sampled_from([1.0, 2.0]),
        "eligibility": RULE_LISTS,
    }
)
FAMILIES = st.fixed_dictionaries({"suitability": RULE_LISTS}, optional={"limit": st.integers(1, 2)})
CATALOGUES = st.fixed_dictionaries(
    {
        "name": st.just("drawn"),
        "contract": st.just("shop"),
        "eligibility": RULE_LISTS,
        "families": st.tuples(FAMILIES, FAMILIES).map(lambda f: [{"name": f"f{n}"} | f[n] for n in range(2)]),
        "offers": st.lists(OFFERS, min_size=1, max_size=6).map(
            lambda offers: [{"id": f"o{n}"} | offer for n, offer in enumerate(offers)]
        ),
        "policy": st.fixed_dictionaries(
            {
                "k": st.integers(1, 4),
                "exploration": st.sampled_from(
                    [{"kind": "none"}, {"kind": "softmax", "temperature": 3}, {"kind": "epsilon", "epsilon": 0.5}]
                ),
            }
        ),
    }
)
CUSTOMERS = st.lists(
    st.fixed_dictionaries(
        {
            "spending": st.sampled_from([0.0, 100.0, math.nan]),
            "visits": st.sampled_from([1.0, 2.0, math.nan]),
            "region": st.sampled_from(["north", "south", None]),
            "member": st.sampled_from([0.0, 1.0, math.nan]),
            "rating": st.just(1.0),
        }
    ),
    min_size=1,
    max_size=4,
)


def told(condition: dict[str, Any], row: dict[str, Any]) -> bool | None:
    """A rule by the book, one row at a time: None where it can't be told."""
    if "not" in condition:
        inner = told(condition["not"], row)
        return None if inner is None else not inner
    if "any" in condition:
        parts = [told(part, row) for part in condition["any"]]
        return True if True in parts else None if None in parts else False
    value = row[condition["column"]]
    if value is None or value != value:  # noqa: PLR0124
        return None
    if "at_least" in condition:
        return bool(value >= condition["at_least"])
    return value not in condition["is_not"] if "is_not" in condition else bool(value == condition["equals"])


def by_the_book(
    catalogue: dict[str, Any], customer: dict[str, Any], propensity: dict[str, float], first: str | None
) -> tuple[list[tuple[str, float]], dict[str, set[tuple[str, bool]]]]:
    """Ranked (offer, score) and reasons of the withheld, found the long way round."""
    families = {family["name"]: family for family in catalogue["families"]}
    withheld: dict[str, set[tuple[str, bool]]] = {}
    candidates = []
    for offer in catalogue["offers"]:
        row = customer | offer["attributes"]
        rules = [*catalogue["eligibility"], *families[offer["family"]]["suitability"], *offer["eligibility"]]
        failed = {(rule["reason"], told(rule, row) is not None) for rule in rules if told(rule, row) is not True}
        score = propensity[offer["id"]] * offer["weight"] * offer["value"] * offer["lever"] - offer["cost"]
        if failed:
            withheld[offer["id"]] = failed
        elif score < 0:
            withheld[offer["id"]] = {("NOT_WORTH_ITS_COST", True)}
        else:
            candidates.append((offer, score))
    ranked: list[tuple[str, float]] = []
    seen: dict[str, int] = {}
    for offer, score in sorted(
        candidates, key=lambda pair: (pair[0]["id"] != first, -pair[1], -pair[0]["value"], pair[0]["id"])
    ):
        if seen.get(offer["family"], 0) >= families[offer["family"]].get("limit", math.inf):
            withheld[offer["id"]] = {("FAMILY_LIMIT", True)}
        elif len(ranked) == catalogue["policy"]["k"]:
            withheld[offer["id"]] = {("BEYOND_K", True)}
        else:
            ranked.append((offer["id"], score))
            seen[offer["family"]] = seen.get(offer["family"], 0) + 1
    return ranked, withheld


def rank(
    contract: Contract,
    catalogue: dict[str, Any],
    customers: list[dict[str, Any]],
    propensity: dict[str, float],
    offers: Sequence[Collection[str]] | None = None,
) -> list[Ranking]:
    policy = Policy(catalogues.parse(json.dumps(catalogue), contract), contract)
    pairs = policy.expand(columns(*customers), offers)
    keys = [f"decision-{n}" for n in range(len(customers))]
    return policy.arbitrate(pairs, propensities(policy, pairs, propensity), keys=keys)


PROPENSITIES = st.fixed_dictionaries({f"o{n}": st.sampled_from([0.0, 0.1, 0.25, 0.5, 1.0]) for n in range(6)})


@given(CATALOGUES, CUSTOMERS, PROPENSITIES, st.data())
def test_ranking_is_the_one_by_the_book(
    shop_contract: Contract, catalogue: Any, customers: Any, propensity: Any, data: Any
) -> None:
    asked = [data.draw(st.sets(st.sampled_from([offer["id"] for offer in catalogue["offers"]]))) for _ in customers]
    propensity = by_variant(catalogue, propensity)
    rankings = rank(shop_contract, catalogue, customers, propensity, asked)
    for customer, names, ranking in zip(customers, asked, rankings, strict=True):
        part = catalogue | {"offers": [offer for offer in catalogue["offers"] if offer["id"] in names]}
        drawn = catalogue["policy"]["exploration"]["kind"] != "none" and ranking.ranked
        expected = by_the_book(part, customer, propensity, places(ranking)[0] if drawn else None)
        assert [(entry.offer.id, entry.score) for entry in ranking.ranked] == expected[0]
        assert {offer: set(why) for offer, why in reasons(ranking).items()} == expected[1]


def by_variant(catalogue: dict[str, Any], propensity: dict[str, float]) -> dict[str, float]:
    """Offers with the same attributes are one to a model: all get the propensity of the first."""
    first = {}
    for offer in sorted(catalogue["offers"], key=lambda offer: (-offer["value"], offer["id"])):
        first.setdefault(json.dumps(offer["attributes"], sort_keys=True), propensity[offer["id"]])
    return {offer["id"]: first[json.dumps(offer["attributes"], sort_keys=True)] for offer in catalogue["offers"]}


@given(CATALOGUES, CUSTOMERS, PROPENSITIES)
def test_answer_is_whole(shop_contract: Contract, catalogue: Any, customers: Any, propensity: Any) -> None:
    limits = {family["name"]: family.get("limit", math.inf) for family in catalogue["families"]}
    for ranking in rank(shop_contract, catalogue, customers, propensity):
        names = places(ranking) + list(reasons(ranking))
        assert sorted(names) == [offer["id"] for offer in catalogue["offers"]]
        assert [entry.rank for entry in ranking.ranked] == list(range(1, len(ranking.ranked) + 1))
        assert len(ranking.ranked) <= catalogue["policy"]["k"]
        families = [entry.offer.family for entry in ranking.ranked]
        assert all(families.count(name) <= limit for name, limit in limits.items())
        assert all(entry.reasons for entry in ranking.withheld)
        assert all(set(entry.reasons) <= set(WHY_HERE) and entry.reasons for entry in ranking.ranked)
        probabilities = [entry.action_probability for entry in (*ranking.ranked, *ranking.withheld)]
        assert sum(probabilities) == pytest.approx(1 if ranking.ranked else 0)


@settings(max_examples=40)
@given(CATALOGUES, CUSTOMERS, PROPENSITIES, st.randoms(use_true_random=False))
def test_order_of_offers_changes_nothing(
    shop_contract: Contract, catalogue: Any, customers: Any, propensity: Any, random: Any
) -> None:
    expected = rank(shop_contract, catalogue, customers, propensity)
    names = [offer["id"] for offer in catalogue["offers"]]
    asked = [random.sample(names, len(names)) for _ in customers]
    assert rank(shop_contract, catalogue, customers, propensity, asked) == expected
    shuffled = catalogue | {"offers": random.sample(catalogue["offers"], len(names))}
    assert rank(shop_contract, shuffled, customers, propensity) == expected


@settings(max_examples=40)
@given(CATALOGUES, CUSTOMERS, PROPENSITIES)
def test_customer_alone_gets_the_answer_that_it_gets_in_company(
    shop_contract: Contract, catalogue: Any, customers: Any, propensity: Any
) -> None:
    together = rank(shop_contract, catalogue, customers[:1] * 3 + customers, propensity)
    assert repr(rank(shop_contract, catalogue, customers[:1], propensity)[0]) == repr(together[0])
    assert rank(shop_contract, catalogue, customers[:1] * 3 + customers, propensity) == together


@pytest.mark.parametrize("name", ["bank-marketing", "personal-loan"])
def test_every_rule_and_offer_of_a_shipped_catalogue_counts(name: str) -> None:
    contract = contracts.load(name)
    policy = Policy(catalogues.load(name, contract), contract)
    generator = np.random.default_rng(3)
    customers = {column.name: some(column, generator, 3000) for column in contract.inputs if column.role != "offer"}
    pairs = policy.expand(customers)
    rankings = policy.arbitrate(pairs, generator.uniform(0, 1, len(pairs)))
    shown = {entry.offer.id for ranking in rankings for entry in ranking.ranked}
    assert shown == {offer.id for offer in policy.catalogue.offers}
    given = {why.code for ranking in rankings for entry in ranking.withheld for why in entry.reasons}
    owners = (policy.catalogue, *policy.catalogue.families, *policy.offers)
    assert {rule.reason for owner in owners for _, _, rule in owner.rules()} <= given
    assert {"NOT_WORTH_ITS_COST", "FAMILY_LIMIT"} <= given


def test_unknown_default_or_job_withholds_no_contact_plan() -> None:
    contract = contracts.load("bank-marketing")
    policy = Policy(catalogues.load("bank-marketing", contract), contract)
    generator = np.random.default_rng(3)
    inputs = [column for column in contract.inputs if column.role != "offer"]
    customers = {column.name: some(column, generator, 1).repeat(3) for column in inputs}
    customers |= {"default": np.array(["no", "unknown", "yes"], object), "job": np.array(["unknown"] * 3, object)}
    pairs = policy.expand(customers)
    given = [
        {why.code for entry in ranking.withheld for why in entry.reasons}
        for ranking in policy.arbitrate(pairs, np.ones(len(pairs)))
    ]
    assert ["CREDIT_IN_DEFAULT" in codes for codes in given] == [False, False, True]
    assert not any("INCOME_NOT_STEADY" in codes for codes in given)


def some(column: Column, generator: np.random.Generator, n_rows: int) -> np.ndarray:
    if column.type == "category":
        return generator.choice(np.array(column.values, object), n_rows)
    if column.type == "boolean":
        return generator.integers(0, 2, n_rows).astype(np.float64)
    low, high = column.typical if isinstance(column.typical, tuple) else (column.min, column.max)
    values = generator.uniform(max(column.min, low - (high - low)), min(column.max, high + (high - low)), n_rows)
    return np.where(generator.random(n_rows) < (0.3 if column.may_be_missing else 0), np.nan, values)
