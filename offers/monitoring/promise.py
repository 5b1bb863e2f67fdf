"""Checks whether outcomes are what the propensities promised."""

from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from offers.contract.sections import Retraining


@dataclass(frozen=True)
class PromiseCheck:
    """How well matured labels fit the scores that were given at the time.

    `level` is the distance between the number of acceptances and its promise, and `ranks` that between the AUC and its
    promise, both in standard deviations. They are None where labels are too few.
    """

    labels: int
    breached: bool | None
    ranks_hold: bool | None
    level: float | None
    ranks: float | None
    reasons: tuple[str, ...]


def judge(labels: np.ndarray, propensity: np.ndarray, settings: Retraining) -> PromiseCheck:
    """Compare matured labels with the promises that the propensities make.

    If the propensities are right, the expected number of acceptances is their sum, with variance sum p (1 - p). The
    expected AUC is the share of pairs in order, each weighted by the probability p (1 - q) of being an acceptance and a
    refusal. So a model is measured on the rows that it had to score. The gate's AUC comes from other rows, so it is no
    yardstick where the mix of customers has changed.

    Parameters
    ----------
    labels : ndarray of 0/1, shape (n,), matured labels in time order; the newest `settings.newest` are used
    propensity : ndarray, shape (n,), in (0, 1), as given at the time, by the model that serves now
    """
    labels, propensity = labels[-settings.newest :].astype(float), propensity[-settings.newest :]
    if len(labels) < settings.labels:
        few = f"{len(labels)} matured labels, {settings.labels} are needed to judge performance"
        return PromiseCheck(len(labels), None, None, None, None, (few,))
    level = _level(labels, propensity)
    enough = min(labels.sum(), len(labels) - labels.sum()) >= settings.outcomes
    ranks = _ranks(labels, propensity) if enough else None
    holds = None if ranks is None else bool(ranks >= -settings.surprise)
    off = bool(abs(level) > settings.surprise)
    return PromiseCheck(
        labels=len(labels),
        breached=off or holds is False,
        ranks_hold=holds,
        level=level,
        ranks=ranks,
        reasons=tuple(_sentences(labels, propensity, level if off else None, ranks if holds is False else None)),
    )


def promised_auc(propensity: np.ndarray) -> float:
    """Compute the expected AUC if propensities, shape (n,), in (0, 1), are the true probabilities."""
    rising = np.sort(propensity)
    chances = (len(rising) - 1) * rising.sum() - (rising.sum() ** 2 - (rising**2).sum())
    places = np.arange(len(rising))
    refusals_below = places - (np.cumsum(rising) - rising)
    return float(rising @ refusals_below / chances) if chances > 0 else 0.5


def _level(labels: np.ndarray, propensity: np.ndarray) -> float:
    return float((labels - propensity).sum() / np.sqrt((propensity * (1 - propensity)).sum()))


def _ranks(labels: np.ndarray, propensity: np.ndarray) -> float:
    """Compute the distance of the AUC from the promised one, in standard errors by Hanley and McNeil (1982)."""
    promised, positives = promised_auc(propensity), labels.sum()
    error = _auc_error(promised, positives, len(labels) - positives)
    return (_auc(labels, propensity) - promised) / error


def _auc(labels: np.ndarray, propensity: np.ndarray) -> float:
    positives = labels.sum()
    above = rankdata(propensity) @ labels - positives * (positives + 1) / 2
    return float(above / (positives * (len(labels) - positives)))


def _auc_error(auc: float, positives: float, negatives: float) -> float:
    one, other = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    spread = auc * (1 - auc) + (positives - 1) * (one - auc**2) + (negatives - 1) * (other - auc**2)
    return float(np.sqrt(spread / (positives * negatives)))


def _sentences(labels: np.ndarray, propensity: np.ndarray, level: float | None, ranks: float | None) -> list[str]:
    sentences = []
    if level is not None:
        shares = f"{labels.mean():.1%} of {len(labels)} accepted, {propensity.mean():.1%} were promised"
        sentences.append(f"{shares}: {abs(level):.1f} standard deviations")
    if ranks is not None:
        aucs = f"AUC {_auc(labels, propensity):.2f}, {promised_auc(propensity):.2f} was promised"
        sentences.append(f"{aucs}: {abs(ranks):.1f} standard deviations")
    return sentences or ["labels are what the scores promise"]
