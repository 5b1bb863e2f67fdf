"""The answers that a policy gives to each draw of the first place; nothing else in an answer is drawn."""

import numpy as np

from offers.policy.arbitration import Places, Policy, most_places


def slates(policy: Policy, score: np.ndarray, k: Places = None) -> np.ndarray:
    """Arrange the answer that follows from each draw of the first place.

    Parameters
    ----------
    score : ndarray, shape (n_customers, n_offers), EUR; NaN where a pair is not eligible
    k : places in an answer, as of `Policy.arbitrate`

    Returns
    -------
    ndarray of int, shape (n_customers, n_offers, n_places)
        the offer at each place of the answer that puts offer j first; -1 where the place stays empty, and in all
        places where offer j can't be drawn
    """
    valid, ks = score >= 0, most_places(policy, k, len(score))
    answers = np.full((*score.shape, int(ks.max(initial=1))), -1)
    rows = np.arange(len(score))[:, None]
    for first in range(score.shape[1]):
        preference = np.where(valid, score, -np.inf)
        preference[:, first] = np.where(valid[:, first], np.inf, -np.inf)
        order = np.argsort(-preference, axis=1, kind="stable")
        free = policy.within_limits(valid[rows, order], order)
        rank = free.cumsum(axis=1)
        customer, place = np.nonzero(free & (rank <= ks) & valid[:, [first]])
        answers[customer, first, rank[customer, place] - 1] = order[customer, place]
    return answers
