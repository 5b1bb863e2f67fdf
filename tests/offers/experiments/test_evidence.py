"""The decision log as evidence: decided by the ranker's own policy, shipped, read back, held against a candidate."""

import json
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from offers.contract.contract import Contract
from offers.decisions import log
from offers.decisions.records import DECISIONS
from offers.decisions.segment import sealed
from offers.decisions.shipping import ship
from offers.decisions.spool import Spool, SpoolLimits
from offers.errors import DataError
from offers.experiments.evidence import Evidence, evidence
from offers.experiments.off_policy import evaluate
from offers.experiments.places import PlacedDecisions
from offers.policy import catalogue as catalogues
from offers.reports.evidence import told
from offers.settings import Settings
from offers.store.delta import DeltaTables
from tests.support.decision_log import NOON, answered, outcome, policy_event
from tests.support.rankers import EXPLORING, policy_of, someone
from tests.support.warranties import WARRANTIES

LATER = NOON + timedelta(days=90)
REQUESTS, CUSTOMERS = 30, 20


@pytest.fixture
def shop_contract(shop_contract: Contract) -> Contract:
    """The shop, whose customers take thirty days at most."""
    target = shop_contract.target.model_copy(update={"matures_after_days": 30})
    return shop_contract.model_copy(update={"target": target})


def logged(contract: Contract, directory: Path, catalogue: str, every: int = 1) -> DeltaTables:
    """Decisions about made-up customers; every so-manieth decision is accepted, the others are not."""
    tables = DeltaTables.at(str(directory / "tables"), Settings())
    spool = Spool(directory / "spool", "pod", SpoolLimits())
    spool.append(policy_event(contract, catalogue))
    generator = np.random.default_rng(1)
    for request in range(REQUESTS):
        crowd = [
            someone(
                f"customer-{k}",
                spending=float(generator.integers(0, 2000)),
                visits=int(generator.integers(0, 20)),
                member=bool(generator.integers(2)),
            )
            for k in range(CUSTOMERS)
        ]
        answer = answered(contract, crowd, CUSTOMERS * request, catalogue=catalogue, seed=request)
        spool.append(log.decided(answer))
    accepted = [outcome(f"{k:032x}") for k in range(0, REQUESTS * CUSTOMERS, every)]
    spool.append(log.observed(accepted, NOON + timedelta(days=1), "r"))
    spool.seal()
    assert not [one for one in ship(spool.directory, tables) if one.refusal]
    assert sealed(spool.directory) == []
    return tables


def held(contract: Contract, tables: DeltaTables, catalogue: str) -> Evidence:
    candidate = catalogues.parse(catalogue, contract)
    return evidence(tables, candidate, contract, None, LATER, LATER)


def test_the_candidate_that_decided_differs_from_itself_by_nothing(shop_contract: Contract, tmp_path: Path) -> None:
    found = held(shop_contract, logged(shop_contract, tmp_path, EXPLORING, every=3), EXPLORING)
    np.testing.assert_allclose(found.logged.candidate, found.logged.incumbent, atol=1e-12)
    np.testing.assert_allclose(found.logged.weight, 1)
    offers = policy_of(shop_contract, EXPLORING).offers
    earned = np.isin(found.logged.reward, [*(o.value - o.cost for o in offers), *(-o.cost for o in offers), 0.0])
    assert earned.all()
    judged = evaluate(found.logged, found.lowest, found.highest)
    assert (judged.n_decisions, judged.n_customers) == (REQUESTS * CUSTOMERS, CUSTOMERS)
    assert all(abs(difference.value) < 1e-9 for difference in judged.differences.values())
    assert judged.agreement < 1
    assert judged.effective == pytest.approx(REQUESTS * CUSTOMERS)


def test_its_first_places_are_those_that_its_policy_would_draw_by(shop_contract: Contract, tmp_path: Path) -> None:
    found = held(shop_contract, logged(shop_contract, tmp_path, EXPLORING), WARRANTIES)
    assert np.isin(found.logged.candidate, [0, 1]).all()
    explored = found.logged.incumbent[:, :-1]
    best = np.where(explored > 0, explored, -1).argmax(axis=1)
    some = explored.any(axis=1)
    # A softmax and the plain order agree on the likeliest offer.
    assert (found.logged.candidate[some].argmax(axis=1) == best[some]).all()
    text = "\n".join(told(found, 30))
    assert "switch_dr" in text
    assert "nobody told what was presented" in text


def test_what_its_own_probabilities_do_not_allow_is_left_out_and_counted(
    shop_contract: Contract, tmp_path: Path
) -> None:
    tables = logged(shop_contract, tmp_path, EXPLORING, every=3)
    whole = held(shop_contract, tables, EXPLORING)
    rows = tables.open(DECISIONS).to_pyarrow_table().to_pylist()
    for row in rows[:3]:
        row["writer"] = "foreign"
        for pair in row["pairs"]:
            pair["action_probability"] = 0.5 if pair["offer_id"] != row["offer_id"] else 0.0
    first = {row["decision_id"] for row in rows[:3]}
    schema = tables.open(DECISIONS).to_pyarrow_table().schema
    tables.open(DECISIONS).delete(f"decision_id IN ({', '.join(map(repr, first))})")
    tables.append(DECISIONS, pa.Table.from_pylist(rows[:3], schema), "foreign", 0)
    found = held(shop_contract, tables, EXPLORING)
    assert found.impossible == 3 - sum(row["offer_id"] is None for row in rows[:3])
    assert len(found.logged.action) == len(whole.logged.action) - found.impossible
    assert f"{found.impossible} impossible by their own probabilities" in "\n".join(told(found, 30))


