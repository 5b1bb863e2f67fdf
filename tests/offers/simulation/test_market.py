"""The simulated market against its own truth: views, positions, funnel, delays, seasons, arrivals and shifts."""

import tracemalloc
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2

from offers.contract import market as markets
from offers.contract.market import Market
from offers.errors import SourceError
from offers.simulation import choices
from offers.simulation.market import SimulatedMarket
from offers.simulation.preferences import USERS
from offers.simulation.shifts import TasteShift

PLAIN = {"users": 3000, "products": 30, "new_users": 0.0, "new_products": 0.0, "season": 0.0}


def small(**simulation: Any) -> Market:
    market = markets.load("fintech")
    return market.model_copy(update={"simulation": market.simulation.model_copy(update=PLAIN | simulation)})


def drawn(simulated: SimulatedMarket) -> tuple[pd.DataFrame, pd.DataFrame]:
    blocks = list(simulated.blocks())
    users, interactions = [block.users for block in blocks], [block.interactions for block in blocks]
    return pd.concat(users, ignore_index=True), pd.concat(interactions, ignore_index=True)


@pytest.fixture(scope="module")
def plain() -> tuple[SimulatedMarket, pd.DataFrame]:
    simulated = SimulatedMarket(small(), seed=3)
    return simulated, drawn(simulated)[1]


def p_value(counts: np.ndarray, expected: np.ndarray) -> float:
    return float(chi2.sf(((counts - expected) ** 2 / expected).sum(), len(counts) - 1))


def test_views_go_by_preference_and_by_what_is_looked_at(plain: tuple[SimulatedMarket, pd.DataFrame]) -> None:
    simulated, interactions = plain
    views = interactions[interactions.event == "view"]
    preference = simulated.preference(np.arange(3000))
    np.testing.assert_allclose(preference.sum(axis=1), 1)
    weight = preference * simulated.listing.looked_at
    expected = (weight / weight.sum(axis=1, keepdims=True)).sum(axis=0)
    counts = np.bincount(views.product_id.cat.codes, minlength=30)
    assert abs(len(views) / 3000 - 20) < 0.5
    assert p_value(counts, expected * len(views) / 3000) > 1e-4
    assert p_value(counts, preference.sum(axis=0) * len(views) / 3000) < 1e-9, "position has no bias"


def test_positions_are_looked_at_by_the_power_law(plain: tuple[SimulatedMarket, pd.DataFrame]) -> None:
    simulated, interactions = plain
    views = interactions[interactions.event == "view"]
    looks = np.arange(1, 31) ** -0.5
    for place in (0, 1, 2):
        rank = int(simulated.listing.ranks[place])
        mine = views[views.product_id.cat.codes == place]
        shown = looks / 30 / 2
        shown[rank - 1] += looks[rank - 1] / 2
        counts = np.bincount(mine.position, minlength=31)[1:]
        assert p_value(counts, shown / shown.sum() * len(mine)) > 1e-4


def test_each_step_follows_with_its_true_probability(plain: tuple[SimulatedMarket, pd.DataFrame]) -> None:
    simulated, interactions = plain
    chances = simulated.chances(np.arange(3000))
    before = "view"
    for event, chance in chances.items():
        rows = interactions[interactions.event == before]
        asked = chance[rows.user_id, rows.product_id.cat.codes]
        followers = (interactions.event == event).sum()
        spread = np.sqrt((asked * (1 - asked)).sum())
        # What comes after the last day is not there yet: a few hours of applications, four days of approvals.
        assert -5 * spread - 0.02 * asked.sum() < followers - asked.sum() < 5 * spread, event
        before = event
    assert abs(chances["click"].mean() - 0.25) > 0.01, "the typical share is that of views, not that of all pairs"
    clicks, views = ((interactions.event == name).sum() for name in ("click", "view"))
    assert abs(clicks / views - 0.25) < 0.02


def test_nobody_is_approved_below_what_the_product_asks(plain: tuple[SimulatedMarket, pd.DataFrame]) -> None:
    simulated, interactions = plain
    users = drawn(simulated)[0].set_index("user_id")
    products = simulated.products.set_index("product_id")
    reaches = {}
    for event in ("application", "approval"):
        rows = interactions[interactions.event == event]
        income = users.income.reindex(rows.user_id).to_numpy()
        reaches[event] = ~(income < products.income_needed.reindex(rows.product_id).to_numpy())
    assert not reaches["application"].all()
    assert reaches["approval"].all()


def test_delays_have_their_mean() -> None:
    market = small(views=1)
    events = tuple(event.model_copy(update={"typical": event.typical and 0.9}) for event in market.events)
    interactions = drawn(SimulatedMarket(market.model_copy(update={"events": events}), seed=4))[1]
    keys = ["user_id", "product_id"]
    clicks, applications = (interactions[interactions.event == event] for event in ("click", "application"))
    # Where a user clicks a product twice, nothing says which click an application follows.
    pairs = clicks.drop_duplicates(keys, keep=False).merge(applications, on=keys)
    hours = (pairs.at_y - pairs.at_x).dt.total_seconds() / 3600
    assert len(hours) > 1000
    assert abs(hours.mean() - 20) < 5 * 20 / np.sqrt(len(hours))


