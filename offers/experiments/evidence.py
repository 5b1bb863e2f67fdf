"""Evidence from the decision log: logged decisions and their outcomes, prepared for evaluating a candidate."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property

import numpy as np
import pandas as pd
import pyarrow as pa

from offers.contract.contract import Contract
from offers.decisions import history, outcomes
from offers.decisions.history import Kept
from offers.decisions.outcomes import Labels
from offers.decisions.pieces import Everything, Sample
from offers.errors import DataError
from offers.experiments import off_policy
from offers.experiments.off_policy import Evaluation, Floats, Logged
from offers.experiments.place_evidence import by_place
from offers.experiments.places import PlacedDecisions, PlaceEvaluation, evaluate
from offers.policy.arbitration import Policy
from offers.policy.catalogue import Catalogue, Offer
from offers.policy.pairs import Pairs
from offers.store.delta import DeltaTables

Score = Callable[[Mapping[str, np.ndarray]], np.ndarray]
"""A bundle's scoring function: contract columns to propensities."""

_COLUMNS = [
    "decided_at", "decision_id", "customer", "catalogue", "fallback", "asked", "k", "inputs", "pairs", "offer_id"
]  # fmt: skip


@dataclass(frozen=True)
class Evidence:
    """Decisions on which a candidate can be evaluated, and the numbers of those that were left out.

    Attributes
    ----------
    lowest, highest : ndarray, shape (n_actions,), EUR, the least and the most that each action can earn
    labels : how outcomes were used
    fallback, erased, unripe, unseen, impossible : numbers of decisions that were left out
        because they were made without the predictor; their inputs were erased; their label is not known yet; no
        impression was reported for them, although impressions are reported for others; by the log's own probabilities
        they can't have been made
    days : days between the first decision and the last
    places : the same decisions by place; or the reason why there are none
    share : of the customers whose decisions were read, in (0, 1]
    """

    logged: Logged
    lowest: Floats
    highest: Floats
    labels: Labels
    fallback: int
    erased: int
    unripe: int
    unseen: int
    impossible: int
    days: float
    places: PlacedDecisions | str
    share: float = 1.0

    @cached_property
    def verdict(self) -> Evaluation:
        """The candidate compared with the policy that decided, by the first place."""
        return off_policy.evaluate(self.logged, self.lowest, self.highest)

    @cached_property
    def by_place(self) -> PlaceEvaluation | str:
        """The candidate compared place by place; or the reason why it can't be."""
        return self.places if isinstance(self.places, str) else evaluate(self.places)


def evidence(
    tables: DeltaTables,
    candidate: Catalogue,
    contract: Contract,
    since: datetime | None,
    until: datetime,
    as_of: datetime,
    score: Score | None = None,
    sample: Sample | None = None,
) -> Evidence:
    """Read the decisions of a period, and compute what the candidate would have done.

    Values and costs come from the catalogues that decided; for an offer that only the candidate has, from itself.

    Parameters
    ----------
    candidate, contract : the catalogue to be evaluated, loaded with its contract
    score : scoring function of the candidate's bundle; by default the logged propensities are used
    sample : reads some of the customers; by default all

    Raises
    ------
    SourceError
        there is no log
    DataError
        no decision is left; a catalogue is not in the log; the candidate needs a propensity that was not logged
    """
    table, share = (sample or Everything()).read(tables, _COLUMNS, since, until)
    usable, fallback, erased = _usable(table)
    versions = _of_contract(history.kept(tables), usable, contract)
    frame = usable.select(["decision_id", "decided_at", "offer_id"]).to_pandas()
    reported = outcomes.read(tables)
    labels = outcomes.label(frame, reported, as_of, timedelta(days=contract.target.matures_after_days))
    ripe, unseen = _ripe(labels, frame["offer_id"].notna().to_numpy())
    mask = ripe & ~unseen
    if not mask.any():
        told = f"{len(table)} decisions were read, and the outcome of none is known at {as_of:%Y-%m-%d %H:%M}"
        raise DataError(f"{told}: 'offers outcomes load' brings outcomes")
    offers = _offers(versions, candidate)
    judged_rows, known, possible = _judged(usable.filter(pa.array(mask)), list(offers))
    logged = _logged(judged_rows, known, offers, candidate, contract, labels.outcome[mask][possible], score)
    value, cost = (np.array([*(getattr(offer, key) for offer in offers.values()), 0.0]) for key in ("value", "cost"))
    days = (frame["decided_at"].max() - frame["decided_at"].min()) / pd.Timedelta(days=1)
    places: PlacedDecisions | str = "nothing was explored"
    if not logged.deterministic:
        places = by_place(judged_rows, offers, versions, Policy(candidate, contract), contract, reported, as_of, score)
    left_out = fallback, erased, int((~ripe).sum()), int(unseen.sum()), int((~possible).sum())
    return Evidence(logged, -cost, value - cost, labels, *left_out, days, places, share)


