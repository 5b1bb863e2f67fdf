from cli.learn import CONTRACT, _equal_terms, _exploring
from offers.contract import contract as contracts
from offers.policy import catalogue as catalogues


def test_the_candidate_differs_from_what_serves_by_its_weights_alone() -> None:
    contract, plain = contracts.load(CONTRACT), catalogues.text(CONTRACT)
    shipped = catalogues.parse(plain, contract)
    exploring = catalogues.parse(_exploring(plain), contract)
    candidate = catalogues.parse(_equal_terms(_exploring(plain)), contract)
    assert (shipped.policy.exploration.kind, exploring.policy.exploration.kind) == ("none", "softmax")
    assert exploring.offers == shipped.offers
    assert {offer.weight for offer in candidate.offers} == {1.0}
    assert not any(offer.weights for offer in candidate.offers)
    assert [offer.value for offer in candidate.offers] == [offer.value for offer in shipped.offers]
