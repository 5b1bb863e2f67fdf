"""Reasons in plain sentences, held against contributions that were written down."""

from typing import Any

import numpy as np
import pytest

from offers.contract import contract as contracts
from offers.contract.contract import Contract
from offers.errors import CatalogueError
from offers.policy.explanation import MOST_REASONS, Explainer, Explanation, explained_offers
from offers.policy.ranking import Ranking
from tests.support.rankers import policy_of, someone, typed
from tests.support.shop import SHOP
from tests.support.warranties import WARRANTIES

# spending, visits, channel, region, member, rating
MOVED = np.array([0.3, -0.9, 0.0, 0.5, -0.2, 0.1])
AGED = SHOP.replace("name: visits\n", "name: visits\n    protected: true\n    bands: [10]\n")
JUSTIFIED = AGED.replace("bands: [10]\n", "bands: [10]\n    justification: regulars know the shop\n")


def answered(contract: Contract, catalogue: str, propensity: float, **customer: Any) -> tuple[Ranking, Explanation]:
    """The answer for one customer to whom every offer is equally likely, and its explanation."""
    policy, columns = policy_of(contract, catalogue), typed([someone("Maria", **customer)])
    pairs = policy.expand(columns)
    (ranking,) = policy.arbitrate(pairs, np.full(len(pairs), propensity))
    values = {name: column[0] for name, column in columns.items()}
    rows = {offer.id: values | {"channel": offer.attributes["channel"]} for offer in policy.offers}
    moved = dict.fromkeys(explained_offers(ranking), MOVED)
    return ranking, Explainer(contract, policy.pairing.eligibility).explain(ranking, rows, moved)


def test_the_first_offer_gets_the_two_columns_that_moved_it_most(shop_contract: Contract) -> None:
    ranking, explanation = answered(shop_contract, WARRANTIES, 0.5)
    assert [entry.offer.id for entry in ranking.ranked] == ["full", "basic"]
    assert explanation.first == (
        "visits is 3, which lowers the propensity.",
        "region is north, which raises the propensity.",
    )
    assert explanation.withheld == (("Better offers fill the limit of its family.",),)


@pytest.mark.parametrize(
    ("text", "first"),
    [
        (AGED, "region is north, which raises the propensity."),
        (JUSTIFIED, "visits is 3, which lowers the propensity. (regulars know the shop)"),
    ],
)
def test_a_protected_column_is_told_with_its_justification_or_not_at_all(text: str, first: str) -> None:
    contract = contracts.parse(text)
    catalogue = WARRANTIES.replace("at_least: 1}", "at_least: 1, justification: newcomers come first}")
    assert answered(contract, catalogue, 0.5)[1].first[0] == first
    (_, explanation) = answered(contract, catalogue, 0.5, visits=0)
    assert explanation.withheld[0] == ("It requires visits at least 1; visits is 0. (newcomers come first)",)


def test_a_hostile_catalogue_gets_no_protected_column_into_the_reasons_without_its_justification() -> None:
    """Nested rules, negations and weights ask the protected column, and it moves the propensity most."""
    contract, why = contracts.parse(AGED), "justification: the insurer asks for it"
    either = (
        f"  - {{reason: NEW, any: [{{column: visits, at_least: 9}}, {{column: spending, at_least: 5000}}], {why}}}\n"
    )
    neither = f"  - {{reason: OLD, not: {{all: [{{column: visits, at_most: 9}}]}}, {why}}}\n"
    catalogue = WARRANTIES.replace("at_least: 1}", f"at_least: 1, {why}}}")
    catalogue = catalogue.replace("eligibility:\n", f"eligibility:\n{either}{neither}", 1)
    weight = f"{{when: {{column: visits, at_most: 20}}, weight: 0.01, {why}}}"
    catalogue = catalogue.replace("{when: {column: rating, at_least: 4}, weight: 2}", weight)
    for rules in (either, neither, weight):
        with pytest.raises(CatalogueError, match="visits, which is protected by contract shop: say in 'justification'"):
            policy_of(contract, catalogue.replace(rules, rules.replace(f", {why}", "")))
    for visits, propensity in ((3, 0.5), (3, 0.001), (30, 0.001), (99, 0.5)):
        _, explanation = answered(contract, catalogue, propensity, visits=visits)
        told = [sentence for sentences in (explanation.first, *explanation.withheld) for sentence in sentences]
        assert all("(the insurer asks for it)" in sentence for sentence in told if "visits" in sentence), told
        assert all(len(sentences) <= MOST_REASONS for sentences in explanation.withheld)


def test_an_offer_below_its_cost_gets_its_margin_and_what_lowers_its_propensity(shop_contract: Contract) -> None:
    ranking, explanation = answered(shop_contract, WARRANTIES, 0.01)
    by_offer = dict(zip([entry.offer.id for entry in ranking.withheld], explanation.withheld, strict=True))
    assert by_offer["full"] == (
        "Its expected margin, -3.10 EUR, does not pay for the contact.",
        "visits is 3, which lowers the propensity.",
        "member is yes, which lowers the propensity.",
    )


def test_at_most_four_reasons_and_what_is_not_known_is_said(shop_contract: Contract) -> None:
    rules = "".join(f"  - {{reason: NO_{k}, column: spending, at_least: {1000 * k + 1000}}}\n" for k in range(5))
    catalogue = WARRANTIES.replace("eligibility:\n", "eligibility:\n" + rules, 1)
    _, explanation = answered(shop_contract, catalogue, 0.5)
    assert [len(sentences) for sentences in explanation.withheld] == [4, 4, 4]
    assert explanation.withheld[0][0] == "It requires spending at least 1000; spending is 600 EUR."
    _, explanation = answered(shop_contract, WARRANTIES, 0.5, visits=99)
    assert explanation.withheld[0] == ("It requires visits at least 1; visits is not known.",)


def test_a_justification_belongs_to_a_protected_input() -> None:
    from offers.errors import ContractError

    with pytest.raises(ContractError, match="why a model may use a protected input"):
        contracts.parse(SHOP.replace("name: visits\n", "name: visits\n    justification: why not\n"))
