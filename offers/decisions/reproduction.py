"""Reproduces decisions: answers from the logged propensities by the policy, propensities by the bundle."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from pyarrow import compute as pc

from offers.decisions import history
from offers.decisions.answer import explanation_in, written
from offers.decisions.history import Kept
from offers.errors import DataError
from offers.policy.arbitration import Policy
from offers.policy.pairs import Pairs

Score = Callable[[Mapping[str, np.ndarray]], np.ndarray]
TOLERANCE = 1e-6
"""By how much propensities may differ under other versions of the libraries."""


@dataclass(frozen=True)
class Reproduction:
    """The result of reproducing decisions.

    Attributes
    ----------
    decisions : number of reproduced decisions
    erased : number of decisions whose inputs were erased
    differing : ids of decisions whose reproduced answer differs
    bundle : the bundle that scored again; empty where none did
    scored : number of pairs that were scored again
    farthest : largest absolute difference of a propensity
    rescored : number of propensities that differ in any bit
    """

    decisions: int
    erased: int
    differing: tuple[str, ...]
    bundle: str = ""
    scored: int = 0
    farthest: float = 0.0
    rescored: int = 0

    @property
    def holds(self) -> bool:
        """Whether each answer is the same to the byte, and each propensity within the tolerance."""
        return not self.differing and self.farthest <= TOLERANCE


def redo(table: pa.Table, kept: Mapping[str, Kept], bundle: str = "", score: Score | None = None) -> Reproduction:
    """Reproduce logged decisions, and compare the results with the log.

    Parameters
    ----------
    table : decisions with all columns, from `history.read`
    kept : catalogues by name and version, from `history.kept`
    bundle, score : the bundle to score again, and its scoring function; only its own decisions are scored again

    Raises
    ------
    DataError
        a catalogue of the decisions is not in the log
    """
    whole = table.filter(table["inputs"].is_valid())
    differing, n_scored, n_rescored, farthest = list[str](), 0, 0, 0.0
    for name in sorted(set(whole["catalogue"].to_pylist())):
        if name not in kept:
            raise DataError(f"catalogue {name}: expected it among the log's policies, found none")
        for fallback in (False, True):
            part = whole.filter(pc.equal(whole["catalogue"], name))
            part = part.filter(pc.equal(part["fallback"], fallback))
            if not len(part):
                continue
            policy = Policy(kept[name].catalogue, kept[name].contract)
            columns = history.inputs_of(part["inputs"].to_pylist(), kept[name].contract)
            pairs = policy.expand(columns, part["asked"].to_pylist())
            propensity = _logged(part, policy, pairs)
            differing += _differing(part, policy, pairs, propensity, fallback)
            if score is None or fallback:
                continue
            distance = _distance(part, pairs, propensity, bundle, score)
            n_scored, n_rescored = n_scored + len(distance), n_rescored + int((distance > 0).sum())
            farthest = max(farthest, float(distance.max(initial=0)))
    erased = len(table) - len(whole)
    return Reproduction(len(whole), erased, tuple(differing), bundle, n_scored, farthest, n_rescored)


def _logged(table: pa.Table, policy: Policy, pairs: Pairs) -> np.ndarray:
    """Look up the logged propensity of each row that the policy scores; NaN where the log has none."""
    dense = history.propensities(table["pairs"], [offer.id for offer in policy.offers])["propensity"]
    propensity = np.full(len(pairs), np.nan)
    propensity[pairs.row[pairs.eligible]] = dense[pairs.eligible]
    return propensity


def _differing(table: pa.Table, policy: Policy, pairs: Pairs, propensity: np.ndarray, fallback: bool) -> list[str]:
    ids, k = table["decision_id"].to_pylist(), table["k"].to_pylist()
    if fallback:
        rankings = policy.by_value(pairs, k)
    else:
        # A pair without a logged propensity gets 0, so that its decision shows up as a difference.
        rankings = policy.arbitrate(pairs, np.nan_to_num(propensity, nan=0.0), k, ids)
    names = ("decision_id", "as_of", "model", "policy", "catalogue", "answer")
    rows = zip(*(table[name].to_pylist() for name in names), rankings, strict=True)
    differing = list[str]()
    for decision_id, as_of, model, settings, catalogue, answer, ranking in rows:
        versions = {"model": model, "policy": settings, "catalogue": catalogue}
        # The sentences of an explanation follow from the bundle, not from the logged propensities.
        explanation = explanation_in(answer.encode())
        if answer.encode() != written(decision_id, as_of, versions, fallback, ranking, explanation):
            differing.append(decision_id)
    return differing


def _distance(table: pa.Table, pairs: Pairs, propensity: np.ndarray, bundle: str, score: Score) -> np.ndarray:
    own = np.array([model == bundle for model in table["model"].to_pylist()])[pairs.customer]
    if not own.any():
        return np.empty(0)
    again = score({name: values[own] for name, values in pairs.columns.items()})
    distance: np.ndarray = np.abs(np.nan_to_num(propensity[own], nan=-1.0) - again)
    return distance
