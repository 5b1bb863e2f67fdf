"""Judges a window of scored rows against the reference in a bundle, and raises an alarm once drift lasts.

Many quantities of a window are tested: each column's distribution, the share of each value, the scores, their mean. A
window is *suspect* in one of them if both the p-value and the size of the effect are beyond their thresholds. An alarm
needs `Watch.consecutive` suspect windows in a row. In addition, the p-value of their pooled rows must be significant
among all tests by Benjamini and Hochberg's false-discovery rate, since among many tests chance alone often finds
something. So a rare value that doubles is found, and noise is not, whatever the windows' size.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from offers.drift import significance
from offers.drift import statistics as drift
from offers.drift.reference import (
    MISSING,
    SCORE,
    UNSEEN,
    Counts,
    Floats,
    Known,
    Reference,
    Watch,
    WatchedColumn,
    watched_columns,
)
from offers.drift.streak import SIGNALS, Streak
from offers.drift.window import ColumnReport, RateReport, ScoreReport, ShareReport, WindowReport
from offers.errors import DataError

__all__ = (
    "MISSING",
    "MIX_SEED",
    "SCORE",
    "SIGNALS",
    "UNSEEN",
    "Reference",
    "Streak",
    "Watch",
    "WatchedColumn",
    "WindowReport",
    "at_mix",
    "at_reference_offers",
    "examine",
    "examine_labels",
    "watched_columns",
)

MIX_SEED = 1
"""Seed for drawing the reference's offers. Windows use other seeds, so the two draws are independent."""


def examine(
    reference: Reference,
    rows: pd.DataFrame,
    propensity: Floats,
    importance: Mapping[str, float] | None = None,
    p_values: Mapping[str, float] | None = None,
) -> WindowReport:
    """Compare one window with the reference.

    Parameters
    ----------
    reference : of the bundle that scored the rows
    rows : DataFrame with the reference's columns, at least one row; text, numbers or None, or the contract's types
    propensity : ndarray, shape (len(rows),), in [0, 1], the bundle's scores of `at_reference_offers(rows)`
    importance : mean |contribution| of the window's rows by column, where attribution is to be watched
    p_values : p-values of columns by another library, which replace ours

    Raises
    ------
    DataError
        there are no rows; a column is missing, unknown or holds an infinite number; or a propensity is not in [0, 1]
    """
    _check(reference, rows, propensity, p_values or {})
    cells = {column.name: column.encode(rows[column.name]) for column in reference.columns}
    columns = [_measured(reference, column, cells[column.name], p_values or {}) for column in reference.columns]
    attribution = None if importance is None else _attribution(reference, importance)
    return WindowReport(
        bundle=reference.name,
        rows=len(rows),
        reference_rows=len(reference),
        columns=tuple(_discovered(columns, reference.watch.false_discovery_rate)),
        score=_score(reference, np.asarray(propensity, np.float64)),
        attribution=attribution,
        attribution_breached=attribution is not None and attribution < reference.watch.attribution,
    )


