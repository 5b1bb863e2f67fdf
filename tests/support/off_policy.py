"""Decisions of a simulated bank whose policy explores, with what each offer is truly worth to each customer."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy.special import expit, logit

from offers.contract import contract as contracts
from offers.experiments.off_policy import Floats, Logged
from offers.experiments.places import PlacedDecisions, marginals
from offers.policy import catalogue as catalogues
from offers.policy.arbitration import Policy
from offers.policy.slates import slates
from offers.simulation.world import World

Kind = Literal["calibrated", "biased", "thin"]
EXPLORING = {"calibrated": 8.0, "biased": 8.0, "thin": 1.0}
"""Temperature of the softmax by which the incumbent draws, in EUR."""
LEVER = {"calibrated": 0.8, "biased": 0.8, "thin": 0.6}
"""The candidate's lever on the most valuable offers, by which it makes others."""


@dataclass(frozen=True)
class Pool:
    """Customers to draw decisions about; arrays of shape (n_customers, n_actions), the last action is nothing."""

    incumbent: Floats
    candidate: Floats
    expected: Floats
    acceptance: Floats
    value: Floats
    cost: Floats

    @property
    def earning(self) -> Floats:
        """The true expected reward."""
        return self.acceptance * self.value - self.cost

    @property
    def truth(self) -> float:
        return float(((self.candidate - self.incumbent) * self.earning).sum(axis=1).mean())

    @property
    def limits(self) -> tuple[Floats, Floats]:
        return -self.cost, self.value - self.cost

    def decisions(self, n_rows: int, generator: np.random.Generator, per_customer: int = 1) -> Logged:
        """Decisions about customers of the pool, each customer's beside one another."""
        customers = generator.integers(0, len(self.incumbent), -(-n_rows // per_customer)).repeat(per_customer)[:n_rows]
        incumbent = self.incumbent[customers]
        point = generator.random((n_rows, 1))
        action = np.minimum((incumbent.cumsum(axis=1) <= point).sum(axis=1), incumbent.shape[1] - 1)
        accepted = generator.random(n_rows) < self.acceptance[customers, action]
        reward = accepted * self.value[action] - self.cost[action]
        names = np.arange(n_rows) // per_customer
        return Logged(names, action, reward, incumbent, self.candidate[customers], self.expected[customers])


def pool(kind: Kind, n_customers: int = 4000, seed: int = 0) -> Pool:
    """Customers of bank-marketing. The model is calibrated or wrong by offer; the incumbent explores much or little."""
    contract = contracts.load("bank-marketing")
    catalogue = catalogues.load("bank-marketing", contract)
    world = World(contract, seed)
    sample = world.sample(n_customers, seed=1)
    inputs = [column.name for column in contract.inputs]
    columns = {name: plain(sample.frame[name]) for name in inputs}
    incumbent = exploring(catalogue, EXPLORING[kind], {})
    policy = Policy(incumbent, contract)
    pairs = policy.expand(columns)
    frame = pd.DataFrame({name: retyped(sample.frame[name], pairs.columns[name]) for name in inputs})
    true = world.propensity(frame, sample.decided_at[pairs.customer])
    believed = true
    if kind == "biased":
        shift = np.array([-0.6 if offer.family == "24-months" else 0.4 for offer in policy.offers])
        believed = expit(logit(true) + shift[pairs.offer])
    levers = {offer.id: LEVER[kind] for offer in catalogue.offers if offer.family == "24-months"}
    candidate = Policy(exploring(catalogue, 4.0, levers), contract)
    shares, expected = policy.first_place(pairs, believed)
    theirs = candidate.first_place(candidate.expand(columns), believed)[0]
    places = [candidate.offers.index(next(o for o in candidate.offers if o.id == offer.id)) for offer in policy.offers]
    acceptance = np.zeros(pairs.eligible.shape)
    acceptance[pairs.eligible] = true[pairs.row[pairs.eligible]]
    return Pool(
        with_nothing(shares),
        with_nothing(theirs[:, places]),
        np.hstack([expected, np.zeros((n_customers, 1))]),
        np.hstack([acceptance, np.zeros((n_customers, 1))]),
        np.array([*(offer.value for offer in policy.offers), 0.0]),
        np.array([*(offer.cost for offer in policy.offers), 0.0]),
    )


@dataclass(frozen=True)
class PlacePool:
    """Customers whose answers have places; slates are of shape (n_customers, n_offers, n_places), -1 where empty.

    Both policies draw the first place. A customer sees the offer at a place with the chance `SEEN`, unknown to both.
    """

    incumbent: tuple[Floats, np.ndarray]
    candidate: tuple[Floats, np.ndarray]
    acceptance: Floats
    value: Floats
    cost: Floats

    def truth(self, place: int) -> float:
        """The candidate's true earnings at a place minus the incumbent's, EUR per decision."""
        theirs, ours = (self._earning(shares, answers, place) for shares, answers in (self.candidate, self.incumbent))
        return theirs - ours

    def _earning(self, shares: Floats, answers: np.ndarray, place: int) -> float:
        offer = answers[:, :, place]
        margin = SEEN[place] * self.acceptance * self.value - self.cost
        own = np.take_along_axis(margin, offer.clip(0), axis=1)
        return float((shares * np.where(offer >= 0, own, 0)).sum(axis=1).mean())

    def decisions(self, n_rows: int, generator: np.random.Generator) -> PlacedDecisions:
        (shares, answers), (theirs, others) = self.incumbent, self.candidate
        customers = generator.integers(0, len(shares), n_rows)
        first = (shares[customers].cumsum(axis=1) <= generator.random((n_rows, 1))).sum(axis=1)
        offer = answers[customers, first.clip(max=shares.shape[1] - 1)]
        chance = SEEN * np.take_along_axis(self.acceptance[customers], offer.clip(0), axis=1)
        accepted = generator.random(offer.shape) < chance
        reward = np.where(offer >= 0, accepted * self.value[offer] - self.cost[offer], 0.0)
        return PlacedDecisions(
            np.arange(n_rows),
            offer % (shares.shape[1] + 1),
            reward,
            marginals(shares[customers], answers[customers]),
            marginals(theirs[customers], others[customers]),
        )


SEEN = np.array([1.0, 0.6, 0.3])
"""The chance that a customer sees the offer at a place."""


def place_pool(levers: bool, n_customers: int = 2000) -> PlacePool:
    """Customers of bank-marketing. The candidate explores less, and with levers also puts offers in another order."""
    contract = contracts.load("bank-marketing")
    catalogue = catalogues.load("bank-marketing", contract)
    world = World(contract, 0)
    sample = world.sample(n_customers, seed=1)
    inputs = [column.name for column in contract.inputs]
    policy = Policy(exploring(catalogue, 8.0, {}), contract)
    pairs = policy.expand({name: plain(sample.frame[name]) for name in inputs})
    frame = pd.DataFrame({name: retyped(sample.frame[name], pairs.columns[name]) for name in inputs})
    true = world.propensity(frame, sample.decided_at[pairs.customer])
    changes = {offer.id: 0.6 for offer in policy.offers if levers and offer.family == "24-months"}
    candidate = Policy(exploring(catalogue, 5.0, changes), contract)
    acceptance = np.zeros(pairs.eligible.shape)
    acceptance[pairs.eligible] = true[pairs.row[pairs.eligible]]
    answers = [
        (one.first_place(pairs, true)[0], slates(one, one.scores(pairs, true), len(SEEN)))
        for one in (policy, candidate)
    ]
    value, cost = ([getattr(offer, key) for offer in policy.offers] for key in ("value", "cost"))
    return PlacePool(*answers, acceptance, np.array(value), np.array(cost))


def exploring(catalogue: catalogues.Catalogue, temperature: float, levers: dict[str, float]) -> catalogues.Catalogue:
    content: dict[str, Any] = catalogue.model_dump(by_alias=True, exclude_defaults=True)
    content["policy"] = content.get("policy", {}) | {"exploration": {"kind": "softmax", "temperature": temperature}}
    for offer in content["offers"]:
        offer["lever"] = levers.get(offer["id"], 1.0)
    return catalogues.Catalogue.model_validate(content)


def with_nothing(shares: Floats) -> Floats:
    return np.hstack([shares, 1 - shares.sum(axis=1, keepdims=True)]).clip(0, 1)


def plain(cells: "pd.Series[Any]") -> np.ndarray:
    if isinstance(cells.dtype, pd.CategoricalDtype):
        return np.array([None if pd.isna(word) else word for word in cells.astype(object)], object)
    return cells.to_numpy(np.float64)


def retyped(cells: "pd.Series[Any]", values: np.ndarray) -> Any:
    return pd.Categorical(values, dtype=cells.dtype) if isinstance(cells.dtype, pd.CategoricalDtype) else values
