"""The customers of an experiment, from the decision log: their arm, their offers and their outcomes."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import pandas as pd
import pyarrow as pa

from offers.contract.contract import Contract
from offers.decisions import history, outcomes
from offers.decisions.history import Kept
from offers.decisions.outcomes import Labels
from offers.decisions.period import Period
from offers.errors import DataError
from offers.evaluation.segments import groups
from offers.store.delta import DeltaTables

_COLUMNS = [
    "decided_at", "decision_id", "customer", "arm", "catalogue", "model", "fallback", "inputs", "pairs", "offer_id",
    "latency_ms",
]  # fmt: skip

_PER_CUSTOMER = {
    "arm": ("arm", "first"),
    "converted": ("converted", "max"),
    "earned": ("earned", "sum"),
    "covariate": ("covariate", "first"),
    "decisions": ("decision_id", "size"),
    "fallbacks": ("fallback", "sum"),
    "exposed": ("exposed", "max"),
    "latency": ("latency_ms", "mean"),
}


@dataclass(frozen=True)
class Members:
    """The customers of an experiment, as `offers.experiments.comparison.compare` takes them.

    Attributes
    ----------
    protected : columns of groups in `customers`
    labels : how outcomes were used
    moved : number of customers left out because they were in two arms, since a share grew within the period
    erased : number of decisions whose customer was erased
    everybody : pseudonyms of all customers, those who were in two arms included
    """

    customers: pd.DataFrame
    contract: Contract
    protected: tuple[str, ...]
    decisions: int
    labels: Labels
    moved: int
    erased: int
    everybody: tuple[str, ...] = ()


def members(
    tables: DeltaTables, experiment: str, period: Period, models: Mapping[str, str | None] | None = None
) -> Members:
    """Read an experiment's decisions of a period, with the outcomes known at `period.as_of`.

    A customer's earnings are the values of accepted offers minus the costs of all offers made, over mature decisions.
    The covariate is the mean propensity at the first decision, over the offers that all arms have; there is one only
    where the same model scored for all arms.

    Parameters
    ----------
    models : name of the bundle of each arm that has one of its own; where another answered, since the arm's predictor
        was away, that is a decision without its predictor

    Raises
    ------
    SourceError
        there is no log
    DataError
        it has no decision of the experiment, or a catalogue is missing
    """
    table = history.read(tables, period.since, period.until, _COLUMNS, history.of_experiment(experiment))
    mask = table["customer"].is_valid().to_numpy(zero_copy_only=False).astype(bool)
    table, erased = table.filter(pa.array(mask)), int((~mask).sum())
    if not len(table):
        raise DataError(f"experiment {experiment!r}: expected decisions in the log, found none")
    versions = _kept(tables, table)
    contract = next(iter(versions.values())).contract
    frame = table.select(
        ["decision_id", "decided_at", "customer", "arm", "catalogue", "model", "fallback", "offer_id", "latency_ms"]
    ).to_pandas()
    frame = _without_predictor(frame, models or {})
    window = timedelta(days=contract.target.matures_after_days)
    labels = outcomes.label(frame, outcomes.read(tables), period.as_of, window)
    frame = frame.assign(**_results(frame, labels, versions), covariate=_covariate(table, versions))
    moved = frame.groupby("customer")["arm"].transform("nunique") > 1
    first = ~frame["customer"].duplicated().to_numpy() & ~moved.to_numpy()
    by_customer = frame[~moved].groupby("customer", sort=False)
    customers = by_customer.agg(**_PER_CUSTOMER)
    segments = _groups(table.filter(pa.array(first)), contract)
    customers = customers.assign(**{name: values.to_numpy() for name, values in segments.items()})
    n_moved = int(frame[moved]["customer"].nunique())
    everybody = tuple(frame["customer"].unique())
    return Members(customers.reset_index(), contract, tuple(segments), len(frame), labels, n_moved, erased, everybody)


def _kept(tables: DeltaTables, table: pa.Table) -> dict[str, Kept]:
    versions, names = history.kept(tables), sorted(set(table["catalogue"].to_pylist()))
    if absent := [name for name in names if name not in versions]:
        raise DataError(f"catalogue {absent[0]}: expected it among the log's policies, found none")
    return {name: versions[name] for name in names}


def _without_predictor(frame: pd.DataFrame, models: Mapping[str, str | None]) -> pd.DataFrame:
    own = frame["arm"].map(dict(models))
    replaced = (own.notna() & frame["model"].notna() & (own != frame["model"])).astype(bool)
    return frame.assign(fallback=frame["fallback"] | replaced, latency_ms=frame["latency_ms"].mask(replaced))


def _results(frame: pd.DataFrame, labels: Labels, kept: Mapping[str, Kept]) -> dict[str, np.ndarray]:
    """Compute the result of each decision; NaN where it is not known yet."""
    offered = frame["offer_id"].notna().to_numpy()
    ripe = labels.mature & (~offered | ~np.isnan(labels.outcome))
    if labels.impressions:
        ripe &= labels.presented | ~offered
    accepted = np.where(offered, np.nan_to_num(labels.outcome), 0.0)
    by_key = {(name, offer.id): offer for name, one in kept.items() for offer in one.catalogue.offers}
    offers = [by_key.get(key) for key in zip(frame["catalogue"], frame["offer_id"], strict=True)]
    value, cost = (np.array([getattr(offer, name, 0.0) for offer in offers]) for name in ("value", "cost"))
    return {
        "converted": np.where(ripe, accepted, np.nan),
        "earned": np.where(ripe, accepted * value - cost, 0.0),
        "exposed": offered.astype(np.float64),
    }


def _covariate(table: pa.Table, kept: Mapping[str, Kept]) -> np.ndarray:
    models = set(table["model"].to_pylist()) - {None}
    common = set.intersection(*({offer.id for offer in one.catalogue.offers} for one in kept.values()))
    if len(models) != 1 or not common:
        return np.full(len(table), np.nan)
    propensity = history.propensities(table["pairs"], sorted(common))["propensity"]
    there = ~np.isnan(propensity)
    return np.asarray(np.nansum(propensity, axis=1) / np.where(there.any(axis=1), there.sum(axis=1), np.nan))


def _groups(first: pa.Table, contract: Contract) -> dict[str, pd.Series]:
    columns = history.inputs_of(first["inputs"].to_pylist(), contract)
    protected = [
        column for column in contract.inputs if column.protected and column.name in columns and column.has_groups
    ]
    return {column.name: groups(pd.Series(columns[column.name]), column) for column in protected}