def at_reference_offers(reference: Reference, rows: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Replace the rows' offers by the reference's mix, so that scores can be compared whatever the policy chose.

    Each row takes all columns that the bank sets from one reference row, drawn at random.
    """
    ours = [column.name for column in reference.columns if column.list == "ours"]
    places = np.random.default_rng(seed).integers(0, len(reference), len(rows))
    offers = reference.frame[ours].iloc[places].set_axis(rows.index)
    return rows.assign(**{name: offers[name] for name in ours})


def at_mix(reference: Reference, propensity: Callable[[pd.DataFrame], Floats], seed: int = MIX_SEED) -> Reference:
    """Rescore the reference's rows with offers drawn from its own mix.

    A window's offers are replaced by random draws from the reference's mix before scoring, so that the policy's
    choices cancel out. The reference must be rescored in the same way, or the two could not be compared.

    Parameters
    ----------
    propensity : function that scores rows from `at_reference_offers`
    """
    return replace(reference, propensity=propensity(at_reference_offers(reference, reference.frame, seed)))


def examine_labels(labels: NDArray[Any], reference_positives: int, reference_rows: int, watch: Watch) -> RateReport:
    """Compare the acceptance rate of matured labels with that of the training data.

    Parameters
    ----------
    labels : shape (n,), True or 1 where the offer was accepted
    reference_positives, reference_rows : acceptances and rows of the training data
    """
    rows, positives = len(labels), int(np.sum(labels))
    low, high = map(float, significance.wilson_interval(positives, rows))
    rate, before = positives / max(rows, 1), reference_positives / max(reference_rows, 1)
    p = float(significance.share_p_values(reference_positives, reference_rows, positives, rows)) if rows else None
    return _rate_report(rate, (low, high), before, p, watch)


def _measured(
    reference: Reference, column: WatchedColumn, cells: Floats, p_values: Mapping[str, float]
) -> ColumnReport:
    """Measure a column. Whether it is a discovery depends on all columns, so `_discovered` fills those fields in."""
    known_column, watch, numeric = reference.known[column.name], reference.watch, column.kind == "number"
    counts = known_column.count(cells)
    distance, p = known_column.distance(cells, counts)
    p = p_values.get(column.name, p)
    psi, noise = drift.psi(known_column.counts, counts), reference.noise(column.name, len(cells))
    far = distance >= (watch.ks if numeric else watch.cramers_v) or psi >= max(watch.psi, noise)
    return ColumnReport(
        name=column.name,
        kind=column.kind,
        list=column.list,
        p_value=_finite(p),
        ks=_finite(distance) if numeric else None,
        cramers_v=None if numeric else _finite(distance),
        psi=psi,
        psi_noise=noise,
        missing=float(counts[-1] / len(cells)),
        reference_missing=float(known_column.counts[-1] / known_column.rows),
        unseen=0.0 if numeric else float(counts[-2] / len(cells)),
        counts=tuple(counts[:-1].tolist()),
        reference_counts=tuple(known_column.counts[:-1].tolist()),
        shares=_shares(column, counts, known_column, watch),
        suspect=bool(far and p <= watch.p_value),
        distribution_breached=False,
        breached=False,
    )


def _shares(column: WatchedColumn, counts: Counts, known_column: Known, watch: Watch) -> tuple[ShareReport, ...]:
    """Report the share of each value; for a number, only the share of its missing cells."""
    labels = (MISSING,) if column.kind == "number" else column.labels
    now, before, rows = counts[-len(labels) :], known_column.counts[-len(labels) :], int(counts.sum())
    p_values = significance.share_p_values(before, known_column.rows, now, rows)
    p, q = before / known_column.rows, now / rows
    far = (np.maximum(p, q) >= watch.share_ratio * np.minimum(p, q)) & (np.abs(p - q) >= watch.share_difference)
    suspect = far & (p_values <= watch.p_value)
    return tuple(
        ShareReport(
            label,
            count=int(now[i]),
            share=float(q[i]),
            reference_count=int(before[i]),
            reference_share=float(p[i]),
            p_value=float(p_values[i]) if now[i] or before[i] else None,
            suspect=bool(suspect[i]),
            breached=False,
        )
        for i, label in enumerate(labels)
    )


def _discovered(columns: list[ColumnReport], rate: float) -> Iterator[ColumnReport]:
    """Mark the discoveries: the tests that are significant at the false-discovery rate and suspect."""
    # Tests compete only within one list of columns. Offers and columns that drift by nature mostly have tiny p-values.
    # As discoveries they would loosen the threshold for watched columns, since the rate is a share of discoveries.
    families: dict[str, list[float]] = {}
    for column in columns:
        families.setdefault(column.list, []).extend(_p_values(column))
    discoveries = {name: iter(significance.false_discovery(p_values, rate)) for name, p_values in families.items()}
    for column in columns:
        discovery = discoveries[column.list]
        own = bool(next(discovery)) and column.suspect
        shares = tuple(replace(share, breached=bool(next(discovery)) and share.suspect) for share in column.shares)
        breached = own or any(share.breached for share in shares)
        yield replace(column, shares=shares, distribution_breached=own, breached=breached)


def _p_values(column: ColumnReport) -> list[float]:
    tested = (column.p_value, *(share.p_value for share in column.shares))
    return [np.nan if p is None else p for p in tested]


def _score(reference: Reference, propensity: Floats) -> ScoreReport:
    known_column, watch = reference.known[SCORE], reference.watch
    counts = known_column.count(propensity)
    distance, p = known_column.distance(propensity, counts)
    psi, noise = drift.psi(known_column.counts, counts), reference.noise(SCORE, len(propensity))
    suspect = bool((distance >= watch.ks or psi >= max(watch.psi, noise)) and p <= watch.p_value)
    mean, half = float(np.mean(propensity)), 1.96 * float(np.std(propensity)) / len(propensity) ** 0.5
    return ScoreReport(
        p_value=p,
        ks=distance,
        psi=psi,
        psi_noise=noise,
        counts=tuple(counts[:-1].tolist()),
        reference_counts=tuple(known_column.counts[:-1].tolist()),
        suspect=suspect,
        breached=suspect and p <= watch.false_discovery_rate,
        rate=_rate_report(
            mean,
            (max(mean - half, 0.0), min(mean + half, 1.0)),
            float(np.mean(reference.propensity)),
            _finite(significance.mean_p_value(reference.propensity, propensity)),
            watch,
        ),
    )


def _rate_report(
    rate: float, interval: tuple[float, float], before: float, p_value: float | None, watch: Watch
) -> RateReport:
    far = max(rate, before) >= watch.rate_ratio * min(rate, before)
    suspect = bool(p_value is not None and far and p_value <= watch.p_value)
    breached = bool(suspect and p_value is not None and p_value <= watch.false_discovery_rate)
    return RateReport(rate, *interval, before, p_value, suspect, breached)


def _attribution(reference: Reference, importance: Mapping[str, float]) -> float | None:
    """Compute the NDCG over the watched columns; the importance of the others moves by nature or with our policy."""
    watched = [column.name for column in reference.columns if column.list == "watched"]
    if missing := [name for name in watched if name not in importance or name not in reference.importance]:
        raise DataError(f"expected the importance of every watched column, got none of {', '.join(missing)}")
    both = ([part[name] for name in watched] for part in (reference.importance, importance))
    return _finite(drift.attribution_ndcg(*both))


def _check(reference: Reference, rows: pd.DataFrame, propensity: Floats, p_values: Mapping[str, float]) -> None:
    expected = [column.name for column in reference.columns]
    if strange := sorted(set(p_values) - set(expected)):
        raise DataError(f"there are p-values of {', '.join(strange)}; expected only {', '.join(expected)}")
    if missing := [name for name in expected if name not in rows.columns]:
        raise DataError(f"the window lacks {', '.join(missing)}; expected the columns {', '.join(expected)}")
    if foreign := [str(name) for name in rows.columns if name not in expected]:
        raise DataError(
            f"the window holds {', '.join(foreign)}, unknown here; expected the columns {', '.join(expected)}"
        )
    if not len(rows):
        raise DataError("the window holds no rows; expected one at least")
    if np.shape(propensity) != (len(rows),):
        raise DataError(f"expected one propensity for each of {len(rows)} rows, got shape {np.shape(propensity)}")
    outside = ~((np.asarray(propensity) >= 0) & (np.asarray(propensity) <= 1))
    if outside.any():
        place = int(np.flatnonzero(outside)[0])
        raise DataError(f"expected propensities in [0, 1], got {np.asarray(propensity)[place]} in row {place + 1}")


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
