"""Metrics of propensities: figures, their bootstrap intervals, reliability, and paired differences."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from offers.evaluation.figures import Duel, Figure, Scores

_RELIABILITY_BINS = 10
_LEAST = float(np.finfo(np.float64).eps)
"""Probability of what came below which log-loss grows no further."""
_UPPER = 1.6449
"""Standard deviations above the mean below which 95 % of a normal distribution lie."""
# Resampling makes distances between distributions larger, so their percentile intervals would miss the true value.
_BIASED = ("ece", "ks")


def reliability(labels: np.ndarray, propensity: np.ndarray, bins: int = _RELIABILITY_BINS) -> np.ndarray:
    """Compute mean propensity, observed rate and rows of each non-empty bin of equal width, shape (n_bins, 3)."""
    place = np.minimum((propensity * bins).astype(int), bins - 1)
    rows = np.bincount(place, minlength=bins)
    filled = rows > 0
    mean = np.bincount(place, propensity, bins)[filled] / rows[filled]
    rate = np.bincount(place, labels, bins)[filled] / rows[filled]
    return np.column_stack([mean, rate, rows[filled]])


def expected_calibration_error(labels: np.ndarray, propensity: np.ndarray) -> float:
    """Average |observed rate - mean propensity| over 10 bins of equal width, weighted by rows (Naeini et al. 2015)."""
    mean, rate, rows = reliability(labels, propensity).T
    return float(np.abs(rate - mean) @ rows / rows.sum())


@dataclass(frozen=True)
class _Ranking:
    """Rows by falling propensity, from one sort; the figures of sklearn would sort and check for each anew.

    Attributes
    ----------
    accepted, refused : number of acceptances and of refusals down to the end of each run of equal propensities
    """

    accepted: np.ndarray
    refused: np.ndarray

    @classmethod
    def of(cls, labels: np.ndarray, propensity: np.ndarray) -> "_Ranking":
        order = np.argsort(-propensity, kind="stable")
        falling = propensity[order]
        ends = np.flatnonzero(np.append(falling[1:] != falling[:-1], True))
        accepted = np.cumsum(labels[order], dtype=np.int64)[ends]
        return cls(accepted, ends + 1 - accepted)

    @property
    def auc(self) -> float:
        accepted, refused = self.accepted, np.diff(self.refused, prepend=0)
        below = accepted - np.diff(accepted, prepend=0) / 2
        return float(below @ refused / (accepted[-1] * self.refused[-1]))

    @property
    def average_precision(self) -> float:
        gain = np.diff(self.accepted, prepend=0) / self.accepted[-1]
        return float(gain @ (self.accepted / (self.accepted + self.refused)))

    @property
    def kolmogorov_smirnov(self) -> float:
        """The largest distance between the cumulative score distributions of the two outcomes."""
        return float(max((self.accepted / self.accepted[-1] - self.refused / self.refused[-1]).max(), 0.0))

    def reached(self, contacts: np.ndarray) -> np.ndarray:
        """Acceptances among the best so many rows; rows of equal propensity share them, as if drawn at random."""
        ends = np.append(0, self.accepted + self.refused)
        return np.asarray(np.interp(contacts, ends, np.append(0, self.accepted)))


def auc(labels: np.ndarray, values: np.ndarray) -> float:
    """Compute the area under the ROC curve of rows with both outcomes."""
    return _Ranking.of(labels, values).auc


def contacted(propensity: np.ndarray, share: float) -> np.ndarray:
    """Compute each row's chance to be among the `share` of rows with the highest propensity.

    Rows of equal propensity at the cut share the places that are left there, since no order among them is the score's.

    Returns
    -------
    ndarray, shape (n,), in [0, 1]; its sum is the number of contacts
    """
    contacts = contacts_of(len(propensity), share)
    cut = -np.partition(-propensity, contacts - 1)[contacts - 1]
    above, equal = propensity > cut, propensity == cut
    return np.asarray(above + equal * ((contacts - above.sum()) / equal.sum()))


def contacts_of(rows: int, share: float) -> int:
    """Count the rows that can be contacted, at least 1."""
    return max(1, round(share * rows))


def gains(labels: np.ndarray, propensity: np.ndarray, contacts: np.ndarray) -> np.ndarray:
    """Compute the share of all acceptances among the best `contacts` rows, expected where propensities are equal."""
    ranking = _Ranking.of(labels, propensity)
    return np.asarray(ranking.reached(contacts) / ranking.accepted[-1])


def lift_ceiling(positive_rate: float, share: float) -> float:
    """Compute the highest lift that any model can reach at `share`: min(1 / share, 1 / base rate)."""
    return 1 / max(share, positive_rate)


def _operating_point(labels: np.ndarray, ranking: _Ranking, share: float) -> dict[str, float]:
    contacts = contacts_of(len(labels), share)
    reached = float(ranking.reached(np.array(contacts)))
    precision, recall = reached / contacts, reached / float(labels.sum())
    f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return {"lift": precision / float(labels.mean()), "precision": precision, "recall": recall, "f1": f1}


def figures(labels: np.ndarray, propensity: np.ndarray, share: float) -> dict[str, float]:
    """Compute every metric of the gate; empty where only one outcome occurs.

    Parameters
    ----------
    labels : ndarray of 0/1, shape (n,)
    propensity : ndarray, shape (n,), in [0, 1]
    share : share of rows that can be contacted, which is the operating point of lift, precision, recall and F1
    """
    labels = labels.astype(np.int64)
    if labels.min(initial=1) >= labels.max(initial=0):
        return {}
    ranking, chance = _Ranking.of(labels, propensity), np.where(labels == 1, propensity, 1 - propensity)
    return {
        "auc": ranking.auc,
        "average_precision": ranking.average_precision,
        "log_loss": float(-np.log(np.maximum(chance, _LEAST)).mean()),
        "brier": float(((propensity - labels) ** 2).mean()),
        "ece": expected_calibration_error(labels, propensity),
        "ks": ranking.kolmogorov_smirnov,
        **_operating_point(labels, ranking, share),
    }


def score(labels: np.ndarray, propensity: np.ndarray, share: float, bootstrap: int = 0, seed: int = 0) -> Scores:
    """Compute the figures, with intervals from `bootstrap` resamples of the rows (0: no intervals)."""

    def measure(rows: np.ndarray | slice) -> dict[str, float]:
        return figures(labels[rows], propensity[rows], share)

    values, draws = measure(slice(None)), _draws(measure, len(labels), bootstrap, seed)
    rate = float(labels.mean())
    return Scores(
        rows=len(labels),
        positive_rate=round(rate, 6),
        mean_propensity=round(float(propensity.mean()), 6),
        lift_ceiling=round(lift_ceiling(rate, share), 6),
        figures=_with_intervals(values, draws, without=_BIASED),
    )


def differences(
    labels: np.ndarray,
    challenger: np.ndarray,
    champion: np.ndarray,
    share: float,
    bootstrap: int,
    seed: int = 0,
) -> dict[str, Figure]:
    """Compute challenger minus champion on the same rows, with paired bootstrap intervals."""

    def difference(rows: np.ndarray | slice) -> dict[str, float]:
        ours = figures(labels[rows], challenger[rows], share)
        theirs = figures(labels[rows], champion[rows], share)
        return {name: ours[name] - theirs[name] for name in ours}

    draws = _draws(difference, len(labels), bootstrap, seed)
    return _with_intervals(difference(slice(None)), draws)


def duel(
    labels: np.ndarray,
    periods: np.ndarray,
    challenger: np.ndarray,
    champion: np.ndarray,
    draws: int = 0,
    seed: int = 0,
) -> Duel:
    """Compare two models on the same rows.

    Parameters
    ----------
    labels : ndarray of 0/1, shape (n,)
    periods : ndarray, shape (n,), within which customers are ranked
    challenger, champion : ndarray, shape (n,), in (0, 1)
    draws : number of paired bootstrap draws for the intervals; 0 for no intervals
    """
    groups = np.unique(periods, return_inverse=True)[1]

    def difference(rows: np.ndarray | slice) -> dict[str, float]:
        outcomes, group, both = labels[rows], groups[rows], (challenger[rows], champion[rows])
        aucs = [_grouped_auc(outcomes, values, group) for values in both]
        losses = [float(-np.log(np.where(outcomes == 1, values, 1 - values)).mean()) for values in both]
        errors = [expected_calibration_error(outcomes, values) for values in both]
        ranking = {} if None in aucs else {"auc": aucs[0] - aucs[1]}  # type: ignore[operator]
        return {**ranking, "log_loss": losses[0] - losses[1], "ece": errors[0] - errors[1]}

    ours, theirs = (-np.log(np.where(labels == 1, values, 1 - values)) for values in (challenger, champion))
    resamples = _draws(difference, len(labels), draws, seed)
    figures_of_duel = _with_intervals(
        difference(slice(None)), [draw for draw in resamples if "auc" in draw] or resamples
    )
    return Duel(
        rows=len(labels),
        auc=figures_of_duel.get("auc"),
        log_loss=figures_of_duel["log_loss"],
        log_loss_error=float((ours - theirs).std() / np.sqrt(len(labels))),
        ece=figures_of_duel["ece"],
    )


def _grouped_auc(labels: np.ndarray, values: np.ndarray, groups: np.ndarray) -> float | None:
    """Average the AUC within groups, weighted by pairs of an acceptance and a refusal; None where there is no pair."""
    wins = pairs = 0.0
    for group in np.unique(groups):
        here = groups == group
        positives = float(labels[here].sum())
        negatives = float(here.sum()) - positives
        if positives and negatives:
            wins += float(rankdata(values[here]) @ labels[here]) - positives * (positives + 1) / 2
            pairs += positives * negatives
    return wins / pairs if pairs else None


def within_periods(
    labels: np.ndarray,
    values: np.ndarray,
    periods: np.ndarray,
    smallest: int,
    metric: Callable[[np.ndarray, np.ndarray], float] = auc,
) -> float | None:
    """Average `metric`, weighted by rows, over the periods with both outcomes and at least `smallest` rows."""
    total, weight = 0.0, 0
    for rows, count, _ in _judged_periods(labels, periods, smallest):
        total += count * float(metric(labels[rows], values[rows]))
        weight += count
    return total / weight if weight else None


def chance(labels: np.ndarray, periods: np.ndarray, smallest: int) -> float | None:
    """Compute the AUC that 95 % of random scores stay below, averaged as `within_periods` does.

    The AUC of random scores is nearly normal, with mean 1/2 and variance (n + 1) / (12 n1 n0) on n rows of which n1 are
    acceptances and n0 are not (Mann and Whitney 1947). Periods are independent.
    """
    variance, weight = 0.0, 0
    for _, count, accepted in _judged_periods(labels, periods, smallest):
        variance += count**2 * (count + 1) / (12 * accepted * (count - accepted))
        weight += count
    return 0.5 + _UPPER * math.sqrt(variance) / weight if weight else None


def _judged_periods(labels: np.ndarray, periods: np.ndarray, smallest: int) -> Iterator[tuple[np.ndarray, int, int]]:
    """Yield the rows (as a mask), their number and the acceptances of each period that is large enough to be judged."""
    for period in np.unique(periods):
        rows = periods == period
        count, accepted = int(rows.sum()), int(labels[rows].sum())
        if count >= smallest and 0 < accepted < count:
            yield rows, count, accepted


def _draws(
    measure: Callable[[np.ndarray], dict[str, float]], n_rows: int, draws: int, seed: int
) -> list[dict[str, float]]:
    """Measure resamples of the rows, drawn with replacement."""
    generator = np.random.default_rng(seed)
    return [measure(generator.integers(0, n_rows, n_rows)) for _ in range(draws)]


def _with_intervals(
    values: dict[str, float], draws: list[dict[str, float]], without: tuple[str, ...] = ()
) -> dict[str, Figure]:
    usable = [draw for draw in draws if draw]
    return {
        name: _figure(value, [] if name in without else [draw[name] for draw in usable])
        for name, value in values.items()
    }


def _figure(value: float, draws: list[float]) -> Figure:
    if not draws:
        return Figure(value=round(value, 6))
    low, high = np.percentile(draws, [2.5, 97.5])
    return Figure(value=round(value, 6), low=round(float(low), 6), high=round(float(high), 6))
