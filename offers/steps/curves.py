"""The curves of a model's predictions, as Kubeflow's page shows them."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

_ROC_POINTS = 200


@dataclass(frozen=True)
class Curves:
    """Points of the ROC curve, and the confusion matrix at the operating point (rows: actual no, yes).

    There are no points where only one outcome occurs.
    """

    false_positive: list[float]
    true_positive: list[float]
    thresholds: list[float]
    confusion: list[list[int]]


def curves(scored: pd.DataFrame, share: float) -> Curves:
    """Compute the curves of predictions for Kubeflow's page."""
    from sklearn.metrics import roc_curve

    from offers.evaluation import metrics

    labels, propensity = scored["label"].to_numpy(), scored["propensity"].to_numpy()
    contacts, accepted = metrics.contacts_of(len(labels), share), int(labels.sum())
    reached = round(float(labels @ metrics.contacted(propensity, share)))
    missed = len(labels) - contacts - (accepted - reached)
    confusion = [[missed, contacts - reached], [accepted - reached, reached]]
    if labels.min() == labels.max():
        # With only one outcome, one of the rates would be NaN, which Kubeflow does not accept.
        return Curves([], [], [], confusion)
    false_positive, true_positive, thresholds = roc_curve(labels, propensity)
    places = np.unique(np.linspace(0, len(thresholds) - 1, _ROC_POINTS).astype(int))
    return Curves(
        false_positive[places].tolist(),
        true_positive[places].tolist(),
        np.minimum(thresholds[places], 1.0).tolist(),
        confusion,
    )
