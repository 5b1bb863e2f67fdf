"""Estimates by place: against the simulated world's truth, and against an implementation written plainly."""

from functools import cache

import numpy as np
import pytest

from offers.contract.contract import Contract
from offers.errors import DataError
from offers.experiments.places import PlacedDecisions, evaluate, marginals
from offers.policy.slates import slates
from tests.support.off_policy import place_pool
from tests.support.rankers import EXPLORING, policy_of, someone, typed

N_ROWS = 2000
pooled = cache(place_pool)


def test_an_answer_follows_from_its_first_draw(shop_contract: Contract) -> None:
    policy = policy_of(shop_contract, EXPLORING)
    generator = np.random.default_rng(2)
    crowd = [
        someone(f"c{n}", spending=float(generator.integers(2000)), member=bool(n % 2), visits=int(n % 20))
        for n in range(60)
    ]
    pairs = policy.expand(typed(crowd))
    propensity = generator.random(len(pairs))
    ks = [None, 1, 2] * 20
    answers = slates(policy, policy.scores(pairs, propensity), ks)
    names = [offer.id for offer in policy.offers]
    drawn = set[int]()
    for round_number in range(20):
        rankings = policy.arbitrate(pairs, propensity, ks, [f"{round_number}-{n}" for n in range(60)])
        for customer, ranking in enumerate(rankings):
            answer = [names.index(entry.offer.id) for entry in ranking.ranked]
            slate = answers[customer, answer[0]] if answer else np.full(answers.shape[2], -1)
            drawn.update(answer[:1])
            assert slate.tolist() == answer + [-1] * (answers.shape[2] - len(answer))
    assert len(drawn) > 1


def test_marginals_of_a_place_sum_to_one_and_agree_with_many_draws() -> None:
    world = pooled(False)
    shares, answers = world.incumbent
    exact = marginals(shares, answers)
    np.testing.assert_allclose(exact.sum(axis=2), 1)
    some = (shares > 0).sum(axis=1).argmax()
    drawn = np.random.default_rng(4).choice(shares.shape[1], 200_000, p=shares[some])
    counts = np.bincount(answers[some, drawn, 1] % (shares.shape[1] + 1), minlength=shares.shape[1] + 1)
    np.testing.assert_allclose(exact[some, 1], counts / len(drawn), atol=0.005)


def test_it_agrees_with_one_written_plainly() -> None:
    decisions = pooled(False).decisions(300, np.random.default_rng(1))
    world_terms = [plain_terms(decisions, row) for row in range(300)]
    found = evaluate(decisions)
    for place, difference in enumerate(found.places):
        assert difference.difference is not None
        terms = [term[place] for term in world_terms]
        assert difference.difference.value == pytest.approx(sum(terms) / 300, abs=1e-9)
        mean, count = sum(terms) / 300, 300
        half = 1.959963984540054 * (sum((t - mean) ** 2 for t in terms) * count / (count - 1)) ** 0.5 / count
        assert difference.difference.high == pytest.approx(mean + half, abs=1e-9)
    assert found.total is not None
    assert found.total.value == pytest.approx(sum(map(sum, world_terms)) / 300, abs=1e-9)


def plain_terms(decisions: PlacedDecisions, row: int) -> list[float]:
    terms = []
    for place, offer in enumerate(decisions.offer[row]):
        ours, theirs = decisions.incumbent[row, place, offer], decisions.candidate[row, place, offer]
        terms.append(float((theirs / ours - 1) * decisions.reward[row, place]))
    return terms


@pytest.mark.parametrize(
    ("worlds", "lowest", "highest"), [(100, 0.87, 1.0), pytest.param(500, 0.92, 0.98, marks=pytest.mark.nightly)]
)
def test_intervals_hold_the_truth_of_each_place(worlds: int, lowest: float, highest: float) -> None:
    world, generator = pooled(False), np.random.default_rng(9)
    truths = [world.truth(place) for place in range(3)]
    inside, values = np.zeros(4), list[list[float]]()
    for _ in range(worlds):
        found = evaluate(world.decisions(N_ROWS, generator))
        differences = [*(place.difference for place in found.places), found.total]
        values.append([])
        for place, (difference, truth) in enumerate(zip(differences, [*truths, sum(truths)], strict=True)):
            assert difference is not None
            inside[place] += difference.low <= truth <= difference.high
            values[-1].append(difference.value)
    assert ((inside / worlds >= lowest) & (inside / worlds <= highest)).all(), inside / worlds
    errors = np.std(values, axis=0) / np.sqrt(worlds)
    assert (np.abs(np.mean(values, axis=0) - [*truths, sum(truths)]) < 4 * errors).all()


def test_another_order_below_the_first_place_is_refused() -> None:
    found = evaluate(pooled(True).decisions(N_ROWS, np.random.default_rng(1)))
    assert [bool(place.refusal) for place in found.places] == [False, True, True]
    assert "were never shown here" in found.places[1].refusal
    assert found.total is None
    assert found.places[0].unsupported == 0


@pytest.mark.parametrize("broken", ["never shown", "rows", "offers"])
def test_what_can_not_be_is_refused(broken: str) -> None:
    decisions = pooled(False).decisions(10, np.random.default_rng(1))
    incumbent, candidate = decisions.incumbent.copy(), decisions.candidate
    if broken == "never shown":
        incumbent[0, 0] = np.eye(incumbent.shape[2])[decisions.offer[0, 0] - 1]
    if broken == "rows":
        incumbent = incumbent[1:]
    if broken == "offers":
        candidate = candidate[..., :-1]
    with pytest.raises(DataError, match="places: expected"):
        PlacedDecisions(decisions.customer, decisions.offer, decisions.reward, incumbent, candidate)
