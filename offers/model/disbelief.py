"""Batches of labels that a layer does not learn, because something other than customers has made them."""

import numpy as np

from offers.model.design import Design
from offers.model.laplace import log_loss

_BY_CHANCE = 1e-6
"""Probability below which labels of one kind are not taken for chance."""


def disbelief(design: Design, rows: np.ndarray, labels: np.ndarray, margin: np.ndarray) -> str:
    """Say why a batch is not to be learnt; empty where it is.

    - Its labels are of one kind, though the served margins give that less than one chance in a million. A feed of
      outcomes that has stopped looks so.
    - More than half of its numbers lie far outside what the design was made from; see `Design.far`.

    Parameters
    ----------
    rows : encoded, shape (n, n_features)
    labels : ndarray of 0/1, shape (n,)
    margin : log-odds that were served for these rows, shape (n,)
    """
    if labels.min() == labels.max() and log_loss(margin, labels) > -np.log(_BY_CHANCE):
        return "the newest labels are all of one kind, which their customers do not explain"
    if design.far(rows) > 0.5:
        return "most numbers of the newest rows are far outside all that it has learnt"
    return ""