def test_where_impressions_are_told_the_others_are_left_out(shop_contract: Contract, tmp_path: Path) -> None:
    tables = logged(shop_contract, tmp_path, EXPLORING, every=3)
    offered = int((held(shop_contract, tables, EXPLORING).logged.incumbent[:, -1] < 1).sum())
    spool = Spool(tmp_path / "spool", "impressions", SpoolLimits())
    shown = [outcome(f"{k:032x}", "presented") for k in range(REQUESTS * CUSTOMERS // 2)]
    spool.append(log.observed(shown, NOON + timedelta(days=1), "r"))
    spool.seal()
    list(ship(spool.directory, tables))
    found = held(shop_contract, tables, EXPLORING)
    assert found.labels.impressions == len(shown)
    assert found.unseen + len(found.logged.action) == REQUESTS * CUSTOMERS
    assert offered / 4 < found.unseen < offered / 2
    assert "not presented" in "\n".join(told(found, 30))


def test_offers_below_the_first_place_have_a_table_of_their_own(shop_contract: Contract, tmp_path: Path) -> None:
    tables = logged(shop_contract, tmp_path, EXPLORING, every=3)
    silent = held(shop_contract, tables, EXPLORING)
    assert silent.places == "nobody told an outcome of an offer below the first place"
    answers = [json.loads(text) for text in tables.open(DECISIONS).to_pyarrow_table()["answer"].to_pylist()]
    second = {one["decision_id"]: one["offers"][1]["offer_id"] for one in answers if len(one["offers"]) > 1}
    accepted = sorted(second)[::4]
    spool = Spool(tmp_path / "spool", "below", SpoolLimits())
    told_below = [outcome(name, offer_id=second[name]) for name in accepted]
    spool.append(log.observed([*told_below, outcome(accepted[0], offer_id="web-never-shown")], LATER, "r"))
    spool.seal()
    list(ship(spool.directory, tables))
    found = held(shop_contract, tables, EXPLORING)
    assert isinstance(found.places, PlacedDecisions)
    offers = {offer.id: offer for offer in policy_of(shop_contract, EXPLORING).offers}
    gains = found.places.reward[:, 1] > 0
    assert gains.sum() == sum(offers[second[name]].value > offers[second[name]].cost for name in accepted)
    np.testing.assert_allclose(found.places.reward[:, 0], found.logged.reward)
    np.testing.assert_allclose(found.places.incumbent[:, 0], found.logged.incumbent, atol=1e-9)
    np.testing.assert_allclose(found.places.weight, 1)
    text = "\n".join(told(found, 30))
    assert "place         EUR per decision more than the log" in text
    assert "\nall " in text
    # The plain order always has the runner-up second, and the log shows it there wherever the best was drawn.
    plain = held(shop_contract, tables, WARRANTIES)
    assert isinstance(plain.places, PlacedDecisions)
    assert plain.places.unsupported.max() == 0


def test_without_exploration_the_log_tells_bounds_and_what_an_answer_costs(
    shop_contract: Contract, tmp_path: Path
) -> None:
    tables = logged(shop_contract, tmp_path, WARRANTIES, every=4)
    text = "\n".join(told(held(shop_contract, tables, EXPLORING), 30))
    assert "nothing was explored" in text
    assert "epsilon" in text or "no exploration would answer" in text
    same = "\n".join(told(held(shop_contract, tables, WARRANTIES), 30))
    assert "agree on 100.0% of the choices" in same
    assert "the difference is from +0.00 to +0.00 EUR" in same or "from -0.00 to" in same


def test_young_decisions_are_left_out_and_counted(shop_contract: Contract, tmp_path: Path) -> None:
    tables = logged(shop_contract, tmp_path, EXPLORING, every=3)
    spool = Spool(tmp_path / "spool", "late", SpoolLimits())
    late = answered(shop_contract, [someone("late")], 10**6, NOON + timedelta(days=9), EXPLORING)
    spool.append(log.decided(late))
    spool.seal()
    list(ship(spool.directory, tables))
    candidate, ripe = catalogues.parse(EXPLORING, shop_contract), NOON + timedelta(days=31)
    found = evidence(tables, candidate, shop_contract, None, ripe, ripe)
    assert (found.unripe, len(found.logged.action)) == (1, REQUESTS * CUSTOMERS)
    # Who accepts is known at once and who does not after the window: to take the first alone would flatter.
    with pytest.raises(DataError, match="the outcome of none is known"):
        evidence(tables, candidate, shop_contract, None, ripe, NOON + timedelta(days=29))


def test_a_candidate_that_asks_for_more_than_was_scored_needs_a_bundle(shop_contract: Contract, tmp_path: Path) -> None:
    tables = logged(shop_contract, tmp_path, EXPLORING)
    candidate = catalogues.parse(EXPLORING, shop_contract)
    looser = candidate.model_copy(
        update={
            "eligibility": (),
            "suitability": (),
            "families": tuple(f.model_copy(update={"eligibility": (), "suitability": ()}) for f in candidate.families),
            "offers": tuple(o.model_copy(update={"eligibility": (), "suitability": ()}) for o in candidate.offers),
        }
    )
    with pytest.raises(DataError, match="propensities that were not logged"):
        evidence(tables, looser, shop_contract, None, LATER, LATER)
    found = evidence(tables, looser, shop_contract, None, LATER, LATER, lambda columns: np.full(
        len(next(iter(columns.values()))), 0.3))  # fmt: skip
    assert found.logged.candidate.sum() == pytest.approx(len(found.logged.action))
