"""Evidence by place: the answers that both policies give to each draw, and the outcomes of what was shown below."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa

from offers.contract.contract import Contract
from offers.decisions import history, outcomes
from offers.decisions.history import Kept
from offers.experiments.off_policy import Floats
from offers.experiments.places import PlacedDecisions, marginals
from offers.policy.arbitration import Policy
from offers.policy.catalogue import Offer
from offers.policy.slates import slates

Score = Callable[[Mapping[str, np.ndarray]], np.ndarray]


def by_place(
    table: pa.Table,
    offers: Mapping[str, Offer],
    versions: Mapping[str, Kept],
    candidate: Policy,
    contract: Contract,
    reported: pd.DataFrame,
    as_of: datetime,
    score: Score | None,
) -> PlacedDecisions | str:
    """Lay out decisions by the places of their answers.

    Parameters
    ----------
    table : decisions whose outcome in first place is known
    offers : all offers by id; their order is that of the arrays
    reported : outcomes, as `outcomes.read` returns them

    Returns
    -------
    PlacedDecisions, or str
        the reason why there are none
    """
    ids, first = list(offers), _indices(table["offer_id"].to_pylist(), list(offers))
    logged = history.propensities(table["pairs"], ids)["propensity"]
    incumbent = _incumbent(table, ids, versions, logged)
    theirs = _arranged(table, ids, candidate, contract, logged, score)
    n_places = max(incumbent[1].shape[2], theirs[1].shape[2])
    if n_places == 1:
        return "answers have one place only"
    incumbent, theirs = (_widened(*pair, n_places) for pair in (incumbent, theirs))
    # The answer to the draw that was made; to nothing, where nothing could be offered.
    shown = np.where(first[:, None] < len(ids), incumbent[1][np.arange(len(first)), first % len(ids)], -1)
    if differing := int((shown[:, 0] % (len(ids) + 1) != first).sum()):
        return f"{differing} decisions come out otherwise when they are made again: see 'offers decisions redo'"
    frame = table.select(["decision_id", "decided_at", "offer_id"]).to_pandas()
    window = timedelta(days=contract.target.matures_after_days)
    labels = outcomes.label(frame, reported, as_of, window, np.array([*ids, None], object)[shown[:, 1:]])
    if not (labels.presented.reshape(shown.shape) & (shown >= 0))[:, 1:].any():
        return "nobody told an outcome of an offer below the first place"
    accepted = labels.outcome.reshape(shown.shape)
    known = (~np.isnan(accepted) | (shown < 0)).all(axis=1)
    value, cost = (np.array([*(getattr(offer, key) for offer in offers.values()), 0.0]) for key in ("value", "cost"))
    return PlacedDecisions(
        table["customer"].to_numpy(zero_copy_only=False)[known],
        (shown % (len(ids) + 1))[known],
        (np.nan_to_num(accepted) * value[shown] - cost[shown])[known],
        marginals(*incumbent)[known],
        marginals(*theirs)[known],
    )


def _incumbent(
    table: pa.Table, ids: Sequence[str], versions: Mapping[str, Kept], logged: Floats
) -> tuple[Floats, np.ndarray]:
    """Arrange the answers of each catalogue that decided; propensities are those that it had."""
    catalogue = np.array(table["catalogue"].to_pylist(), object)
    parts = {}
    for name, kept in versions.items():
        rows = np.flatnonzero(catalogue == name)
        policy = Policy(kept.catalogue, kept.contract)
        if len(rows):
            parts[name] = rows, *_arranged(table.take(pa.array(rows)), ids, policy, kept.contract, logged[rows], None)
    n_places = max(part[2].shape[2] for part in parts.values())
    shares = np.zeros(logged.shape)
    answers = np.full((*logged.shape, n_places), -1)
    for rows, probability, own in parts.values():
        shares[rows], answers[rows] = _widened(probability, own, n_places)
    return shares, answers


def _arranged(
    table: pa.Table, ids: Sequence[str], policy: Policy, contract: Contract, logged: Floats, score: Score | None
) -> tuple[Floats, np.ndarray]:
    """A policy's probabilities of the first place, and the answer to each draw, with offers by their place in `ids`."""
    columns = history.inputs_of(table["inputs"].to_pylist(), contract)
    own = {offer.id for offer in policy.offers}
    choices = [None if one is None else [name for name in one if name in own] for one in table["asked"].to_pylist()]
    pairs = policy.expand(columns, choices)
    places = np.array([ids.index(offer.id) for offer in policy.offers])
    if score is None:
        propensity = np.zeros(len(pairs))
        propensity[pairs.row[pairs.eligible]] = np.nan_to_num(logged[:, places][pairs.eligible])
    else:
        propensity = score(pairs.columns)
    answers = slates(policy, policy.scores(pairs, propensity), table["k"].to_pylist())
    shares, arranged = np.zeros(logged.shape), np.full((*logged.shape, answers.shape[2]), -1)
    shares[:, places] = policy.first_place(pairs, propensity)[0]
    arranged[:, places] = np.where(answers < 0, -1, places[answers])
    return shares, arranged


def _widened(shares: Floats, answers: np.ndarray, n_places: int) -> tuple[Floats, np.ndarray]:
    missing = n_places - answers.shape[2]
    return shares, np.pad(answers, ((0, 0), (0, 0), (0, missing)), constant_values=-1)


def _indices(offer_ids: Sequence[str | None], ids: Sequence[str]) -> np.ndarray:
    """The place of each offer in `ids`; their number stands for none."""
    places = {offer_id: place for place, offer_id in enumerate(ids)}
    return np.array([len(ids) if one is None else places[one] for one in offer_ids], np.intp)
