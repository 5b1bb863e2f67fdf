"""Compares live decisions with the bundle that made them: row quality, volume, labels, performance, fairness."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
from scipy.special import logit
from scipy.stats import norm

from offers.bundle import bundle as bundles
from offers.bundle.bundle import Bundle
from offers.contract.contract import Contract
from offers.decisions.period import Period
from offers.decisions.scored import BUNDLE, DECISION, OBSERVED_AT, OUTCOME, SCORE, SCORED_AT, DistinctRows, faults
from offers.drift.examination import Reference, Streak, WindowReport, at_mix, at_reference_offers, examine
from offers.drift.selection import decoded
from offers.errors import DataError
from offers.evaluation import metrics
from offers.evaluation.fairness import fairness
from offers.monitoring.findings import (
    ColumnQuality,
    Day,
    Drift,
    DriftWindow,
    Fault,
    Labels,
    Performance,
    Promise,
    RowQuality,
    Surprise,
    Volume,
)
from offers.monitoring.promise import judge
from offers.wording import some

# Propensities are logged as float64 or float32, so only a larger difference than this means another score.
_SAME = 1e-5
_QUIET, _LOUD = 0.5, 2.0
_SMALLEST = 1e-15


@dataclass(frozen=True)
class Decisions:
    """A bundle's decisions before the end of the period, in the order in which they were scored.

    Attributes
    ----------
    rows : DataFrame, as `offers.decisions.scored.read_scored` returns it
    outcome : ndarray, shape (n_rows,), 1, 0, or NaN where none is known
    mature : ndarray of bool, True where the decision is old enough for its outcome to be known
    recent : ndarray of bool, True where the label matures at or after the start of the period
    inside : ndarray of bool, True where the decision was scored within the period
    """

    rows: pd.DataFrame
    outcome: np.ndarray
    mature: np.ndarray
    recent: np.ndarray
    inside: np.ndarray

    @property
    def period(self) -> pd.DataFrame:
        return self.rows[self.inside].reset_index(drop=True)

    @property
    def labelled(self) -> np.ndarray:
        """Marks decisions whose label is mature and known."""
        return np.asarray(self.mature & ~np.isnan(self.outcome))

    @property
    def judged(self) -> np.ndarray:
        """Marks labelled decisions whose label has matured since the period began."""
        return np.asarray(self.labelled & self.recent)


def of_bundle(scored: DistinctRows, bundle: Bundle, period: Period) -> pd.DataFrame:
    """Select the decisions that a bundle made before the period's end.

    Raises
    ------
    DataError
        all decisions of the period are of other bundles; if it has none, all earlier ones are
    """
    frame = scored.frame[scored.frame[SCORED_AT] < period.until]
    inside = frame[period.holds(frame[SCORED_AT])]
    rows = frame if inside.empty else inside
    if len(rows) and not (rows[BUNDLE] == bundle.name).any():
        raise DataError(
            f"expected rows scored by bundle {bundle.name}, got {len(rows)} rows by "
            f"{some(sorted(rows[BUNDLE].unique()))}, the newest of {rows[SCORED_AT].max():%Y-%m-%d %H:%M} UTC: "
            "name the bundle that served"
        )
    return frame[frame[BUNDLE] == bundle.name].reset_index(drop=True)


def join(rows: pd.DataFrame, outcomes: pd.DataFrame, contract: Contract, period: Period) -> Decisions:
    """Join each decision with its outcome known at `period.as_of`; an outcome from before its decision does not count.

    A label is mature at the age that the contract sets. The period's own decisions are seldom that old. Therefore
    performance uses all decisions before the period's end whose label has matured since it began.
    """
    matured = outcomes[outcomes[OBSERVED_AT] <= period.as_of].astype({OUTCOME: float})
    table = rows[[DECISION, SCORED_AT]].merge(matured, on=DECISION, how="left")
    scored_at = rows[SCORED_AT]
    matures_at = scored_at + timedelta(days=contract.target.matures_after_days)
    since = period.since or datetime.min.replace(tzinfo=UTC)
    return Decisions(
        rows=rows,
        outcome=table[OUTCOME].mask(table[OBSERVED_AT] < scored_at).to_numpy(dtype=float),
        mature=(matures_at <= period.as_of).to_numpy(),
        recent=(matures_at >= since).to_numpy(),
        inside=(scored_at >= since).to_numpy(),
    )


def quality(
    scored: DistinctRows, outcomes: DistinctRows, decisions: Decisions, bundle: Bundle, period: Period
) -> RowQuality:
    """Count what is wrong with the rows of the period, and with the outcomes."""
    frame, rows, contract = scored.frame, decisions.period, bundle.contract
    masks = [(column.name, text, mask) for column in contract.inputs for text, mask in faults(rows, column)]
    broken = np.any([mask for _, _, mask in masks], axis=0)
    others = (
        frame.loc[period.holds(frame[SCORED_AT]) & (frame[BUNDLE] != bundle.name), BUNDLE].value_counts().sort_index()
    )
    table = outcomes.frame.merge(frame[[DECISION, SCORED_AT]], on=DECISION, how="left")
    return RowQuality(
        rows=len(rows),
        repeated=scored.repeated,
        others={str(name): int(count) for name, count in others.items()},
        broken=int(broken.sum()),
        faults=tuple(Fault(column=name, expected=text, rows=int(m.sum())) for name, text, m in masks if m.any()),
        columns=tuple(_column_quality(rows, bundle)),
        differing=_differing(rows[~broken], bundle),
        outcomes=len(table),
        repeated_outcomes=outcomes.repeated,
        orphans=int(table[SCORED_AT].isna().sum()),
        too_early=int((table[OBSERVED_AT] < table[SCORED_AT]).sum()),
    )


def volume(scored: DistinctRows, period: Period) -> Volume:
    """Count decisions per day; days that lie only partly in the period are never called silent or unusual."""
    moments = scored.frame.loc[period.holds(scored.frame[SCORED_AT]), SCORED_AT]
    if moments.empty and period.since is None:
        return Volume(days=(), median=0.0, silent=(), unusual=())
    first, last = period.since or moments.iloc[0], period.until - timedelta(microseconds=1)
    days = pd.date_range(pd.Timestamp(first).floor("D"), pd.Timestamp(last).floor("D"), freq="D")
    rows = moments.dt.floor("D").value_counts().reindex(days, fill_value=0)
    whole = rows[(days >= pd.Timestamp(first)) & (days + timedelta(days=1) <= pd.Timestamp(period.until))]
    median = float(rows[rows > 0].median()) if rows.any() else 0.0
    strange = (whole > 0) & ((whole < _QUIET * median) | (whole > _LOUD * median))
    return Volume(
        days=tuple(Day(day=str(day.date()), rows=int(count)) for day, count in rows.items()),
        median=median,
        silent=tuple(str(day.date()) for day in whole.index[whole == 0]),
        unusual=tuple(str(day.date()) for day in whole.index[strange]),
    )


def drift(decisions: Decisions, bundle: Bundle, selection: str = "") -> Drift:
    """Judge the period's windows in time order; the newest window ends with the last row.

    Values that break the contract are judged too, as missing or as unseen values. The reference consists of the
    bundle's rows that the catalogue's rules let pass, which `selection` encodes (`offers.drift.selection`).
    """
    whole = Reference.of_bundle(bundle.path)
    reference = at_mix(whole.where(decoded(selection, len(whole))), lambda rows: _typed_propensity(rows, bundle))
    watch, rows = reference.watch, decisions.period
    count, left_out = divmod(len(rows), watch.window)
    streak, windows = Streak(watch), []
    for start in range(left_out, len(rows), watch.window):
        part = rows.iloc[start : start + watch.window]
        report = _examined(part, bundle, reference, seed=start)
        streak = streak.after(report)
        windows.append(
            DriftWindow(
                first=part[SCORED_AT].iloc[0].to_pydatetime(),
                last=part[SCORED_AT].iloc[-1].to_pydatetime(),
                report=report.to_dict(),
            )
        )
    enough = count >= watch.consecutive
    return Drift(
        windows=tuple(windows),
        size=watch.window,
        consecutive=watch.consecutive,
        left_out=left_out,
        signals={name: alarm if enough else None for name, alarm in streak.signals.items()},
        reasons=streak.reasons,
    )


def labels(decisions: Decisions, contract: Contract) -> Labels:
    """Count decisions by the state of their labels.

    A mature decision without an outcome is unlabelled and does not count as declined, since outcomes include refusals.
    """
    return Labels(
        matures_after_days=contract.target.matures_after_days,
        immature=int((~decisions.mature).sum()),
        mature=int((decisions.mature & decisions.recent).sum()),
        labelled=int(decisions.judged.sum()),
        accepted=int(decisions.outcome[decisions.judged].sum()),
        since_training=int(decisions.labelled.sum()),
    )


def performance(decisions: Decisions, bundle: Bundle, seed: int = 0) -> Performance | None:
    """Measure the propensities that were acted on against mature labels; None where there are no such labels."""
    rows, contract = decisions.rows[decisions.judged], bundle.contract
    if rows.empty:
        return None
    outcome, propensity = decisions.outcome[decisions.judged].astype(np.int8), rows[SCORE].to_numpy()
    evaluation = contract.evaluation
    contract_of_inputs = contract.model_copy(update={"columns": contract.inputs})
    return Performance(
        scores=metrics.score(outcome, propensity, evaluation.contact_share, evaluation.bootstrap, seed),
        at_the_gate=bundle.evaluation.model,
        rate=surprise(outcome, propensity, np.ones(len(outcome))),
        log_loss=surprise(outcome, propensity, -logit(_inside(propensity)), -np.log1p(-_inside(propensity))),
        fairness=tuple(fairness(_grouped(rows, contract_of_inputs), outcome, propensity, contract_of_inputs)),
        fairness_unknown=tuple(column.name for column in contract.protected if not column.is_input),
    )


def promise(decisions: Decisions, contract: Contract) -> Promise:
    """Judge by `offers.monitoring.promise` whether mature labels are what the propensities promised."""
    propensity = decisions.rows.loc[decisions.judged, SCORE].to_numpy()
    judgement = judge(decisions.outcome[decisions.judged], _inside(propensity), contract.retraining)
    return Promise(**asdict(judgement))


def surprise(
    outcome: np.ndarray, propensity: np.ndarray, slope: np.ndarray, offset: np.ndarray | float = 0
) -> Surprise:
    """Compare the mean of `offset + slope * outcome` with its expectation if propensities were the true probabilities.

    With slope 1 the mean is the acceptance rate, and this is the z-test of calibration in the large. With the slope of
    the log-loss it is that loss, and this is the test of Spiegelhalter (1986), who uses the Brier score.
    """
    chance = _inside(propensity)
    observed, expected = float(np.mean(offset + slope * outcome)), float(np.mean(offset + slope * chance))
    deviation = float(np.sqrt(np.sum(slope**2 * chance * (1 - chance))) / len(outcome))
    z = (observed - expected) / deviation
    return Surprise(observed=observed, expected=expected, z=z, p=float(2 * norm.sf(abs(z))))


def _inside(propensity: np.ndarray) -> np.ndarray:
    return np.asarray(np.clip(propensity, _SMALLEST, 1 - _SMALLEST))


def _examined(part: pd.DataFrame, bundle: Bundle, reference: Reference, seed: int) -> WindowReport:
    model = bundle.model
    rows = part[model.encoder.names].replace([np.inf, -np.inf], np.nan)
    typed = bundles.typed(at_reference_offers(reference, rows, seed), model.encoder)
    return examine(reference, rows, model.propensity(typed), model.importance(typed))


def _typed_propensity(rows: pd.DataFrame, bundle: Bundle) -> np.ndarray:
    return bundle.model.propensity(bundles.typed(rows, bundle.model.encoder))


def _column_quality(rows: pd.DataFrame, bundle: Bundle) -> Iterator[ColumnQuality]:
    reference = pd.read_parquet(bundle.path / "reference.parquet")
    for column in bundle.contract.inputs:
        values = rows[column.name]
        unseen = values.notna() & ~values.isin(column.values) if column.values else pd.Series(False, index=rows.index)
        yield ColumnQuality(
            column=column.name,
            missing=_share(values.isna()),
            usual=_share(reference[column.name].isna()),
            unseen=_share(unseen),
        )


def _share(marked: pd.Series) -> float:
    return round(float(marked.mean()), 6) if len(marked) else 0.0


def _differing(rows: pd.DataFrame, bundle: Bundle) -> int:
    ours = _typed_propensity(rows, bundle)
    return int((np.abs(ours - rows[SCORE].to_numpy()) > _SAME).sum())


def _grouped(rows: pd.DataFrame, contract: Contract) -> pd.DataFrame:
    """Turn numbers of boolean columns back into booleans, so that groups get the same names as in the evaluation."""
    truths = [column.name for column in contract.inputs if column.type == "boolean"]
    return rows.assign(**{name: rows[name].map({1.0: True, 0.0: False}) for name in truths})
