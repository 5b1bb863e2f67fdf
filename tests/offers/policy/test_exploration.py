import hashlib
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import chisquare, kstest

from offers.errors import PolicyError
from offers.policy.exploration import Exploration, uniform

NOWHERE = -np.inf
SCORES = arrays(np.float64, (3, 12), elements=st.sampled_from([NOWHERE, 0.0, 0.5, 3.0, 40.0, 1e9]))
KINDS = st.sampled_from(
    [
        Exploration(),
        Exploration(kind="softmax", temperature=0.01),
        Exploration(kind="softmax", temperature=5),
        Exploration(kind="epsilon", epsilon=0.2),
        Exploration(kind="epsilon", epsilon=1),
    ]
)


def test_softmax_over_euros() -> None:
    exploration = Exploration(kind="softmax", temperature=10)
    probabilities = exploration.probabilities(np.array([[10 * math.log(3), 0, NOWHERE], [5, 5, 5]]))
    assert probabilities == pytest.approx(np.array([[3 / 4, 1 / 4, 0], [1 / 3, 1 / 3, 1 / 3]]))


def test_epsilon_shares_itself_among_all_candidates() -> None:
    exploration = Exploration(kind="epsilon", epsilon=0.3)
    probabilities = exploration.probabilities(np.array([[1, 9, NOWHERE, 2], [NOWHERE, 4, NOWHERE, NOWHERE]]))
    assert probabilities == pytest.approx(np.array([[0.1, 0.8, 0, 0.1], [0, 1, 0, 0]]))


def test_without_exploration_the_best_is_certain() -> None:
    assert Exploration().probabilities(np.array([[1, 9, NOWHERE], [4, 4, 2]])).tolist() == [[0, 1, 0], [1, 0, 0]]
    assert Exploration().draw(np.array([[0.0, 1.0], [1.0, 0.0]]), None).tolist() == [1, 0]


@given(KINDS, SCORES)
def test_probabilities_sum_to_one_over_the_candidates(exploration: Any, score: Any) -> None:
    probabilities = exploration.probabilities(score)
    assert (probabilities >= 0).all()
    assert (probabilities[score == NOWHERE] == 0).all()
    assert probabilities.sum(axis=1) == pytest.approx((score > NOWHERE).any(axis=1).astype(float), abs=1e-12)


@given(KINDS, SCORES, st.lists(st.text(), min_size=3, max_size=3))
def test_draw_is_possible_and_the_same_alone_and_in_company(exploration: Any, score: Any, keys: Any) -> None:
    probabilities = exploration.probabilities(score)
    drawn = exploration.draw(probabilities, keys)
    for row, key in enumerate(keys):
        if (score[row] > NOWHERE).any():
            alone = exploration.probabilities(score[[row]])
            assert alone.tobytes() == probabilities[[row]].tobytes()
            assert exploration.draw(alone, [key]) == drawn[row]
            assert probabilities[row, drawn[row]] > 0


def test_frequencies_match_the_probabilities() -> None:
    n_draws = 20_000
    keys = [f"decision-{n}" for n in range(n_draws)]
    score = np.array([[NOWHERE, 2.0, 0.0, 3.5, 1.0, NOWHERE]])
    for exploration in (Exploration(kind="softmax", temperature=2), Exploration(kind="epsilon", epsilon=0.3)):
        probabilities = exploration.probabilities(score)
        drawn = exploration.draw(np.repeat(probabilities, n_draws, axis=0), keys)
        counts = np.bincount(drawn, minlength=score.shape[1])
        possible = probabilities[0] > 0
        assert counts[~possible].sum() == 0
        assert chisquare(counts[possible], n_draws * probabilities[0][possible]).pvalue > 0.001


def test_number_of_a_decision_is_the_documented_one() -> None:
    digest = hashlib.sha256(b"autumn\0decision-1").digest()
    assert (
        uniform("autumn", "decision-1") == (int.from_bytes(digest[:8], "big") >> 11) * 2.0**-53 == 0.29354898779090843
    )


def test_draw_is_the_documented_one() -> None:
    shares = np.array([[0.0, 0.2, 0.1, 0.0, 0.7], [0.3, 0.0, 0.0, 0.7, 0.0]])
    keys = [["decision-1", f"decision-{number}"] for number in range(200)]
    exploration = Exploration(kind="softmax", temperature=1, salt="autumn")
    for pair in keys:
        expected = [
            next(place for place in range(5) if sum(row[: place + 1]) > uniform("autumn", key) * sum(row))
            for row, key in zip(shares.tolist(), pair, strict=True)
        ]
        assert exploration.draw(shares, pair).tolist() == expected


def test_number_of_a_decision_is_uniform_and_follows_from_salt_and_key() -> None:
    numbers = [uniform("spring", f"decision-{n}") for n in range(20_000)]
    assert kstest(numbers, "uniform").pvalue > 0.001
    assert numbers[7] == uniform("spring", "decision-7") != uniform("autumn", "decision-7")
    # The first 53 bits of `printf '\0' | sha256sum`, 6e340b9cffb37a98…
    assert uniform("", "") == int("6e340b9cffb37a98", 16) // 2**11 / 2**53


@pytest.mark.parametrize(("number", "place"), [(0.0, 1), (0.55, 6), (1 - 2**-53, 10)])
def test_draw_never_leaves_the_candidates(monkeypatch: pytest.MonkeyPatch, number: float, place: int) -> None:
    monkeypatch.setattr("offers.policy.exploration.uniform", lambda salt, key: number)
    probabilities = np.array([[0, *[0.1] * 10, 0]])
    assert Exploration(kind="epsilon", epsilon=1).draw(probabilities, ["key"]).tolist() == [place]


def test_salt_changes_the_draws() -> None:
    probabilities, keys = np.full((64, 4), 0.25), [str(n) for n in range(64)]
    spring, autumn = (Exploration(kind="epsilon", epsilon=1, salt=salt) for salt in ("spring", "autumn"))
    assert spring.draw(probabilities, keys).tolist() == spring.draw(probabilities, keys).tolist()
    assert spring.draw(probabilities, keys).tolist() != autumn.draw(probabilities, keys).tolist()


@pytest.mark.parametrize(("keys", "got"), [(None, "none"), (["one"], "1")])
def test_each_customer_needs_a_key(keys: list[Any] | None, got: str) -> None:
    exploration = Exploration(kind="epsilon", epsilon=0.5)
    with pytest.raises(PolicyError, match=f"keys: expected a decision key for each of 2 customers, got {got}"):
        exploration.draw(np.full((2, 2), 0.5), keys)