def test_seasons_and_arrivals() -> None:
    simulated = SimulatedMarket(small(season=0.8, new_users=0.4, new_products=0.3, days=730, views=40), seed=5)
    users, interactions = drawn(simulated)
    joined = users.set_index("user_id").joined_at
    launched = simulated.products.set_index("product_id").launched_at
    start = pd.Timestamp("2025-01-01")
    assert abs((joined > start).mean() - 0.4) < 0.05
    assert (interactions["at"] >= joined.reindex(interactions.user_id).to_numpy()).all()
    assert (interactions["at"] >= launched.reindex(interactions.product_id.astype(str)).to_numpy()).all()
    assert interactions["at"].max() < start + pd.Timedelta(days=730)
    products = simulated.products.set_index("product_id")
    views = interactions[interactions.event == "view"].assign(product_id=lambda rows: rows.product_id.astype(str))
    views = views.join(products[["kind", "launched_at"]], on="product_id").query("launched_at < @start")
    monthly = views.groupby(["kind", views["at"].dt.month], observed=True).size().unstack()
    ratio = monthly.max(axis=1) / monthly.min(axis=1)
    assert (ratio > 2).all()
    assert 20 * 3000 < (interactions.event == "view").sum() < 40 * 3000


def test_a_user_is_the_same_in_a_market_of_any_number_of_users() -> None:
    few, many = (SimulatedMarket(small(users=users, views=4), seed=1) for users in (USERS + 50, 2 * USERS))
    users, interactions = drawn(few)
    more_users, more = drawn(many)
    pd.testing.assert_frame_equal(users, more_users[: USERS + 50])
    same = more[more.user_id < USERS + 50]
    pd.testing.assert_frame_equal(interactions.reset_index(drop=True), same.reset_index(drop=True))
    assert not drawn(SimulatedMarket(small(users=50), seed=2))[1].equals(interactions[interactions.user_id < 50])
    chosen = np.array([USERS + 7, 3, USERS + 7])
    # The last bits of a matrix product depend on how many rows it has.
    np.testing.assert_allclose(few.preference(chosen), many.preference(np.arange(2 * USERS))[chosen], rtol=1e-12)


def test_tastes_shift_on_their_day_and_nothing_before_it_changes() -> None:
    still, moved = SimulatedMarket(small(), seed=2), SimulatedMarket(small(), seed=2, shifts=[TasteShift(200, 0.5)])
    users = np.arange(500)
    np.testing.assert_array_equal(moved.utility(users, 199), still.utility(users))
    shifted = moved.utility(users, 200)
    assert -0.3 < np.corrcoef(shifted.ravel(), still.utility(users).ravel())[0, 1] < 0.5
    day = pd.Timestamp("2025-01-01") + pd.Timedelta(days=200)
    before, after = (drawn(one)[1].query("event == 'view'") for one in (still, moved))
    parts = [rows[rows["at"] < day].reset_index(drop=True) for rows in (before, after)]
    pd.testing.assert_frame_equal(parts[0].drop(columns="position"), parts[1].drop(columns="position"))
    late = after[after["at"] >= day]
    weights = [one.preference(np.arange(3000), 300) for one in (still, moved)]
    likelihoods = [np.log(weight[late.user_id, late.product_id.cat.codes]).mean() for weight in weights]
    assert likelihoods[1] > likelihoods[0] + 1


def test_memory_stays_the_same_at_any_size() -> None:
    peaks = []
    for users in (2 * USERS, 5 * USERS):
        simulated = SimulatedMarket(small(users=users, views=5), seed=1)
        tracemalloc.start()
        for _ in simulated.blocks():
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0]


def test_a_contract_without_categories_pairs_or_further_events_has_a_market() -> None:
    market = markets.parse(
        """\
name: bare
title: Bare
users: {file: u.csv, key: user, time: since}
products: {file: p.csv, key: product, time: since}
interactions: {file: i.csv}
columns:
  - {name: a, role: customer, type: number}
  - {name: b, role: offer, type: number}
events: [{name: view}]
simulation: {users: 100, products: 2, start: 2024-02, views: 3}
"""
    )
    users, interactions = drawn(SimulatedMarket(market))
    assert len(users) == 100
    assert set(interactions.event) == {"view"}
    assert SimulatedMarket(market).chances(np.array([1])) == {}


def test_what_is_out_of_range_is_refused() -> None:
    with pytest.raises(SourceError, match=r"seed >= 0 and shifts with shares in \[0, 1\], got seed -1"):
        SimulatedMarket(small(), seed=-1)
    with pytest.raises(SourceError, match="share=2"):
        SimulatedMarket(small(), shifts=[TasteShift(1, 2)])


def test_choices_have_the_shares_of_their_weights() -> None:
    weights = np.array([[1.0, 3.0, 0.0], [0.0, 0.0, 2.0]])
    rows = np.repeat([0, 1], 4000)
    products = choices.chosen(weights, rows, np.random.default_rng(1).random(8000))
    assert abs((products[:4000] == 1).mean() - 0.75) < 0.03
    assert (products[4000:] == 2).all()