def _ripe(labels: Labels, offered: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mark the decisions whose label is known, and those of them that nobody has seen.

    An answer is not an impression. Only where no impressions are reported does each first place count as one.
    """
    ripe = labels.mature & ~(np.isnan(labels.outcome) & offered)
    return ripe, ripe & ~labels.presented & offered & bool(labels.impressions)


def _usable(table: pa.Table) -> tuple[pa.Table, int, int]:
    fallback = table["fallback"].to_numpy(zero_copy_only=False).astype(bool)
    erased = table["inputs"].is_null().to_numpy(zero_copy_only=False).astype(bool) & ~fallback
    if (usable := ~(fallback | erased)).any():
        return table.filter(pa.array(usable)), int(fallback.sum()), int(erased.sum())
    raise DataError(
        f"expected decisions of a policy, got none: {fallback.sum()} were made without the predictor and "
        f"{erased.sum()} are erased"
    )


def _judged(table: pa.Table, ids: list[str]) -> tuple[pa.Table, dict[str, Floats], np.ndarray]:
    """Leave out decisions whose probabilities are none, or gave the first offer none.

    Returns
    -------
    tuple
        the others; their logged figures, as `history.propensities` arranges them; which ones they are

    Raises
    ------
    DataError
        there are no others
    """
    known, action = history.propensities(table["pairs"], ids), _actions(table, ids)
    shares = np.nan_to_num(known["action_probability"])
    taken = _with_nothing(shares)[np.arange(len(action)), action] > 0
    possible = taken & (shares >= 0).all(axis=1) & (shares.sum(axis=1) <= 1 + 1e-6)
    if not possible.any():
        raise DataError(f"expected decisions that their own probabilities allow, got none among {len(action)}")
    if not possible.all():
        table, known = table.filter(pa.array(possible)), {name: values[possible] for name, values in known.items()}
    return table, known, possible


def _actions(table: pa.Table, ids: list[str]) -> np.ndarray:
    """The first offer of each decision, by its place in `ids`; their number stands for none."""
    first = pd.Index(ids).get_indexer(table["offer_id"].to_pandas())
    return np.where(first < 0, len(ids), first).astype(np.intp)


def _of_contract(kept: Mapping[str, Kept], table: pa.Table, contract: Contract) -> dict[str, Kept]:
    names = sorted(set(table["catalogue"].to_pylist()))
    if absent := [name for name in names if name not in kept]:
        raise DataError(f"catalogue {absent[0]}: expected it among the log's policies, found none")
    for name in names:
        if kept[name].contract.name != contract.name:
            theirs = kept[name].contract.name
            raise DataError(f"catalogue {name} is for contract {theirs!r}, and the candidate for {contract.name!r}")
    return {name: kept[name] for name in names}


def _offers(kept: Mapping[str, Kept], candidate: Catalogue) -> dict[str, Offer]:
    """Collect all offers by id; where several catalogues have an offer, the last catalogue that decided counts."""
    by_id = {offer.id: offer for offer in candidate.offers}
    return by_id | {offer.id: offer for one in kept.values() for offer in one.catalogue.offers}


def _logged(
    table: pa.Table,
    logged: Mapping[str, Floats],
    offers: Mapping[str, Offer],
    candidate: Catalogue,
    contract: Contract,
    outcome: np.ndarray,
    score: Score | None,
) -> Logged:
    ids = list(offers)
    value, cost = (np.array([*(getattr(offer, key) for offer in offers.values()), 0.0]) for key in ("value", "cost"))
    action = _actions(table, ids)
    reward = np.where(action == len(ids), 0.0, np.nan_to_num(outcome) * value[action] - cost[action])
    shares, propensity = _candidate(table, ids, candidate, contract, logged["propensity"], score)
    estimate = np.where(np.isnan(logged["propensity"]), propensity, logged["propensity"])
    expected = np.hstack([estimate * value[:-1] - cost[:-1], np.zeros((len(action), 1))])
    incumbent = _with_nothing(np.nan_to_num(logged["action_probability"]))
    customer = table["customer"].to_numpy(zero_copy_only=False)
    return Logged(customer, action, reward, incumbent, _with_nothing(shares), expected)


def _candidate(
    table: pa.Table,
    ids: list[str],
    candidate: Catalogue,
    contract: Contract,
    logged: Floats,
    score: Score | None,
) -> tuple[Floats, Floats]:
    """Compute the candidate's probabilities of the first place, and the propensities that it uses, in order of ids."""
    policy = Policy(candidate, contract)
    columns = history.inputs_of(table["inputs"].to_pylist(), contract)
    mine = {offer.id for offer in policy.offers}
    choices = [None if one is None else [name for name in one if name in mine] for one in table["asked"].to_pylist()]
    pairs = policy.expand(columns, choices)
    places = [ids.index(offer.id) for offer in policy.offers]
    propensity = score(pairs.columns) if score else _known(pairs, logged[:, places])
    if missing := int(np.isnan(propensity).sum()):
        raise DataError(
            f"the candidate asks for {missing} propensities that were not logged, since its rules let more pass or an "
            "offer is new: name the bundle that is to score them"
        )
    shares, theirs = np.zeros(logged.shape), np.full(logged.shape, np.nan)
    shares[:, places] = policy.first_place(pairs, propensity)[0]
    row, place = np.nonzero(pairs.eligible)
    theirs[row, np.array(places)[place]] = propensity[pairs.row[row, place]]
    return shares, theirs


def _known(pairs: Pairs, logged: Floats) -> Floats:
    """Look up the logged propensity of each row to be scored; NaN where there is none."""
    propensity = np.full(len(pairs), np.nan)
    there = pairs.eligible & ~np.isnan(logged)
    propensity[pairs.row[there]] = logged[there]
    return propensity


def _with_nothing(shares: Floats) -> Floats:
    rest = (1 - shares.sum(axis=1, keepdims=True)).clip(0, 1)
    # A remainder that comes from rounding is not a probability of offering nothing.
    return np.hstack([shares, np.where(rest < 1e-9, 0.0, rest)])
